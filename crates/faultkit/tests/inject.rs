//! The injector finds what it is made to find: leaks, ignored errors, hangs, children and orphans left behind.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::IntoRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use faultkit::{Call, Counted, End, Failure, Fault, Run, Sweep};

fn failure(error: io::Error) -> Failure {
    Failure::new("something", error.raw_os_error(), &error)
}

/// The error must be the one injected.
fn honest(run: &Run) -> Result<(), String> {
    match (&run.end, run.fault) {
        (End::Returned(Err(failure)), Fault::Fail(errno)) if failure.errno == Some(errno) => Ok(()),
        (other, _) => Err(format!("not the errno injected: {other:?}")),
    }
}

fn anything(_: &Run) -> Result<(), String> {
    Ok(())
}

fn names(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.name.as_str()).collect()
}

/// What `sweep` panics with.
fn complaint(sweep: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sweep)).expect_err("must be found out");
    *panic.downcast::<String>().expect("a text")
}

fn read_passwd(counted: &Counted<'_>) -> Result<(), Failure> {
    let mut bytes = [0; 8];
    counted.run(|| File::open("/etc/passwd").and_then(|mut file| file.read(&mut bytes))).map(drop).map_err(failure)
}

#[test]
fn calls_are_counted_by_name_and_always_the_same() {
    faultkit::isolated!(|| {
        let calls = Sweep::new(read_passwd).calls();
        assert_eq!(calls.len(), 1);
        // In debug builds the standard library looks at a descriptor before it closes it.
        let without_check: Vec<&str> = names(&calls[0]).into_iter().filter(|name| *name != "fcntl").collect();
        assert_eq!(without_check, ["openat", "read", "close"]);
        for _ in 0..20 {
            let again = Sweep::new(read_passwd).calls();
            assert_eq!(names(&again[0]), names(&calls[0]));
        }
    });
}

#[test]
fn every_call_of_an_honest_body_fails_once() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(read_passwd);
        let mut met = Vec::new();
        let swept = sweep.each(Fault::Fail(libc::EMFILE), |run| {
            met.push(run.call.name.clone());
            // An error of close is not an event, and the descriptor is closed all the same: the ledger would tell.
            if run.call.name == "close" { Ok(()) } else { honest(run) }
        });
        assert_eq!(met, ["openat", "read", "close"]);
        assert_eq!(swept.runs, 3);
    });
}

#[test]
fn threads_that_were_joined_are_no_obstacle() {
    faultkit::isolated!(|| {
        for _ in 0..20 {
            // The kernel tells of a joined thread until it has closed what only that one had.
            let thread = std::thread::spawn(|| {
                unshare(CloneFlags::CLONE_FILES).expect("unshare");
                for _ in 0..900 {
                    let _left_to_the_kernel = File::open("/dev/null").expect("open").into_raw_fd();
                }
            });
            thread.join().expect("join");
            let swept = Sweep::new(read_passwd).each(Fault::Fail(libc::EMFILE), |_| Ok(()));
            assert_eq!(swept.runs, 3);
        }
    });
}

#[test]
fn of_a_row_only_the_ends_are_met_when_asked() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            let read = || {
                let mut file = File::open("/etc/passwd")?;
                (0..10).try_for_each(|_| file.read_exact(&mut [0; 1]))
            };
            counted.run(read).map_err(failure)
        });
        let mut met = Vec::new();
        sweep.ends_of_rows().each(Fault::Fail(libc::EIO), |run| {
            met.push((run.call.number, run.call.name.clone()));
            Ok(())
        });
        let reads: Vec<usize> = met.iter().filter(|(_, name)| name == "read").map(|(number, _)| *number).collect();
        assert_eq!(reads, [2, 11], "{met:?}");
    });
}

#[test]
fn a_leak_on_the_way_of_an_error_is_named() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            let both = || {
                let first = File::open("/etc/passwd")?;
                let second = File::open("/etc/group").inspect_err(|_| std::mem::forget(first.try_clone()));
                second.map(drop)
            };
            counted.run(both).map_err(failure)
        });
        let text = complaint(|| {
            sweep.each(Fault::Fail(libc::ENOSPC), anything);
        });
        assert!(text.contains("call 2 of the caller, openat("), "{text}");
        assert!(text.contains("errno 28 (No space left on device"), "{text}");
        assert!(text.contains("left behind: fd ") && text.contains("-> /etc/passwd"), "{text}");
        assert!(!text.contains("call 1 of"), "{text}");
    });
}

