//! Container networks over netlink: one call wires a container, one call unwires it, and whatever happens in between
//! leaves nothing that [`Network::reconcile`] does not find. No helper programs.
//!
//! ```no_run
//! use std::process::Command;
//!
//! use vethnet::{Attach, Netns, Network};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//!     runtime.block_on(async {
//!         let container = Netns::new()?; // or that of a process: Netns::of_path("/proc/4711/ns/net")
//!         let network = Network::new("web0".parse()?, "10.209.0.0/24".parse()?).subnet("fd00:209::/64".parse()?);
//!         network.reconcile(|owner| owner != "shop").await?; // what an earlier run left that was killed
//!         let spec = Attach::new("shop").publish("8080:80".parse()?);
//!         let attachment = network.attach(&container, &spec, &mut ()).await?; // (): nobody is told of each step
//!         println!("port 8080 of this machine is port 80 of {}", attachment.address());
//!         let ended = container.run(|| Command::new("timeout").args(["60", "python3", "-m", "http.server", "80"]).status())?;
//!         attachment.detach().await?; // or, in any later process: network.detach("shop")
//!         println!("{}", ended?);
//!         Ok(())
//!     })
//! }
//! ```
//!
//! It takes root and `cargo add vethnet tokio --features tokio/rt`. To try it where nothing of the machine can be touched:
//! `sudo unshare -mn sh -c 'mount -t tmpfs run /run && ip link set lo up && target/debug/demo'`.
//!
//! The same by single requests: a network for a test, of two hosts with a router between them.
//!
//! ```no_run
//! use vethnet::{IfName, IpNet, LinkChange, Net, Netns, Result, Route, Veth};
//!
//! async fn routed() -> Result<(Netns, Netns, Netns)> {
//!     let (a, router, b) = (Netns::new()?, Netns::new()?, Netns::new()?);
//!     let eth0 = IfName::new("eth0")?;
//!     let net = Net::inside(&router).await?;
//!     for (port, host, gateway, address) in
//!         [("to-a", &a, "10.1.0.1/24", "10.1.0.2/24"), ("to-b", &b, "10.2.0.1/24", "10.2.0.2/24")]
//!     {
//!         let (gateway, address): (IpNet, IpNet) = (gateway.parse()?, address.parse()?);
//!         let link = net.create_link(&Veth::new(port.parse()?, eth0.clone()).up().peer_netns(host)).await?;
//!         net.add_address(&link, gateway).await?;
//!         let inside = Net::inside(host).await?;
//!         inside.add_address(&eth0, address).await?;
//!         inside.change_link(&eth0, &LinkChange::new().up()).await?;
//!         inside.add_route(Route::default_v4().via(gateway.address())).await?;
//!     }
//!     // What is under /proc/sys/net is that of the thread that opens it.
//!     router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?.expect("forwarding");
//!     Ok((a, router, b)) // a.run(|| Command::new("ping").args(["-c1", "10.2.0.2"]).status())
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
//! How it speaks: `create` and `add` fail where there is such a thing already, `ensure` makes it so, `replace` and `set` put
//! it in the place of what is there, `change` wants it to be there; `remove_…` says whether there was one, or that there was
//! none. Names are checked once, `IfName::new("eth0")?` or `"eth0".parse()?`, and a [`Link`] that was made or read goes wherever
//! a name does. Setters of specs collect; the verb checks, before anything is done.
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
mod settle;
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
