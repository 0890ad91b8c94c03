//! The unsafe part: the raw calls of the parent, and below it what runs in the child.
//!
//! * `sys/clone.rs` makes the child and is its main loop, `sys/memory.rs` has its stack; `sys/legacy.rs` helps where clone3
//!   is hidden
//! * `sys/message.rs` is the socket between the two
//! * `sys/steps.rs` runs this crate's steps
//! * `sys/join.rs` joins namespaces, `sys/nsfs.rs` asks them, `sys/mounts.rs` pins them
//! * `sys/reaper.rs` is PID 1 when one was asked for, `sys/pre_exec.rs` runs closures of the caller's
//! * `sys/sealed.rs` seals programs, `sys/look.rs` looks at many processes, `sys/features.rs` asks what the kernel has and
//!   `sys/nest.rs` how deep namespaces go
//! * `sys/stdio.rs` has pipes and terminals, `sys/wait.rs` the ends of processes
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

use crate::{Limit, Resource};

mod clone;
pub(crate) mod features;
pub(crate) mod join;
mod legacy;
pub(crate) mod look;
mod memory;
mod message;
pub(crate) mod mounts;
pub(crate) mod nest;
pub(crate) mod nsfs;
mod pre_exec;
mod reaper;
pub(crate) mod sealed;
mod stdio;
mod steps;
mod wait;

pub(crate) use cellkit_core::sys::pidfd_send_signal;
pub(crate) use clone::{BlockedSignals, CAN_SHARE_MEMORY, CloneOptions, NotStarted, Start, Started, start};
pub(crate) use message::{
    FAULT_HEAD, FAULT_IN_GROUP_MOVE, FAULT_IN_GROUP_NAMESPACE, FAULT_SIZE, MESSAGE_FAULT, MESSAGE_IN_GROUP,
    MESSAGE_LISTENER, MESSAGE_SUCCESSOR, MESSAGE_TERMINAL, Received, ask_for_senders, receive, send, socket_pair,
};
pub(crate) use nsfs::namespace_type;
pub(crate) use pre_exec::PreExec;
pub(crate) use stdio::{is_inherited, pipe, poll, set_nonblocking, terminal_peer, write_without_signal};
pub(crate) use wait::{
    Ended, PIDFD_INFO_CGROUP, PIDFD_INFO_CREDS, PIDFD_INFO_EXIT, PidfdInfo, await_end, pidfd_info, reap, wait,
    was_stopped,
};

