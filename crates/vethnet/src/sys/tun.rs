//! The requests of /dev/net/tun, which nix has no wrappers for.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;

/// `struct ifreq` as far as TUNSETIFF reads and writes it: the name and the flags, in 40 bytes.
#[repr(C, align(8))]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// TUNSETIFF: makes the descriptor a queue of the interface with this name, which is made where it is missing.
pub(crate) fn set_interface(fd: BorrowedFd<'_>, name: &str, flags: i16) -> Result<(), Errno> {
    let mut request = Request { name: [0; 16], flags, rest: [0; 22] };
    // An IfName has 15 bytes at most, so that a NUL is left.
    for (place, byte) in request.name.iter_mut().zip(name.bytes().take(15)) {
        *place = byte;
    }
    // SAFETY: request is as large as a struct ifreq, is initialised, and lives until the call returns; the kernel reads and
    // writes nothing beyond it.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}

fn with_number(fd: BorrowedFd<'_>, request: libc::Ioctl, number: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: the requests below take a number, no pointer.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), request, number) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// TUNSETPERSIST: the interface stays when the last descriptor is closed.
pub(crate) fn set_persistent(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    with_number(fd, libc::TUNSETPERSIST as libc::Ioctl, 1)
}

/// TUNSETOWNER: who may open it without privileges.
pub(crate) fn set_owner(fd: BorrowedFd<'_>, uid: u32) -> Result<(), Errno> {
    with_number(fd, libc::TUNSETOWNER as libc::Ioctl, uid.into())
}

/// TUNSETGROUP: which group may.
pub(crate) fn set_group(fd: BorrowedFd<'_>, gid: u32) -> Result<(), Errno> {
    with_number(fd, libc::TUNSETGROUP as libc::Ioctl, gid.into())
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
