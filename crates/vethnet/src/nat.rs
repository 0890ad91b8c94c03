//! [`Nat`]: masquerading and published ports for containers that are wired otherwise.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use cellkit_core::{Error, Result, Subject};

use crate::bind::check_free;
use crate::conntrack;
use crate::exchange::Request;
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::netns::apart;
use crate::nft::{self, Links, Sender, Settings, TableSpec};
use crate::port::PublishedPort;
use crate::socket::{Family, Socket};
use crate::subnet::Subnet;
use crate::tables::{ATTEMPTS, Tables, unsteady};

/// Masquerading, published ports and isolation for containers that somebody else wired: nf_tables, by netlink.
///
/// [`Network`](crate::Network) uses the same and needs no `Nat` beside it. Here the links, addresses, routes and the
/// forwarding switches (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`) are the caller's.
///
/// * It is a description; [`ensure`](Nat::ensure) makes it true in the network namespace of the calling thread: one table
///   of family `inet` with this name, for IPv4 and IPv6, and nothing outside it. See `nft list table inet NAME`.
/// * What it does: the subnets' addresses leave as the host's; into the subnets come answers and published ports, and
///   nothing else; a published port takes only what is sent to the host's own addresses.
/// * A container is elements of maps, with its owner as their comment. Publishing and unpublishing cost the same
///   whether there is one container or a thousand, and one transaction each: all or nothing.
/// * An owner is 1 to 128 letters, digits and `_`, `-`, `.`, `+`, beginning with a letter, a digit or `_`.
/// * After a kill [`reconcile`](Nat::reconcile) removes what belongs to nobody any more, from what the kernel knows.
/// * Every base chain that hooks in sees every packet, and any of them may drop it: where Docker has set the policy of
///   its FORWARD chain to drop, or firewalld has zones, packets need leave there as well.
/// * A container behind a bridge reaches its own published ports by what the host routes. Where frames on bridges pass
///   nf_tables as well (the module br_netfilter, with `net.bridge.bridge-nf-call-iptables`), they are sent back by the
///   port they came from, which a bridge does only where the port is set so: `hairpin`, by
///   [`change_bridge_port`](crate::Net::change_bridge_port). `Network` sets it, here it is the caller's.
/// * Kernel: 5.15 with nf_tables (`CONFIG_NFT_NAT`, `CONFIG_NFT_MASQ`, `CONFIG_NFT_CT`, `CONFIG_NFT_FIB_INET`).
/// * Privileges: CAP_NET_ADMIN over the network namespace. Errors without: [`Permission`](crate::ErrorKind::Permission).
///
/// ```no_run
/// use vethnet::Nat;
///
/// # async fn example() -> vethnet::Result<()> {
/// let nat = Nat::new("pods".parse()?).bridge("br0".parse()?).subnet("10.1.0.0/24".parse()?);
/// nat.ensure().await?;
/// nat.publish("web", &["10.1.0.2".parse().unwrap()], &["8080:80".parse()?]).await?;
/// let removed = nat.reconcile(|owner| owner == "web").await?;
/// assert!(removed.is_empty());
/// nat.remove().await?;
/// # Ok(())
/// # }
/// ```
///
/// See nft(8): <https://man7.org/linux/man-pages/man8/nft.8.html>.
#[doc(alias = "NFT_MSG_NEWTABLE")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Nat {
    name: IfName,
    bridge: Option<IfName>,
    subnets: Vec<Subnet>,
    settings: Settings,
}

impl Nat {
    /// With tables of this name.
    pub fn new(name: IfName) -> Self {
        Self { name, bridge: None, subnets: Vec::new(), settings: Settings::default() }
    }

    /// The containers are behind this bridge. Without one, each link is told by [`add_link`](Nat::add_link).
    ///
    /// In either case, what a container sends has to come from an address to which the host has a route over the same link
    /// (the bridge's own range, a route to the container), or it is dropped: nobody sends as somebody else to the host or
    /// beyond.
    pub fn bridge(mut self, bridge: IfName) -> Self {
        self.bridge = Some(bridge);
        self
    }

    /// These addresses are containers'. May be called again; see also [`add_subnet`](Nat::add_subnet).
    pub fn subnet(mut self, subnet: Subnet) -> Self {
        self.subnets.push(subnet);
        self
    }

    /// Lets containers reach the world with their own addresses: where the world has routes to them. Default: they leave as
    /// the host's (masquerade).
    pub fn keep_addresses(mut self) -> Self {
        self.settings.unmasked = true;
        self
    }

