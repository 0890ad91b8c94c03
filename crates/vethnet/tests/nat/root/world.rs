//! A host between the world and containers, all of both families and wired by `ip`; and connections between them.

use std::io::{Error, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub use super::base::{Ns, wait};
use vethnet::{IfName, Nat, PublishedPort, Subnet};

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

pub fn port(text: &str) -> PublishedPort {
    text.parse().expect(text)
}

pub fn name(text: &str) -> IfName {
    text.parse().expect(text)
}

fn subnet(text: &str) -> Subnet {
    text.parse().expect(text)
}

/// The host's addresses, and those of a machine in the world.
pub const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub const WORLD: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// Writes a file of /proc/sys/net, in the network namespace of the calling thread.
pub fn sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{path}"), value).expect(path);
}

/// No waiting until an IPv6 address is known to be free.
fn accept_dad(value: &str) {
    for links in ["all", "default"] {
        sysctl(&format!("ipv6/conf/{links}/accept_dad"), value);
    }
}

/// A network namespace for a container or the world.
pub fn namespace() -> Ns {
    let netns = Ns::new();
    netns.run(|| accept_dad("0"));
    netns
}

/// Makes a pair of links: `here` in the test's namespace, `there` in the other.
fn pair(here: &str, there: &str, other: &Ns) {
    let path = format!("/proc/{}/fd/{}", std::process::id(), other.as_fd().as_raw_fd());
    Ns::host().output("ip", &format!("link add {here} type veth peer name {there} netns {path}"));
    other.output("ip", "link set lo up");
}

/// Waits until the two have found each other: the first question for an IPv6 neighbour is lost where its link has only just
/// come up, and the next one comes a second later.
pub fn settle(from: &Ns, address: IpAddr) {
    for _ in 0..20 {
        if ask(from, address, 1).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
            return;
        }
    }
    panic!("{address} is not reached");
}

/// The world, which has no route to the containers.
pub struct World(pub Ns);

impl World {
    pub fn new() -> Self {
        let world = namespace();
        accept_dad("0");
        pair("up0", "wan0", &world);
        let host = Ns::host();
        for (ns, link, addresses) in [(&host, "up0", HOST), (&world, "wan0", WORLD)] {
            ns.output("ip", &format!("address add {}/24 dev {link}", addresses[0]));
            ns.output("ip", &format!("address add {}/64 dev {link} nodad", addresses[1]));
            ns.output("ip", &format!("link set {link} up"));
        }
        sysctl("ipv4/ip_forward", "1");
        sysctl("ipv6/conf/all/forwarding", "1");
        HOST.map(ip).into_iter().for_each(|address| settle(&world, address));
        WORLD.map(ip).into_iter().for_each(|address| settle(&host, address));
        Self(world)
    }

    pub fn remove(self) {
        let host = Ns::host();
        host.output("ip", "link delete up0");
        sysctl("ipv4/ip_forward", "0");
        sysctl("ipv6/conf/all/forwarding", "0");
        accept_dad("1");
    }
}

/// A bridge with the addresses 10.N.0.1/24 and fd00:N::1/64.
pub struct Bridge {
    number: u8,
}

impl Bridge {
    pub fn new(number: u8) -> Self {
        let (bridge, host) = (Self { number }, Ns::host());
        let br = bridge.name();
        host.output("ip", &format!("link add {br} type bridge mcast_snooping 0"));
        for address in bridge.addresses(1) {
            host.output(
                "ip",
                &format!("address add {address}/{} dev {br} nodad", if address.is_ipv4() { 24 } else { 64 }),
            );
        }
        host.output("ip", &format!("link set {br} up"));
        bridge
    }

    pub fn name(&self) -> IfName {
        name(&format!("br{}", self.number))
    }

    /// The addresses of the host's end (1) or of a container (2 and more).
    pub fn addresses(&self, host: u8) -> [IpAddr; 2] {
        [ip(&format!("10.{}.0.{host}", self.number)), ip(&format!("fd00:{}::{host}", self.number))]
    }

    pub fn nat(&self) -> Nat {
        Nat::new(name(&format!("nat{}", self.number)))
            .bridge(self.name())
            .subnet(subnet(&format!("10.{}.0.0/24", self.number)))
            .subnet(subnet(&format!("fd00:{}::/64", self.number)))
    }

    /// The host's end of a container.
    pub fn port(&self, host: u8) -> IfName {
        name(&format!("v{}-{host}", self.number))
    }

    /// A container of these addresses, its link `eth0`.
    pub fn container(&self, host: u8) -> Ns {
        let netns = namespace();
        let port = self.port(host);
        pair(port.as_str(), "eth0", &netns);
        Ns::host().output("ip", &format!("link set {port} master {} up", self.name()));
        // Where frames on bridges pass nf_tables (br_netfilter), a container reaches itself through the port it came by.
        Ns::host().output("ip", &format!("link set {port} type bridge_slave hairpin on"));
        for address in self.addresses(host) {
            netns.output(
                "ip",
                &format!("address add {address}/{} dev eth0 nodad", if address.is_ipv4() { 24 } else { 64 }),
            );
        }
        netns.output("ip", "link set eth0 up");
        let [four, six] = self.addresses(1);
        netns.output("ip", &format!("route add default via {four}"));
        netns.output("ip", &format!("-6 route add default via {six}"));
        self.addresses(1).into_iter().for_each(|address| settle(&netns, address));
        netns
    }

    pub fn remove(self) {
        // A connection that nobody can end any more keeps a namespace for a while. Its link may also go meanwhile.
        for link in Ns::host().links().iter().filter(|link| link.starts_with(&format!("v{}-", self.number))) {
            let _ = Command::new("ip").args(["link", "delete", link]).output();
        }
        Ns::host().output("ip", &format!("link delete {}", self.name()));
    }
}

/// A server that answers each connection with its own name and the address it sees the client at, until dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn new(ns: &Ns, address: impl Into<IpAddr>, port: u16, name: &'static str) -> Self {
        let address = SocketAddr::new(address.into(), port);
        let listener = ns.run(|| TcpListener::bind(address).expect("bind"));
        listener.set_nonblocking(true).expect("nonblocking");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, peer)) => {
                        let _ = stream.write_all(format!("{name} {}", peer.ip().to_canonical()).as_bytes());
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }

    /// At every address of both families.
    pub fn everywhere(ns: &Ns, port: u16, name: &'static str) -> Self {
        Self::new(ns, Ipv6Addr::UNSPECIFIED, port, name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("server");
        }
    }
}

/// Connects from inside and returns what a [`Server`] said. For what has to work, with the patience that a busy machine
/// needs.
pub fn told(from: &Ns, address: impl Into<IpAddr>, port: u16) -> Result<String, Error> {
    connect(from, SocketAddr::new(address.into(), port), Duration::from_secs(20))
}

/// The same for what may not work: who does not answer soon does not answer.
pub fn ask(from: &Ns, address: impl Into<IpAddr>, port: u16) -> Result<String, Error> {
    connect(from, SocketAddr::new(address.into(), port), Duration::from_millis(500))
}

fn connect(from: &Ns, address: SocketAddr, patience: Duration) -> Result<String, Error> {
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

/// Nobody answers: neither an answer nor a refusal.
pub fn silence(from: &Ns, address: impl Into<IpAddr>, port: u16) {
    let address = address.into();
    let error = ask(from, address, port).expect_err("an answer");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{address} {port}: {error}");
}
