//! The world of a test: network namespaces, what other programs see in them, and connections between them.

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;
use vethnet::{IfName, Network, Subnet};

pub const SUBNET: &str = "10.209.0.0/22";

/// Runs a future to its end on a runtime made for it.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// A folder for the state of a network. Leaving it empty is part of every test.
pub struct StateDir(faultkit::TempDir);

impl StateDir {
    pub fn new() -> Self {
        Self(faultkit::TempDir::new())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("net")
    }

    pub fn network(&self) -> Network {
        network("cellkit0", SUBNET, &self.path())
    }

    /// A plain network, and one of each wiring, of both families and with all that a network can have.
    pub fn networks(&self) -> [Network; 3] {
        networks(&self.path())
    }

    /// It and what is in it, as paths. After the last container, nothing.
    pub fn files(&self) -> Vec<String> {
        let output = Command::new("find").arg(self.0.path()).args(["-mindepth", "1"]).output().expect("find");
        let mut files: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        files.sort();
        files
    }
}

/// See [`StateDir::networks`].
pub fn networks(dir: &Path) -> [Network; 3] {
    let plain = network("cellkit0", SUBNET, dir);
    let all = |network: Network| network.subnet("fd09::/64".parse().expect("range")).guard().isolated().localhost();
    let routed = Network::routed("pods".parse().expect("name"), "10.40.0.0/16".parse().expect("range"));
    [plain.clone(), all(plain), all(routed.state_dir(dir))]
}

pub fn network(bridge: &str, subnet: &str, dir: &Path) -> Network {
    let subnet: Subnet = subnet.parse().expect("subnet");
    Network::new(IfName::new(bridge).expect("name"), subnet).state_dir(dir)
}

/// A network namespace.
pub struct Ns(OwnedFd);

impl AsFd for Ns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Ns {
    /// A new one, with nothing but a loopback interface that is down.
    pub fn new() -> Self {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
                    Self(File::open("/proc/thread-self/ns/net").expect("netns").into())
                })
                .join()
                .expect("thread")
        })
    }

    /// That of the test: the host.
    pub fn host() -> Self {
        Self(File::open("/proc/thread-self/ns/net").expect("netns").into())
    }

    /// Does `work` inside, on a thread that ends.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.0, CloneFlags::CLONE_NEWNET).expect("setns");
                    work()
                })
                .join()
                .expect("the work inside")
        })
    }

    /// What a program prints inside. It has to succeed.
    pub fn output(&self, program: &str, args: &str) -> String {
        self.run(|| {
            let output = Command::new(program).args(args.split_whitespace()).output().expect(program);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {args}: {error}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// `ip -j ...`
    pub fn ip(&self, args: &str) -> Value {
        serde_json::from_str(&self.output("ip", &format!("-j -d {args}"))).expect("ip -j")
    }

    /// `nft -j list ruleset`, without the line about nft itself and without handles.
    pub fn ruleset(&self) -> Vec<Value> {
        let text = self.output("nft", "-j list ruleset");
        let all: Value = serde_json::from_str(&text).expect("nft -j");
        let mut list = all["nftables"].as_array().expect("a list").clone();
        list.retain(|item| item.get("metainfo").is_none());
        list
    }

    /// The names of all links.
    pub fn links(&self) -> Vec<String> {
        let links = self.ip("link");
        links.as_array().expect("links").iter().map(|link| link["ifname"].as_str().expect("name").to_owned()).collect()
    }

    /// A server that answers each connection with the address it sees the client at, until dropped.
    pub fn serve(&self, port: u16) -> Server {
        let listener = self.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("bind"));
        listener.set_nonblocking(true).expect("nonblocking");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, peer)) => {
                        let _ = stream.write_all(peer.ip().to_canonical().to_string().as_bytes());
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Server { stop, thread: Some(thread) }
    }

    /// Connects from inside and returns what a [`serve`](Ns::serve) said: the address this side was seen at. For what has
    /// to work, with the patience that a busy machine needs.
    pub fn reaches(&self, address: impl Into<IpAddr>, port: u16) -> Result<IpAddr, std::io::Error> {
        self.ask(SocketAddr::new(address.into(), port), Duration::from_secs(20))
    }

    /// The same for what may not work: who does not answer soon does not answer.
    pub fn seen_at(&self, address: impl Into<IpAddr>, port: u16) -> Result<IpAddr, std::io::Error> {
        self.ask(SocketAddr::new(address.into(), port), Duration::from_millis(800))
    }

    fn ask(&self, address: SocketAddr, patience: Duration) -> Result<IpAddr, std::io::Error> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text.parse().expect("an address"))
        })
    }
}

pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("server");
        }
    }
}

/// The world beyond the host: a namespace with 192.0.2.2, wired to the host's `up0` with 192.0.2.1. It has no route back
/// to the containers, as the world has none.
pub struct Uplink(pub Ns);

pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const WORLD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

impl Uplink {
    pub fn new() -> Self {
        let host = Ns::host();
        host.output("ip", "link add up0 type veth peer name wan0");
        let world = Ns::new();
        // `ip link set netns` wants a pid or a name: a process that waits inside is one.
        let mut inside = world.run(|| Command::new("sleep").arg("60").spawn().expect("sleep"));
        host.output("ip", &format!("link set wan0 netns {}", inside.id()));
        inside.kill().expect("kill");
        inside.wait().expect("wait");
        host.output("ip", "address add 192.0.2.1/24 dev up0");
        host.output("ip", "link set up0 up");
        world.output("ip", "address add 192.0.2.2/24 dev wan0");
        world.output("ip", "link set wan0 up");
        world.output("ip", "link set lo up");
        Self(world)
    }

    pub fn remove(self) {
        Ns::host().output("ip", "link delete up0");
    }
}

pub fn forwarding() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("ip_forward").trim().to_owned()
}
