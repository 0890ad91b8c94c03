//! Pipes and terminals, in the parent.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

use super::message::lifted;
use super::steps::{open_peer, set_window_size, unlock_peer};

/// pipe2(2): a reader and a writer, close-on-exec, neither of them one of the three standard descriptors.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut pair = [-1; 2];
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC) } == -1 {
        return Err(Errno::last());
    }
    let [reader, writer] = pair;
    // SAFETY: just made.
    let reader = unsafe { own(reader) };
    // SAFETY: just made.
    let writer = unsafe { own(writer) };
    Ok((lifted(reader)?, lifted(writer)?))
}

/// Unlocks a pseudo-terminal, sets its size, and opens its peer: close-on-exec, not one of the standard descriptors.
pub(crate) fn terminal_peer(master: &OwnedFd, size: Option<(u16, u16)>) -> Result<OwnedFd, Errno> {
    let fd = master.as_raw_fd();
    unlock_peer(fd)?;
    if let Some((rows, columns)) = size {
        set_window_size(fd, rows, columns)?;
    }
    let peer = open_peer(fd)?;
    // SAFETY: just returned by the ioctl.
    lifted(unsafe { own(peer) })
}

/// fcntl(2) F_SETFL with O_NONBLOCK, for a pipe's end that nobody else has.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } {
        -1 => Err(Errno::last()),
        _ => Ok(()),
    }
}

/// ppoll(2): which of the descriptors are ready, or have hung up; those asked for with `None` are not. Without a limit it
/// waits for ever; an interrupted wait answers that none is.
pub(crate) fn poll<const N: usize>(
    wanted: [Option<(BorrowedFd<'_>, i16)>; N],
    limit: Option<Duration>,
) -> Result<[bool; N], Errno> {
    // The kernel skips negative descriptors.
    let mut fds = wanted.map(|wanted| match wanted {
        Some((fd, events)) => libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 },
        None => libc::pollfd { fd: -1, events: 0, revents: 0 },
    });
    // A limit that the kernel's seconds cannot hold is none that anybody lives to see.
    let limit = limit.and_then(|limit| {
        let tv_sec = libc::time_t::try_from(limit.as_secs()).ok()?;
        Some(libc::timespec { tv_sec, tv_nsec: limit.subsec_nanos() as _ })
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the kernel reads and writes N pollfds and reads one timespec, if any; no signal mask is given.
    match unsafe { libc::ppoll(fds.as_mut_ptr(), N as libc::nfds_t, limit, ptr::null()) } {
        -1 => match Errno::last() {
            Errno(libc::EINTR) => Ok([false; N]),
            errno => Err(errno),
        },
        _ => Ok(fds.map(|fd| fd.revents != 0)),
    }
}

/// write(2) to a pipe that may have lost its reader: EPIPE, and no SIGPIPE whatever the caller does with that signal.
///
/// The signal that such a write raises is for the writing thread. It is held back there for the moment, taken away if this
/// write raised it, and left pending if it was pending before.
pub(crate) fn write_without_signal(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);
    let mask = |how: i32, set: &u64, old: Option<&mut u64>| {
        let old = old.map_or(0, |old| ptr::from_mut(old) as usize);
        let args = [how as usize, ptr::from_ref(set) as usize, old, 8, 0, 0];
        // SAFETY: both sets are eight bytes, as said.
        unsafe { syscall(libc::SYS_rt_sigprocmask, args) }.map(drop)
    };
    let mut pending = 0u64;
    // SAFETY: the kernel writes a set of eight bytes, as said.
    unsafe { syscall(libc::SYS_rt_sigpending, [ptr::from_mut(&mut pending) as usize, 8, 0, 0, 0, 0]) }?;
    let mut old = 0u64;
    mask(libc::SIG_BLOCK, &SIGPIPE, Some(&mut old))?;
    let answer = cellkit_core::sys::write(fd.as_raw_fd(), bytes);
    if answer == Err(Errno(libc::EPIPE)) && pending & SIGPIPE == 0 {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let args = [ptr::from_ref(&SIGPIPE) as usize, 0, ptr::from_ref(&now) as usize, 8, 0, 0];
        // SAFETY: the set is eight bytes, as said; no information is asked for; the timespec is read.
        let _ = unsafe { syscall(libc::SYS_rt_sigtimedwait, args) };
    }
    // Giving it back cannot fail.
    let _ = mask(libc::SIG_SETMASK, &old, None);
    answer
}

/// Whether the calling process has a descriptor of this number that a program it executes would have too.
pub(crate) fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}
