//! [`Network`]: what is decided about a network, before a container is attached.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result, StepText, Subject};
use serde::{Deserialize, Serialize};

use crate::lease::State;
use crate::name::IfName;
use crate::netns::apart;
use crate::nft::Settings;
use crate::obstacle;
use crate::plan::{self, Layout, Missing, Range, Step};
use crate::spec::Attach;
use crate::subnet::Subnet;
use crate::teardown::Host;

const DEFAULT_STATE_DIR: &str = "/run/vethnet";
const MTU: u32 = 1500;
/// What every IPv6 link has to carry (RFC 8200), and IPv4 hosts have to take in one piece (RFC 791).
const LEAST_MTU: u32 = 68;
const LEAST_MTU_V6: u32 = 1280;
/// `ETH_MAX_MTU`.
const MOST_MTU: u32 = 65535;

/// How containers are wired to their network.
///
/// ```
/// use vethnet::{Network, Wiring};
///
/// let network = Network::routed("pods".parse()?, "10.40.0.0/16".parse()?);
/// assert_eq!(network.wiring(), Wiring::Routed);
/// # Ok::<(), vethnet::Error>(())
/// ```
///
/// See bridge(8) and ip-route(8): <https://man7.org/linux/man-pages/man8/ip-route.8.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Wiring {
    /// The host's ends are ports of a bridge, which has the gateway's addresses: containers are neighbours on one link. A
    /// bridge has at most 1,023 ports.
    #[doc(alias = "IFLA_MASTER")]
    Bridge,
    /// There is no bridge: the host has a route to each container, and each container one to the host. Containers have no
    /// neighbours, and of them there may be as many as the range has addresses.
    #[doc(alias = "RTNH_F_ONLINK")]
    Routed,
}

impl fmt::Display for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Routed => "routed",
        })
    }
}

/// A network of containers on this machine: a bridge, a range of addresses, masquerading, published ports.
///
/// It is a description; nothing is made before the first [`attach`](Network::attach), and nothing is left after the last
/// [`detach`](crate::Attachment::detach). All of it lives in the network namespace of the calling thread, and under names
/// that follow from the bridge's: the nf_tables table `inet BRIDGE`, and the interfaces `vh…`, one a container, each with
/// its owner as the alias.
///
/// # Forwarding
/// Containers reach the world only if the machine passes packets on, so `attach` turns `net.ipv4.ip_forward` on where it
/// is off. It is a switch of the whole network namespace: from then on the machine routes between *all* its interfaces,
/// also such as have nothing to do with containers, for whoever sends it packets to pass on. The rules here keep
/// the containers' own range closed and say nothing about other traffic, whose policy is the machine's: on one with
/// several networks, give the forward chain a policy of its own first. Docker and others turn the same switch on and
/// have their own rules beside these, each of which may drop what the other accepts (Docker sets the policy of
/// iptables' FORWARD chain to DROP, which holds for these containers as well).
///
/// Where `attach` turned it on, the last `detach` turns it off again, so that the machine is as it was. It cannot know
/// who else has come to rely on it meanwhile (another runtime, a virtual machine, a VPN), and whoever has is cut off
/// then. Where others need it, turn it on before (`sysctl net.ipv4.ip_forward=1`): what was on is left on. With the
/// switch the kernel also sets `conf/all/accept_redirects`, which is given back as it was, and the `forwarding` of each
/// single interface, which is not: a machine where that differs by interface should turn the switch on itself.
///
/// * Kernel: 5.15, with bridge, veth and nf_tables.
/// * Privileges: CAP_NET_ADMIN and CAP_SYS_ADMIN over the network namespaces, and write access to the state directory.
///
/// ```no_run
/// use vethnet::{Attach, IfName, Subnet, Network};
///
/// # async fn example(container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// let network = Network::new(IfName::new("cellkit0")?, Subnet::default()).state_dir("/run/demo");
/// let spec = Attach::new("web").publish("8080:80".parse()?);
/// network.check(&spec).await?;
/// for step in network.describe(&spec)? {
///     println!("{step}  # {}", step.reason);
/// }
/// let attachment = network.attach(&container, &spec, &mut ()).await?;
/// println!("web has {} and reaches the world through {}", attachment.address(), attachment.gateway());
/// attachment.detach().await?;
/// # Ok(())
/// # }
/// ```
///
/// See bridge(8), veth(4): <https://man7.org/linux/man-pages/man4/veth.4.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Network {
    name: IfName,
    wiring: Wiring,
    subnets: Vec<Subnet>,
    gateways: Vec<IpAddr>,
    mtu: u32,
    isolated: bool,
    settings: Settings,
    state_dir: PathBuf,
}

