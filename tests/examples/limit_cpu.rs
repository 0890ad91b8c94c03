use std::fs;

use super::{example, stdout};

/// The number behind a key, in the part of the output that begins with `part`.
fn number(text: &str, part: &str, key: &str) -> u64 {
    let part = &text[text.find(part).unwrap_or_else(|| panic!("no {part:?} in {text}"))..];
    let words: Vec<&str> = part.split_whitespace().collect();
    let at = words.iter().position(|word| *word == key).unwrap_or_else(|| panic!("no {key} in {text}"));
    words[at + 1].parse().expect("number")
}

mod root {
    use super::*;
    use cgroupfs::Hierarchy;

    #[test]
    fn a_burst_saves_from_being_throttled() {
        faultkit::require!(root, cgroup2("cpu"));
        faultkit::isolated!(|| {
            let text = stdout(&mut example("limit_cpu"));
            println!("{text}");
            assert!(text.contains("without burst: cpu.max 50000 100000, cpu.max.burst 0\n"), "{text}");
            assert!(text.contains("with burst: cpu.max 50000 100000, cpu.max.burst 50000\n"), "{text}");
            assert!(number(&text, "without burst", "nr_throttled") > 0, "{text}");
            assert!(number(&text, "without burst", "throttled_usec") > 0, "{text}");
            assert_eq!(number(&text, "without burst", "nr_bursts"), 0, "{text}");
            assert!(number(&text, "with burst", "nr_bursts") > 0, "{text}");
            assert!(number(&text, "with burst", "burst_usec") > 0, "{text}");
            let top = Hierarchy::detect().expect("hierarchy").mount_point().to_owned();
            let left = fs::read_dir(top)
                .expect("groups")
                .filter(|entry| entry.as_ref().expect("entry").file_name().to_string_lossy().starts_with("limit_cpu"));
            assert_eq!(left.count(), 0);
        });
    }

    #[test]
    fn without_the_controller_it_says_who_has_it() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let top = Hierarchy::detect().expect("hierarchy").mount_point().to_owned();
            let offered = fs::read_to_string(top.join("cgroup.controllers")).expect("controllers");
            let offered = offered.split_whitespace().any(|name| name == "cpu");
            let output = example("limit_cpu").output().expect("start");
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), offered, "{error}");
            assert!(offered || error.contains("the cpu controller") && error.contains("hint: "), "{error}");
        });
    }
}
