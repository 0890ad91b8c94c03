//! Signals of the caller: a storm of them, ignored, pending, and timers.

use std::time::Duration;

use ns_core::{Command, Namespaces};

use crate::{output, sys, times};

fn root_namespaces() -> Namespaces {
    if nix::unistd::geteuid().is_root() { Namespaces::UTS | Namespaces::IPC } else { Namespaces::empty() }
}

#[test]
fn a_storm_of_interruptions_makes_no_start_and_no_wait_fail() {
    faultkit::isolated!(|| {
        // An emulated machine would do nothing else but take signals.
        let pause = Duration::from_micros(if std::env::var_os("CELLKIT_VM").is_some() { 5000 } else { 70 });
        let storm = sys::Storm::begin(pause);
        for number in 0..times(1000) {
            let command = Command::new("/bin/true").namespaces(root_namespaces()).new_session();
            let mut child = command.spawn().unwrap_or_else(|error| panic!("start {number}: {error:#}"));
            let status = child.wait().unwrap_or_else(|error| panic!("wait {number}: {error:#}"));
            assert!(status.success(), "{number}: {status}");
        }
        let error = Command::new("/no/such").spawn().expect_err("no program");
        assert_eq!(error.operation(), "execve", "{error:#}");
        let met = storm.end();
        assert!(met > times(1000), "{met} signals came");
    });
}

#[test]
fn pending_signals_and_timers_stay_with_the_caller() {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
    faultkit::isolated!(|| {
        let set: SigSet = [Signal::SIGUSR1, Signal::SIGALRM, Signal::SIGVTALRM].into_iter().collect();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).expect("mask");
        raise(Signal::SIGUSR1).expect("raise");
        sys::set_timer(Duration::from_secs(3600));
        let script = "grep -E '^(SigPnd|ShdPnd)' /proc/self/status; cat /proc/$$/timers";
        let (status, text) = output(Command::new("/bin/sh").args(["-c", script])).expect("start");
        assert!(status.success());
        assert_eq!(text, "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n");
        // It would be an alarm in the payload if it went along: only the caller's own is left.
        assert!(sys::timer_is_set(), "the caller has lost its timer");
        sys::set_timer(Duration::ZERO);
        sys::take_pending(&set);
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None).expect("mask");
    });
}

#[test]
fn a_caller_that_ignores_sigchld_gets_the_status_or_is_told_that_it_is_lost() {
    faultkit::isolated!(|| {
        sys::ignore(libc::SIGCHLD);
        for _ in 0..50 {
            let mut child = Command::new("/bin/true").spawn().expect("start");
            // It reaps itself. Linux 6.15 keeps the status for whoever has a pidfd.
            match child.wait() {
                Ok(status) => assert!(status.success(), "{status}"),
                Err(error) => {
                    assert_eq!((error.operation(), error.raw_os_error()), ("waitid", Some(libc::ECHILD)));
                    assert!(error.hint().expect("hint").contains("SIGCHLD"));
                }
            }
            let error = Command::new("/no/such").spawn().expect_err("no program");
            assert_eq!((error.operation(), error.raw_os_error()), ("execve", Some(libc::ENOENT)));
        }
        sys::default(libc::SIGCHLD);
    });
}