impl Network {
    /// The network of the bridge of this name, with addresses from this range.
    #[doc(alias = "IFLA_MASTER")]
    pub fn new(bridge: IfName, subnet: Subnet) -> Self {
        Self::wired(Wiring::Bridge, bridge, subnet)
    }

    /// A network without a bridge, which may have more than 1,023 containers: the host has a route to each.
    ///
    /// * The container's address has all bits of its family as the prefix (`10.40.0.2/32`), and its default route goes
    ///   through 169.254.1.1 and fe80::1, which are nobody's addresses. Neighbour entries that never change stand on both
    ///   sides (`nud permanent`, which `net.ipv4.neigh.default.gc_thresh3` does not count), so that nobody asks for an
    ///   address and nobody can answer wrongly.
    /// * The host is reached at any of its own addresses. It needs one, to answer from.
    /// * `net.ipv4.conf.*.rp_filter` of each host's end is 1: a container sends from no address but its own.
    ///
    /// ```no_run
    /// # async fn example(container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
    /// use vethnet::{Attach, Network};
    ///
    /// let network = Network::routed("pods".parse()?, "10.40.0.0/16".parse()?).subnet("fd40::/64".parse()?);
    /// let attachment = network.attach(&container, &Attach::new("web"), &mut ()).await?;
    /// println!("{}", attachment.address());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "RTNH_F_ONLINK")]
    pub fn routed(name: IfName, subnet: Subnet) -> Self {
        Self::wired(Wiring::Routed, name, subnet)
    }

    fn wired(wiring: Wiring, name: IfName, subnet: Subnet) -> Self {
        Self {
            name,
            wiring,
            subnets: vec![subnet],
            gateways: Vec::new(),
            mtu: MTU,
            isolated: false,
            settings: Settings::default(),
            state_dir: DEFAULT_STATE_DIR.into(),
        }
    }

    /// A range of the other family beside the first: each container has an address of both then.
    pub fn subnet(mut self, subnet: Subnet) -> Self {
        self.subnets.push(subnet);
        self
    }

    /// The host's address in the range of its family, which the containers' default route goes through. Default:
    /// [`Subnet::gateway`]. Only with a bridge, which has the address.
    #[doc(alias = "RTA_GATEWAY")]
    pub fn gateway(mut self, address: IpAddr) -> Self {
        self.gateways.push(address);
        self
    }

