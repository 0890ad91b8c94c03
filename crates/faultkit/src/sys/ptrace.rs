//! ptrace(2), as far as the injector needs it: following a process and its children from system call to system call.
//!
//! Every function that acts on a tracee takes it as stopped; one that was killed meanwhile makes the call fail with ESRCH,
//! which says nothing that the next wait does not say better, and is dropped.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::time::{Duration, Instant};

/// What a wait found a process to have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended, and has been reaped unless it is somebody else's child: the status as waitpid(2) gives it.
    Ended(i32),
    /// It is about to make a system call, or has just made one: see [`call`].
    Call,
    /// It has made a process or a thread, whose number this is.
    Cloned(i32),
    /// It executed another program.
    Executed,
    /// It stopped because it was just attached to.
    Attached,
    /// Job control stopped it.
    JobStopped,
    /// It is about to get this signal.
    Signal(i32),
}

/// Where in a system call a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before it: number and arguments.
    Entry(u64, [u64; 6]),
    /// After it: the answer, or -errno.
    Exit(i64),
    /// In neither.
    Elsewhere,
}

/// How a stopped process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Up to its next system call.
    ToNextCall,
    /// Up to its next clone, execve or signal.
    Freely,
    /// Not at all, until job control says so.
    Listen,
}

/// PTRACE_SEIZE: follows `pid` and whatever it clones, and kills all of them should this process die.
pub fn seize(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE as _, pid, 0, options as usize).map(drop)
}

/// PTRACE_INTERRUPT: makes it stop.
pub fn interrupt(pid: i32) {
    let _ = request(libc::PTRACE_INTERRUPT as _, pid, 0, 0);
}

/// Lets it go on, with `signal` (0 for none) delivered.
pub fn resume(pid: i32, how: Resume, signal: i32) {
    let how = match how {
        Resume::ToNextCall => libc::PTRACE_SYSCALL as libc::c_long,
        Resume::Freely => libc::PTRACE_CONT as _,
        Resume::Listen => PTRACE_LISTEN,
    };
    let _ = request(how, pid, 0, signal as usize);
}

/// PTRACE_DETACH: lets it go for good.
pub fn detach(pid: i32) {
    let _ = request(libc::PTRACE_DETACH as _, pid, 0, 0);
}

/// PTRACE_GET_SYSCALL_INFO, Linux 5.3: the same on every machine.
pub fn call(pid: i32) -> Place {
    // struct ptrace_syscall_info: the kind in the first byte; for an entry number and arguments, for an exit the answer.
    let mut info = [0u64; 11];
    if request(PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&info), info.as_mut_ptr() as usize).is_err() {
        return Place::Elsewhere;
    }
    let [kind, _, _, first, a, b, c, d, e, f, _] = info;
    match kind.to_ne_bytes()[0] {
        1 => Place::Entry(first, [a, b, c, d, e, f]),
        2 => Place::Exit(first as i64),
        _ => Place::Elsewhere,
    }
}

