//! The system calls of this crate, and what runs between fork and exec of an isolated test.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub mod ptrace;
mod shared_page;

pub use shared_page::SharedPage;

/// geteuid(2).
pub fn euid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// kill(2) with SIGKILL. A process that is gone is no error.
pub fn kill(pid: i32) {
    // SAFETY: no memory is involved; the caller names a process it started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Whether a fresh process may unshare(CLONE_NEWUSER).
pub fn try_user_namespace() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    // The answer is the error of the hook: when it succeeds the program is not run, for the hook never returns.
    // SAFETY: unshare and _exit are plain system calls, safe between fork and exec.
    unsafe { command.pre_exec(|| check(unshare(libc::CLONE_NEWUSER)).map(|_| exit(0))) };
    command.spawn()?.wait().map(drop)
}

/// Waits for every child that has ended, whoever started it; the answer is how many there were.
pub fn reap_ended() -> usize {
    let mut count = 0;
    // SAFETY: a null status is allowed, no memory is involved.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {
        count += 1;
    }
    count
}

/// Runs `body` in a fork, where it is the only thread, and answers with its exit status: 101 when it panics, 128 and
/// more for a signal. The fork is a subreaper and dies with the calling thread.
///
/// The test harness runs even a single test on a second thread, and a process with two may not unshare a user namespace.
pub fn run_in_fork(body: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: the only other thread is the harness's own, which waits for this test's result and holds no lock. The C
    // library makes its allocator usable in the child.
    let pid = check(unsafe { libc::fork() })?;
    if pid != 0 {
        return wait_for(pid);
    }
    let set = prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) | prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    let _ = io::Write::flush(&mut io::stdout());
    exit(if outcome.is_ok() && set == 0 { 0 } else { 101 })
}

/// What the process of an isolated test does before it runs the test binary again. All of it is made in the parent:
/// between fork and exec nothing may be allocated.
#[derive(Debug)]
pub struct Entry {
    /// Where to say which step failed: the parent's standard error.
    pub report: OwnedFd,
    /// `None`: a fresh process, and that is all.
    pub namespaces: Option<Namespaces>,
}

/// The part that needs root.
#[derive(Debug)]
pub struct Namespaces {
    /// A cgroup namespace, if there is a group for it.
    pub cgroup: Option<CgroupEntry>,
    /// Get a tmpfs, if they exist: `/run`.
    pub tmpfs: Vec<CString>,
}

/// How to enter a group so that it looks like the root of the hierarchy.
#[derive(Debug)]
pub struct CgroupEntry {
    /// `cgroup.procs` of the group that becomes the root of the cgroup namespace.
    pub root_procs: OwnedFd,
    /// `cgroup.procs` of the group below it where the test runs: the root must be free of processes to have controllers.
    pub leaf_procs: OwnedFd,
    /// `cgroup.subtree_control` of the root.
    pub subtree_control: OwnedFd,
    /// `+cpu`, `+memory`, ...
    pub controllers: Vec<Vec<u8>>,
    /// Where the cgroup2 file system is mounted.
    pub mount_point: CString,
}

/// Makes `command` go through `entry` before its exec.
///
/// As root the process of `command` becomes three: the one the parent waits for, which passes the exit status on; PID 1
/// of the new pid namespace, which reaps; and the test harness.
pub fn enter_before_exec(command: &mut Command, entry: Entry) {
    // SAFETY: `enter` makes system calls on what `entry` holds, and neither allocates nor locks.
    unsafe { command.pre_exec(move || enter(&entry)) };
}

