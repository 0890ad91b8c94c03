//! What is told, beside what `ip monitor` and lists of `ip` say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use vethnet::{Change, ErrorKind, Event, Events, Monitor, Net, Netns};

use super::world::{Ns, wait};

/// What a reader knows who puts all events together. Each event has to fit what was told before.
#[derive(Debug, Default)]
struct Seen {
    links: BTreeMap<u32, String>,
    addresses: BTreeSet<String>,
    routes: Vec<String>,
    overruns: usize,
}

impl Seen {
    fn take(&mut self, event: Event) {
        match event {
            Event::Link(Change::New(link)) => assert_eq!(self.links.insert(link.index, link.name), None),
            Event::Link(Change::Gone(link)) => assert_eq!(self.links.remove(&link.index), Some(link.name)),
            Event::Link(Change::Changed { before, now }) => {
                assert_eq!(before.index, now.index);
                assert_eq!(self.links.insert(now.index, now.name), Some(before.name));
            }
            Event::Address(change) => {
                let text =
                    |address: &vethnet::Address| format!("{} {}", address.index.expect("index"), address.address);
                match change {
                    Change::New(now) => assert!(self.addresses.insert(text(&now)), "{now:?}"),
                    Change::Gone(before) => assert!(self.addresses.remove(&text(&before)), "{before:?}"),
                    Change::Changed { .. } => {}
                }
            }
            Event::Route(change) => {
                let before = change.before().map(ToString::to_string);
                if let Some(before) = before {
                    let at = self.routes.iter().position(|route| *route == before).expect("it was told of");
                    self.routes.remove(at);
                }
                self.routes.extend(change.now().map(ToString::to_string));
            }
            Event::Overrun => self.overruns += 1,
            _ => {}
        }
    }

    /// Takes in what there is, until nothing comes any more.
    async fn follow(&mut self, events: &mut Events) {
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(200), events.next()).await {
            self.take(event.expect("an event"));
        }
    }

    fn assert_links(&self, host: &Ns) {
        let links = host.ip("link");
        let there: BTreeMap<u32, String> = links
            .as_array()
            .expect("links")
            .iter()
            .map(|link| {
                (link["ifindex"].as_u64().expect("index") as u32, link["ifname"].as_str().expect("name").to_owned())
            })
            .collect();
        assert_eq!(self.links, there);
    }

    fn assert_addresses(&self, host: &Ns) {
        let links = host.ip("address");
        let mut there = BTreeSet::new();
        for link in links.as_array().expect("links") {
            for address in link["addr_info"].as_array().expect("addresses") {
                there.insert(format!(
                    "{} {}/{}",
                    link["ifindex"],
                    address["local"].as_str().expect("address"),
                    address["prefixlen"]
                ));
            }
        }
        assert_eq!(self.addresses, there);
    }

    fn assert_routes(&self, host: &Ns) {
        let count = |family: &str| {
            let text = host.output("ip", &format!("{family} route show table all"));
            // A line that is indented is a hop of the one above.
            text.lines().filter(|line| !line.starts_with(char::is_whitespace)).count()
        };
        let v4 = self.routes.iter().filter(|route| !route.contains(':')).count();
        assert_eq!(v4, count("-4"), "{:#?}", self.routes);
    }
}

fn batch(lines: &str) {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    ip.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("write");
    assert!(ip.wait().expect("wait").success());
}

async fn until(events: &mut Events, seen: &mut Seen, mut wanted: impl FnMut(&Event) -> bool) {
    loop {
        let event =
            tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("in time").expect("event");
        let found = wanted(&event);
        seen.take(event);
        if found {
            return;
        }
    }
}

