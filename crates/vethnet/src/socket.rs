//! A netlink socket and how requests are made on it: without blocking, or waiting with poll(2).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, Error, Result, Subject};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send, socket,
};

use crate::exchange::{Exchange, Mode, Progress, Request};
use crate::hint::HINTS;
use crate::sys;

/// How long one request may take, waiting for other users of the kernel's locks included.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// How often a dump is made again when what it lists changed under it.
pub(crate) const DUMP_ATTEMPTS: u32 = 16;

/// The kernel fills at most 32 KiB a datagram of a dump; single answers are smaller.
const BUFFER: usize = 64 << 10;

/// Which part of the kernel the socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// NETLINK_ROUTE: links, addresses, routes.
    Route,
    /// NETLINK_NETFILTER: nf_tables, conntrack.
    Netfilter,
}

/// A netlink socket that does not block. It belongs to the network namespace of the thread that opened it, for ever.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open(family: Family) -> Result<Self> {
        let (protocol, name) = match family {
            Family::Route => (SockProtocol::NetlinkRoute, "NETLINK_ROUTE"),
            Family::Netfilter => (SockProtocol::NetlinkNetFilter, "NETLINK_NETFILTER"),
        };
        let fail = |call: &'static str, errno: i32| {
            Error::from_errno(call, errno).on(Subject::Thing(name.into())).with_hints(&HINTS)
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)
            .map_err(|errno| fail("socket", errno as i32))?;
        // Port 0: the kernel picks a free one.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(|errno| fail("bind", errno as i32))?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            sys::turn_on(&fd, option).map_err(|Errno(errno)| fail("setsockopt", errno))?;
        }
        Ok(Self(fd))
    }

    /// The network namespace this socket belongs to.
    pub(crate) fn netns(&self) -> Result<OwnedFd> {
        sys::netns_of(self).map_err(|Errno(errno)| Error::from_errno("ioctl SIOCGSKNS", errno).with_hints(&HINTS))
    }

    /// Sends one datagram. The kernel has run the requests in it when this returns.
    pub(crate) fn send(&self, datagram: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.0.as_raw_fd(), datagram, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(Errno(errno as i32)),
            }
        }
    }

    /// Receives one datagram of the kernel. EAGAIN when there is none, EMSGSIZE when it does not fit.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut Buffer) -> Result<&'b [u8], Errno> {
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut buffer.0) {
                // A full buffer is a datagram that may have been cut: the kernel never fills as much.
                Ok((length, _)) if length >= BUFFER => return Err(Errno(libc::EMSGSIZE)),
                // Only the kernel has port 0; whatever else was sent to us is not an answer.
                Ok((_, Some(sender))) if sender.pid() != 0 => {}
                Ok((length, _)) => return Ok(buffer.0.get(..length).unwrap_or_default()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(Errno(errno as i32)),
            }
        }
    }

    /// Makes the requests and waits for their answers, at most [`LIMIT`]. Blocks; for teardown and short-lived threads.
    pub(crate) fn talk(&self, requests: &[Request], mode: Mode) -> Result<Vec<Vec<u8>>> {
        let until = Instant::now() + LIMIT;
        let mut buffer = Buffer::default();
        let mut sequence = 1;
        for _ in 0..DUMP_ATTEMPTS {
            let mut exchange = Exchange::new(requests, mode, sequence);
            sequence += exchange.sequence_numbers();
            let fail =
                |call: &Exchange<'_>, Errno(errno)| Error::from_errno(call.operation(), errno).with_hints(&HINTS);
            self.send(&exchange.datagram()?).map_err(|errno| fail(&exchange, errno))?;
            loop {
                match self.receive(&mut buffer) {
                    Ok(datagram) => {
                        if exchange.feed(datagram)? == Progress::Done {
                            break;
                        }
                    }
                    Err(Errno(libc::EAGAIN)) => self.wait(until, exchange.operation())?,
                    Err(errno) => return Err(fail(&exchange, errno)),
                }
            }
            if !exchange.was_interrupted() {
                return exchange.finish();
            }
        }
        Err(interrupted(requests))
    }

    fn wait(&self, until: Instant, operation: &'static str) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::timed_out(operation, LIMIT));
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            // EINTR: the caller tries to receive and comes back.
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::from_errno("poll", errno as i32)),
        }
    }
}

/// The error for a list that kept changing while it was read.
pub(crate) fn interrupted(requests: &[Request]) -> Error {
    let operation = requests.first().map_or("netlink", |request| request.operation);
    Error::from_errno(operation, libc::EAGAIN)
        .with_hint("what was listed kept changing while it was read: try again when the machine is quieter")
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Where datagrams are received.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u8>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; BUFFER])
    }
}
