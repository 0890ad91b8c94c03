//! [`Net`]: a netlink connection bound to one network namespace.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cellkit_core::{Error, Result};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use crate::exchange::{Mode, Progress, Request, datagrams, timed_out};
use crate::hint::HINTS;
use crate::link;
use crate::netns;
use crate::socket::{ATTEMPTS, Buffer, Family, LIMIT, Socket, unsteady};

/// ERROR: where the kernel had no memory for an answer, there is nothing to read but that.
const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

/// A netlink connection, bound for ever to the network namespace it was opened in, and usable from any thread.
///
/// * C call: socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), with NETLINK_EXT_ACK, so that errors carry the kernel's own
///   text; see rtnetlink(7), <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
/// * There is no task behind it that could die: a request is sent and answered within the call. Requests of several
///   tasks take turns. A call that takes longer than 5 seconds, or than [`time_limit`](Net::time_limit) says, is
///   [`TimedOut`](crate::ErrorKind::TimedOut).
/// * Lists are complete or an error. One that changed while it was read (NLM_F_DUMP_INTR), of which the kernel dropped a
///   part (ENOBUFS), or of which a part did not fit, is asked for again, up to 16 times. A change whose answer was lost
///   is an error with ENOBUFS that says so.
/// * A future may be dropped at any time. A change that was sent is made all the same.
/// * The kernel does the work of a request within sendmsg(2): making a link takes the calling thread some hundred
///   microseconds, and no time limit cuts that short.
/// * It keeps its namespace alive, with all in it. Drop it before that is to end.
/// * In a child of fork(2) every call is an error: two processes would read each other's answers. So it is when the
///   runtime it was opened in has ended.
/// * Privileges: none to list; CAP_NET_ADMIN over the namespace to change.
///
/// # Panics
/// The tokio runtime must have been built with `enable_all` (or `enable_io` and `enable_time`); tokio panics otherwise.
///
/// ```no_run
/// # async fn example(container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// let here = vethnet::Net::here().await?;
/// let there = vethnet::Net::inside(&container).await?;
/// println!("{} links here, {} there", here.links().await?.len(), there.links().await?.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Net {
    socket: AsyncFd<Socket>,
    /// Whose turn it is.
    buffer: Mutex<Buffer>,
    limit: Duration,
}

impl Net {
    /// A connection in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Invalid outside a tokio runtime; those of socket(2).
    pub async fn here() -> Result<Self> {
        Self::new(Socket::open(Family::Route)?)
    }

    /// A connection inside `netns`, opened on a short-lived thread that enters it (setns(2) with CLONE_NEWNET).
    ///
    /// # Errors
    /// Permission without CAP_SYS_ADMIN over the namespace; Invalid when `netns` is not a network namespace.
    pub async fn inside(netns: impl AsFd) -> Result<Self> {
        Self::new(netns::inside(netns.as_fd(), || Socket::open(Family::Route)).await?)
    }

    pub(crate) fn new(socket: Socket) -> Result<Self> {
        Ok(Self { socket: Self::register(socket)?, buffer: Mutex::default(), limit: LIMIT })
    }

    /// Makes the runtime watch the socket.
    pub(crate) fn register(socket: Socket) -> Result<AsyncFd<Socket>> {
        needs_runtime("epoll_create1")?;
        // The owned descriptor of a Socket stays the same until it is dropped, which is what the newer, unsafe constructor
        // asks for; that one needs tokio 1.54.
        #[allow(deprecated, reason = "works with older tokio as well, and is sound here")]
        AsyncFd::with_interest(socket, INTEREST).map_err(|error| Error::from_io("epoll_ctl", &error).with_hints(&HINTS))
    }

    /// How long each further call may take, waiting for its turn included. Default: 5 seconds.
    ///
    /// It bounds waiting. While the kernel is at work on a request it cannot be interrupted, and a change that was under way
    /// at the end of the time may be made or not.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The network namespace this connection is bound to.
    ///
    /// C call: ioctl(SIOCGSKNS). Kernel 4.9.
    ///
    /// # Errors
    /// Permission without CAP_NET_ADMIN over the namespace.
    pub fn netns(&self) -> Result<OwnedFd> {
        self.socket.get_ref().netns()
    }

    /// Brings the loopback interface up (RTM_SETLINK with IFF_UP): 127.0.0.1 and ::1 then work.
    ///
    /// In a program without a tokio runtime use [`loopback_up`](crate::loopback_up).
    ///
    /// # Errors
    /// Permission without CAP_NET_ADMIN over the namespace.
    pub async fn loopback_up(&self) -> Result<()> {
        self.request(link::loopback_up()).await.map(drop)
    }

    #[cfg(test)]
    pub(crate) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Vec<Vec<u8>>> {
        self.talk(&[request], Mode::Ack).await
    }

    pub(crate) async fn talk(&self, requests: &[Request], mode: Mode) -> Result<Vec<Vec<u8>>> {
        // In another thread than the runtime's, tokio's timer would panic.
        needs_runtime(requests.first().map_or("netlink", |request| request.operation))?;
        let talk = async {
            let mut buffer = self.buffer.lock().await;
            let mut answers = Vec::new();
            let mut errors = Vec::new();
            for some in datagrams(requests, mode) {
                match self.talk_once(some, mode, &mut buffer).await {
                    Ok(more) => answers.extend(more),
                    Err(error) => errors.push(error),
                }
            }
            Error::all(errors).map(|()| answers)
        };
        match tokio::time::timeout(self.limit, talk).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(requests, self.limit)),
        }
    }

    /// Sends a request whose answer nobody waits for: to undo something, where there is nobody to tell of an error.
    pub(crate) fn send_and_forget(&self, request: &Request) {
        self.socket.get_ref().send_and_forget(request);
    }

    async fn talk_once(&self, requests: &[Request], mode: Mode, buffer: &mut Buffer) -> Result<Vec<Vec<u8>>> {
        let socket = self.socket.get_ref();
        for _ in 0..ATTEMPTS {
            let mut exchange = socket.begin(requests, mode, buffer)?;
            loop {
                match socket.take_in(&mut exchange, buffer)? {
                    Progress::More => self.ready(exchange.operation()).await?,
                    Progress::Done => return exchange.finish(),
                    Progress::Again => break,
                }
            }
        }
        Err(unsteady(requests))
    }

    async fn ready(&self, operation: &'static str) -> Result<()> {
        let mut ready = self.socket.ready(INTEREST).await.map_err(|error| {
            Error::from_io(operation, &error)
                .with_hint("the tokio runtime that this connection was opened in has ended: open one in this runtime")
        })?;
        ready.clear_ready();
        Ok(())
    }
}

fn needs_runtime(operation: &'static str) -> Result<()> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(());
    }
    Err(Error::invalid(operation, "a netlink connection needs a tokio runtime")
        .with_hint("call this inside Runtime::block_on of a runtime built with enable_all"))
}

#[cfg(test)]
mod tests;