#[test]
fn an_error_that_is_ignored_is_the_judges_to_find() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            counted
                .run(|| {
                    let _ = std::fs::metadata("/etc/passwd");
                    std::fs::read_dir("/etc").map(drop)
                })
                .map_err(failure)
        });
        let text = complaint(|| {
            sweep.each(Fault::Fail(libc::ENOSYS), |run| if run.call.name == "close" { Ok(()) } else { honest(run) });
        });
        assert!(text.contains("call 1 of the caller") && text.contains("not the errno injected"), "{text}");
    });
}

#[test]
fn what_hangs_is_ended_and_named() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            counted.run(|| {
                while File::open("/etc/passwd").is_err() {
                    std::thread::sleep(Duration::from_secs(60));
                }
            });
            Ok(())
        });
        let text = complaint(|| {
            sweep.limit(Duration::from_millis(300)).each(Fault::Fail(libc::EAGAIN), anything);
        });
        assert!(text.contains("call 1 of the caller, openat(") && text.contains("did not end within"), "{text}");
    });
}

#[test]
fn a_body_that_panics_or_dies_is_found_out() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            counted.run(|| File::open("/etc/passwd")).expect("on purpose");
            Ok(())
        });
        let text = complaint(|| {
            sweep.each(Fault::Fail(libc::EIO), anything);
        });
        assert!(text.contains("the body panicked: on purpose"), "{text}");
        let sweep = Sweep::new(|counted| {
            if counted.run(|| File::open("/etc/passwd")).is_err() {
                std::process::abort();
            }
            Ok(())
        });
        let text = complaint(|| {
            sweep.each(Fault::Fail(libc::EIO), anything);
        });
        assert!(text.contains("the caller died of signal 6"), "{text}");
    });
}

/// A child that is forked, changes its directory and executes.
fn run_true(counted: &Counted<'_>) -> Result<(), Failure> {
    let status = counted.run(|| Command::new("true").current_dir("/").stdin(Stdio::null()).status());
    let status = status.map_err(failure)?;
    if status.success() { Ok(()) } else { Err(Failure::new("exit", None, status)) }
}

#[test]
fn the_calls_of_a_child_count_until_it_executes() {
    faultkit::isolated!(|| {
        let calls = Sweep::new(run_true).calls();
        assert_eq!(calls.len(), 2, "{calls:#?}");
        assert!(names(&calls[0]).contains(&"wait4") || names(&calls[0]).contains(&"waitid"), "{calls:#?}");
        assert!(names(&calls[1]).contains(&"chdir"), "{calls:#?}");
        assert_eq!(calls[1].last().expect("calls").name, "execve");
        let again = Sweep::new(run_true).calls();
        assert_eq!([names(&calls[0]), names(&calls[1])], [names(&again[0]), names(&again[1])]);
    });
}

#[test]
fn a_call_of_a_child_fails_as_well() {
    faultkit::isolated!(|| {
        let mut seen = false;
        let sweep = Sweep::new(run_true)
            .spare("posix_spawn does not look at the answer", |call| call.name == "rt_sigprocmask")
            .spare("a wait that fails has not reaped", |call| call.name.starts_with("wait"));
        sweep.each(Fault::Fail(libc::ENOMEM), |run| {
            if (run.call.task, run.call.name.as_str()) != (1, "chdir") {
                return Ok(());
            }
            seen = true;
            honest(run)
        });
        assert!(seen, "chdir of the child was never made to fail");
    });
}

#[test]
fn a_child_is_killed_at_each_of_its_calls() {
    faultkit::isolated!(|| {
        let calls = Sweep::new(run_true).calls();
        let mut killed = 0;
        Sweep::new(run_true).each(Fault::Kill, |run| match &run.end {
            // The standard library's parent learns it from the exit status.
            End::Returned(Err(failure)) if !run.call.is_callers() && failure.text.contains("signal: 9") => {
                killed += 1;
                Ok(())
            }
            End::Killed if run.call.is_callers() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(killed, calls[1].len());
    });
}

#[test]
fn a_group_and_a_process_that_outlive_a_killed_caller_are_found() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            let mut child = Command::new("sleep").arg("1000").spawn().map_err(failure)?;
            let read = counted.run(|| std::fs::read("/etc/passwd"));
            child.kill().and_then(|()| child.wait()).map_err(failure)?;
            read.map(drop).map_err(failure)
        });
        let text = complaint(|| {
            sweep.limit(Duration::from_millis(500)).each(Fault::KillCaller, anything);
        });
        assert!(text.contains("SIGKILL for the caller at call 1 of the caller"), "{text}");
        assert!(text.contains("did not end within") && text.contains("(sleep)"), "{text}");
    });
}

