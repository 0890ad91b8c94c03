//! [`Net`]: a netlink connection bound to one network namespace.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use cellkit_core::{Errno, Error, Result};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use crate::exchange::{Exchange, Mode, Progress, Request};
use crate::hint::HINTS;
use crate::link::{self, Link};
use crate::name::IfName;
use crate::netns;
use crate::socket::{Buffer, DUMP_ATTEMPTS, Family, LIMIT, Socket, interrupted};

/// A netlink connection, bound for ever to the network namespace it was opened in, and usable from any thread.
///
/// * C call: socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), with NETLINK_EXT_ACK, so that errors carry the kernel's own
///   text; see rtnetlink(7), <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
/// * There is no task behind it that could die: a request is sent and answered within the call. Requests of several
///   tasks take turns. A request that takes longer than 5 seconds is [`TimedOut`](crate::ErrorKind::TimedOut); a list
///   that changed while it was read (NLM_F_DUMP_INTR) is read again, up to 16 times.
/// * The kernel does the work of a request within sendmsg(2): making a link takes the calling thread some hundred
///   microseconds.
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sequence: u32,
    /// An exchange was abandoned: its answers are still in the socket.
    abandoned: bool,
    buffer: Buffer,
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
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::invalid("epoll_create1", "a netlink connection needs a tokio runtime")
                .with_hint("call this inside Runtime::block_on of a runtime built with enable_all"));
        }
        // The owned descriptor of a Socket stays the same until it is dropped, which is what the newer, unsafe constructor
        // asks for; that one needs tokio 1.54.
        #[allow(deprecated, reason = "works with older tokio as well, and is sound here")]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)
            .map_err(|error| Error::from_io("epoll_ctl", &error).with_hints(&HINTS))?;
        let state = State { sequence: 1, abandoned: false, buffer: Buffer::default() };
        Ok(Self { socket, state: Mutex::new(state) })
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

    /// All links of the namespace (RTM_GETLINK).
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let answers = self.talk(&[link::list()], Mode::Dump).await?;
        answers.iter().map(|body| Link::parse(body)).collect()
    }

    /// The link of this name (RTM_GETLINK), if there is one.
    ///
    /// # Errors
    /// Those of the request, but for ENODEV.
    pub async fn link(&self, name: &IfName) -> Result<Option<Link>> {
        match self.request(link::get(name)).await {
            Ok(answers) => answers.first().map(|body| Link::parse(body)).transpose(),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
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

    pub(crate) async fn request(&self, request: Request) -> Result<Vec<Vec<u8>>> {
        self.talk(&[request], Mode::Ack).await
    }

    pub(crate) async fn talk(&self, requests: &[Request], mode: Mode) -> Result<Vec<Vec<u8>>> {
        let operation = requests.first().map_or("netlink", |request| request.operation);
        let talk = async {
            let mut state = self.state.lock().await;
            for _ in 0..DUMP_ATTEMPTS {
                let exchange = self.exchange(&mut state, requests, mode).await?;
                if !exchange.was_interrupted() {
                    return exchange.finish();
                }
            }
            Err(interrupted(requests))
        };
        tokio::time::timeout(LIMIT, talk).await.map_err(|_| Error::timed_out(operation, LIMIT))?
    }

    async fn exchange<'r>(&self, state: &mut State, requests: &'r [Request], mode: Mode) -> Result<Exchange<'r>> {
        let socket = self.socket.get_ref();
        if state.abandoned {
            // Reading is also what makes the kernel end a dump that nobody waits for any more.
            while socket.receive(&mut state.buffer).is_ok() {}
        }
        let mut exchange = Exchange::new(requests, mode, state.sequence);
        state.sequence = state.sequence.wrapping_add(exchange.sequence_numbers());
        state.abandoned = true;
        let fail = |errno: Errno| Error::from_errno(exchange.operation(), errno.0).with_hints(&HINTS);
        socket.send(&exchange.datagram()?).map_err(fail)?;
        loop {
            match socket.receive(&mut state.buffer) {
                Ok(datagram) => {
                    if exchange.feed(datagram)? == Progress::Done {
                        state.abandoned = false;
                        return Ok(exchange);
                    }
                }
                Err(Errno(libc::EAGAIN)) => {
                    let mut ready =
                        self.socket.readable().await.map_err(|error| Error::from_io("epoll_wait", &error))?;
                    ready.clear_ready();
                }
                Err(errno) => return Err(Error::from_errno(exchange.operation(), errno.0).with_hints(&HINTS)),
            }
        }
    }
}
