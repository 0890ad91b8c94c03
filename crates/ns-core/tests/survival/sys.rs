//! What the tests do to themselves that no library offers safely.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// prctl(2) PR_GET_DUMPABLE.
pub(crate) fn dumpable() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}

/// signal(2) with SIG_IGN.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// signal(2) with SIG_DFL.
pub(crate) fn default(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Runs `work` in a fork and waits for it.
///
/// # Panics
/// When it panicked.
#[track_caller]
pub(crate) fn in_a_fork(work: impl FnOnce()) {
    // SAFETY: the test runs alone in its process, whose other threads only wait for it.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends this process without running what the test registered for its own end.
        unsafe { libc::_exit(i32::from(outcome.is_err())) }
    }
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((reaped, status), (pid, 0), "the fork failed: see above");
}

/// fcntl(2) F_DUPFD: the first free number from `at_least` on, not close-on-exec.
pub(crate) fn duplicate(fd: RawFd, at_least: RawFd) -> OwnedFd {
    // SAFETY: no pointers.
    let fd = unsafe { libc::fcntl(fd, libc::F_DUPFD, at_least) };
    assert!(fd >= 0, "fcntl: {}", std::io::Error::last_os_error());
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes descriptors 0, 1 and 2.
pub(crate) fn close_standard() {
    // SAFETY: a fork of a test that says nothing from now on, unless it fails.
    unsafe { libc::syscall(libc::SYS_close_range, 0, 2, 0) };
}

/// A timer of the process, for once.
pub(crate) fn set_timer(after: Duration) {
    set_interval(after, Duration::ZERO);
}

fn set_interval(first: Duration, then: Duration) {
    let time = |duration: Duration| libc::timeval {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(duration.subsec_micros() as i32),
    };
    let timer = libc::itimerval { it_value: time(first), it_interval: time(then) };
    // SAFETY: the kernel reads one itimerval.
    let answer = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    assert_eq!(answer, 0, "setitimer");
}

/// Whether that timer still runs.
pub(crate) fn timer_is_set() -> bool {
    // SAFETY: an itimerval is plain integers.
    let mut timer: libc::itimerval = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one itimerval.
    unsafe { libc::getitimer(libc::ITIMER_REAL, &raw mut timer) };
    timer.it_value.tv_sec > 0
}

/// Takes what is pending of `set`, which is blocked.
pub(crate) fn take_pending(set: &nix::sys::signal::SigSet) {
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel reads a set and a time.
    while unsafe { libc::sigtimedwait(set.as_ref(), ptr::null_mut(), &raw const none) } > 0 {}
}

static MET: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    MET.fetch_add(1, Ordering::Relaxed);
}

/// SIGALRM all the time, with a handler that makes calls end with EINTR.
#[derive(Debug)]
pub(crate) struct Storm(());

impl Storm {
    /// One every `pause`.
    pub(crate) fn begin(pause: Duration) -> Self {
        // SAFETY: a sigaction is plain integers and pointers, for which zero is a value: no SA_RESTART, nothing masked.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = count as *const () as usize;
        // SAFETY: the handler adds to an atomic and does nothing else.
        let answer = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) };
        assert_eq!(answer, 0, "sigaction");
        MET.store(0, Ordering::Relaxed);
        set_interval(pause, pause);
        Self(())
    }

    /// How many came.
    pub(crate) fn end(self) -> usize {
        set_timer(Duration::ZERO);
        default(libc::SIGALRM);
        MET.load(Ordering::Relaxed)
    }
}

/// A landlock ruleset that keeps nobody from anything but making devices; `None` where there is no landlock.
pub(crate) fn landlock_ruleset() -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    let make_char: u64 = 1 << 6;
    // SAFETY: the kernel reads eight bytes, the first version of struct landlock_ruleset_attr.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const make_char, 8, 0) };
    // SAFETY: just made.
    (fd != -1).then(|| unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) })
}
