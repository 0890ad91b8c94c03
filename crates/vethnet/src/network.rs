//! [`Network`] and what is asked of it: [`Attach`].
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result, StepText, Subject};

use crate::address::free_address;
use crate::bind::check_free;
use crate::lease::State;
use crate::link::{self, Link};
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::netns::apart;
use crate::plan::{self, Missing, Step};
use crate::port::PublishedPort;
use crate::record::Record;
use crate::route::{self, Route};
use crate::subnet::Subnet;
use crate::teardown::Host;

const DEFAULT_STATE_DIR: &str = "/run/vethnet";
pub(crate) const MTU: u32 = 1500;

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
    pub(crate) bridge: IfName,
    pub(crate) subnet: Subnet,
    state_dir: PathBuf,
}

impl Network {
    /// The network of this bridge, with addresses from this range.
    pub fn new(bridge: IfName, subnet: Subnet) -> Self {
        Self { bridge, subnet, state_dir: DEFAULT_STATE_DIR.into() }
    }

    /// Where leases and records are kept, and the lock is taken. Default: `/run/vethnet`.
    ///
    /// Networks that share the machine's forwarding switch (`net.ipv4.ip_forward`) have to share the directory, which
    /// remembers whether it has to be turned off again. It is made when it is missing, with mode 0700, and removed when
    /// nothing is in it any more. It is for this alone: other folders in it would be taken for networks.
    pub fn state_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.state_dir = dir.as_ref().to_owned();
        self
    }

    /// The bridge's name.
    #[must_use]
    pub fn bridge(&self) -> &IfName {
        &self.bridge
    }

    /// The range of addresses.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    pub(crate) fn state(&self) -> State {
        State::new(&self.state_dir, &self.bridge)
    }

    /// Whether a bridge and containers can have the range's addresses.
    pub(crate) fn check_range(&self) -> Result<()> {
        let subnet = self.subnet.for_hosts()?;
        if subnet.is_ipv6() {
            return Err(Error::unsupported("network", "a bridge with IPv6 addresses", None)
                .on(Subject::Value(subnet.to_string())));
        }
        if subnet.gateway().is_none() {
            return Err(Error::invalid("network", "a bridge and a container need two addresses, and this is one")
                .on(Subject::Value(subnet.to_string())));
        }
        Ok(())
    }

    /// Checks what [`attach`](Network::attach) would find in its way, before anything is made. It changes nothing.
    ///
    /// # Errors
    /// * [`Invalid`](crate::ErrorKind::Invalid): a part of `spec` is wrong; or the machine has a route to addresses of
    ///   the range already, and the error names it.
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): a published port is in use on this machine (EADDRINUSE) or
    ///   published by another container; the owner is attached already; the bridge's name or the table's is taken by
    ///   somebody else.
    /// * [`Limit`](crate::ErrorKind::Limit): every address of the range is leased.
    pub async fn check(&self, spec: &Attach) -> Result<()> {
        let checked = spec.checked()?;
        self.check_range()?;
        let state = self.state();
        let leases = state.leases()?;
        self.check_leases(&checked, &leases)?;
        free_address(self.subnet, &leases, None)?;
        check_ports(spec, self.subnet)?;
        let bridge = self.bridge.clone();
        let subnet = self.subnet;
        apart(move || {
            let host = Host::here()?;
            host.has_table(&bridge)?;
            let link = host.bridge(&bridge)?;
            check_routes(&host, subnet, link.as_ref())
        })
        .await
    }

    /// Whether the leases of others leave room for this one.
    pub(crate) fn check_leases(&self, checked: &Checked, leases: &[Record]) -> Result<()> {
        for lease in leases {
            if lease.owner == checked.owner {
                return Err(Error::from_errno("attach", libc::EEXIST)
                    .on(Subject::Value(checked.owner.as_str().to_owned()))
                    .with_hint("this owner is attached already: detach it first"));
            }
            if lease.subnet != self.subnet {
                return Err(Error::invalid(
                    "network",
                    format!(
                        "the bridge {} is in use with {}: detach its containers first, or name another bridge",
                        self.bridge, lease.subnet
                    ),
                )
                .on(Subject::Value(self.subnet.to_string())));
            }
            for port in &checked.ports {
                if lease.ports.iter().any(|other| other.collides(port)) {
                    return Err(Error::from_errno("publish", libc::EADDRINUSE)
                        .on(Subject::Value(port.to_string()))
                        .with_hint(format!("{:?} publishes this port already: choose another", lease.owner())));
                }
            }
        }
        Ok(())
    }

    /// What [`attach`](Network::attach) does, a line a system call or message: for a network that is not there yet, and
    /// with the first address of the range. Nothing is looked at.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when a part of `spec` is wrong.
    pub fn describe(&self, spec: &Attach) -> Result<Vec<StepText>> {
        let checked = spec.checked()?;
        self.check_range()?;
        let address = free_address(self.subnet, &[], None)?;
        let record = checked.record(self, address);
        let mut steps = plan::network(&self.bridge, self.subnet, MTU, Missing::ALL);
        steps.extend(plan::container(&record, MTU));
        Ok(steps.iter().flat_map(Step::describe).collect())
    }
}

