//! Receiving on a netlink socket.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use cellkit_core::Errno;

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Its whole length, also of what did not fit.
    pub(crate) length: usize,
    /// The port of the socket it came from, 0 for the kernel. `None` when it has no netlink address: netlink's datagrams
    /// always have, those of a test's socket pair never.
    pub(crate) port: Option<u32>,
}

/// recvfrom(2) with MSG_TRUNC.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut address_length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    let address = std::ptr::from_mut(&mut sender).cast();
    let place = buffer.as_mut_ptr().cast();
    // SAFETY: the buffer is of the length that is said, and the address of the length that address_length says; both live
    // until the call returns, which writes no more than that.
    let length = unsafe { libc::recvfrom(fd, place, buffer.len(), libc::MSG_TRUNC, address, &raw mut address_length) };
    let length = usize::try_from(length).map_err(|_| Errno::last())?;
    let has_address = address_length as usize >= size_of::<libc::sockaddr_nl>();
    Ok(Received { length, port: has_address.then_some(sender.nl_pid) })
}
