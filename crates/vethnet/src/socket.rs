//! A netlink socket and how requests are made on it: without blocking, or waiting with poll(2).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, Error, Result, Subject};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, send, setsockopt,
    socket, sockopt,
};

use crate::exchange::{Exchange, Mode, Progress, Request, datagrams, timed_out};
use crate::hint::HINTS;
use crate::sys;

/// How long one call may take where nothing else is said, waiting for other users of the kernel's locks included.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// How often what only asks is asked again when its answer was lost or changed under it.
pub(crate) const ATTEMPTS: u32 = 16;

/// The kernel fills at most 32 KiB a datagram of a dump. A single answer may be longer: a link with very many virtual
/// functions. Then the buffer grows, up to the other bound.
const BUFFER: usize = 64 << 10;
const LARGEST_BUFFER: usize = 4 << 20;

/// When a call has to be at its end, and how long that was from its beginning.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    until: Instant,
    limit: Duration,
}

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
pub(crate) struct Socket {
    fd: OwnedFd,
    /// The kernel's name for it among the netlink sockets of the namespace.
    port: u32,
    sequence: AtomicU32,
    /// An exchange did not come to its end: its answers may still be in the socket.
    unfinished: AtomicBool,
    /// The process that opened it. In a forked child two would read the answers, each some of them.
    process: u32,
}

impl Socket {
    pub(crate) fn open(family: Family) -> Result<Self> {
        Self::open_with(family, 0, None)
    }

    /// One that is told of changes, with room for so many bytes of that.
    pub(crate) fn open_in_groups(groups: u32, room: Option<usize>) -> Result<Self> {
        Self::open_with(Family::Route, groups, room)
    }

