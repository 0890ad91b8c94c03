//! Many starts: no end is missed, nothing grows, and a number that is used again is another process.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, poll};
use ns_core::{Command, ErrorKind};

use crate::times;

/// The programs that live shortest: one that ends at once, and one that is not there.
#[test]
fn of_5000_children_no_end_is_missed() {
    faultkit::isolated!(limit_secs = 300, || {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let plan = Command::new("/bin/true").plan().expect("plan");
                    for number in 0..times(2500) {
                        let mut child = plan.spawn().expect("start");
                        if number % 2 == 0 {
                            // Only once the pidfd says so: it must say so.
                            let mut fds = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
                            assert_eq!(poll(&mut fds, 30_000u16), Ok(1), "the end of {number} was not seen");
                            assert!(child.try_wait().expect("wait").expect("ended").success());
                        }
                        assert!(child.wait().expect("wait").success());
                        // And again: the answer stays.
                        assert!(child.try_wait().expect("wait").expect("ended").success());
                    }
                });
            }
        });
    });
}

/// Descriptors are the ledger's to compare, children too.
#[test]
fn of_10000_starts_in_a_row_nothing_grows() {
    faultkit::isolated!(limit_secs = 300, || {
        let status = |name: &str| -> usize {
            let status = std::fs::read_to_string("/proc/self/status").expect("status");
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().trim_end_matches(" kB").parse().expect(name)
        };
        let mapped = || std::fs::read_to_string("/proc/self/maps").expect("maps").lines().count();
        let open = || std::fs::read_dir("/proc/self/fd").expect("fd").count();
        let start = |number: usize| {
            // Plan and all, so that what a plan holds is counted as well.
            let mut child = Command::new("/bin/true").args(["a"]).spawn().expect("start");
            assert!(child.wait().expect("wait").success());
            if number % 50 == 0 {
                assert!(Command::new("/no/such").spawn().is_err());
            }
        };
        (0..times(1000)).for_each(start);
        let before = (status("VmRSS:"), status("VmSize:"), mapped(), open());
        (0..times(9000)).for_each(start);
        let after = (status("VmRSS:"), status("VmSize:"), mapped(), open());
        // One leaked page a start would be 36 MB.
        assert!(after.0 < before.0 + 1024 && after.1 < before.1 + 1024, "kB of memory: {before:?} became {after:?}");
        assert!(after.2 <= before.2 + 2 && after.3 == before.3, "mappings, descriptors: {before:?} became {after:?}");
    });
}

mod root {
    use super::*;

    /// In the test's own pid namespace the next number can be chosen.
    #[test]
    fn a_number_used_again_is_another_process() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let mut first = Command::new("/bin/sleep").arg("1000").spawn().expect("start");
            let number = first.pid();
            first.kill().expect("kill");
            first.wait().expect("wait");
            std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).expect("ns_last_pid");
            let mut second = Command::new("/bin/sleep").arg("1000").spawn().expect("start");
            assert_eq!(second.pid(), number, "the number was not used again");
            // What is asked of the first does not reach the second.
            assert_eq!(first.kill().expect_err("gone").kind(), ErrorKind::Gone);
            assert_eq!(first.signal(libc::SIGTERM).expect_err("gone").kind(), ErrorKind::Gone);
            assert!(first.namespace::<ns_core::Net>().is_err(), "a namespace of another process");
            assert_eq!(first.wait().expect("wait").shell_code(), 137);
            assert_eq!(second.try_wait().expect("wait"), None, "the second was hit");
            second.kill().expect("kill");
            assert_eq!(second.wait().expect("wait").shell_code(), 137);
        });
    }
}
