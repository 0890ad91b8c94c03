//! Container networks over netlink: veth pairs, a bridge, addresses, routes, NAT and published ports, without helper
//! binaries.
//!
//! * [`Network`]: a bridge with a range of addresses. [`Network::attach`] gives a container's network namespace an
//!   interface on it; [`Attachment::detach`] takes it away; [`Network::reconcile`] finds what killed processes left.
//! * [`Nat`]: the same table of address translation and published ports for containers that are wired otherwise.
//! * [`Net`]: a netlink connection bound to one network namespace, usable from any thread.
//! * [`AddressPlan`]: who has which address, for a network of one's own as well; [`Hosts`] and [`ResolvConf`]: the files by
//!   which containers find each other and the world by name.
//! * [`loopback_up`]: all that a container without a network needs, without a runtime.
//!
//! Every part of an attachment is undone when a later part fails, and when the future is dropped; what a SIGKILL leaves
//! is found from a small record that was on the disk before. Everything made carries the owner's or the network's name.
//! Nothing of anybody else's is touched: an interface or a table of our name that we did not make is an error.
//!
//! What it does not do: IPv6 addresses (an IPv4 network for now), reaching published ports on 127.0.0.1 (it would take
//! `route_localnet`, which shows the machine's own local services to its neighbours), a DNS server, DHCP.
//!
//! The interface is asynchronous, for tokio with `enable_all`. There is no background task.
#![deny(unsafe_code)]

mod address_plan;
mod attach;
mod attr;
mod batch;
mod bind;
mod conflict;
mod conntrack;
mod doctor;
mod etc;
mod exchange;
#[cfg(test)]
mod fake_kernel;
mod fdb;
mod fields;
mod forwarding;
mod hint;
mod host_name;
mod hosts;
mod index;
mod ip_address;
mod ip_net;
mod lease;
mod lease_dir;
mod link;
mod lock;
mod loopback;
mod mac;
mod name;
mod nat;
mod neighbour;
mod net;
mod netns;
mod network;
mod nft;
mod obstacle;
mod plan;
mod port;
mod qdisc;
mod record;
mod resolv_conf;
mod route;
mod rule;
mod socket;
mod spec;
mod subnet;
mod sys;
mod sysctl;
mod tables;
mod teardown;
mod tun;
mod work;

pub use address_plan::{AddressPlan, Lease, Wish};
pub use attach::Attachment;
pub use batch::Batch;
pub use cellkit_core::{Error, ErrorKind, Result};
pub use doctor::{Diagnosis, Fault, Finding, doctor};
pub use fdb::{FdbEntry, FdbList, FdbState};
pub use host_name::HostName;
pub use hosts::Hosts;
pub use ip_address::{Address, AddressFlags, Lifetime};
pub use ip_net::IpNet;
pub use link::{
    AddrGenMode, AltName, Bridge, BridgeData, BridgePort, BridgeVlan, Dummy, Ifb, Ipvlan, IpvlanFlow, IpvlanMode, Link,
    LinkChange, LinkData, LinkFlag, LinkRef, LinkSpec, LinkStatistics, Macvlan, MacvlanMode, McastRouter, OperState,
    PortData, PortVlan, TunData, Veth, Vlan, VlanData, VlanProtocol, Vxlan, VxlanData,
};
pub use loopback::loopback_up;
pub use mac::MacAddr;
pub use name::IfName;
pub use nat::Nat;
pub use neighbour::{Neighbour, NeighbourState};
pub use net::Net;
pub use netns::{NamedNetns, Netns, NetnsId};
pub use network::{Network, Wiring};
pub use port::{Protocol, PublishedPort};
pub use qdisc::{
    Class, Discipline, Filter, Handle, Htb, HtbClass, Netem, Parent, Probability, Qdisc, Rate, Tbf, TrafficStatistics,
};
pub use record::Record;
pub use resolv_conf::{Nameserver, ResolvConf};
pub use route::{
    NextHop, Route, RouteFilter, RouteKind, RouteLookup, RoutePreference, RouteProtocol, RouteTable, Scope,
};
pub use rule::{Rule, RuleAction};
pub use spec::Attach;
pub use subnet::Subnet;
pub use tun::{Tun, TunQueue};