/// A container to be attached: whose it is, and how.
///
/// Setters collect and never fail; [`Network::attach`] and [`Network::check`] check all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Attach {
    owner: String,
    ifname: Option<IfName>,
    mac: Option<MacAddr>,
    ports: Vec<PublishedPort>,
}

impl Attach {
    /// For this owner: 1 to 128 letters, digits and `_`, `-`, `.`, `+`, beginning with a letter, a digit or `_`. One owner
    /// is attached at most once to a network.
    pub fn new(owner: impl Into<String>) -> Self {
        Self { owner: owner.into(), ifname: None, mac: None, ports: Vec::new() }
    }

    /// The interface's name in the container. Default: `eth0`.
    pub fn ifname(mut self, name: IfName) -> Self {
        self.ifname = Some(name);
        self
    }

    /// The interface's hardware address in the container. Default: one that follows from its address.
    pub fn mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }

    /// Leads a port of the host to the container. May be called again.
    pub fn publish(mut self, port: PublishedPort) -> Self {
        self.ports.push(port);
        self
    }

    pub(crate) fn checked(&self) -> Result<Checked> {
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
        Ok(Checked { owner, ifname, mac: self.mac, ports: self.ports.clone() })
    }
}

/// An [`Attach`] in which nothing is wrong.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) owner: Owner,
    ifname: IfName,
    mac: Option<MacAddr>,
    ports: Vec<PublishedPort>,
}

impl Checked {
    pub(crate) fn record(&self, network: &Network, address: Ipv4Addr) -> Record {
        let owner = self.owner.clone();
        Record::new(owner, &network.bridge, network.subnet, address, &self.ifname, self.mac, &self.ports)
    }
}

/// Refuses a range that the machine has a route to, but by the network's own bridge. Blocks.
pub(crate) fn check_routes(host: &Host, subnet: Subnet, bridge: Option<&Link>) -> Result<()> {
    for body in host.list(route::list())? {
        let Some(route) = Route::parse(&body)? else { continue };
        let by_bridge = bridge.is_some_and(|link| route.index == Some(link.index));
        if by_bridge || !subnet.overlaps(&Subnet::around(route.destination.into(), route.prefix.min(32))) {
            continue;
        }
        let mut by = String::new();
        for body in host.list(link::list())? {
            let link = Link::parse(&body)?;
            if Some(link.index) == route.index {
                by = format!(" by {}", link.name);
            }
        }
        let why = format!(
            "this machine has a route to {}/{}{by}, whose addresses are in it",
            route.destination, route.prefix
        );
        return Err(Error::invalid("network", why)
            .on(Subject::Value(subnet.to_string()))
            .with_hint("give the network a range that nothing else uses: see ip route"));
    }
    Ok(())
}

/// Refuses a port that a program of this machine uses: what was published would be taken from it.
pub(crate) fn check_ports(spec: &Attach, subnet: Subnet) -> Result<()> {
    let container: Vec<_> = subnet.gateway().into_iter().collect();
    spec.ports.iter().try_for_each(|port| check_free(port, &container))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::new(IfName::new("cellkit0").unwrap(), Subnet::default())
    }

    #[test]
    fn a_plan_is_described_without_a_look_at_the_machine() {
        let spec = Attach::new("web").publish("192.0.2.1:8080:80".parse().unwrap());
        let lines: Vec<_> = network().describe(&spec).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines.first().unwrap(),
            r#"RTM_NEWLINK("cellkit0", type bridge, address 02:63:55:63:34:c0, mtu 1500)"#
        );
        assert_eq!(lines.last().unwrap(), "NFT_MSG_NEWSETELEM(inet cellkit0, 192.0.2.1:8080:80/tcp to 10.209.0.2)");
        let host = IfName::of_owner(network().bridge(), &Owner::new("web").unwrap());
        for part in [
            "write net.ipv4.ip_forward(\"1\")",
            "write net.ipv6.conf.eth0.accept_ra(\"0\")",
            &format!("write net.ipv6.conf.{host}.accept_ra(\"0\")"),
            &format!("write net.ipv6.conf.{host}.autoconf(\"0\")"),
            "RTM_NEWROUTE(default via 10.209.0.1 dev eth0)",
            "RTM_NEWADDR(\"eth0\", 10.209.0.2/22)",
        ] {
            assert!(lines.iter().any(|line| line == part), "{part} in {lines:#?}");
        }
    }

    #[test]
    fn futures_can_be_spawned() {
        fn is_send(_: impl Send) {}
        let (network, spec) = (network(), Attach::new("web"));
        is_send(network.attach(std::io::stdin(), &spec, &mut ()));
        is_send(network.check(&spec));
        is_send(network.detach("web"));
        is_send(network.reconcile(|_| true));
        is_send(crate::Net::here());
    }

    #[test]
    fn without_a_runtime_it_is_an_error_not_a_panic() {
        let mut here = std::pin::pin!(crate::Net::here());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Err(error)) = here.as_mut().poll(&mut context) else { panic!("no error") };
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert!(error.hint().unwrap().contains("enable_all"));
    }
}