#[test]
fn first_what_there_is_then_what_changes() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add va type veth peer name vb");
        // The kernel tells of an IPv6 address when nobody else was found to have it, a second later.
        host.output("ip", "link set va addrgenmode none");
        host.output("ip", "link set vb addrgenmode none");
        wait(async {
            let mut seen = Seen::default();
            let mut events = Monitor::new().links().addresses().routes().neighbours().here().await.expect("events");
            until(&mut events, &mut seen, |event| *event == Event::Listed).await;
            assert_eq!(seen.links.values().collect::<Vec<_>>(), ["lo", "vb", "va"]);
            host.output("ip", "link set va up");
            host.output("ip", "link set vb up");
            until(&mut events, &mut seen, |event| {
                matches!(event, Event::Link(Change::Changed { before, now }) if now.name == "va" && !before.is_up && now.is_up)
            })
            .await;
            host.output("ip", "address add 10.1.0.1/24 dev va");
            until(
                &mut events,
                &mut seen,
                |event| matches!(event, Event::Address(Change::New(new)) if new.address.to_string() == "10.1.0.1/24"),
            )
            .await;
            host.output("ip", "neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev va");
            until(
                &mut events,
                &mut seen,
                |event| matches!(event, Event::Neighbour(Change::New(new)) if new.address.to_string() == "10.1.0.9"),
            )
            .await;
            host.output("ip", "neigh change 10.1.0.9 lladdr 02:00:00:00:00:08 dev va");
            until(&mut events, &mut seen, |event| matches!(event, Event::Neighbour(Change::Changed { .. }))).await;
            for line in [
                "route add 10.2.0.0/16 via 10.1.0.2",
                "route append 10.2.0.0/16 via 10.1.0.3",
                "route replace 10.3.0.0/16 via 10.1.0.2",
                "route replace 10.3.0.0/16 via 10.1.0.3",
                "route add 10.4.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3",
                "route delete 10.2.0.0/16 via 10.1.0.2",
                "route add blackhole 10.5.0.0/16 metric 5",
                "address add 10.9.0.1/24 dev va",
                "route add 10.6.0.0/16 via 10.1.0.2 table 77",
                // All that goes with it is not told of.
                "address delete 10.9.0.1/24 dev va",
                // One that is up is renamed since Linux 6.2.
                "link set va down",
                "link set va name c",
                "link set c up",
            ] {
                host.output("ip", line);
                seen.follow(&mut events).await;
                seen.assert_links(&host);
                seen.assert_addresses(&host);
                seen.assert_routes(&host);
            }
            // Another namespace is another matter, and a moved link is gone.
            let other = Netns::new().expect("new");
            let mut there = Monitor::new().links().inside(&other).await.expect("events");
            let mut seen_there = Seen::default();
            until(&mut there, &mut seen_there, |event| *event == Event::Listed).await;
            let mut sleep = other.run(|| Command::new("sleep").arg("100").spawn().expect("sleep")).expect("run");
            host.output("ip", &format!("link set vb netns {}", sleep.id()));
            until(
                &mut events,
                &mut seen,
                |event| matches!(event, Event::Link(Change::Gone(link)) if link.name == "vb"),
            )
            .await;
            until(
                &mut there,
                &mut seen_there,
                |event| matches!(event, Event::Link(Change::New(link)) if link.name == "vb"),
            )
            .await;
            sleep.kill().expect("kill");
            sleep.wait().expect("wait");
            host.output("ip", "link delete c");
            host.output("ip", "route delete blackhole 10.5.0.0/16 metric 5");
            seen.follow(&mut events).await;
            seen.assert_links(&host);
            assert_eq!(seen.overruns, 0);
        });
    });
}

#[test]
fn ports_of_a_bridge_are_no_links_of_their_own() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let mut seen = Seen::default();
            let net = Net::here().await.expect("net");
            let mut events = net.events(Monitor::new().links()).await.expect("events");
            for line in [
                "link add br0 type bridge",
                "link add va type veth peer name vb",
                "link set va master br0",
                "link set va type bridge_slave hairpin on",
                "link set va nomaster",
            ] {
                host.output("ip", line);
                seen.follow(&mut events).await;
                seen.assert_links(&host);
            }
            for line in ["link delete va", "link delete br0"] {
                host.output("ip", line);
            }
            seen.follow(&mut events).await;
            assert_eq!(seen.links.len(), 1);
        });
    });
}

/// More than the kernel keeps, while nobody reads: an overrun is told, and in the end the reader knows what there is.
#[test]
fn a_flood_loses_no_change() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let mut seen = Seen::default();
            let monitor = Monitor::new().links().addresses().routes().receive_buffer(4096);
            let mut events = monitor.here().await.expect("events");
            until(&mut events, &mut seen, |event| *event == Event::Listed).await;
            for round in 0..4 {
                let mut lines = String::new();
                for at in 0..20 {
                    lines += &format!("link add a{at} type veth peer name b{at}\nlink set a{at} up\n");
                    lines += &format!("address add 10.{round}.{at}.1/24 dev a{at}\n");
                }
                batch(&lines);
                // Some of what is told is read in between.
                for _ in 0..5 {
                    if let Ok(event) = tokio::time::timeout(Duration::from_millis(5), events.next()).await {
                        seen.take(event.expect("event"));
                    }
                }
                batch(&(0..20).map(|at| format!("link delete a{at}\n")).collect::<String>());
                if round % 2 == 1 {
                    batch(
                        "link add same type veth peer name other\naddress add 10.9.0.1/24 dev same\nlink set same up\n",
                    );
                }
                seen.follow(&mut events).await;
                seen.assert_links(&host);
                seen.assert_addresses(&host);
                seen.assert_routes(&host);
                if round % 2 == 1 {
                    host.output("ip", "link delete same");
                }
            }
            assert!(seen.overruns > 0);
            seen.follow(&mut events).await;
            assert_eq!(seen.links.len(), 1);
        });
    });
}

#[test]
fn every_future_may_be_dropped() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let mut seen = Seen::default();
            let mut events = Monitor::new().links().here().await.expect("events");
            for at in 0..20 {
                host.output("ip", &format!("link add a{at} type veth peer name b{at}"));
                for micros in [0, 1, 20, 200] {
                    let next = tokio::time::timeout(Duration::from_micros(micros), events.next());
                    if let Ok(event) = next.await {
                        seen.take(event.expect("event"));
                    }
                }
            }
            seen.follow(&mut events).await;
            seen.assert_links(&host);
            batch(&(0..20).map(|at| format!("link delete a{at}\n")).collect::<String>());
        });
    });
}

#[test]
fn nothing_to_watch_is_refused() {
    faultkit::require!(root);
    wait(async {
        let error = Monitor::new().here().await.expect_err("nothing");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.hint().expect("hint").contains("links()"));
    });
}
