//! What is asked of a [`Network`](crate::Network): [`Attach`].
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Error, Result, Subject};

use crate::host_name::HostName;
use crate::ip_net::IpNet;
use crate::lease_dir::Ranges;
use crate::limit::Limits;
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::network::Network;
use crate::nft;
use crate::plan::Layout;
use crate::port::PublishedPort;
use crate::qdisc::Rate;
use crate::record::{Parts, Record};

/// A container to be attached: whose it is, and how.
///
/// Setters collect and never fail; [`Network::attach`] and [`Network::check`] check all of it.
///
/// ```
/// use vethnet::Attach;
///
/// let web = Attach::new("web").address("10.209.0.80".parse()?).publish("8080:80".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// See veth(4): <https://man7.org/linux/man-pages/man4/veth.4.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Attach {
    owner: String,
    ifname: Option<IfName>,
    mac: Option<MacAddr>,
    addresses: Vec<IpAddr>,
    ports: Vec<PublishedPort>,
    names: Vec<HostName>,
    limits: Limits,
    metric: Option<u32>,
}

impl Attach {
    /// For this owner: 1 to 128 letters, digits and `_`, `-`, `.`, `+`, beginning with a letter, a digit or `_`. One owner
    /// is attached at most once to a network.
    pub fn new(owner: impl Into<String>) -> Self {
        Self {
            owner: owner.into(),
            ifname: None,
            mac: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            names: Vec::new(),
            limits: Limits::new(),
            metric: None,
        }
    }

    /// The interface's name in the container. Default: `eth0`. A container of two networks needs two.
    pub fn ifname(mut self, name: IfName) -> Self {
        self.ifname = Some(name);
        self
    }

    /// The interface's hardware address in the container. Default: one that follows from its address.
    pub fn mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }

    /// This address of the network's range, and no other. May be called once a family. Default: the next free one.
    #[doc(alias = "IFA_LOCAL")]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Leads a port of the host to the container. May be called again.
    pub fn publish(mut self, port: PublishedPort) -> Self {
        self.ports.push(port);
        self
    }

    /// A name by which the other containers of the network find it: see [`Network::hosts_file`]. May be called again.
    pub fn name(mut self, name: HostName) -> Self {
        self.names.push(name);
        self
    }

    /// How fast the container may receive, with the headers of Ethernet. It cannot lift that: see [`Limits`].
    /// [`Network::limit`] changes it later.
    pub fn ingress(mut self, rate: Rate) -> Self {
        self.limits = self.limits.ingress(rate);
        self
    }

    /// How fast the container may send, with the headers of Ethernet. It cannot lift that: see [`Limits`].
    /// [`Network::limit`] changes it later. Takes the kernel's `ifb`.
    pub fn egress(mut self, rate: Rate) -> Self {
        self.limits = self.limits.egress(rate);
        self
    }

    /// The metric of the container's default route: of a container's several networks, the world is reached through the one with
    /// the lowest, and each needs another. Default: the kernel's, which is 0 for IPv4 and 1024 for IPv6.
    ///
    /// Ports are published on the network with the lowest: answers leave through that.
    ///
    /// ```no_run
    /// # async fn example(front: vethnet::Network, back: vethnet::Network, container: vethnet::Netns) -> vethnet::Result<()> {
    /// use vethnet::Attach;
    ///
    /// let web = front.attach(&container, &Attach::new("web").publish("8080:80".parse()?), &mut ()).await?;
    /// let second = Attach::new("web").ifname("eth1".parse()?).metric(2000);
    /// let db = back.attach(&container, &second, &mut ()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "RTA_PRIORITY")]
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    pub(crate) fn checked(&self, layout: &Layout) -> Result<Checked> {
        let owner = Owner::new(&self.owner)?;
        let ifname = match &self.ifname {
            Some(name) => name.clone(),
            None => IfName::new("eth0")?,
        };
        if ifname.as_str() == "lo" {
            return Err(Error::invalid(
                "interface name",
                "every network namespace has a loopback interface of this name",
            )
            .on(Subject::Value("lo".into())));
        }
        for (index, port) in self.ports.iter().enumerate() {
            if self.ports.iter().take(index).any(|other| other.collides(port)) {
                return Err(
                    Error::invalid("published port", "it is published twice").on(Subject::Value(port.to_string()))
                );
            }
        }
        // Any address of each family will do to know whether a port can be reached at all.
        let families: Vec<_> = layout.ranges.iter().map(|range| range.subnet.address()).collect();
        for port in &self.ports {
            nft::check_localhost(port, layout.settings)?;
            port.targets(&families)?;
        }
        Ranges { subnets: &layout.subnets(), reserved: &layout.gateways() }.sort(&self.addresses)?;
        self.limits.check(layout.mtu)?;
        Ok(Checked {
            owner,
            ifname,
            mac: self.mac,
            addresses: self.addresses.clone(),
            ports: self.ports.clone(),
            names: self.names.clone(),
            limits: self.limits,
            metric: self.metric,
        })
    }
}

/// An [`Attach`] in which nothing is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) owner: Owner,
    pub(crate) ifname: IfName,
    mac: Option<MacAddr>,
    /// Those that were asked for, at most one a family.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<PublishedPort>,
    names: Vec<HostName>,
    limits: Limits,
    pub(crate) metric: Option<u32>,
}

impl Checked {
    /// `addresses`: one for each of the layout's ranges, in their order.
    pub(crate) fn record(&self, network: &Network, layout: &Layout, addresses: Vec<IpNet>) -> Record {
        Record::new(Parts {
            owner: self.owner.clone(),
            network: layout.name.clone(),
            wiring: layout.wiring,
            state_dir: network.state_path().to_owned(),
            addresses,
            gateways: layout.ranges.iter().filter_map(|range| range.gateway).collect(),
            ifname: self.ifname.clone(),
            mac: self.mac,
            ports: self.ports.clone(),
            guarded: layout.settings.guard,
            names: self.names.clone(),
            limits: self.limits,
        })
    }
}
