//! Container networks over netlink: one call wires a container, one call unwires it, and whatever happens in between
//! leaves nothing that [`Network::reconcile`] does not find. No helper programs.
//!
//! ```no_run
//! use vethnet::{Attach, Netns, Network};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//!     runtime.block_on(async {
//!         let container = Netns::of_path("/proc/4711/ns/net")?;
//!         let network = Network::new("web0".parse()?, "10.209.0.0/24".parse()?).subnet("fd00:209::/64".parse()?);
//!         let spec = Attach::new("shop").publish("8080:80".parse()?);
//!         let attachment = network.attach(&container, &spec, &mut ()).await?;
//!         println!("port 8080 of this machine is port 80 of {}", attachment.address());
//!         // … the container runs …
//!         attachment.detach().await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | a container's network, whole | [`Network`], [`Attach`], [`Attachment`], [`Record`] |
//! | network namespaces | [`Netns`]: new, named as `ip netns` names them, of a process, of a path |
//! | single requests in one of them | [`Net`], [`Batch`]; [`loopback_up`] without a runtime |
//! | links | [`Bridge`], [`Veth`], [`Vlan`], [`Macvlan`], [`Ipvlan`], [`Vxlan`], [`Dummy`], [`Tun`]; [`Link`], [`LinkChange`] |
//! | addresses and where packets go | [`Address`], [`Route`], [`Rule`], [`Neighbour`], [`FdbEntry`] |
//! | traffic | [`Qdisc`], [`Tbf`], [`Htb`], [`Netem`], [`Filter`], [`Rate`] |
//! | address translation and published ports | [`Nat`], [`PublishedPort`] |
//! | who has which address | [`AddressPlan`], [`Subnet`], [`IpNet`] |
//! | names | [`Hosts`], [`AddressPlan::hosts_file`], [`ResolvConf`] |
//! | why traffic does not pass | [`doctor()`] |
//!
//! # What it promises
//! * Everything is checked before anything is made. Every part of an attachment is undone when a later part fails, and
//!   when the future is dropped; what a SIGKILL leaves is found from a small record that was on the disk before.
//! * What it makes carries the owner's or the network's name. Nothing of anybody else's is touched: an interface or a
//!   table of our name that we did not make is an error.
//! * An error says which request failed, on what, with the kernel's own text, and what to look at. A list is complete or
//!   an error.
//! * There is no background task: a request is sent and answered within its call. The interface is asynchronous, for
//!   tokio with `enable_all`.
//!
//! What it does not do: DHCP, a name server, firewalls of its own beyond the networks it makes.
//!
//! Kernel: 5.15, with bridge, veth and nf_tables. Privileges: CAP_NET_ADMIN and CAP_SYS_ADMIN over the network namespaces.
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
mod events;
mod exchange;
#[cfg(test)]
mod fake_kernel;
mod fdb;
mod fields;
mod forwarding;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod host_name;
mod hosts;
mod index;
mod ip_address;
mod ip_net;
mod lease;
mod lease_dir;
mod limit;
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
pub use events::{Change, Event, Events, Monitor};
pub use fdb::{FdbEntry, FdbList, FdbState};
pub use host_name::HostName;
pub use hosts::Hosts;
pub use ip_address::{Address, AddressFlags, Lifetime};
pub use ip_net::IpNet;
pub use limit::Limits;
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