    fn open_with(family: Family, groups: u32, room: Option<usize>) -> Result<Self> {
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
        if let Some(room) = room {
            // Without privileges, as much as net.core.rmem_max allows.
            if setsockopt(&fd, sockopt::RcvBufForce, &room).is_err() {
                setsockopt(&fd, sockopt::RcvBuf, &room).map_err(|errno| fail("setsockopt", errno as i32))?;
            }
        }
        // Port 0: the kernel picks a free one.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(|errno| fail("bind", errno as i32))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd()).map_err(|errno| fail("getsockname", errno as i32))?.pid();
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            sys::turn_on(&fd, option).map_err(|Errno(errno)| fail("setsockopt", errno))?;
        }
        Ok(Self::new(fd, port))
    }

    pub(crate) fn new(fd: OwnedFd, port: u32) -> Self {
        Self { fd, port, sequence: AtomicU32::new(1), unfinished: AtomicBool::new(false), process: std::process::id() }
    }

    #[cfg(test)]
    pub(crate) fn pretend_forked(&mut self) {
        self.process = self.process.wrapping_add(1);
    }

    #[cfg(test)]
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The network namespace this socket belongs to.
    pub(crate) fn netns(&self) -> Result<OwnedFd> {
        sys::netns_of(self).map_err(|Errno(errno)| Error::from_errno("ioctl SIOCGSKNS", errno).with_hints(&HINTS))
    }

    /// Sends one datagram. The kernel has run the requests in it when this returns.
    fn send(&self, datagram: &[u8]) -> Result<(), Errno> {
        let mut grown = false;
        loop {
            match send(self.fd.as_raw_fd(), datagram, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                // A long transaction. Without privileges the bound is net.core.wmem_max, and the kernel takes it down to that.
                Err(nix::errno::Errno::EMSGSIZE) if !grown => {
                    grown = true;
                    let room = datagram.len().saturating_add(BUFFER);
                    if setsockopt(&self.fd, sockopt::SndBufForce, &room).is_err() {
                        let _ = setsockopt(&self.fd, sockopt::SndBuf, &room);
                    }
                }
                Err(errno) => return Err(Errno(errno as i32)),
            }
        }
    }

    /// Receives one datagram of the kernel. EAGAIN when there is none, EMSGSIZE when it did not fit; the next time
    /// there is more room.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut Buffer) -> Result<&'b [u8], Errno> {
        loop {
            match sys::netlink::receive(self, &mut buffer.0) {
                // Only the kernel has port 0; whatever else was sent to us is not an answer.
                Ok(received) if received.port.is_some_and(|port| port != 0) => {}
                Ok(received) if received.length > buffer.0.len() => {
                    if received.length <= LARGEST_BUFFER {
                        buffer.0.resize(received.length.next_power_of_two(), 0);
                    }
                    return Err(Errno(libc::EMSGSIZE));
                }
                Ok(received) => return Ok(buffer.0.get(..received.length).unwrap_or_default()),
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sends the requests as a new exchange.
    pub(crate) fn begin<'r>(&self, requests: &'r [Request], mode: Mode, buffer: &mut Buffer) -> Result<Exchange<'r>> {
        let mut exchange = Exchange::new(requests, mode, 0);
        if self.process != std::process::id() {
            return Err(Error::other(exchange.operation(), "this netlink connection was opened by another process")
                .with_hint("after fork(2), open a new connection in the child"));
        }
        let first = self.sequence.fetch_add(exchange.sequence_numbers(), Ordering::Relaxed);
        exchange = Exchange::new(requests, mode, first).of_port(self.port);
        let datagram = exchange.datagram()?;
        if self.unfinished.swap(true, Ordering::Relaxed) {
            // Reading is also what makes the kernel end a dump that nobody waits for any more.
            while matches!(self.receive(buffer), Ok(_) | Err(Errno(libc::ENOBUFS | libc::EMSGSIZE))) {}
        }
        self.send(&datagram).map_err(|errno| fail(&exchange, errno))?;
        Ok(exchange)
    }

    /// Takes in what has come. [`Progress::More`] when there is nothing any more: wait until there is.
    pub(crate) fn take_in(&self, exchange: &mut Exchange<'_>, buffer: &mut Buffer) -> Result<Progress> {
        loop {
            match self.receive(buffer) {
                Ok(datagram) => match exchange.feed(datagram)? {
                    Progress::More => {}
                    Progress::Done => {
                        self.unfinished.store(false, Ordering::Relaxed);
                        return Ok(Progress::Done);
                    }
                    Progress::Again => return Ok(Progress::Again),
                },
                Err(Errno(libc::EAGAIN)) => return Ok(Progress::More),
                Err(Errno(libc::ENOBUFS | libc::EMSGSIZE)) => return exchange.lost(),
                Err(errno) => return Err(fail(exchange, errno)),
            }
        }
    }

    /// Sends a request whose answer nobody waits for. It has been run when this returns.
    pub(crate) fn send_and_forget(&self, request: &Request) {
        if self.process != std::process::id() {
            return;
        }
        let requests = std::slice::from_ref(request);
        let first = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.unfinished.store(true, Ordering::Relaxed);
        if let Ok(datagram) = Exchange::new(requests, Mode::Ack, first).datagram() {
            let _ = self.send(&datagram);
        }
    }

    /// Makes the requests and waits for their answers, at most [`LIMIT`]. Blocks; for teardown and short-lived threads.
    pub(crate) fn talk(&self, requests: &[Request], mode: Mode) -> Result<Vec<Vec<u8>>> {
        self.talk_within(requests, mode, LIMIT)
    }

    pub(crate) fn talk_within(&self, requests: &[Request], mode: Mode, limit: Duration) -> Result<Vec<Vec<u8>>> {
        let deadline = Deadline { until: Instant::now() + limit, limit };
        let mut buffer = Buffer::default();
        let mut answers = Vec::new();
        let mut errors = Vec::new();
        for some in datagrams(requests, mode) {
            match self.talk_once(some, mode, deadline, &mut buffer) {
                Ok(more) => answers.extend(more),
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors).map(|()| answers)
    }

    fn talk_once(
        &self,
        requests: &[Request],
        mode: Mode,
        deadline: Deadline,
        buffer: &mut Buffer,
    ) -> Result<Vec<Vec<u8>>> {
        for _ in 0..ATTEMPTS {
            let mut exchange = self.begin(requests, mode, buffer)?;
            loop {
                match self.take_in(&mut exchange, buffer)? {
                    Progress::More => self.wait(deadline, requests)?,
                    Progress::Done => return exchange.finish(),
                    Progress::Again => break,
                }
            }
        }
        Err(unsteady(requests))
    }

    fn wait(&self, deadline: Deadline, requests: &[Request]) -> Result<()> {
        let left = deadline.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out(requests, deadline.limit));
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            // EINTR: the caller tries to receive and comes back.
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::from_errno("poll", errno as i32)),
        }
    }
}

fn fail(exchange: &Exchange<'_>, Errno(errno): Errno) -> Error {
    Error::from_errno(exchange.operation(), errno).with_hints(&HINTS)
}

/// The error for an answer that was lost or changed each time it was asked for.
pub(crate) fn unsteady(requests: &[Request]) -> Error {
    let operation = requests.first().map_or("netlink", |request| request.operation);
    Error::from_errno(operation, libc::EAGAIN)
        .with_hint("what was listed kept changing while it was read: try again when the machine is quieter")
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
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
