//! A caller in which a lot goes on: descriptors that leak, threads that come and go, small stacks.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use ns_core::Command;

use crate::{output, sys, times};

/// Descriptors as careless libraries leave them, none close-on-exec: files, directories, sockets, pipes, at low and at
/// very high numbers.
fn hostile() -> Vec<OwnedFd> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("limit");
    let highest = hard.min(1 << 20) as i32 - 1;
    let sources: Vec<OwnedFd> = vec![
        File::open("/etc/passwd").expect("file").into(),
        File::open("/").expect("directory").into(),
        File::open("/proc/self").expect("directory of /proc").into(),
        std::os::unix::net::UnixDatagram::unbound().expect("socket").into(),
        std::net::TcpListener::bind("127.0.0.1:0").expect("socket").into(),
        nix::unistd::pipe().expect("pipe").0,
    ];
    (0..200)
        .map(|number: i32| {
            let source = &sources[number as usize % sources.len()];
            let at_least = if number % 2 == 0 { 3 } else { highest - number };
            sys::duplicate(source.as_raw_fd(), at_least)
        })
        .collect()
}

#[test]
fn of_200_descriptors_none_reaches_any_child_of_16_starters() {
    static STOP: AtomicBool = AtomicBool::new(false);
    faultkit::isolated!(|| {
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
        let hostile = hostile();
        assert_eq!(hostile.len(), 200);
        let list = || output(Command::new("/bin/ls").arg("/proc/self/fd")).expect("start");
        std::thread::scope(|scope| {
            // And one that opens and closes without pause, so that they appear between any two calls.
            scope.spawn(|| {
                while !STOP.load(Ordering::Relaxed) {
                    for at_least in [3, 50, 900] {
                        drop(sys::duplicate(hostile[0].as_raw_fd(), at_least));
                    }
                }
            });
            let starters: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..times(25).max(1) {
                            let (status, listed) = list();
                            assert!(status.success());
                            // The fourth is the directory that ls reads.
                            assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
                        }
                    })
                })
                .collect();
            let outcomes: Vec<_> = starters.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            STOP.store(true, Ordering::Relaxed);
            assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()), "a starter failed");
        });
        drop(hostile);
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard).expect("limit");
    });
}

/// What is in `keep` stays although the caller's standard descriptors are closed and the numbers are taken by others.
#[test]
fn a_caller_without_standard_descriptors() {
    faultkit::isolated!(|| {
        sys::in_a_fork(|| {
            let (reader, writer) = nix::unistd::pipe().expect("pipe");
            let writer = sys::duplicate(writer.as_raw_fd(), 10);
            sys::close_standard();
            let text = {
                let plan = Command::new("/bin/ls").arg("/proc/self/fd").stdout(ns_core::Stdio::Fd(writer)).plan();
                let plan = plan.expect("plan");
                let mut child = plan.spawn().expect("start");
                drop(plan);
                assert!(child.wait().expect("wait").success());
                let mut text = [0; 64];
                let length = nix::unistd::read(&reader, &mut text).expect("read");
                String::from_utf8_lossy(&text[..length]).into_owned()
            };
            assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        });
    });
}

#[test]
fn threads_come_and_go_while_others_start() {
    static STOP: AtomicBool = AtomicBool::new(false);
    faultkit::isolated!(|| {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !STOP.load(Ordering::Relaxed) {
                        std::thread::scope(|inner| {
                            inner.spawn(|| std::hint::black_box(vec![0u8; 10_000])).join().is_ok()
                        });
                    }
                });
            }
            let plan = Command::new("/bin/true").plan().expect("plan");
            for _ in 0..times(300) {
                // The thread that started it has ended before the child does.
                let started = std::thread::scope(|inner| inner.spawn(|| plan.spawn()).join());
                let mut child = started.expect("join").expect("start");
                assert!(child.wait().expect("wait").success());
            }
            STOP.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_start_needs_little_of_its_threads_stack() {
    faultkit::isolated!(|| {
        let plan = Command::new("/bin/true").plan().expect("plan");
        // The smallest that threads of C programs have, with what a debug build takes.
        let thread = std::thread::Builder::new().stack_size(32 << 10);
        let status = thread.spawn(move || plan.spawn()?.wait()).expect("thread").join().expect("join");
        assert!(status.expect("start").success());
    });
}
