use std::process::Command;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn the_machine_has_been_up_for_as_long_as_unshare_says() {
        faultkit::require!(root, program("unshare"));
        let args = ["--boottime", "1000000", "--monotonic", "70"];
        let seconds = |text: String| text.split('.').next().and_then(|text| text.parse::<i64>().ok()).expect("uptime");
        let here = seconds(std::fs::read_to_string("/proc/uptime").expect("uptime"));
        let theirs =
            Command::new("unshare").args(["--fork", "--time"]).args(args).args(["cat", "/proc/uptime"]).output();
        let ours = seconds(stdout(example("time_offsets").args(args).args(["cat", "/proc/uptime"])));
        assert!((ours - here - 1_000_000).abs() < 120, "{ours} and {here}");
        // The tool of Debian 12 knows these options; an older one says so.
        let theirs = theirs.expect("start");
        if theirs.status.success() {
            let theirs = seconds(String::from_utf8(theirs.stdout).expect("text"));
            assert!((ours - theirs).abs() < 120, "{ours} and {theirs}");
        }
        let offsets = stdout(example("time_offsets").args(args).args(["cat", "/proc/self/timens_offsets"]));
        let numbers: Vec<&str> = offsets.split_whitespace().collect();
        assert_eq!(numbers, ["monotonic", "70", "0", "boottime", "1000000", "0"]);
        assert_eq!(example("time_offsets").arg("--boottime").status().expect("start").code(), Some(2));
    }
}
