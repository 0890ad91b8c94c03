//! Attaching containers and talking netlink, timed from inside: the worker of `cargo xtask bench net`.
//!
//! `net STATE bridge|routed` keeps its leases in the directory STATE, works in the network namespace it was started in, and
//! answers one line for each line it reads, in nanoseconds:
//!
//! | request | answer |
//! |---|---|
//! | `attach I` | an interface, an address, a default route and a published port for the namespace at /run/netns/cI |
//! | `detach I` | takes them away |
//! | `list` | opens a connection and reads all links |
//! | `list-open` | the same on a connection that is open |
//! | `veth` | makes a pair and removes it |
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use vethnet::{Attach, IfName, Net, Network, PublishedPort, Subnet, Veth};

const NAME: &str = "cellkit0";
const SUBNET: &str = "10.77.0.0/16";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [state, wiring @ ("bridge" | "routed")] = arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>()[..]
    else {
        println!("This is the worker of `cargo xtask bench net`.");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut worker = runtime.block_on(Worker::new(Path::new(state), wiring));
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a request");
        let answer = runtime.block_on(worker.answer(&line));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("an answer");
    }
}

struct Worker {
    network: Network,
    net: Net,
}

impl Worker {
    async fn new(state: &Path, wiring: &str) -> Self {
        let subnet: Subnet = SUBNET.parse().expect("a range");
        let new = if wiring == "routed" { Network::routed } else { Network::new };
        let network = new(IfName::new(NAME).expect("a name"), subnet).state_dir(state);
        Self { network, net: Net::here().await.expect("a connection") }
    }

    async fn answer(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let begun = Instant::now();
        match words.as_slice() {
            ["attach", which] => self.attach(number(which)).await,
            ["detach", which] => {
                let there = self.network.detach(&owner(number(which))).await;
                assert!(there.expect("detach"), "{line}: there was none");
            }
            ["list"] => {
                let net = Net::here().await.expect("a connection");
                std::hint::black_box(net.links().await.expect("links"));
            }
            ["list-open"] => drop(std::hint::black_box(self.net.links().await.expect("links"))),
            ["veth"] => {
                let [one, other] = ["ours0", "ours1"].map(|name| IfName::new(name).expect("a name"));
                let link = self.net.create_link(&Veth::new(one, other)).await.expect("a pair");
                self.net.remove_link(&link).await.expect("its removal");
            }
            _ => panic!("what is {line:?}?"),
        }
        begun.elapsed().as_nanos().to_string()
    }

    async fn attach(&self, which: usize) {
        let port: PublishedPort = format!("{}:80", 20_000 + which).parse().expect("a port");
        let spec = Attach::new(owner(which)).publish(port);
        let netns = File::open(format!("/run/netns/c{which}")).expect("a namespace");
        let _ = self.network.attach(&netns, &spec, &mut ()).await.expect("attach");
    }
}

fn owner(which: usize) -> String {
    format!("c{which}")
}