fn enter(entry: &Entry) -> io::Result<()> {
    let step = |name: &'static [u8], value: i32| {
        check(value).inspect_err(|_| {
            write(&entry.report, b"faultkit: could not isolate the test at ");
            write(&entry.report, name);
            write(&entry.report, b"\n");
        })
    };
    default_signals();
    step(b"prctl(PR_SET_PDEATHSIG)", prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
    if let Some(namespaces) = &entry.namespaces {
        if let Some(cgroup) = &namespaces.cgroup {
            step(b"write cgroup.procs", write(&cgroup.root_procs, b"0"))?;
            step(b"unshare(CLONE_NEWCGROUP)", unshare(libc::CLONE_NEWCGROUP))?;
            step(b"write cgroup.procs of the group below", write(&cgroup.leaf_procs, b"0"))?;
            for controller in &cgroup.controllers {
                // Some cannot be enabled (cpu with real-time processes): the test finds what there is.
                write(&cgroup.subtree_control, controller);
            }
        }
        let new = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID;
        step(b"unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID)", unshare(new))?;
        let init = step(b"fork of PID 1", fork())?;
        if init != 0 {
            close_above_stderr();
            exit_like(init);
        }
        step(b"prctl(PR_SET_PDEATHSIG)", prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        step(b"mount --make-rprivate /", mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE))?;
        if let Some(cgroup) = &namespaces.cgroup {
            step(b"umount2 of the cgroup2 file system", umount(&cgroup.mount_point))?;
            let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let mounted = mount(Some(c"cgroup2"), &cgroup.mount_point, Some(c"cgroup2"), flags);
            step(b"mount of the cgroup2 file system", mounted)?;
        }
        for dir in &namespaces.tmpfs {
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            step(b"mount of a tmpfs on /run", mount(Some(c"tmpfs"), dir, Some(c"tmpfs"), flags))?;
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        step(b"mount of /proc", mount(Some(c"proc"), c"/proc", Some(c"proc"), flags))?;
        step(b"ip link set lo up", loopback_up())?;
        let test = step(b"fork of the test", fork())?;
        if test != 0 {
            close_above_stderr();
            exit_like(test);
        }
    }
    Ok(())
}

/// Whoever starts the tests may ignore some: a shell SIGINT and SIGQUIT of what it runs in the background, nohup(1) SIGHUP.
/// That is inherited by all that a test starts.
fn default_signals() {
    // The kernel's own sigaction, of whatever fields: SIG_DFL, no flags, nothing masked. The C library's function refuses the
    // two signals that it uses itself.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads one struct sigaction, which is no larger, and installs no handler.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize) };
    }
}

/// Who ignores SIGCHLD has no children to wait for: they are reaped by nobody, and their statuses are lost.
pub fn keep_children() {
    // SAFETY: a sigaction is plain integers and pointers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no new action is given; the C library writes the old one.
    unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) };
    if action.sa_sigaction == libc::SIG_IGN {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
}

/// The pipe that tells the parent of a failed exec is open in every forked process, and the parent waits for its end.
fn close_above_stderr() {
    // SAFETY: no memory is involved, and this process uses no descriptor but the first three from now on.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Ends this process as its child `main` ends, reaping every other one meanwhile.
fn exit_like(main: i32) -> ! {
    exit(loop {
        let mut status = 0;
        match wait(-1, &mut status) {
            pid if pid == main => break shell_status(status),
            -1 if !interrupted() => break 125,
            _ => {}
        }
    })
}

fn wait_for(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    while wait(pid, &mut status) == -1 {
        if !interrupted() {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(shell_status(status))
}

fn wait(pid: i32, status: &mut i32) -> i32 {
    // SAFETY: the kernel writes one integer, to a place that outlives the call.
    unsafe { libc::waitpid(pid, status, 0) }
}

fn interrupted() -> bool {
    io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
}

fn shell_status(status: i32) -> i32 {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

fn loopback_up() -> i32 {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket == -1 {
        return -1;
    }
    // SAFETY: ifreq is plain integers and arrays, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    let answer = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    // SAFETY: the socket was made above and is used by nobody else. Closing it leaves errno alone, as it succeeds.
    unsafe { libc::close(socket) };
    answer
}

fn check(value: i32) -> io::Result<i32> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn unshare(flags: i32) -> i32 {
    // SAFETY: no memory is involved; the process is a fresh fork with one thread.
    unsafe { libc::unshare(flags) }
}

fn fork() -> i32 {
    // SAFETY: the process is itself a fresh fork with one thread, between fork and exec; the child goes on as such.
    unsafe { libc::fork() }
}

fn exit(status: i32) -> ! {
    // SAFETY: ends the process without running what the parent registered for its own end.
    unsafe { libc::_exit(status) }
}

fn prctl(option: i32, value: i32) -> i32 {
    // SAFETY: the two options used here take an integer.
    unsafe { libc::prctl(option, value as libc::c_ulong, 0, 0, 0) }
}

fn write(to: &OwnedFd, bytes: &[u8]) -> i32 {
    // SAFETY: the kernel reads `bytes.len()` bytes of a slice that outlives the call.
    let written = unsafe { libc::write(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if written == -1 { -1 } else { 0 }
}

fn umount(target: &CStr) -> i32 {
    // SAFETY: `target` is a string that outlives the call.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }
}

fn mount(source: Option<&CStr>, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> i32 {
    let text = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: each string is null or outlives the call; there are no data.
    unsafe { libc::mount(text(source), target.as_ptr(), text(kind), flags, std::ptr::null()) }
}
