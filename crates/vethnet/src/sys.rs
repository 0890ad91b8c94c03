//! The two socket calls that nix has no wrapper for.
#![allow(unsafe_code)]

pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod tun;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use cellkit_core::Errno;

/// Turns on a netlink socket option that takes an int.
pub(crate) fn turn_on(socket: impl AsFd, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = std::ptr::from_ref(&on).cast();
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: value points at one int that lives until the call returns, and length is its size.
    let answer = unsafe { libc::setsockopt(fd, libc::SOL_NETLINK, option, value, length) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// The network namespace a socket belongs to.
pub(crate) fn netns_of(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    /// `linux/sockios.h`; libc does not have it.
    const SIOCGSKNS: libc::Ioctl = 0x894C;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: this request reads and writes no memory of the caller.
    let answer = unsafe { libc::ioctl(fd, SIOCGSKNS) };
    if answer == -1 {
        return Err(Errno::last());
    }
    // SAFETY: just returned by the kernel, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// Takes the exclusive flock(2) on an open file, without waiting.
pub(crate) fn try_lock(file: impl AsFd) -> Result<(), Errno> {
    // SAFETY: no pointers; the descriptor is borrowed and stays open during the call.
    let answer = unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// Releases the flock(2) on an open file. It cannot fail on a descriptor that could be locked.
pub(crate) fn unlock(file: impl AsFd) {
    // SAFETY: no pointers; the descriptor is borrowed and stays open during the call.
    unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_UN) };
}
