use std::process::Command;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn ip_netns_and_this_share_their_names() {
        faultkit::require!(root, program("ip"));
        faultkit::isolated!(|| {
            let ours = |args: &[&str]| stdout(example("netns_named").args(args));
            let theirs = |args: &[&str]| stdout(Command::new("ip").arg("netns").args(args));
            assert_eq!(ours(&["list"]), "");
            assert_eq!(ours(&["add", "ours"]), "");
            assert_eq!(theirs(&["add", "theirs"]), "");
            assert_eq!(ours(&["list"]), "ours\ntheirs\n");
            let listed = theirs(&["list"]);
            let mut names: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
            names.sort_unstable();
            assert_eq!(names, ["ours", "theirs"]);
            let here = stdout(Command::new("readlink").arg("/proc/self/ns/net"));
            for name in ["ours", "theirs"] {
                let look = ["exec", name, "sh", "-c", "readlink /proc/self/ns/net; ip -br link"];
                let seen = theirs(&look);
                assert_eq!(ours(&look), seen);
                assert!(!seen.contains(here.trim()));
            }
            let ended = example("netns_named").args(["exec", "ours", "sh", "-c", "exit 3"]).status().expect("start");
            assert_eq!(ended.code(), Some(3));

            // A name that is taken, one that is not there, one that is a path.
            let refused = |args: &[&str], said: &str| {
                let output = example("netns_named").args(args).output().expect("start");
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(!output.status.success() && text.contains(said), "{args:?}: {text}");
            };
            refused(&["add", "theirs"], "a net namespace");
            refused(&["exec", "none", "true"], "ENOENT");
            refused(&["del", "../etc"], "usage");

            assert_eq!(theirs(&["del", "ours"]), "");
            assert_eq!(ours(&["del", "theirs"]), "");
            assert_eq!(theirs(&["list"]), "");
            stdout(Command::new("umount").arg("/run/netns"));
            std::fs::remove_dir("/run/netns").expect("empty");
        });
    }
}
