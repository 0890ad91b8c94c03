//! Network namespaces, what `ip` and `bridge` see in them, and packets between them.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;
use vethnet::{IfName, Net};

/// Runs a future to its end on a runtime made for it.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

pub fn name(name: &str) -> IfName {
    IfName::new(name).expect(name)
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// A network namespace.
pub struct Ns(OwnedFd);

impl AsFd for Ns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Ns {
    /// A new one, whose loopback interface is up.
    pub fn new() -> Self {
        let own = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            Self(File::open("/proc/thread-self/ns/net").expect("netns").into())
        };
        let ns = thread::scope(|scope| scope.spawn(own).join().expect("thread"));
        ns.ip("link set lo up");
        ns
    }

    /// Does `work` inside, on a thread that ends.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let work = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("setns");
            work()
        };
        thread::scope(|scope| scope.spawn(work).join().expect("the work inside"))
    }

    /// Does `work` with a connection inside.
    pub fn with_net<T>(&self, work: impl AsyncFnOnce(&Net) -> T) -> T {
        wait(async { work(&Net::inside(self).await.expect("a connection")).await })
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

    /// `ip ...`, for what the test prepares.
    pub fn ip(&self, args: &str) {
        self.output("ip", args);
    }

    /// `ip -j -d ...`
    pub fn ask(&self, args: &str) -> Vec<Value> {
        self.json("ip", &format!("-j -d {args}"))
    }

    pub fn json(&self, program: &str, args: &str) -> Vec<Value> {
        let text = self.output(program, args);
        // An old ip prints nothing where there is nothing.
        let text = if text.trim().is_empty() { "[]" } else { &text };
        let value: Value = serde_json::from_str(text).expect("JSON");
        // It prints `{}` for what its filters leave out.
        value
            .as_array()
            .expect("a list")
            .iter()
            .filter(|item| item.as_object().is_none_or(|o| !o.is_empty()))
            .cloned()
            .collect()
    }

    /// What an interface has as its addresses, as `ip -j address` says.
    pub fn addresses(&self, link: &str) -> Vec<Value> {
        let list = self.ask(&format!("address show dev {link}"));
        list.first().map(|link| link["addr_info"].as_array().expect("addr_info").clone()).unwrap_or_default()
    }

    /// Two interfaces of a veth pair, `here` in this namespace and `there` in that one, both up.
    pub fn wire(&self, here: &str, other: &Self, there: &str) {
        let mut inside = other.run(|| Command::new("sleep").arg("60").spawn().expect("sleep"));
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", inside.id()));
        inside.kill().expect("kill");
        inside.wait().expect("wait");
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{}", name.replace('.', "/"));
        self.run(|| std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    /// Whether `to` answers a ping from inside within two seconds.
    pub fn pings(&self, to: &str) -> bool {
        self.run(|| {
            let args = ["-n", "-c1", "-W2", to];
            Command::new("ping").args(args).stdout(Stdio::null()).status().expect("ping").success()
        })
    }

    /// The events that `ip monitor` sees of `what` while `work` is done inside, one a line.
    pub fn events(&self, what: &str, work: impl FnOnce()) -> Vec<String> {
        let mut monitor: Child = self.run(|| {
            let args = ["-o", "monitor", what];
            Command::new("ip").args(args).stdout(Stdio::piped()).spawn().expect("ip monitor")
        });
        let lines = BufReader::new(monitor.stdout.take().expect("stdout"));
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || {
            for line in lines.lines() {
                let Ok(line) = line else { break };
                let _ = sender.send(line);
            }
        });
        // Something to see of every sort, until it is seen: then it listens.
        let mark = |number: u32| {
            self.ip("link add mark0 type bridge");
            self.ip("link set mark0 up");
            self.ip(&format!("address add 203.0.113.{number}/32 dev mark0"));
            self.ip(&format!("route add 203.0.113.{}/32 dev mark0", number + 100));
            self.ip(&format!("rule add from 203.0.113.{number} lookup 9 pref 9"));
            self.ip(&format!("neighbour add 203.0.113.{number} lladdr 02:00:00:00:00:01 dev mark0 nud permanent"));
            self.ip(&format!("rule delete from 203.0.113.{number} lookup 9 pref 9"));
            self.ip("link delete mark0");
        };
        let is_mark = |line: &String| line.contains("mark0") || line.contains("203.0.113.");
        for _ in 0..50 {
            mark(1);
            if receiver.recv_timeout(Duration::from_millis(100)).is_ok() {
                break;
            }
        }
        work();
        mark(2);
        let mut seen = Vec::new();
        while let Ok(line) = receiver.recv_timeout(Duration::from_secs(2)) {
            if line.contains("203.0.113.2") || line.contains("203.0.113.102") {
                break;
            }
            seen.push(line);
        }
        monitor.kill().expect("kill");
        monitor.wait().expect("wait");
        reader.join().expect("the reader");
        seen.retain(|line| !is_mark(line));
        seen
    }

    /// A UDP socket inside.
    pub fn udp(&self, at: &str) -> UdpSocket {
        let at: SocketAddr = at.parse().expect(at);
        let socket = self.run(|| UdpSocket::bind(at).expect("bind"));
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time limit");
        socket
    }
}
