//! The socket pair between parent and child, and the messages on it.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

/// The first byte of each message on the socket pair.
pub(crate) const MESSAGE_FAULT: u8 = b'F';
pub(crate) const MESSAGE_TERMINAL: u8 = b'T';
/// With the listener of its seccomp filter.
pub(crate) const MESSAGE_LISTENER: u8 = b'L';
/// The child has moved itself into its group: see `sys/legacy.rs`.
pub(crate) const MESSAGE_IN_GROUP: u8 = b'G';
/// Followed by the successor's number, and with its pidfd; without a number from the successor itself: see `sys/steps/enter.rs`.
pub(crate) const MESSAGE_SUCCESSOR: u8 = b'S';
/// A fault is its first byte, the step's number, the errno, and what the kernel said.
pub(crate) const FAULT_HEAD: usize = 9;
pub(crate) const FAULT_SIZE: usize = 512;
/// The numbers of what is done before the first step of the plan, where clone3 cannot be used.
pub(crate) const FAULT_IN_GROUP_MOVE: u32 = u32::MAX;
pub(crate) const FAULT_IN_GROUP_NAMESPACE: u32 = u32::MAX - 1;

/// A connected pair of SEQPACKET sockets, close-on-exec, neither of them one of the three standard descriptors.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut pair = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) } == -1 {
        return Err(Errno::last());
    }
    let [parent, child] = pair;
    // SAFETY: just made.
    let parent = unsafe { own(parent) };
    // SAFETY: just made.
    let child = unsafe { own(child) };
    Ok((lifted(parent)?, lifted(child)?))
}

/// Out of the way of the payload's descriptors: a caller that has closed one of its own would get that number.
pub(super) fn lifted(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // SAFETY: no pointers.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(Errno::last()),
        // SAFETY: just made.
        lifted => Ok(unsafe { own(lifted) }),
    }
}

/// Sends one message, without SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    loop {
        // SAFETY: the kernel reads message.len() bytes.
        let sent =
            unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
        match (sent, Errno::last()) {
            (-1, Errno(libc::EINTR)) => {}
            (-1, errno) => return Err(errno),
            _ => return Ok(()),
        }
    }
}

/// Makes every message that comes in from now on tell who sent it.
pub(crate) fn ask_for_senders(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let on = 1i32;
    let args = [
        socket.as_raw_fd() as usize,
        libc::SOL_SOCKET as usize,
        libc::SO_PASSCRED as usize,
        ptr::from_ref(&on) as usize,
        size_of::<i32>(),
        0,
    ];
    // SAFETY: the kernel reads one int.
    unsafe { syscall(libc::SYS_setsockopt, args) }.map(drop)
}

/// What came in one message beside its bytes.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Of the message; 0 is the end of file.
    pub(crate) length: usize,
    pub(crate) fd: Option<OwnedFd>,
    /// The process that sent it, in this one's pid namespace, where that was [asked for](ask_for_senders).
    pub(crate) sender: Option<i32>,
}

/// Receives one message with what it carries.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    // Room for one descriptor and one sender, aligned as their heads want it.
    let mut control = [0u64; 8];
    loop {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: every field of a msghdr may be zero.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: the kernel writes within buffer and control, whose sizes are given.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if length == -1 {
            match Errno::last() {
                Errno(libc::EINTR) => continue,
                errno => return Err(errno),
            }
        }
        let mut received = Received { length: length as usize, ..Received::default() };
        // SAFETY: the kernel has filled the message's control part.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        while !next.is_null() {
            // SAFETY: a head within control, as the two macros see to.
            let head = unsafe { *next };
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(next) };
            match (head.cmsg_level, head.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    // SAFETY: a message of this kind holds a descriptor at least, and the children send one at most.
                    let fd = unsafe { data.cast::<RawFd>().read_unaligned() };
                    // SAFETY: the kernel has just installed it for us.
                    received.fd = Some(unsafe { own(fd) });
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                    // SAFETY: a message of this kind holds one struct ucred.
                    received.sender = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() }.pid);
                }
                _ => {}
            }
            // SAFETY: as above.
            next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
        }
        return Ok(received);
    }
}

/// Sends one message to the parent, and a descriptor with it if there is one. Child-safe.
pub(super) fn send_with(sync: RawFd, bytes: &[u8], fd: Option<RawFd>) -> Result<(), Errno> {
    #[repr(C)]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        fd: RawFd,
        padding: i32,
    }
    let control = Control {
        length: size_of::<usize>() + 3 * size_of::<i32>(),
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        fd: fd.unwrap_or(-1),
        padding: 0,
    };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: every field of a msghdr may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if fd.is_some() {
        message.msg_control = ptr::from_ref(&control).cast_mut().cast();
        message.msg_controllen = size_of::<Control>() as _;
    }
    let args = [sync as usize, ptr::from_ref(&message) as usize, libc::MSG_NOSIGNAL as usize, 0, 0, 0];
    // SAFETY: the message, its one part and its control data live on this stack; the kernel only reads them.
    unsafe { syscall(libc::SYS_sendmsg, args) }.map(drop)
}

/// Sends one message to the parent; if it has died, nobody needs it. Child-safe.
pub(super) fn send_raw(sync: RawFd, message: &[u8]) {
    let args = [sync as usize, message.as_ptr() as usize, message.len(), libc::MSG_NOSIGNAL as usize, 0, 0];
    // SAFETY: the kernel reads message.len() bytes.
    let _ = unsafe { syscall(libc::SYS_sendto, args) };
}

/// Tells the parent that step `number` failed; `kernel_text` writes what the kernel said and answers its length.
/// Child-safe.
pub(super) fn send_fault(sync: RawFd, number: u32, errno: Errno, kernel_text: impl FnOnce(&mut [u8]) -> usize) {
    let mut message = [0; FAULT_SIZE];
    let length = FAULT_HEAD + kernel_text(message.get_mut(FAULT_HEAD..).unwrap_or(&mut []));
    let head = [MESSAGE_FAULT].into_iter().chain(number.to_ne_bytes()).chain(errno.0.to_ne_bytes());
    for (place, byte) in message.iter_mut().zip(head) {
        *place = byte;
    }
    send_raw(sync, message.get(..length).unwrap_or(&message));
}