/// At the entry of a system call: it will not be made.
pub fn skip_call(pid: i32) {
    #[cfg(target_arch = "x86_64")]
    let _ = request(libc::PTRACE_POKEUSER as _, pid, 8 * libc::ORIG_RAX as usize, usize::MAX);
    #[cfg(target_arch = "aarch64")]
    {
        const NT_ARM_SYSCALL: usize = 0x404;
        let none = -1i32;
        let part = libc::iovec { iov_base: ptr::from_ref(&none).cast_mut().cast(), iov_len: size_of::<i32>() };
        let _ = request(libc::PTRACE_SETREGSET as _, pid, NT_ARM_SYSCALL, ptr::from_ref(&part) as usize);
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    panic!("the injector does not know the registers of this processor: {pid}");
}

/// At the exit of a system call: it answers this.
pub fn set_answer(pid: i32, answer: i64) {
    #[cfg(target_arch = "x86_64")]
    let _ = request(libc::PTRACE_POKEUSER as _, pid, 8 * libc::RAX as usize, answer as usize);
    #[cfg(target_arch = "aarch64")]
    {
        const NT_PRSTATUS: usize = 1;
        // struct user_pt_regs: x0 to x30, sp, pc, pstate.
        let mut registers = [0u64; 34];
        let size = size_of_val(&registers);
        let part = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size };
        if request(libc::PTRACE_GETREGSET as _, pid, NT_PRSTATUS, ptr::from_ref(&part) as usize).is_ok() {
            registers[0] = answer as u64;
            let part = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size };
            let _ = request(libc::PTRACE_SETREGSET as _, pid, NT_PRSTATUS, ptr::from_ref(&part) as usize);
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    panic!("the injector does not know the registers of this processor: {pid} {answer}");
}

const PTRACE_LISTEN: libc::c_long = 0x4208;
const PTRACE_GET_SYSCALL_INFO: libc::c_long = 0x420e;
const PTRACE_EVENT_STOP: i32 = 128;

fn request(request: libc::c_long, pid: i32, address: usize, data: usize) -> io::Result<usize> {
    // SAFETY: each caller above passes numbers, or the address of memory of the size that the request reads or writes.
    match unsafe { libc::syscall(libc::SYS_ptrace, request, pid as libc::c_long, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value as usize),
    }
}

/// What any tracee or child did, waited for until `deadline`. `None` when nothing happened until then; `Err` when there is
/// neither. SIGCHLD must be blocked: see [`ChildSignal`].
pub fn wait(deadline: Instant) -> io::Result<Option<(i32, Change)>> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one int.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
        match pid {
            0 => {}
            -1 => return Err(io::Error::last_os_error()),
            pid => return Ok(Some((pid, change(pid, status)))),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(None);
        }
        ChildSignal::wait(left);
    }
}

fn change(pid: i32, status: i32) -> Change {
    if !libc::WIFSTOPPED(status) {
        return Change::Ended(status);
    }
    match (libc::WSTOPSIG(status), status >> 16) {
        (signal, 0) if signal == libc::SIGTRAP | 0x80 => Change::Call,
        (signal, 0) => Change::Signal(signal),
        (_, libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK) => {
            let mut made: libc::c_ulong = 0;
            let _ = request(libc::PTRACE_GETEVENTMSG as _, pid, 0, ptr::from_mut(&mut made) as usize);
            Change::Cloned(made as i32)
        }
        (_, libc::PTRACE_EVENT_EXEC) => Change::Executed,
        (libc::SIGTRAP, PTRACE_EVENT_STOP) => Change::Attached,
        (_, PTRACE_EVENT_STOP) => Change::JobStopped,
        (signal, _) => Change::Signal(signal),
    }
}

/// Blocks SIGCHLD while it lives, so that it can be waited for with a time limit.
#[derive(Debug)]
pub struct ChildSignal {
    before: libc::sigset_t,
}

impl ChildSignal {
    /// Blocks it.
    pub fn block() -> Self {
        let set = Self::set();
        // SAFETY: a sigset_t is plain integers.
        let mut before = unsafe { std::mem::zeroed() };
        // SAFETY: the C library reads one set and writes the other.
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self { before }
    }

    fn set() -> libc::sigset_t {
        // SAFETY: a sigset_t is plain integers.
        let mut set = unsafe { std::mem::zeroed() };
        // SAFETY: the C library writes one set.
        unsafe { libc::sigemptyset(&raw mut set) };
        // SAFETY: the C library changes one set.
        unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
        set
    }

    /// Until one comes, or `limit` has passed.
    fn wait(limit: Duration) {
        let set = Self::set();
        let limit = libc::timespec {
            tv_sec: limit.as_secs().min(3600) as libc::time_t,
            tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
        };
        // SAFETY: the kernel reads a set and a timespec; no information is asked for.
        unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const limit) };
    }
}

impl ChildSignal {
    /// As before; in a fork, the fork's own.
    pub fn restore(&self) {
        // SAFETY: the C library reads one set.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

impl Drop for ChildSignal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// A fork that runs `body` and then ends, with nothing of this process's own run at its end.
pub fn fork(body: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: an isolated test is single-threaded (`Sweep` checks it), so the fork may go on as if nothing had happened.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the process without running what the parent registered for its own end.
            unsafe { libc::_exit(if ran.is_ok() { 0 } else { 101 }) }
        }
        pid => Ok(pid),
    }
}

/// getpid(2) with arguments that it ignores and a tracer sees.
pub fn mark(first: u64, second: u64) {
    // SAFETY: getpid takes no arguments and touches no memory.
    unsafe { libc::syscall(libc::SYS_getpid, first, second) };
}
