//! Who a child's parent is, and whether it outlives it.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use ns_core::{Command, ExitStatus};

use crate::{sh, sys};

/// The status of a child of this process, if it ends in time.
pub(crate) fn end_of(pid: i32) -> Option<WaitStatus> {
    for _ in 0..500 {
        match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).expect("waitpid") {
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_millis(10)),
            status => return Some(status),
        }
    }
    None
}

/// Starts it in a thread that ends at once.
fn start_in_a_short_thread(command: Command) -> ns_core::Child {
    std::thread::spawn(move || command.spawn().expect("start")).join().expect("thread")
}

#[test]
fn a_payload_outlives_the_thread_that_started_it() {
    faultkit::isolated!(|| {
        let mut child = start_in_a_short_thread(Command::new("sleep").arg("1000").kill_with_parent());
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(child.try_wait().expect("try_wait"), None, "it died with a thread");
        child.kill().expect("kill");
        let status = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(child.wait().expect("wait"), status);
    });
}

#[test]
fn a_payload_dies_with_the_process_that_started_it() {
    faultkit::isolated!(|| {
        // Killed.
        let pid = sys::in_a_fork(|| {
            let child = start_in_a_short_thread(Command::new("sleep").arg("1000").kill_with_parent());
            assert!(std::path::Path::new(&format!("/proc/{}", child.pid())).exists());
            child.pid()
        });
        let killed = Some(WaitStatus::Signaled(Pid::from_raw(pid), Signal::SIGKILL, false));
        assert_eq!(end_of(pid), killed, "it outlived its parent's death");
        // Another program in its place: its threads end.
        let (pid, fork) = sys::in_a_fork_that_executes(|| {
            start_in_a_short_thread(Command::new("sleep").arg("1000").kill_with_parent()).pid()
        });
        // The parent lives, and is not this process: what is seen is a zombie.
        let stat = format!("/proc/{pid}/stat");
        let ended = (0..500).any(|_| {
            std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        });
        assert!(ended, "it outlived its parent's execve");
        nix::sys::signal::kill(Pid::from_raw(fork), Signal::SIGKILL).expect("kill");
        assert!(end_of(fork).is_some() && end_of(pid).is_some());
        // Without it, the payload stays.
        let pid = sys::in_a_fork(|| Command::new("sleep").arg("1000").spawn().expect("start").pid());
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).expect("waitpid"), WaitStatus::StillAlive);
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
        assert!(end_of(pid).is_some());
    });
}

#[test]
fn the_watching_thread_ends_with_its_child() {
    faultkit::isolated!(|| {
        // The ledger counts the threads.
        drop(sh("true").kill_with_parent().spawn_paused().expect("paused"));
        assert!(sh("true").kill_with_parent().spawn().expect("start").wait().expect("wait").success());
        let gone = Command::new("/no/such").kill_with_parent().spawn().expect_err("no program");
        assert_eq!(gone.operation(), "execve");
        let refused = sh("true").kill_with_parent().sibling().plan().expect_err("whose parent?");
        assert_eq!(refused.kind(), ns_core::ErrorKind::Invalid);
    });
}

#[test]
fn a_sibling_is_the_parents_to_reap() {
    faultkit::isolated!(|| {
        let pid = sys::in_a_fork(|| {
            let mut child = sh("exit 7").sibling().spawn().expect("start");
            let error = child.wait().expect_err("not our child");
            assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
            child.pid()
        });
        assert_eq!(end_of(pid), Some(WaitStatus::Exited(Pid::from_raw(pid), 7)));
        // Dropped while it waits: dead when drop returns, though only its parent can reap it.
        let pid = sys::in_a_fork(|| {
            let paused = sh("exit 7").sibling().spawn_paused().expect("paused");
            let pid = paused.pid();
            drop(paused);
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a zombie");
            assert!(stat.contains(") Z "), "{stat}");
            pid
        });
        assert_eq!(end_of(pid), Some(WaitStatus::Signaled(Pid::from_raw(pid), Signal::SIGKILL, false)));
    });
}