    /// Published ports are reached on 127.0.0.1 of the host as well, not on ::1, from where the kernel leads nothing away.
    ///
    /// The kernel needs `net.ipv4.conf.LINK.route_localnet=1` for it, of the bridge or of each container's link. Write it
    /// after [`ensure`](Nat::ensure): what keeps the containers from the host's own 127.0.0.1 then is in the table.
    /// Whoever removes the table (`nft flush ruleset`) removes that protection.
    #[doc(alias = "route_localnet")]
    pub fn localhost(mut self) -> Self {
        self.settings.localhost = true;
        self
    }

    /// Lets containers use ports that other networks of this machine publish, as the world may. Default: no.
    pub fn open(mut self) -> Self {
        self.settings.open = true;
        self
    }

    /// Keeps containers from reaching each other through the host, but by published ports. On a bridge they are
    /// neighbours besides: isolate its ports.
    #[doc(alias = "IFLA_BRPORT_ISOLATED")]
    pub fn apart(mut self) -> Self {
        self.settings.apart = true;
        self
    }

    /// Drops what containers send with addresses that are not their own, and router advertisements.
    ///
    /// With a bridge, a second table, of family `bridge`, and each port is told by [`guard_port`](Nat::guard_port). Without,
    /// the host's routes say which addresses are behind a link.
    pub fn guard(mut self) -> Self {
        self.settings.guard = true;
        self
    }

    /// The tables' name.
    #[must_use]
    pub fn name(&self) -> &IfName {
        &self.name
    }

    /// Makes the tables, if they are not there; says whether they were not.
    ///
    /// Where somebody removed them (`nft flush ruleset`), publish again afterwards.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists): a table of the name is somebody else's.
    /// [`Invalid`](crate::ErrorKind::Invalid): it was made with other settings.
    /// [`Unsupported`](crate::ErrorKind::Unsupported): the kernel has no nf_tables, or lacks an expression.
    #[doc(alias = "NFT_MSG_NEWTABLE")]
    pub async fn ensure(&self) -> Result<bool> {
        let nat = self.clone();
        self.with_tables(move |tables| {
            let links = nat.bridge.as_ref().map_or(Links::Added, Links::Bridge);
            let spec = TableSpec { name: &nat.name, links, subnets: &nat.subnets, settings: nat.settings };
            tables.ensure(&spec)
        })
        .await
    }

    /// More addresses that are containers'.
    ///
    /// # Errors
    /// AlreadyExists for a range that overlaps another; NotFound where there is no table.
    #[doc(alias = "NFT_MSG_NEWSETELEM")]
    pub async fn add_subnet(&self, subnet: Subnet) -> Result<()> {
        self.make(nft::new_subnet(&self.name, subnet, self.settings)?).await
    }

    /// Undoes [`add_subnet`](Nat::add_subnet), or [`subnet`](Nat::subnet).
    ///
    /// # Errors
    /// NotFound for a range that is not there.
    #[doc(alias = "NFT_MSG_DELSETELEM")]
    pub async fn remove_subnet(&self, subnet: Subnet) -> Result<()> {
        self.make(nft::delete_subnet(&self.name, subnet, self.settings)?).await
    }

    /// The container is behind this link of the host. It need not be there yet.
    ///
    /// # Errors
    /// AlreadyExists for a link that is a container's already; NotFound where there is no table.
    #[doc(alias = "NFT_MSG_NEWSETELEM")]
    pub async fn add_link(&self, owner: &str, link: &IfName) -> Result<()> {
        self.make(nft::new_link(&self.name, link, &Owner::new(owner)?)?).await
    }

    /// Undoes [`add_link`](Nat::add_link). What is gone already is no error.
    ///
    /// # Errors
    /// Permission without CAP_NET_ADMIN.
    #[doc(alias = "NFT_MSG_DELSETELEM")]
    pub async fn remove_link(&self, link: &IfName) -> Result<()> {
        let link = link.clone();
        self.with_tables(move |tables| tables.unmake(|_| nft::delete_link(tables.name, &link))).await
    }

    /// Lets the bridge's port send from this hardware address and these addresses only. Call it before the port is up.
    ///
    /// An IPv6 container may send from the link-local address that follows from `mac` as well.
    ///
    /// # Errors
    /// AlreadyExists for a port that is guarded already; NotFound where there is no [`guard`](Nat::guard).
    #[doc(alias = "NFT_MSG_NEWSETELEM")]
    pub async fn guard_port(&self, owner: &str, port: &IfName, mac: MacAddr, addresses: &[IpAddr]) -> Result<()> {
        self.make(nft::new_sender(&self.name, &Owner::new(owner)?, &Sender { port, mac, addresses })?).await
    }

    /// Undoes [`guard_port`](Nat::guard_port), after which the port may send whatever it wants: remove it first. What is
    /// gone already is no error.
    ///
    /// # Errors
    /// Permission without CAP_NET_ADMIN.
    #[doc(alias = "NFT_MSG_DELSETELEM")]
    pub async fn unguard_port(&self, port: &IfName, mac: MacAddr, addresses: &[IpAddr]) -> Result<()> {
        let (port, addresses) = (port.clone(), addresses.to_vec());
        self.with_tables(move |tables| {
            let sender = Sender { port: &port, mac, addresses: &addresses };
            tables.unmake(|pack| nft::delete_sender(tables.name, &sender, pack))
        })
        .await
    }

