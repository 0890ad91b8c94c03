//! The allocator and the panic hook that know their process, and children that are as bad as children can be.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// The system's allocator, which ends any process that uses it and is not the one that [`arm`]ed it.
pub(crate) struct Tripwire;

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Tripwire {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(0);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(0);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(0);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        check(1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The process that may allocate; 0 for any.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// Three counters that forks share.
static COUNTERS: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// What the tripwire has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caught {
    pub(crate) allocations: u32,
    pub(crate) frees: u32,
    pub(crate) panics: u32,
}

/// From now on only the calling process may allocate, free and panic.
pub(crate) fn arm() {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED, "mmap");
    COUNTERS.store(page.cast(), Ordering::SeqCst);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        check(2);
        default(panic);
    }));
    OWNER.store(getpid(), Ordering::SeqCst);
}

/// What was met since the last call.
pub(crate) fn caught() -> Caught {
    let [allocations, frees, panics] = [0, 1, 2].map(|kind| counter(kind).swap(0, Ordering::SeqCst));
    Caught { allocations, frees, panics }
}

fn counter(kind: usize) -> &'static AtomicU32 {
    // SAFETY: the page was mapped by `arm`, is never unmapped, and holds many such counters.
    unsafe { &*COUNTERS.load(Ordering::SeqCst).wrapping_add(kind) }
}

/// Ends the calling process, raw and at once, if it is another one.
fn check(kind: usize) {
    let owner = OWNER.load(Ordering::Relaxed);
    if owner != 0 && getpid() != owner {
        counter(kind).fetch_add(1, Ordering::SeqCst);
        // SAFETY: ends this process; no memory is involved.
        unsafe { libc::syscall(libc::SYS_exit_group, 99) };
    }
}

/// Not the C library's, which some versions remember.
fn getpid() -> i32 {
    // SAFETY: no arguments; it cannot fail, so that errno is not written either.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

/// SCHED_IDLE for the calling thread.
pub(crate) fn run_when_idle() {
    // SAFETY: a sched_param is plain integers.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads one sched_param.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    assert_eq!(answer, 0, "sched_setscheduler");
}

/// Runs `body` in a plain fork and waits for its end.
pub(crate) fn in_a_fork(body: impl FnOnce()) {
    // SAFETY: the test runs alone in its process.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        body();
        // SAFETY: ends this process; no memory is involved.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
}

/// Runs `body` in a child that shares this process's memory, and waits for its end.
pub(crate) fn in_shared_memory(body: fn()) {
    extern "C" fn run(body: *mut libc::c_void) -> i32 {
        // SAFETY: below, it is made from a function of this type.
        let body: fn() = unsafe { std::mem::transmute(body) };
        body();
        0
    }
    let mut stack = vec![0u128; 8192];
    let top = stack.as_mut_ptr_range().end.cast();
    // SAFETY: the stack outlives the child, which has ended or been ended when clone returns (CLONE_VFORK).
    let pid = unsafe { libc::clone(run, top, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, body as *mut _) };
    assert!(pid > 0, "clone");
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
}
