//! One descriptor from process to process.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::own;

/// Room for the descriptors of one message. More than one is a mistake of the sender's, and all are closed.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// sendmsg(2) of `fd` with the one byte `mark`. Made again when interrupted.
pub(crate) fn send(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>, mark: u8) -> Result<(), Errno> {
    let mut byte = [mark];
    let mut io = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = Control([0; 64]);
    let mut message = empty(&mut io, &mut control);
    // SAFETY: no pointers; the macro computes.
    let space = unsafe { libc::CMSG_SPACE(FD_SIZE) };
    // SAFETY: as above.
    let length = unsafe { libc::CMSG_LEN(FD_SIZE) };
    message.msg_controllen = space as _;
    // SAFETY: msg_control points to 64 bytes, aligned as struct cmsghdr is, of which msg_controllen are used.
    let header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    // SAFETY: the header is not null, as there is room for one, and nobody else refers to the buffer.
    let header = unsafe { &mut *header };
    (header.cmsg_level, header.cmsg_type, header.cmsg_len) = (libc::SOL_SOCKET, libc::SCM_RIGHTS, length as _);
    // SAFETY: the data begins within the buffer, behind the header.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: CMSG_SPACE has room for one descriptor there, wherever it is aligned.
    unsafe { data.cast::<RawFd>().write_unaligned(fd.as_raw_fd()) };
    loop {
        // SAFETY: message and what it points to live until the call has returned.
        let answer = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
        match answer {
            -1 if Errno::last() == Errno(libc::EINTR) => {}
            -1 => return Err(Errno::last()),
            _ => return Ok(()),
        }
    }
}

/// recvmsg(2): the byte and the descriptors that came with it, all of them owned. `None` at end of file. Made again when
/// interrupted.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Option<(u8, Vec<OwnedFd>)>, Errno> {
    let mut byte = [0_u8];
    let mut io = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = Control([0; 64]);
    let mut message = empty(&mut io, &mut control);
    let received = loop {
        // SAFETY: message and what it points to live until the call has returned; the kernel writes within them.
        let answer = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
        match answer {
            -1 if Errno::last() == Errno(libc::EINTR) => {}
            -1 => return Err(Errno::last()),
            received => break received,
        }
    };
    let fds = descriptors(&message);
    let [byte] = byte;
    Ok((received != 0).then_some((byte, fds)))
}

const FD_SIZE: u32 = size_of::<RawFd>() as u32;

/// A message of one part, with room for control data.
fn empty(io: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: every bit pattern is a struct msghdr; null pointers with length 0 are what it means by nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (std::ptr::from_mut(io), 1);
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    message
}

/// Takes all descriptors that came with a message.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled the control buffer that message points to and set its length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR answer null or a header within the buffer.
    while let Some(header) = unsafe { next.as_ref() } {
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: no pointers; the macro computes.
            let before = unsafe { libc::CMSG_LEN(0) } as usize;
            #[allow(clippy::unnecessary_cast, reason = "the type differs between machines")]
            let count = (header.cmsg_len as usize).saturating_sub(before) / size_of::<RawFd>();
            // SAFETY: the data begins within the buffer, behind the header.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: cmsg_len says that there are count descriptors, so this one is within the buffer.
                let place = unsafe { data.add(index) };
                // SAFETY: the same, wherever it is aligned.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: the kernel has just made it for this message, and it is taken once.
                fds.push(unsafe { own(fd) });
            }
        }
        // SAFETY: next is a header of this message.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    fds
}