#[test]
fn what_a_killed_caller_leaves_may_be_put_in_order() {
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let file = dir.path().join("record");
        let body = |counted: &Counted<'_>| {
            counted
                .run(|| {
                    File::create(&file)?.write_all(b"x")?;
                    std::fs::remove_file(&file)
                })
                .map_err(failure)
        };
        let mut left = 0;
        let recovered = std::cell::Cell::new(0);
        Sweep::new(body)
            .recover(|| {
                recovered.set(recovered.get() + 1);
                let _ = std::fs::remove_file(&file);
            })
            .each(Fault::KillCaller, |_| {
                left += i32::from(file.exists());
                Ok(())
            });
        assert_eq!(left, 0);
        assert!(recovered.get() >= 4, "openat, write, close, unlink");
    });
}

#[test]
fn a_thread_of_the_body_counts_for_itself() {
    faultkit::isolated!(|| {
        let sweep = Sweep::new(|counted| {
            counted
                .run(|| std::thread::scope(|scope| scope.spawn(|| std::fs::read_link("/proc/self")).join()))
                .expect("join")
                .map(drop)
                .map_err(failure)
        });
        let calls = sweep.calls();
        assert_eq!(calls.len(), 2);
        assert!(names(&calls[1]).contains(&"readlink") || names(&calls[1]).contains(&"readlinkat"), "{calls:#?}");
    });
}

/// When nothing stops at system calls any more, nobody waits: a thread may have ended, and a child executed its program,
/// before its maker's clone is told of.
#[test]
fn threads_and_programs_come_and_go_after_what_is_counted() {
    faultkit::isolated!(limit_secs = 120, || {
        let body = |counted: &Counted<'_>| {
            let read = counted.run(|| File::open("/etc/passwd").map(drop)).map_err(failure);
            let run = || assert!(Command::new("true").status().expect("true").success());
            for _ in 0..10 {
                let threads = [(); 4].map(|()| std::thread::spawn(|| {}));
                let programs = [(); 4].map(|()| std::thread::spawn(run));
                threads.into_iter().chain(programs).for_each(|thread| thread.join().expect("join"));
            }
            read
        };
        for _ in 0..20 {
            assert_eq!(names(&Sweep::new(body).calls()[0])[0], "openat");
        }
        Sweep::new(body).each(Fault::Fail(libc::EIO), anything);
    });
}

/// Threads in the midst of being made and of ending, when all are killed.
#[test]
fn a_body_is_killed_while_its_threads_come_and_go() {
    faultkit::isolated!(limit_secs = 120, || {
        let start = |_| std::thread::Builder::new().spawn(|| std::fs::read_link("/proc/self").map(drop));
        let body = |counted: &Counted<'_>| {
            let work = || {
                let threads: Vec<_> = (0..4).map(start).collect::<Result<_, _>>()?;
                threads.into_iter().try_for_each(|thread| thread.join().expect("join"))
            };
            counted.run(work).map_err(failure)
        };
        for fault in [Fault::Kill, Fault::KillCaller] {
            let mut of_threads = 0;
            let swept = Sweep::new(body).each(fault, |run| match &run.end {
                End::Killed => {
                    of_threads += usize::from(!run.call.is_callers());
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            });
            assert!(swept.runs > 20 && of_threads > 10, "{swept:?}, {of_threads} of threads");
        }
    });
}

#[test]
fn what_else_must_not_change_is_asked() {
    faultkit::isolated!(|| {
        let state = std::cell::Cell::new(0);
        let sweep = Sweep::new(|counted| {
            counted.run(|| File::open("/etc/passwd")).map(drop).inspect_err(|_| state.set(1)).map_err(failure)
        });
        let text = complaint(|| {
            sweep.observe(|| vec![format!("state {}", state.get())]).each(Fault::Fail(libc::EPERM), anything);
        });
        assert!(text.contains("[\"state 0\"] became [\"state 1\"]"), "{text}");
    });
}
