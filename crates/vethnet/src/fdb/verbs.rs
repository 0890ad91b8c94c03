//! What a [`Net`] does with forwarding databases.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::{FdbEntry, message};
use crate::batch::Batch;
use crate::exchange::{Mode, Request};
use crate::link::{Link, LinkRef};
use crate::net::Net;

impl Net {
    /// Makes an entry of a forwarding database: `bridge fdb add`.
    ///
    /// C call: RTM_NEWNEIGH of AF_BRIDGE with NLM_F_CREATE and NLM_F_EXCL. It goes with its interface; a bridge's goes too
    /// when the interface is no port any more.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the list has one of this address (in this VLAN, of this
    ///   host), be it one that the bridge has learnt on another port;
    /// * [`Unsupported`](crate::ErrorKind::Unsupported) when the interface is no port, or has no list of its own;
    /// * [`NotFound`](crate::ErrorKind::NotFound) without the interface;
    /// * [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{FdbEntry, IfName};
    ///
    /// let entry = FdbEntry::in_bridge("02:6b:0a:01:00:07".parse()?).sticky();
    /// net.add_fdb_entry(IfName::new("port7")?, entry).await
    /// # }
    /// ```
    pub async fn add_fdb_entry(&self, link: impl Into<LinkRef>, entry: impl Into<FdbEntry>) -> Result<()> {
        self.set_fdb_entry(link.into(), entry.into(), message::CREATE).await
    }

    /// Makes an entry beside those that the list has of the same address: a VXLAN's further hosts. `bridge fdb append`.
    ///
    /// C call: RTM_NEWNEIGH of AF_BRIDGE with NLM_F_CREATE and NLM_F_APPEND. A host that is there already is left as it is.
    ///
    /// # Errors
    /// Those of [`add_fdb_entry`](Net::add_fdb_entry), but for AlreadyExists.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{FdbEntry, IfName};
    ///
    /// for host in [[192, 0, 2, 7], [192, 0, 2, 8]] {
    ///     net.append_fdb_entry(IfName::new("vxlan0")?, FdbEntry::flood(host)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn append_fdb_entry(&self, link: impl Into<LinkRef>, entry: impl Into<FdbEntry>) -> Result<()> {
        self.set_fdb_entry(link.into(), entry.into(), message::APPEND).await
    }

    /// Makes an entry, instead of the one of the same address: `bridge fdb replace`. A bridge moves it to this port.
    ///
    /// C call: RTM_NEWNEIGH of AF_BRIDGE with NLM_F_CREATE and NLM_F_REPLACE.
    ///
    /// # Errors
    /// Those of [`add_fdb_entry`](Net::add_fdb_entry), but for AlreadyExists; Unsupported for a VXLAN's address that has
    /// several hosts.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{FdbEntry, IfName};
    ///
    /// let entry = FdbEntry::in_bridge("02:6b:0a:01:00:07".parse()?);
    /// net.replace_fdb_entry(IfName::new("port8")?, entry).await
    /// # }
    /// ```
    pub async fn replace_fdb_entry(&self, link: impl Into<LinkRef>, entry: impl Into<FdbEntry>) -> Result<()> {
        self.set_fdb_entry(link.into(), entry.into(), message::REPLACE).await
    }

    /// Makes sure that there is this entry; one that is so already is left alone, without an event. One of the same address
    /// that differs is replaced. Only when there is one, the interface's entries are read to look at it.
    ///
    /// # Errors
    /// Those of [`replace_fdb_entry`](Net::replace_fdb_entry).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{FdbEntry, IfName};
    ///
    /// net.ensure_fdb_entry(IfName::new("port7")?, FdbEntry::in_bridge("02:6b:0a:01:00:07".parse()?)).await
    /// # }
    /// ```
    pub async fn ensure_fdb_entry(&self, link: impl Into<LinkRef>, entry: impl Into<FdbEntry>) -> Result<()> {
        let (link, entry) = (link.into(), entry.into());
        entry.check()?;
        let index = self.index_of(&link).await?;
        let Err(error) = self.request(message::new(&link, index, &entry, message::CREATE)).await else {
            return Ok(());
        };
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Err(error);
        }
        let found = self.fdb_by(message::list(Some((&link, index)))).await?;
        if found.iter().any(|found| entry.is_met_by(found)) {
            return Ok(());
        }
        self.request(message::new(&link, index, &entry, message::REPLACE)).await.map(drop)
    }

    /// Removes the entry of this address (in this VLAN, of this host) from the list; `false` when it has none, or when the
    /// interface is gone.
    ///
    /// C call: RTM_DELNEIGH of AF_BRIDGE. Of a host that it does not have, a VXLAN says that it was removed: so where one is
    /// named, the VXLAN's entries are looked at first.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when the interface is no port, or has no list of its own.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{FdbEntry, IfName};
    ///
    /// let entry = FdbEntry::in_bridge("02:6b:0a:01:00:07".parse()?);
    /// let was_there = net.remove_fdb_entry(IfName::new("port7")?, entry).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_fdb_entry(&self, link: impl Into<LinkRef>, entry: impl Into<FdbEntry>) -> Result<bool> {
        let (link, entry) = (link.into(), entry.into());
        let Some(index) = self.index_if_there(&link).await? else { return Ok(false) };
        if entry.destination.is_some() {
            let is_it = |found: &FdbEntry| found.mac == entry.mac && found.destination == entry.destination;
            if !self.fdb_by(message::list(Some((&link, index)))).await?.iter().any(is_it) {
                return Ok(false);
            }
        }
        match self.request(message::delete(&link, index, &entry)).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The entries of all bridges and interfaces (RTM_GETNEIGH of AF_BRIDGE).
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// for entry in net.fdb_entries().await? {
    ///     println!("{entry} of interface {:?}", entry.index);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn fdb_entries(&self) -> Result<Vec<FdbEntry>> {
        self.fdb_by(message::list(None)).await
    }

    /// The entries of one port, or of one VXLAN. The kernel leaves the others out.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) without the interface; those of [`fdb_entries`](Net::fdb_entries).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// let list = net.fdb_entries_on(vethnet::IfName::new("port7")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn fdb_entries_on(&self, link: impl Into<LinkRef>) -> Result<Vec<FdbEntry>> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        self.fdb_by(message::list(Some((&link, index)))).await
    }

    async fn fdb_by(&self, request: Request) -> Result<Vec<FdbEntry>> {
        let answers = self.talk(&[request], Mode::Dump).await?;
        answers.iter().filter_map(|body| message::parse(body).transpose()).collect()
    }

    async fn set_fdb_entry(&self, link: LinkRef, entry: FdbEntry, flags: u16) -> Result<()> {
        entry.check()?;
        let index = self.index_of(&link).await?;
        self.request(message::new(&link, index, &entry, flags)).await.map(drop)
    }
}

