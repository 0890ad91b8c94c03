//! What the payload gets, and does not get, whoever starts it: no namespace, no privilege needed.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use ns_core::{Command, ExitStatus, Stdio};

use crate::{output, sh, sys};

#[test]
fn statuses_are_the_payloads() {
    for (script, status, code) in [
        ("exit 0", ExitStatus::Exited(0), 0),
        ("exit 7", ExitStatus::Exited(7), 7),
        ("kill -TERM $$", ExitStatus::Signaled { signal: libc::SIGTERM, core_dumped: false }, 143),
    ] {
        let (seen, _) = output(sh(script)).expect(script);
        assert_eq!((seen, seen.shell_code()), (status, code), "{script}");
    }
}

#[test]
fn the_descriptors_are_three_whatever_the_caller_holds() {
    // Not close-on-exec, as a careless library leaves them.
    let leaked: Vec<OwnedFd> =
        (0..50).map(|_| nix::unistd::dup(std::fs::File::open("/dev/null").expect("/dev/null")).expect("dup")).collect();
    assert!(leaked.iter().all(|fd| fd.as_raw_fd() > 2));
    let (_, listed) = output(sh("ls /proc/self/fd")).expect("ls");
    // The fourth is the directory that ls reads.
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn signals_umask_and_affinity_are_fresh() {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
    faultkit::isolated!(|| {
        sys::ignore(libc::SIGUSR1);
        sys::ignore(libc::SIGPIPE);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGUSR2)), None).expect("mask");
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        let mut one = nix::sched::CpuSet::new();
        one.set(0).expect("cpu 0");
        let before = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("affinity");
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).expect("affinity");
        let (_, status) = output(sh("cat /proc/self/status; umask")).expect("status");
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &before).expect("affinity");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().to_owned()
        };
        assert_eq!(field("SigIgn:"), "0000000000000000");
        assert_eq!(field("SigBlk:"), "0000000000000000");
        assert_eq!(field("Umask:"), "0022");
        let allowed = (0..nix::sched::CpuSet::count()).filter(|cpu| before.is_set(*cpu).unwrap_or(false)).count();
        if allowed > 1 {
            assert_ne!(field("Cpus_allowed_list:"), "0");
        }
        sys::default(libc::SIGUSR1);
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(Signal::SIGUSR2)), None).expect("mask");
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    });
}

#[test]
fn null_and_given_descriptors() {
    let (_, text) = output(sh("readlink /proc/self/fd/0").stdin(Stdio::Null)).expect("null");
    assert_eq!(text.trim(), "/dev/null");
    let file = std::fs::File::open("/etc/passwd").expect("passwd");
    let (_, text) = output(sh("readlink /proc/self/fd/0").stdin(Stdio::Fd(file.into()))).expect("file");
    assert_eq!(text.trim(), "/etc/passwd");
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let command = Command::new("env").env_clear().env("PATH", "/usr/bin:/bin").env("B", "2").env("A", "1 =");
    let (_, text) = output(command).expect("env");
    assert_eq!(text, "A=1 =\nB=2\nPATH=/usr/bin:/bin\n");
}

/// Whoever started the caller may have put anything there.
#[test]
fn what_is_no_variable_of_the_callers_environment_is_left_out() {
    faultkit::isolated!(|| {
        let right = sys::in_a_fork(|| {
            sys::put_into_environment(c"=x=y");
            sys::put_into_environment(c"MARK=1");
            let (_, text) = output(Command::new("env")).expect("start");
            i32::from(text.lines().any(|line| line == "MARK=1") && !text.contains("x=y"))
        });
        assert_eq!(right, 1);
        let error = Command::new("env").env("=x", "y").plan().expect_err("asked for");
        assert!(error.to_string().contains("holds no ="), "{error}");
    });
}

#[test]
fn arguments_and_argv0_arrive_as_they_are() {
    let (_, text) = output(sh("printf '%s|' \"$0\" \"$@\"").args(["zero", "a b", "", "ü"])).expect("sh");
    assert_eq!(text, "zero|a b||ü|");
    let (_, text) = output(Command::new("/bin/cat").arg0("my cat").arg("/proc/self/cmdline")).expect("cat");
    assert_eq!(text, "my cat\0/proc/self/cmdline\0");
}

#[test]
fn a_paused_child_waits_and_dies_when_dropped() {
    faultkit::isolated!(|| {
        let paused = Command::new("/bin/true").spawn_paused().expect("paused");
        let stat = format!("/proc/{}/stat", paused.pid());
        let asleep = || std::fs::read_to_string(&stat).expect("alive").contains(") S ");
        assert!(
            (0..500).any(|_| asleep() || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }),
            "it waits"
        );
        drop(paused);
        assert!(!std::path::Path::new(&stat).exists(), "neither alive nor a zombie");
    });
}

