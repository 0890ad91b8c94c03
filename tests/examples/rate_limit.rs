use super::{example, stdout};

mod root {
    use super::*;

    /// The number after these words.
    fn after(text: &str, words: &str) -> f64 {
        let rest = text.lines().find_map(|line| line.strip_prefix(words)).unwrap_or_else(|| panic!("{words}: {text}"));
        rest.trim_start().split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    }

    #[test]
    fn what_is_sent_is_limited() {
        faultkit::require!(root, program("tc"));
        faultkit::isolated!(|| {
            let text = stdout(example("rate_limit").args(["tc", "-j", "-s", "qdisc", "show", "dev", "eth0"]));
            let (fast, slow) = (after(&text, "before:"), after(&text, "after:"));
            // 8 Mbit/s are with the headers of Ethernet, IPv4 and TCP: 7.65 without. Less on a busy machine, never more; but
            // for what was let pass and not yet read.
            assert!(slow > 1.0 && slow < 10.0, "{text}");
            assert!(fast > 2.0 * slow, "{text}");
            // As tc sees it.
            let seen = text.lines().find(|line| line.starts_with('[')).expect("tc -j");
            for part in [r#""kind":"tbf""#, r#""root":true"#, r#""rate":1000000,"#, r#""burst":16384,"#] {
                assert!(seen.contains(part), "{part}: {seen}");
            }
            assert!(after(&text, "tbf:") > 100.0, "{text}");
            assert!(!seen.contains(r#""overlimits":0,"#), "{seen}");
            let failed = example("rate_limit").arg("no-such-program").output().expect("start");
            assert!(!failed.status.success());
            assert!(String::from_utf8_lossy(&failed.stderr).contains("ENOENT"), "{failed:?}");
        });
    }
}
