//! What a [`Net`] does with neighbours.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use super::{Neighbour, message};
use crate::batch::Batch;
use crate::exchange::{Mode, Request};
use crate::hint::HINTS;
use crate::link::{Link, LinkRef};
use crate::net::Net;

impl Net {
    /// Makes an entry of the neighbour table, or an address that is answered for: `ip neighbour add`.
    ///
    /// C call: RTM_NEWNEIGH with NLM_F_CREATE and NLM_F_EXCL. It is gone when the interface is brought down, a permanent one
    /// too; a proxy entry stays.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the interface has one of this address, be it one that the
    ///   kernel has learnt;
    /// * [`NotFound`](crate::ErrorKind::NotFound) without the interface;
    /// * [`Limit`](crate::ErrorKind::Limit) (ENOBUFS) when the table is full: see `gc_thresh3`;
    /// * [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{IfName, Neighbour};
    ///
    /// let gateway = Neighbour::permanent([10, 1, 0, 1], "02:6b:0a:01:00:01".parse()?);
    /// net.add_neighbour(IfName::new("eth0")?, gateway).await
    /// # }
    /// ```
    pub async fn add_neighbour(&self, link: impl Into<LinkRef>, neighbour: impl Into<Neighbour>) -> Result<()> {
        let (link, neighbour) = (link.into(), neighbour.into());
        neighbour.check()?;
        let index = self.index_of(&link).await?;
        // Of what is answered for, the kernel makes nothing of NLM_F_EXCL.
        if neighbour.is_proxy && self.find_neighbour(&link, index, &neighbour).await?.is_some() {
            let error = Error::from_errno("RTM_NEWNEIGH", libc::EEXIST).on(neighbour.subject(&link));
            return Err(error.with_hints(&HINTS));
        }
        self.request(message::new(&link, index, &neighbour, message::CREATE)).await.map(drop)
    }

    /// Makes an entry, instead of the one of the same address if the interface has one: `ip neighbour replace`.
    ///
    /// C call: RTM_NEWNEIGH with NLM_F_CREATE and NLM_F_REPLACE.
    ///
    /// # Errors
    /// Those of [`add_neighbour`](Net::add_neighbour), but for AlreadyExists.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{IfName, Neighbour};
    ///
    /// let moved = Neighbour::reachable([10, 1, 0, 7], "02:6b:0a:01:00:07".parse()?);
    /// net.replace_neighbour(IfName::new("eth0")?, moved).await
    /// # }
    /// ```
    pub async fn replace_neighbour(&self, link: impl Into<LinkRef>, neighbour: impl Into<Neighbour>) -> Result<()> {
        let (link, neighbour) = (link.into(), neighbour.into());
        neighbour.check()?;
        let index = self.index_of(&link).await?;
        self.request(message::new(&link, index, &neighbour, message::REPLACE)).await.map(drop)
    }

    /// Makes sure that there is this entry; one that is so already is left alone, without an event. One of the same address
    /// that differs is replaced: it is the kernel's memory, and nobody's. For a stale one, one that is better known will do.
    ///
    /// # Errors
    /// Those of [`replace_neighbour`](Net::replace_neighbour).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{IfName, Neighbour};
    ///
    /// net.ensure_neighbour(IfName::new("eth0")?, Neighbour::proxy([10, 1, 0, 9])).await
    /// # }
    /// ```
    pub async fn ensure_neighbour(&self, link: impl Into<LinkRef>, neighbour: impl Into<Neighbour>) -> Result<()> {
        let (link, neighbour) = (link.into(), neighbour.into());
        neighbour.check()?;
        let index = self.index_of(&link).await?;
        match self.find_neighbour(&link, index, &neighbour).await? {
            Some(found) if neighbour.is_met_by(&found) => Ok(()),
            _ => self.request(message::new(&link, index, &neighbour, message::REPLACE)).await.map(drop),
        }
    }

    /// Removes the entry of this address, whatever its state; `false` when the interface has none, or is gone itself.
    ///
    /// C call: RTM_DELNEIGH. An entry that is in use may be listed as failed for some seconds yet.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{IfName, Neighbour};
    ///
    /// let was_there = net.remove_neighbour(IfName::new("eth0")?, Neighbour::proxy([10, 1, 0, 9])).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_neighbour(&self, link: impl Into<LinkRef>, neighbour: impl Into<Neighbour>) -> Result<bool> {
        let (link, neighbour) = (link.into(), neighbour.into());
        let Some(index) = self.index_if_there(&link).await? else { return Ok(false) };
        match self.request(message::delete(&link, index, &neighbour)).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The neighbours of all interfaces, IPv4 and IPv6 (RTM_GETNEIGH). What is answered for is not among them; see
    /// [`proxies`](Net::proxies).
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// for neighbour in net.neighbours().await? {
    ///     println!("{neighbour} on interface {:?}", neighbour.index);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>> {
        self.neighbours_by(message::list(None, false)).await
    }

    /// The neighbours on the link of one interface. The kernel leaves the others out.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) without the interface; those of [`neighbours`](Net::neighbours).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// let list = net.neighbours_on(vethnet::IfName::new("eth0")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn neighbours_on(&self, link: impl Into<LinkRef>) -> Result<Vec<Neighbour>> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        self.neighbours_by(message::list(Some((&link, index)), false)).await
    }

    /// The addresses that are answered for, on all links: `ip neighbour show proxy`.
    ///
    /// # Errors
    /// Those of [`neighbours`](Net::neighbours).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// let list = net.proxies().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn proxies(&self) -> Result<Vec<Neighbour>> {
        self.neighbours_by(message::list(None, true)).await
    }

    async fn neighbours_by(&self, request: Request) -> Result<Vec<Neighbour>> {
        let answers = self.talk(&[request], Mode::Dump).await?;
        answers.iter().filter_map(|body| message::parse(body).transpose()).collect()
    }

    /// What the table has of the same address.
    async fn find_neighbour(&self, link: &LinkRef, index: u32, wanted: &Neighbour) -> Result<Option<Neighbour>> {
        match self.request(message::get(link, index, wanted)).await {
            Ok(answers) => answers.first().map_or(Ok(None), |body| message::parse(body)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Batch {
    /// Makes an entry of the neighbour table, as [`Net::add_neighbour`] does (RTM_NEWNEIGH). A proxy that is there already is
    /// no error here.
    #[doc(alias = "RTM_NEWNEIGH")]
    pub fn add_neighbour(self, link: &Link, neighbour: impl Into<Neighbour>) -> Self {
        self.set_neighbour(link, &neighbour.into(), message::CREATE)
    }

    /// Makes an entry, instead of the one of the same address, as [`Net::replace_neighbour`] does.
    pub fn replace_neighbour(self, link: &Link, neighbour: impl Into<Neighbour>) -> Self {
        self.set_neighbour(link, &neighbour.into(), message::REPLACE)
    }

    /// Removes the entry of this address (RTM_DELNEIGH). That it is not there is an error here.
    #[doc(alias = "RTM_DELNEIGH")]
    pub fn remove_neighbour(self, link: &Link, neighbour: impl Into<Neighbour>) -> Self {
        self.push(Ok(message::delete(&link.into(), link.index, &neighbour.into())))
    }

    fn set_neighbour(self, link: &Link, neighbour: &Neighbour, flags: u16) -> Self {
        self.push(neighbour.check().map(|()| message::new(&link.into(), link.index, neighbour, flags)))
    }
}