fn exit(status: i32) -> ! {
    loop {
        // SAFETY: ends this process; no pointers.
        let _ = unsafe { syscall(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// CLOCK_MONOTONIC in nanoseconds. Child-safe.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let args = [libc::CLOCK_MONOTONIC as usize, ptr::from_mut(&mut time) as usize, 0, 0, 0, 0];
    // SAFETY: the kernel writes one timespec.
    let _ = unsafe { syscall(libc::SYS_clock_gettime, args) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// ioctl(2) PIDFD_GET_*_NAMESPACE.
pub(crate) fn pidfd_namespace(pidfd: BorrowedFd<'_>, request: u8) -> Result<OwnedFd, Errno> {
    const PIDFS_IOCTL_MAGIC: usize = 0xff00;
    let args = [pidfd.as_raw_fd() as usize, PIDFS_IOCTL_MAGIC | usize::from(request), 0, 0, 0, 0];
    // SAFETY: these requests take no argument.
    let fd = unsafe { syscall(libc::SYS_ioctl, args) }?;
    // SAFETY: just returned by the ioctl.
    Ok(unsafe { own(fd as RawFd) })
}

/// A pidfd of the calling thread alone: pidfd_open(2) PIDFD_THREAD, Linux 6.9.
pub(crate) fn pidfd_of_this_thread() -> Result<OwnedFd, Errno> {
    const PIDFD_THREAD: usize = libc::O_EXCL as usize;
    let args = [cellkit_core::sys::gettid() as usize, PIDFD_THREAD, 0, 0, 0, 0];
    // SAFETY: no pointers.
    let fd = unsafe { syscall(libc::SYS_pidfd_open, args) }?;
    // SAFETY: just returned by pidfd_open.
    Ok(unsafe { own(fd as RawFd) })
}

/// unshare(2).
pub(crate) fn unshare(flags: u64) -> Result<(), Errno> {
    // SAFETY: no pointers. The callers pass kinds of namespaces, CLONE_FS, and CLONE_THREAD, which does nothing or fails:
    // what the thread then has of its own are its namespaces, root, working directory and umask, none of which memory
    // safety hangs on.
    unsafe { syscall(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

fn fstat(fd: RawFd) -> Result<libc::stat, Errno> {
    // SAFETY: every field of a struct stat may be zero.
    let mut answer: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat writes one struct stat.
    if unsafe { libc::fstat(fd, &raw mut answer) } == -1 { Err(Errno::last()) } else { Ok(answer) }
}

/// fstat(2): device and inode number.
pub(crate) fn file_id(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    fstat(fd.as_raw_fd()).map(|file| (file.st_dev, file.st_ino))
}

/// fstat(2): the owner of a file.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    fstat(fd.as_raw_fd()).map(|file| file.st_uid)
}

/// Whether the calling process's descriptor of this number is a directory.
pub(crate) fn is_directory(fd: RawFd) -> Result<bool, Errno> {
    fstat(fd).map(|file| file.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// flock(2) LOCK_EX, which waits. Closing the descriptor unlocks.
pub(crate) fn lock(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    loop {
        // SAFETY: no pointers.
        match unsafe { syscall(libc::SYS_flock, [fd.as_raw_fd() as usize, libc::LOCK_EX as usize, 0, 0, 0, 0]) } {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer.map(drop),
        }
    }
}

/// prctl(2) PR_GET_NAME.
pub(crate) fn name_of_this_thread() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// prctl(2) PR_SET_NAME, cut to 15 bytes by the kernel.
pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: a C string; the kernel only reads it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// prctl(2) PR_GET_DUMPABLE.
pub(crate) fn dumpable() -> Result<i32, Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_prctl, [libc::PR_GET_DUMPABLE as usize, 0, 0, 0, 0, 0]) }.map(|value| value as i32)
}

/// prctl(2) PR_SET_DUMPABLE.
pub(crate) fn set_dumpable(value: i32) {
    // SAFETY: no pointers. Only fails for values that PR_GET_DUMPABLE does not give but 2, which is not ours to set.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, value) };
}

/// The calling thread's effective, permitted and inheritable capabilities.
pub(crate) fn capget() -> Result<[u64; 3], Errno> {
    steps::capget()
}

/// Whether the calling thread's bounding set has capability `number`; `None` when the kernel knows none of that number.
pub(crate) fn bounding_contains(number: u8) -> Result<Option<bool>, Errno> {
    known([libc::PR_CAPBSET_READ as usize, usize::from(number), 0])
}

/// As [`bounding_contains`], of the ambient set.
pub(crate) fn ambient_contains(number: u8) -> Result<Option<bool>, Errno> {
    known([libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_IS_SET as usize, usize::from(number)])
}

/// A question of prctl(2) about a capability, which the kernel may not know.
fn known([option, a, b]: [usize; 3]) -> Result<Option<bool>, Errno> {
    // SAFETY: no pointers.
    match unsafe { syscall(libc::SYS_prctl, [option, a, b, 0, 0, 0]) } {
        Ok(value) => Ok(Some(value != 0)),
        Err(Errno(libc::EINVAL)) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether `fd` is a landlock ruleset.
pub(crate) fn is_landlock_ruleset(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    steps::is_landlock_ruleset(fd)
}

/// sched_getaffinity(2) of the calling thread, into a mask that is zero and large enough for every kernel.
pub(crate) fn affinity(words: &mut [u64]) -> Result<(), Errno> {
    let args = [0, size_of_val(words), words.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel writes at most as many bytes as said.
    unsafe { syscall(libc::SYS_sched_getaffinity, args) }.map(drop)
}

/// The soft and the hard limit of this process: prlimit(2).
pub(crate) fn limits(resource: Resource) -> Result<[Limit; 2], Errno> {
    steps::prlimit(resource.number(), None).map(|limits| limits.map(Limit::from_kernel))
}

/// The release of the running kernel, as uname(2) writes it.
pub(crate) fn release() -> Result<String, Errno> {
    // SAFETY: every field of a utsname may be zero.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one utsname.
    if unsafe { libc::uname(&raw mut name) } == -1 {
        return Err(Errno::last());
    }
    let text = name.release.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    Ok(String::from_utf8(text).unwrap_or_default())
}

/// Its first two numbers, such as 6 and 18.
pub(crate) fn kernel_release() -> Option<(u32, u32)> {
    let release = release().ok()?;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