#[test]
fn a_plan_can_be_started_again_and_at_the_same_time() {
    let plan = Command::new("/bin/true").plan().expect("plan");
    let paused: Vec<_> = (0..8).map(|_| plan.spawn_paused().expect("paused")).collect();
    for child in paused {
        assert!(child.resume(&mut ()).expect("resume").wait().expect("wait").success());
    }
}

#[test]
fn starts_beside_threads_that_allocate_and_print() {
    use std::sync::atomic::{AtomicBool, Ordering};
    faultkit::isolated!(|| {
        static STOP: AtomicBool = AtomicBool::new(false);
        let busy: Vec<_> = (0..16)
            .map(|number| {
                std::thread::spawn(move || {
                    while !STOP.load(Ordering::Relaxed) {
                        let text: Vec<String> = (0..64).map(|line| format!("{number} {line}")).collect();
                        std::hint::black_box(text);
                        drop(std::io::stderr().lock());
                    }
                })
            })
            .collect();
        let starters: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..50 {
                        let (status, listed) = output(sh("echo /proc/self/fd/*")).expect("start");
                        assert!(status.success());
                        // The shell's own glob holds one directory open.
                        assert!(listed.split_whitespace().count() <= 4, "{listed}");
                    }
                })
            })
            .collect();
        for thread in starters {
            thread.join().expect("starter");
        }
        STOP.store(true, Ordering::Relaxed);
        for thread in busy {
            thread.join().expect("busy");
        }
    });
}

#[test]
fn a_thousand_starts_leave_nothing() {
    faultkit::isolated!(|| {
        let mapped = || std::fs::read_to_string("/proc/self/maps").expect("maps").lines().count();
        let plan = Command::new("/bin/true").plan().expect("plan");
        plan.spawn().expect("start").wait().expect("wait");
        let before = mapped();
        for _ in 0..1000 {
            assert!(plan.spawn().expect("start").wait().expect("wait").success());
        }
        // The descriptors and children are the ledger's to compare; these are the stacks.
        assert!(mapped() <= before + 2, "{before} mappings became {}", mapped());
    });
}

#[test]
fn the_parents_death_ends_a_paused_child() {
    faultkit::isolated!(|| {
        // A parent of its own: a fork of this process that starts a child and is killed while the child waits.
        let pid = sys::in_a_fork(|| {
            let paused = Command::new("/bin/true").spawn_paused().expect("paused");
            let pid = paused.pid();
            std::mem::forget(paused);
            pid
        });
        // The orphan is this process's to reap now, once it has ended.
        let orphan = nix::unistd::Pid::from_raw(pid);
        let reaped = || {
            let status = nix::sys::wait::waitpid(orphan, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).expect("waitpid");
            status != nix::sys::wait::WaitStatus::StillAlive
        };
        let ended = (0..500).any(|_| {
            reaped() || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        });
        assert!(ended, "the child outlived its parent");
    });
}

/// The child of a thread that has ended, whose stack and thread-local memory are somebody else's by now.
#[test]
fn a_paused_child_outlives_the_thread_that_made_it() {
    faultkit::isolated!(|| {
        let start = || std::thread::spawn(|| Command::new("/bin/true").spawn_paused().expect("paused"));
        let paused: Vec<_> = (0..16).map(|_| start().join().expect("thread")).collect();
        let busy: Vec<_> = (0..16).map(|number| std::thread::spawn(move || vec![number; 1 << 20])).collect();
        for (number, child) in paused.into_iter().enumerate() {
            match number % 2 {
                0 => assert!(child.resume(&mut ()).expect("resume").wait().expect("wait").success()),
                _ => drop(child),
            }
        }
        for thread in busy {
            thread.join().expect("busy");
        }
    });
}

#[test]
fn closures_run_last_and_their_errors_are_reported() {
    let (_, text) = output(sys::with_closure(sh("umask"), None)).expect("start");
    assert_eq!(text, "closure\n0077\n");
    let plan = sys::with_closure(sh("umask"), None).plan().expect("plan");
    assert!(!plan.shares_memory() && plan.to_string().contains("pre_exec()"));
    let error = sys::with_closure(sh("umask"), Some(libc::EXDEV)).output().expect_err("refused");
    assert_eq!((error.operation(), error.raw_os_error()), ("pre_exec", Some(libc::EXDEV)));
}

mod root {
    use super::*;

    #[test]
    fn a_caller_that_gave_up_its_privileges_drops_what_it_made_with_them() {
        faultkit::require!(root);
        faultkit::isolated!(limit_secs = 30, || {
            sys::checked_in_a_fork(|| {
                let paused = Command::new("/bin/true").spawn_paused().expect("paused");
                let id = paused.id().expect("id");
                nix::unistd::setresuid(54321.into(), 54321.into(), 54321.into()).expect("setresuid");
                // It may not be killed by this user: it ends at the end of its socket.
                drop(paused);
                assert_eq!(id.open().expect_err("ended and reaped").kind(), ns_core::ErrorKind::Gone);
            });
        });
    }
}
