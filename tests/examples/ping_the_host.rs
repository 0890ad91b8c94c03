use super::{example, stdout};

mod root {
    use super::*;
    use std::process::Command;

    #[test]
    fn both_ways_and_nothing_left() {
        faultkit::require!(root, program("ip"), program("ping"));
        // Addresses, routes and links are in the ledger.
        faultkit::isolated!(|| {
            let text = stdout(&mut example("ping_the_host"));
            let want = "the container pings 10.166.0.1: answered\nthe host pings 10.166.0.2: answered\n\
                        the container pings fd00:166::1: answered\nthe host pings fd00:166::2: answered\n";
            assert_eq!(text, want);
        });
    }

    /// What is somebody else's stays, and what stands in the way is said.
    #[test]
    fn a_name_that_is_taken() {
        faultkit::require!(root, program("ip"));
        faultkit::isolated!(|| {
            let ip = |args: &str| stdout(Command::new("ip").args(args.split_whitespace()));
            ip("link add ping0 type bridge");
            let before = ip("link show ping0");
            let output = example("ping_the_host").output().expect("start");
            assert_eq!(output.status.code(), Some(1));
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(error.contains("ping0") && error.contains("EEXIST") && error.contains("hint: "), "{error}");
            assert_eq!(ip("link show ping0"), before);
            ip("link delete ping0");
        });
    }
}
