//! Numbers that are given again while somebody still holds a handle on their first owner.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid as Number;
use ns_core::{Child, Command, ErrorKind, Namespaces, Net};

use crate::sh;

/// Kills and reaps it behind the back of its handle, as a library that waits for every child does, and gives the number
/// to another process, which must be left alone from then on.
fn give_again(number: i32) -> Child {
    kill(Number::from_raw(number), Signal::SIGKILL).expect("kill");
    waitpid(Number::from_raw(number), None).expect("waitpid");
    let other = Command::new("sleep").arg("1000").set_tid([number]).spawn().expect("the number is free");
    assert_eq!(other.pid(), number);
    other
}

#[track_caller]
fn is_unharmed(mut other: Child) {
    assert_eq!(other.try_wait().expect("try_wait"), None, "another process was signalled");
    let status = std::fs::read_to_string(format!("/proc/{}/status", other.pid())).expect("status");
    for pending in ["SigPnd:\t0000000000000000", "ShdPnd:\t0000000000000000"] {
        assert!(status.contains(pending), "{status}");
    }
    assert!(!status.contains("State:\tT") && !status.contains("State:\tZ"), "{status}");
    other.kill().expect("kill");
    other.wait().expect("wait");
}

#[test]
fn nobody_but_the_first_owner_of_a_number_is_signalled_waited_for_or_joined() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let sleep = || Command::new("sleep").arg("1000").namespaces(Namespaces::NET);
        for round in 0..20 {
            let mut child = if round % 2 == 0 { sleep() } else { sleep().kill_with_parent() }.spawn().expect("start");
            let other = give_again(child.pid());
            assert_eq!(child.signal(libc::SIGTERM).expect_err("gone").kind(), ErrorKind::Gone);
            assert_eq!(child.kill().expect_err("gone").kind(), ErrorKind::Gone);
            assert_eq!(child.namespace::<Net>().expect_err("gone").kind(), ErrorKind::Gone);
            let join = sh("true").join_process(&child, Namespaces::NET);
            assert_eq!(join.plan().expect_err("gone").kind(), ErrorKind::Gone);
            // The status is its own, where the kernel has kept it, and never another's.
            if let Ok(status) = child.wait() {
                assert_eq!(status.shell_code(), 137);
            }
            drop(child);
            is_unharmed(other);
        }
        // While it waits for its parent's word.
        let paused = sleep().spawn_paused().expect("paused");
        let other = give_again(paused.pid());
        drop(paused);
        is_unharmed(other);
        let paused = sleep().spawn_paused().expect("paused");
        let other = give_again(paused.pid());
        assert!(paused.resume(&mut ()).is_err());
        is_unharmed(other);
        let paused = sleep().spawn_paused().expect("paused");
        let other = give_again(paused.pid());
        assert_eq!(paused.namespace::<Net>().expect_err("gone").kind(), ErrorKind::Gone);
        drop(paused);
        is_unharmed(other);
    });
}
