//! A child allocates, frees and panics never: an allocator and a panic hook that notice it, beside threads that hold the
//! locks of both at any moment.
//!
//! A test binary of its own, since the allocator is that of the whole program.

use std::hint::black_box;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ns_core::{Command, Namespaces, Plan};

mod sys;

use sys::{Caught, Tripwire};

#[global_allocator]
static TRIPWIRE: Tripwire = Tripwire;

/// A child that allocates: what the tripwire is for.
fn allocates() {
    drop(black_box(vec![1u8; 100]));
}

#[test]
fn it_catches_children_that_allocate_free_or_panic() {
    faultkit::isolated!(|| {
        sys::arm();
        assert_eq!(sys::caught(), Caught::default());
        sys::in_a_fork(allocates);
        assert_eq!(sys::caught(), Caught { allocations: 1, ..Caught::default() });
        let mut made_before = Some(Box::new([0u8; 100]));
        sys::in_a_fork(|| drop(black_box(made_before.take())));
        assert_eq!(sys::caught(), Caught { frees: 1, ..Caught::default() });
        sys::in_a_fork(|| assert!(black_box(false)));
        assert_eq!(sys::caught(), Caught { panics: 1, ..Caught::default() });
        // The same in a child that shares this memory.
        sys::in_shared_memory(allocates);
        assert_eq!(sys::caught(), Caught { allocations: 1, ..Caught::default() });
        sys::in_shared_memory(|| {});
        assert_eq!(sys::caught(), Caught::default());
    });
}

/// Starts that succeed, that fail in the child, that change ids, and that get a copy of the memory.
fn plans() -> Vec<(Plan, bool)> {
    let root = nix::unistd::geteuid().is_root();
    let new = |program: &str| {
        let command = Command::new(program).args(["a", "b"]).new_session().current_dir("/");
        if root { command.namespaces(Namespaces::UTS).hostname("trip") } else { command }
    };
    let mut commands = vec![
        (new("/bin/true"), true),
        (new("true"), true),
        (new("/no/such/program"), false),
        (new("/bin/true").current_dir("/no/such/dir"), false),
        (new("/bin/true").copy_memory(), true),
    ];
    if root {
        commands.push((new("/bin/true").user(1234, 1234).groups([1, 2, 3]), true));
    }
    commands.into_iter().map(|(command, succeeds)| (command.plan().expect("plan"), succeeds)).collect()
}

#[test]
fn ten_thousand_starts_beside_threads_that_allocate_and_log() {
    static STOP: AtomicBool = AtomicBool::new(false);
    static LOG: Mutex<Option<std::fs::File>> = Mutex::new(None);
    faultkit::isolated!(limit_secs = 300, || {
        *LOG.lock().expect("log") = Some(std::fs::File::create("/dev/null").expect("/dev/null"));
        let busy: Vec<_> = (0..64usize)
            .map(|number| {
                std::thread::spawn(move || {
                    // They run when nobody else does, and stop in the middle of anything, with any lock held.
                    sys::run_when_idle();
                    while !STOP.load(Ordering::Relaxed) {
                        let texts: Vec<String> = (0..32).map(|line| "x".repeat(number * 40 + line * 7)).collect();
                        drop(std::io::stderr().lock());
                        if let Some(log) = LOG.lock().expect("log").as_mut() {
                            let _ = writeln!(log, "{number}: {}", texts.join(" "));
                        }
                    }
                })
            })
            .collect();
        let plans = plans();
        sys::arm();
        let starts = if std::env::var_os("CELLKIT_VM").is_some() { 75 } else { 2500 };
        std::thread::scope(|scope| {
            for starter in 0..4 {
                let plans = &plans;
                scope.spawn(move || {
                    for number in 0..starts {
                        let (plan, succeeds) = &plans[(starter + number) % plans.len()];
                        match plan.spawn() {
                            Ok(mut child) => assert!(child.wait().expect("wait").success() && *succeeds),
                            Err(error) => assert!(!succeeds && error.raw_os_error() == Some(libc::ENOENT), "{error:#}"),
                        }
                    }
                });
            }
        });
        STOP.store(true, Ordering::Relaxed);
        for thread in busy {
            thread.join().expect("busy");
        }
        assert_eq!(sys::caught(), Caught::default());
        *LOG.lock().expect("log") = None;
    });
}
