//! The system calls of these tests that the standard library has no safe form for.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fork of this process, which must have one thread.
pub(crate) struct Forked(libc::pid_t);

impl Forked {
    pub(crate) fn new(body: impl FnOnce()) -> Self {
        // SAFETY: the process has one thread, so the child may do whatever the parent may.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            let status = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the fork without running what belongs to the parent.
            unsafe { libc::_exit(status) };
        }
        Self(pid)
    }

    pub(crate) fn kill(&self) {
        // SAFETY: our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(self.0, libc::SIGKILL) }, 0, "kill");
    }

    /// The status that waitpid(2) gives.
    pub(crate) fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: status is one int.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0, "waitpid");
        status
    }
}

/// waitpid(2) for any child: its number, or the errno.
pub(crate) fn wait_for_any() -> Result<i32, i32> {
    // SAFETY: nothing is to be written.
    match unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().expect("an errno")),
        pid => Ok(pid),
    }
}

pub(crate) fn setns(fd: BorrowedFd<'_>, kind: i32) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setns(fd.as_raw_fd(), kind) }, 0, "setns: {}", std::io::Error::last_os_error());
}

pub(crate) fn become_root() {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresgid(0, 0, 0) }, 0, "setresgid");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresuid(0, 0, 0) }, 0, "setresuid");
    // A change of ids takes it away, and with it the files of children in /proc.
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0, "dumpable");
}

/// How many signals the handler of [`count_signals`] has seen.
pub(crate) static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Handles SIGCHLD, and every signal that can be handled, by counting it.
pub(crate) fn count_signals() {
    for signal in (1..32).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS].contains(signal))
    {
        // SAFETY: the handler touches an atomic only.
        assert_ne!(unsafe { libc::signal(signal, count as *const () as libc::sighandler_t) }, libc::SIG_ERR, "signal");
    }
}

/// The blocked signals of the calling thread, as the kernel's set.
pub(crate) fn blocked() -> u64 {
    let mut old = 0u64;
    let nothing: *const u64 = std::ptr::null();
    // SAFETY: no new set, and the old one is eight bytes as said.
    let answer = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, nothing, &raw mut old, 8usize) };
    assert_eq!(answer, 0, "rt_sigprocmask");
    old
}

/// Installs a seccomp filter that answers `errno` to system call `number`, for this process and for good.
pub(crate) fn refuse(number: libc::c_long, errno: i32) {
    filter(&[
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        jump(number as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// The same for one request of ioctl(2).
pub(crate) fn refuse_ioctl(request: u32, errno: i32) {
    // The lower half of the second argument of struct seccomp_data, on machines with the lower half first.
    const SECOND: u32 = 16 + 8;
    filter(&[
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        jump(libc::SYS_ioctl as u32, 0, 3),
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, SECOND),
        jump(request, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k }
}

fn filter(program: &[libc::sock_filter]) {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0, "no_new_privs");
    // SAFETY: the kernel reads the program, which is as long as said.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(answer, 0, "seccomp: {}", std::io::Error::last_os_error());
}