    /// The largest packet, in bytes, of the bridge and of both ends of each pair. Default: 1500. From 68 to 65535, with
    /// IPv6 from 1280.
    #[doc(alias = "IFLA_MTU")]
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = bytes;
        self
    }

    /// Keeps the containers from reaching each other by their own addresses. They reach the world and the host.
    ///
    /// By flags of the bridge's ports (kernel 4.18), and in nf_tables for what goes by the host.
    #[doc(alias = "IFLA_BRPORT_ISOLATED")]
    pub fn isolated(mut self) -> Self {
        self.isolated = true;
        self.settings.apart = true;
        self
    }

    /// Drops what a container sends with an address that is not its own (hardware address, IPv4 with ARP, IPv6 with
    /// neighbour discovery), and router advertisements and redirects of containers.
    ///
    /// On a bridge by a table of family `bridge` in which each port is bound to its container; where packets are routed, the
    /// host's routes say who is behind an interface.
    pub fn guard(mut self) -> Self {
        self.settings.guard = true;
        self
    }

    /// Published ports are reached on 127.0.0.1 of the host as well (not on ::1, from where the kernel leads nothing away).
    ///
    /// It takes `net.ipv4.conf.*.route_localnet` of the bridge, or of each host's end, which is set after the rules are
    /// there that keep containers from the host's 127.0.0.1. Whoever removes those (`nft flush ruleset`) removes that
    /// protection, until the next attach.
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

    /// Lets containers reach the world with their own addresses: where the world has routes to them. Default: they leave as
    /// the host's (masquerade).
    pub fn keep_addresses(mut self) -> Self {
        self.settings.unmasked = true;
        self
    }

    /// Where leases and records are kept, and the lock is taken. Default: `/run/vethnet`.
    ///
    /// A directory is of one network namespace, the one `attach` is called in: programs in others (tests under `unshare -n`)
    /// need another. Networks that share the machine's forwarding switches (`net.ipv4.ip_forward`,
    /// `net.ipv6.conf.all.forwarding`) have to share the directory, which remembers whether they have to be turned off
    /// again. It is made when it is missing, with mode 0700, and removed when nothing is in it any more. It is for this
    /// alone: other folders in it would be taken for networks.
    pub fn state_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.state_dir = dir.as_ref().to_owned();
        self
    }

    /// Its name, which is the bridge's if it has one.
    #[must_use]
    pub fn name(&self) -> &IfName {
        &self.name
    }

    /// How containers are wired to it.
    #[must_use]
    pub fn wiring(&self) -> Wiring {
        self.wiring
    }

    /// The ranges of addresses, as they were given.
    #[must_use]
    pub fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    pub(crate) fn state_path(&self) -> &Path {
        &self.state_dir
    }

    pub(crate) fn state(&self) -> State {
        State::new(&self.state_dir, &self.name)
    }

    /// The network that a record is of, for what can be done with the record alone.
    pub(crate) fn of_record(record: &crate::Record) -> Self {
        let mut network = Self::wired(record.wiring, record.network.clone(), Subnet::default());
        network.subnets = record.addresses.iter().map(crate::IpNet::subnet).collect();
        network.gateways.clone_from(&record.gateways);
        network.state_dir.clone_from(&record.state_dir);
        network
    }

    /// Everything about the network, if nothing is wrong with it.
    pub(crate) fn layout(&self) -> Result<Layout> {
        let fail = |why: String, subject: String| Err(Error::invalid("network", why).on(Subject::Value(subject)));
        let mut ranges = Vec::new();
        for (index, subnet) in self.subnets.iter().enumerate() {
            let subnet = subnet.for_hosts()?;
            if self.subnets.iter().take(index).any(|other| other.is_ipv4() == subnet.is_ipv4()) {
                return fail("it has one range of a family".into(), subnet.to_string());
            }
            let wanted = self.gateways.iter().find(|address| address.is_ipv4() == subnet.is_ipv4()).copied();
            let gateway = match self.wiring {
                Wiring::Bridge => wanted.or(subnet.gateway()),
                Wiring::Routed => None,
            };
            if gateway.is_none() && self.wiring == Wiring::Bridge {
                return fail("a bridge and a container need two addresses, and this is one".into(), subnet.to_string());
            }
            ranges.push(Range { subnet, gateway });
        }
        ranges.sort_by_key(|range| range.subnet.is_ipv6());
        self.check_gateways(&ranges)?;
        let least = if ranges.iter().any(|range| range.subnet.is_ipv6()) { LEAST_MTU_V6 } else { LEAST_MTU };
        if !(least..=MOST_MTU).contains(&self.mtu) {
            return fail(format!("the MTU has to be from {least} to {MOST_MTU}"), self.mtu.to_string());
        }
        Ok(Layout {
            name: self.name.clone(),
            wiring: self.wiring,
            ranges,
            mtu: self.mtu,
            isolated: self.isolated,
            settings: self.settings,
        })
    }

    fn check_gateways(&self, ranges: &[Range]) -> Result<()> {
        for (index, gateway) in self.gateways.iter().enumerate() {
            let fail = |why: String, hint: &'static str| {
                Err(Error::invalid("gateway", why).on(Subject::Value(gateway.to_string())).with_hint(hint))
            };
            if self.wiring == Wiring::Routed {
                return fail(
                    "in a network that is routed it is nobody's address".into(),
                    "leave it out, or use Network::new, which makes a bridge that has it",
                );
            }
            if self.gateways.iter().take(index).any(|other| other.is_ipv4() == gateway.is_ipv4()) {
                return fail("a network has one of a family".into(), "leave one of them out");
            }
            let Some(range) = ranges.iter().find(|range| range.subnet.contains(*gateway)) else {
                return fail(
                    "it is not on the link: no range of the network has it".into(),
                    "the gateway is the bridge's own address, and has to be in the network's range",
                );
            };
            let is_broadcast = range.subnet.broadcast().map(IpAddr::V4) == Some(*gateway);
            if is_broadcast || (range.subnet.address() == *gateway && range.subnet.capacity() > 1) {
                return fail(
                    "no host has the first or the last address of a range".into(),
                    "choose one between the two",
                );
            }
        }
        Ok(())
    }

    /// Checks what [`attach`](Network::attach) would find in its way, before anything is made. It changes nothing.
    ///
    /// # Errors
    /// * [`Invalid`](crate::ErrorKind::Invalid): a part of the network or of `spec` is wrong (a range that is not for
    ///   hosts, an address outside of it, a gateway that is not on the link); or the machine has a route to addresses of
    ///   the range already, and the error names it.
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): a published port is in use on this machine (EADDRINUSE) or
    ///   published by another container; the owner is attached already; an address that was asked for is another's; the
    ///   bridge's name or the table's is taken by somebody else.
    /// * [`Limit`](crate::ErrorKind::Limit): every address of the range is leased.
    pub async fn check(&self, spec: &Attach) -> Result<()> {
        let layout = self.layout()?;
        let checked = spec.checked(&layout)?;
        let state = self.state();
        let leases = state.leases()?;
        for lease in &leases {
            lease.check_wiring(layout.wiring)?;
            for port in &checked.ports {
                lease.check_port(port)?;
            }
        }
        state.check_claim(&layout, &checked)?;
        apart(move || {
            obstacle::check_ports(&layout, &checked)?;
            let host = Host::here()?;
            host.check_tables(&layout)?;
            if host.bridge_of(&layout)?.is_none() && leases.is_empty() {
                obstacle::check_ranges(&host, &layout)?;
            }
            Ok(())
        })
        .await
    }

    /// The names of the network's containers ([`Attach::name`]) as a file in the form of hosts(5), for all of them: it is
    /// rewritten in place when one comes or goes, so whoever has it mounted over `/etc/hosts` sees the change.
    ///
    /// Ask for it after [`attach`](Network::attach), for it goes with the network's last container. Mount it *read-only*:
    /// whoever may write it decides what the others' names mean. Blocks for the lock.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when another process holds the lock; whatever the files give.
    ///
    /// ```no_run
    /// # async fn example(container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
    /// use vethnet::{Attach, HostName, IfName, Network, Subnet};
    ///
    /// let network = Network::new(IfName::new("cellkit0")?, Subnet::default());
    /// let spec = Attach::new("c1").name(HostName::new("db")?);
    /// let attachment = network.attach(&container, &spec, &mut ()).await?;
    /// let hosts = network.hosts_file()?; // a descriptor to bind-mount
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "/etc/hosts")]
    pub fn hosts_file(&self) -> Result<File> {
        self.layout()?;
        let state = self.state();
        state.hosts_file(&state.lock_blocking()?)
    }

    /// What [`attach`](Network::attach) does, a line a system call or message: for a network that is not there yet, and
    /// with the first address of the range. Nothing is looked at.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when a part of the network or of `spec` is wrong.
    pub fn describe(&self, spec: &Attach) -> Result<Vec<StepText>> {
        let layout = self.layout()?;
        let checked = spec.checked(&layout)?;
        let addresses = obstacle::first_addresses(&layout, &checked)?;
        let record = checked.record(self, &layout, addresses);
        let mut steps = plan::network(&layout, Missing::ALL);
        steps.extend(plan::container(&layout, &record, checked.metric));
        Ok(steps.iter().flat_map(Step::describe).collect())
    }
}

#[cfg(test)]
mod tests;