impl Batch {
    /// Makes an entry of a forwarding database, as [`Net::add_fdb_entry`] does (RTM_NEWNEIGH of AF_BRIDGE).
    pub fn add_fdb_entry(self, link: &Link, entry: impl Into<FdbEntry>) -> Self {
        self.set_fdb_entry(link, &entry.into(), message::CREATE)
    }

    /// Makes an entry beside those of the same address, as [`Net::append_fdb_entry`] does.
    pub fn append_fdb_entry(self, link: &Link, entry: impl Into<FdbEntry>) -> Self {
        self.set_fdb_entry(link, &entry.into(), message::APPEND)
    }

    /// Makes an entry, instead of the one of the same address, as [`Net::replace_fdb_entry`] does.
    pub fn replace_fdb_entry(self, link: &Link, entry: impl Into<FdbEntry>) -> Self {
        self.set_fdb_entry(link, &entry.into(), message::REPLACE)
    }

    /// Removes an entry (RTM_DELNEIGH of AF_BRIDGE). That there is none of its address is an error here.
    pub fn remove_fdb_entry(self, link: &Link, entry: impl Into<FdbEntry>) -> Self {
        self.push(Ok(message::delete(&link.into(), link.index, &entry.into())))
    }

    fn set_fdb_entry(self, link: &Link, entry: &FdbEntry, flags: u16) -> Self {
        self.push(entry.check().map(|()| message::new(&link.into(), link.index, entry, flags)))
    }
}
