//! [`Batch`]: many changes, sent together.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use cellkit_core::{Error, Result};

use crate::exchange::{Mode, Request};
use crate::ip_address::{self, Address};
use crate::link::{self, Link};
use crate::net::Net;

/// Changes that are sent to the kernel together, by [`Net::apply`]: of links, addresses, routes, rules, neighbours and
/// forwarding databases, by the verbs that [`Net`] has.
///
/// * C call: sendmsg(2) with many rtnetlink messages in one datagram, 64 at most; more take several.
/// * The kernel runs them in the order they were added. It knows no transactions here: after one that failed, the others
///   are run all the same. What depends on another therefore fails with it, and the error tells of both.
/// * It is faster than a call for each change: one system call to send and one answer to wait for, where all goes well.
/// * Methods collect and never fail; [`Net::apply`] refuses all of it where one is wrong, before anything is sent.
/// * Nothing is looked up and nothing compared: links are given by a [`Link`] that was read, what is there already is an
///   error, and so is what was to be removed and is not there. There is no `ensure_…`.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// let mut leftovers = vethnet::Batch::new();
/// for link in net.links().await? {
///     if link.name.starts_with("tmp-") {
///         leftovers = leftovers.remove_link(&link);
///     }
/// }
/// net.apply(leftovers).await?;
/// # Ok(())
/// # }
/// ```
///
/// A hundred containers on one bridge:
///
/// ```no_run
/// # async fn example(net: &vethnet::Net, containers: &[vethnet::Netns]) -> vethnet::Result<()> {
/// use vethnet::{Batch, Bridge, IfName, Veth};
///
/// let bridge = net.ensure_link(&Bridge::new(IfName::new("br0")?).up()).await?;
/// let mut batch = Batch::new();
/// for (at, netns) in containers.iter().enumerate() {
///     let pair = Veth::new(format!("port{at}").parse()?, IfName::new("eth0")?);
///     batch = batch.create_link(&pair.master(&bridge).up().peer_netns(netns));
/// }
/// net.apply(batch).await
/// # }
/// ```
///
/// See netlink(7): <https://man7.org/linux/man-pages/man7/netlink.7.html>.
#[doc(alias("NLMSG_NEXT", "ip -batch"))]
#[derive(Debug, Default)]
#[must_use = "nothing is done before Net::apply"]
pub struct Batch {
    requests: Vec<Request>,
    wrong: Vec<Error>,
    /// Descriptors whose numbers are in the requests.
    fds: Vec<OwnedFd>,
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len() + self.wrong.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes a link, as it was when it was listed: by its number, since the name could be another's by now
    /// (RTM_DELLINK).
    #[doc(alias = "RTM_DELLINK")]
    pub fn remove_link(self, link: &Link) -> Self {
        self.push(Ok(link::delete(link)))
    }

    /// Brings the loopback interface up (RTM_SETLINK).
    pub fn loopback_up(self) -> Self {
        self.push(Ok(link::loopback_up()))
    }

    /// Gives an interface an address, as [`Net::add_address`] does (RTM_NEWADDR).
    #[doc(alias = "RTM_NEWADDR")]
    pub fn add_address(self, link: &Link, address: impl Into<Address>) -> Self {
        let address = address.into();
        let request = || ip_address::message::new(&link.into(), link.index, &address, ip_address::message::CREATE);
        self.push(address.check().map(|()| request()))
    }

    /// Takes an address away from an interface (RTM_DELADDR). That it is not there is an error here.
    #[doc(alias = "RTM_DELADDR")]
    pub fn remove_address(self, link: &Link, address: impl Into<Address>) -> Self {
        self.push(Ok(ip_address::message::delete(&link.into(), link.index, &address.into())))
    }

    /// More changes, of which each needs the one before.
    pub(crate) fn push_all(mut self, requests: Result<Vec<Request>>) -> Self {
        match requests {
            Ok(requests) => self.requests.extend(requests),
            Err(error) => self.wrong.push(error),
        }
        self
    }

    /// Keeps a descriptor that a request names until it was sent.
    pub(crate) fn keep(&mut self, fd: Option<OwnedFd>) {
        self.fds.extend(fd);
    }

    /// One more change: what the verbs of each topic are made of.
    pub(crate) fn push(mut self, request: Result<Request>) -> Self {
        match request {
            Ok(request) => self.requests.push(request),
            Err(error) => self.wrong.push(error),
        }
        self
    }
}

impl Net {
    /// Makes the changes of a batch, in their order.
    ///
    /// Several tasks may do so at once: a batch of more than 64 changes is not divided by others.
    ///
    /// # Errors
    /// * [`Invalid`](crate::ErrorKind::Invalid) when one of the changes is wrong in itself; nothing was sent then.
    /// * That of the first change that failed, with its own operation, subject and the kernel's text; those of the others
    ///   that failed are in [`also`](crate::Error::also). All that are in neither were made.
    pub async fn apply(&self, batch: Batch) -> Result<()> {
        let Batch { requests, wrong, fds } = batch;
        Error::all(wrong)?;
        let result = self.talk(&requests, Mode::Each).await.map(drop);
        drop(fds);
        result
    }
}