    /// Leads these ports of the host to the container with these addresses, at most one a family; all or none.
    ///
    /// # Errors
    /// * AlreadyExists: a port is published already (EEXIST), or a program of this machine uses it (EADDRINUSE, bind(2)).
    /// * Invalid: the container has no address of the family; an address of the host is not the machine's
    ///   (EADDRNOTAVAIL), or one of 127.0.0.0/8 without [`localhost`](Nat::localhost).
    /// * NotFound: there is no table.
    #[doc(alias = "NFT_MSG_NEWSETELEM")]
    pub async fn publish(&self, owner: &str, addresses: &[IpAddr], ports: &[PublishedPort]) -> Result<()> {
        for (index, address) in addresses.iter().enumerate() {
            if addresses.iter().take(index).any(|other| other.is_ipv4() == address.is_ipv4()) {
                return Err(Error::invalid("publish", "a container has one address of a family here")
                    .on(Subject::Value(address.to_string())));
            }
        }
        let requests = nft::new_elements(&self.name, &Owner::new(owner)?, addresses, ports, self.settings)?;
        let (addresses, ports) = (addresses.to_vec(), ports.to_vec());
        self.with_tables(move |tables| {
            ports.iter().try_for_each(|port| check_free(port, &addresses))?;
            tables.make(&requests)
        })
        .await
    }

    /// Undoes [`publish`](Nat::publish), and makes the kernel forget the connections of the addresses, or what was opened
    /// to them would go on. What is gone already is no error.
    ///
    /// # Errors
    /// Permission without CAP_NET_ADMIN.
    #[doc(alias = "NFT_MSG_DELSETELEM")]
    pub async fn unpublish(&self, addresses: &[IpAddr], ports: &[PublishedPort]) -> Result<()> {
        let (addresses, ports) = (addresses.to_vec(), ports.to_vec());
        self.with_tables(move |tables| {
            let removed = tables.unmake(|pack| nft::delete_elements(tables.name, &addresses, &ports, pack));
            let forgotten = conntrack::forget(tables.netfilter, &addresses);
            Error::all(removed.err().into_iter().chain(forgotten.err()))
        })
        .await
    }

    /// Removes whatever the tables have of owners that `is_alive` denies, in one transaction, and says who they were.
    ///
    /// `is_alive` is asked once for each owner. What was read is removed only if nobody changed nf_tables meanwhile; else
    /// it is read again: an owner that comes and goes is never mistaken for another. Without tables there is nobody.
    ///
    /// # Errors
    /// Limit (EAGAIN) when nf_tables kept changing; Permission without CAP_NET_ADMIN.
    #[doc(alias = "NFT_MSG_GETSETELEM")]
    #[doc(alias = "NFTA_GEN_ID")]
    pub async fn reconcile(&self, mut is_alive: impl FnMut(&str) -> bool) -> Result<Vec<String>> {
        let mut alive = BTreeMap::new();
        for _ in 0..ATTEMPTS {
            let contents = self.with_tables(|tables| tables.contents()).await?;
            for owner in contents.owners() {
                if !alive.contains_key(owner) {
                    alive.insert(owner.clone(), is_alive(owner.as_str()));
                }
            }
            let dead: Vec<_> = alive.iter().filter(|(_, alive)| !**alive).map(|(owner, _)| owner.clone()).collect();
            let names = dead.iter().map(|owner| owner.as_str().to_owned()).collect();
            if self.with_tables(move |tables| tables.delete(&contents, |owner| dead.contains(owner))).await? {
                return Ok(names);
            }
        }
        Err(unsteady())
    }

    /// Removes the tables with all that is in them. Tables of others that have the name stay; nothing there is no error.
    ///
    /// # Errors
    /// Permission without CAP_NET_ADMIN.
    #[doc(alias = "NFT_MSG_DELTABLE")]
    pub async fn remove(&self) -> Result<()> {
        self.with_tables(|tables| tables.remove()).await
    }

    async fn make(&self, requests: Vec<Request>) -> Result<()> {
        self.with_tables(move |tables| tables.make(&requests)).await
    }

    /// Does blocking work with the tables, in the network namespace of the calling thread.
    async fn with_tables<T: Send + 'static>(
        &self,
        work: impl FnOnce(Tables<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.name.clone();
        apart(move || {
            let netfilter = Socket::open(Family::Netfilter)?;
            work(Tables { netfilter: &netfilter, name: &name })
        })
        .await
    }
}
