//! A program with threads, signal handlers and children of its own goes on as if nothing had happened.
#![forbid(unsafe_code)]

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use idmap::{MapPlan, UsernsFd};

use super::{children, plan};
use crate::sys;

/// As many as are made in a row.
fn many() -> usize {
    if std::env::var_os("CELLKIT_VM").is_some() { 100 } else { 1000 }
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count()
}

/// The mappings, as the kernel counts them.
fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").expect("maps").lines().count()
}

#[test]
fn neither_a_signal_handler_nor_a_wait_for_any_child() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // In a fork, whose handlers go away with it.
        let child = sys::Forked::new(|| {
            sys::count_signals();
            with_a_waiting_thread(&plan("100000:100000:65536"));
        });
        assert_eq!(child.wait(), 0);
    });
}

fn with_a_waiting_thread(plan: &MapPlan) {
    let sleeper = sys::Forked::new(|| std::thread::sleep(Duration::from_secs(600)));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Waits for the sleeper, which is killed at the end; anything else that it sees is ours.
        let waiter = scope.spawn(|| {
            let seen = sys::wait_for_any();
            assert!(done.load(Ordering::SeqCst), "it saw a child that is not its own: {seen:?}");
            assert_eq!(sys::wait_for_any(), Err(libc::ECHILD));
        });
        let before = (sys::blocked(), open_files());
        for _ in 0..200 {
            drop(UsernsFd::new(plan).expect("userns"));
        }
        assert_eq!((sys::blocked(), open_files()), before);
        assert_eq!(children().len(), 1, "the sleeper alone");
        assert_eq!(sys::SIGNALS.load(Ordering::SeqCst), 0, "signals");
        done.store(true, Ordering::SeqCst);
        sleeper.kill();
        waiter.join().expect("waiter");
    });
    assert_eq!(sys::SIGNALS.load(Ordering::SeqCst), 1, "the sleeper's");
}

#[test]
fn sixty_four_threads_go_on_and_use_their_memory() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 120, || {
        let plan = plan("100000:100000:65536");
        let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let busy = |seed: usize| {
                let (stop, rounds) = (&stop, &rounds);
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        // Allocates, calls the C library, and looks at errno.
                        let block = vec![seed as u8; 1 + seed * 997];
                        let missing = fs::File::open(format!("/no/such/{seed}")).expect_err("missing");
                        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
                        assert!(block.iter().all(|byte| *byte == seed as u8));
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            let threads: Vec<_> = (0..64).map(|seed| scope.spawn(busy(seed))).collect();
            // Four of them at once, beside the others.
            let makers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..10 {
                            drop(UsernsFd::new(&plan).expect("userns"));
                        }
                    })
                })
                .collect();
            let made = makers.into_iter().map(|maker| maker.join().is_ok()).collect::<Vec<_>>();
            stop.store(true, Ordering::Relaxed);
            assert!(threads.into_iter().all(|thread| thread.join().is_ok()) && made == [true; 4]);
        });
        assert!(rounds.load(Ordering::Relaxed) > 64);
        assert!(children().is_empty(), "{:?}", children());
    });
}

#[test]
fn a_thousand_in_a_row_leave_nothing() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 120, || {
        let plan = plan("100000:100000:65536");
        let make = || drop(UsernsFd::new(&plan).expect("userns"));
        // What the allocator and the C library keep for themselves is there after the first.
        make();
        let before = (open_files(), mappings());
        for _ in 0..many() {
            make();
        }
        assert_eq!((open_files(), mappings()), before);
        assert!(children().is_empty(), "{:?}", children());
    });
}

#[test]
fn no_descriptor_of_the_caller_is_held_open_by_the_child() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // A program that waits for the end of a stream while a slow newuidmap keeps the child alive would wait for both. The
        // child of a plan that is written at once is as good: it has closed all that it need not have when it waits.
        use std::io::Read;
        let plan = plan("100000:100000:65536");
        for _ in 0..50 {
            let (mut reader, writer) = std::os::unix::net::UnixStream::pair().expect("socketpair");
            std::thread::scope(|scope| {
                let maker = scope.spawn(|| UsernsFd::new(&plan).map(drop));
                drop(writer);
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest).expect("read");
                maker.join().expect("maker").expect("userns");
            });
        }
    });
}
