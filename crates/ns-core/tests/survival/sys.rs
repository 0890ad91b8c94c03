//! What the tests do to themselves that no library offers safely.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
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

/// A word and some text that a process and its fork both see, without a system call.
struct Shared(*mut libc::c_void);

const SHARED: usize = 4096;
/// Behind the word and the length.
const TEXT: usize = 8;

impl Shared {
    fn new() -> Self {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let address = unsafe { libc::mmap(ptr::null_mut(), SHARED, protection, flags, -1, 0) };
        assert_ne!(address, libc::MAP_FAILED, "mmap");
        Self(address)
    }

    fn word(&self, number: usize) -> &AtomicU32 {
        // SAFETY: one of the first two words of the mapping, which is aligned to a page, zeroed, and lives as long as self.
        unsafe { AtomicU32::from_ptr(self.0.cast::<u32>().wrapping_add(number)) }
    }

    fn tell(&self, text: &str) {
        let length = text.len().min(SHARED - TEXT);
        // SAFETY: within the mapping; the reader waits for the word that is set afterwards.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), self.0.cast::<u8>().wrapping_add(TEXT), length) };
        self.word(1).store(length as u32, Ordering::Relaxed);
        self.word(0).store(TOLD, Ordering::Release);
    }

    fn told(&self) -> String {
        let length = (self.word(1).load(Ordering::Relaxed) as usize).min(SHARED - TEXT);
        // SAFETY: within the mapping; the writer has set the word after it wrote, and writes no more.
        let bytes = unsafe { std::slice::from_raw_parts(self.0.cast::<u8>().wrapping_add(TEXT), length) };
        String::from_utf8_lossy(bytes).into_owned()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this size, which nothing borrows any more.
        unsafe { libc::munmap(self.0, SHARED) };
    }
}

const TOLD: u32 = 1;
const LOOKED_AT: u32 = 2;

/// Runs `work` in a fork, and `look` here while the fork is still where `work` has brought it, making no system calls.
/// Answers the text of the one and what the other saw; `None` when the fork died.
pub(crate) fn in_a_fork_looked_at<T>(
    work: impl FnOnce() -> String,
    look: impl FnOnce(i32) -> T,
) -> Option<(String, T)> {
    let shared = Shared::new();
    // SAFETY: the process has one thread.
    let pid = unsafe { libc::fork() };
    assert_ne!(pid, -1, "fork");
    if pid == 0 {
        if let Ok(text) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
            shared.tell(&text);
            while shared.word(0).load(Ordering::Acquire) != LOOKED_AT {
                std::hint::spin_loop();
            }
        }
        // SAFETY: ends this process without running what the test registered for its own end.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    let mut has_ended = || unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } != 0;
    while shared.word(0).load(Ordering::Acquire) != TOLD && !has_ended() {
        std::thread::sleep(Duration::from_micros(200));
    }
    if shared.word(0).load(Ordering::Acquire) != TOLD {
        return None;
    }
    let seen = look(pid);
    shared.word(0).store(LOOKED_AT, Ordering::Release);
    // SAFETY: the kernel writes one int.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    Some((shared.told(), seen))
}

/// umount2(2).
pub(crate) fn unmount(path: &std::ffi::CStr) {
    // SAFETY: a C string; the kernel only reads it.
    let answer = unsafe { libc::umount2(path.as_ptr(), 0) };
    assert_eq!(answer, 0, "umount {path:?}: {}", std::io::Error::last_os_error());
}
