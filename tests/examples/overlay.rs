use std::process::Command;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn fifty_containers_take_the_disk_of_one_base() {
        faultkit::require!(root, program("du"));
        faultkit::isolated!(|| {
            let dir = faultkit::TempDir::new();
            let said = stdout(example("overlay").arg("/usr").arg(&*dir));
            let lines: Vec<&str> = said.lines().collect();
            let (last, containers) = lines.split_last().expect("lines");
            let expected: Vec<String> =
                (1..=50).flat_map(|number| [format!("/only-{number}"), format!("container {number}")]).collect();
            assert_eq!(containers, expected, "each sees its own file and no other");
            // By another program: what the containers hold beside the base, and what the base holds.
            let du = |what: &std::path::Path| {
                let text = stdout(Command::new("du").args(["-sk", "--apparent-size"]).arg(what));
                text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
            };
            let upper = |number: u32| dir.join(format!("{number}/upper"));
            for number in 1..=50 {
                let files = stdout(Command::new("find").arg(upper(number)).args(["-type", "f", "-printf", "%P\n"]));
                assert_eq!(files, format!("only-{number}\n"));
            }
            assert!(du(&dir) * 20 < du("/usr".as_ref()), "{last}");
            assert!(last.starts_with("the base takes "), "{last}");
        });
    }

    #[test]
    fn usage_and_what_is_missing() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            assert_eq!(example("overlay").status().expect("start").code(), Some(2));
            let dir = faultkit::TempDir::new();
            let output = example("overlay").arg("/no/such/base").arg(&*dir).output().expect("start");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && stderr.contains("/no/such/base"), "{stderr}");
        });
    }
}
