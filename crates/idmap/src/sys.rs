//! The system calls of this crate that std has no safe form for.
#![allow(unsafe_code)]

mod children;
pub(crate) mod clone;
pub(crate) mod look;
pub(crate) mod namespace;
mod signals;
pub(crate) mod tree;
pub(crate) mod trial;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use cellkit_core::{Errno, sys};

pub(crate) use children::is_own_child;

/// The user and group ids of the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) real_uid: u32,
    pub(crate) uid: u32,
    pub(crate) real_gid: u32,
    pub(crate) gid: u32,
}

/// getuid(2), geteuid(2), getgid(2), getegid(2).
pub(crate) fn ids() -> Ids {
    Ids {
        // SAFETY: takes nothing, cannot fail.
        real_uid: unsafe { libc::getuid() },
        // SAFETY: as above.
        uid: unsafe { libc::geteuid() },
        // SAFETY: as above.
        real_gid: unsafe { libc::getgid() },
        // SAFETY: as above.
        gid: unsafe { libc::getegid() },
    }
}

/// The header of capget(2).
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// One half of the answer of capget(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// capget(2): the effective capabilities of the calling thread, a bit each.
pub(crate) fn effective_capabilities() -> Result<u64, Errno> {
    let mut header = CapHeader { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    let args = [(&raw mut header) as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: version 3 reads one header (and may write its version) and writes two data structs.
    unsafe { sys::syscall(libc::SYS_capget, args) }?;
    let [low, high] = data;
    Ok(u64::from(low.effective) | u64::from(high.effective) << 32)
}

/// prctl(2) PR_GET_NO_NEW_PRIVS of the calling thread.
pub(crate) fn no_new_privs() -> bool {
    let args = [libc::PR_GET_NO_NEW_PRIVS as usize, 0, 0, 0, 0, 0];
    // SAFETY: no pointers.
    let answer = unsafe { sys::syscall(libc::SYS_prctl, args) };
    answer == Ok(1)
}

/// prctl(2) PR_GET_DUMPABLE: whether the files of this process in /proc are its own, and not root's.
pub(crate) fn is_dumpable() -> bool {
    let args = [libc::PR_GET_DUMPABLE as usize, 0, 0, 0, 0, 0];
    // SAFETY: no pointers.
    let answer = unsafe { sys::syscall(libc::SYS_prctl, args) };
    answer == Ok(1)
}

/// fgetxattr(2): whether the file has this attribute.
pub(crate) fn has_xattr(file: &File, name: &CStr) -> bool {
    // SAFETY: name ends in NUL; a size of 0 asks for the size only, so nothing is written.
    unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// fstatvfs(3): whether the file is on a mount with the nosuid flag.
pub(crate) fn on_nosuid_mount(file: &File) -> bool {
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: fstatvfs writes one struct statvfs.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), answer.as_mut_ptr()) } == -1 {
        return false;
    }
    // SAFETY: zeroed, then filled; every bit pattern is a struct statvfs.
    let answer = unsafe { answer.assume_init() };
    answer.f_flag & libc::ST_NOSUID != 0
}

/// fcntl(2) F_SETFL O_NONBLOCK.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers; the flag changes only how this open file answers.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } {
        -1 => Err(Errno::last()),
        _ => Ok(()),
    }
}

/// pidfd_send_signal(2) SIGKILL.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let args = [pidfd.as_raw_fd() as usize, libc::SIGKILL as usize, 0, 0, 0, 0];
    // SAFETY: the signal information is null.
    unsafe { sys::syscall(libc::SYS_pidfd_send_signal, args) }.map(drop)
}

/// poll(2) for input on some descriptors: which of them are ready, none when the time has passed.
pub(crate) fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    limit: Duration,
) -> Result<[bool; N], Errno> {
    // A negative descriptor is one that poll leaves out.
    let mut polled =
        fds.map(|fd| libc::pollfd { fd: fd.map_or(-1, |fd| fd.as_raw_fd()), events: libc::POLLIN, revents: 0 });
    let milliseconds = limit.as_millis().min(60_000) as i32;
    // SAFETY: as many struct pollfd as said.
    match unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, milliseconds) } {
        -1 => match Errno::last() {
            Errno(libc::EINTR) => Ok([false; N]),
            errno => Err(errno),
        },
        _ => Ok(polled.map(|one| one.revents != 0)),
    }
}
