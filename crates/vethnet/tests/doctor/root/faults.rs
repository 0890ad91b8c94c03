//! Every fault that can be made in network namespaces.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use vethnet::{Attach, Attachment, Diagnosis, Fault, Network, doctor};

use super::world::{Ns, StateDir, Uplink, WORLD, wait};

/// A host with a way to the world, and a container that reaches it.
struct Working {
    state: StateDir,
    network: Network,
    host: Ns,
    container: Ns,
    attachment: Attachment,
    uplink: Uplink,
}

impl Working {
    fn new(spec: Attach) -> Self {
        let (state, host, container, uplink) = (StateDir::new(), Ns::host(), Ns::new(), Uplink::new());
        host.output("ip", "route add default via 192.0.2.2");
        let network = state.network();
        let attachment = wait(network.attach(&container, &spec, &mut ())).expect("attach");
        let working = Self { state, network, host, container, attachment, uplink };
        let _server = working.uplink.0.serve(82);
        // The kernel takes up to a second until an interface whose other end came up sends.
        let works = (0..6).any(|_| working.container.seen_at(WORLD, 82).is_ok());
        assert!(works, "{}", wait(doctor(&working.container)).expect("doctor"));
        working
    }

    fn host_end(&self) -> String {
        self.attachment.record().host_ifname().to_string()
    }

    #[track_caller]
    fn is_healthy(&self) {
        let diagnosis = wait(doctor(&self.container)).expect("doctor");
        assert!(diagnosis.is_healthy(), "{diagnosis}");
    }

    /// What the doctor says of this fault, which has to be among what it finds.
    #[track_caller]
    fn finds(&self, fault: Fault) -> String {
        sentence(&wait(doctor(&self.container)).expect("doctor"), fault)
    }

    fn remove(self) {
        wait(self.attachment.detach()).expect("detach");
        assert_eq!(self.state.files(), [""; 0]);
        self.uplink.remove();
    }
}

#[track_caller]
fn sentence(diagnosis: &Diagnosis, fault: Fault) -> String {
    let found = diagnosis.findings().iter().find(|finding| finding.fault() == fault);
    let finding = found.unwrap_or_else(|| panic!("no {fault:?}, but: {diagnosis}"));
    println!("{finding}");
    finding.to_string()
}

/// Runs `ip` with the words, in the host's or the container's namespace.
fn ip(ns: &Ns, commands: &[&str]) {
    for command in commands {
        ns.output("ip", command);
    }
}

fn set(ns: &Ns, path: &str, value: &str) {
    ns.run(|| std::fs::write(format!("/proc/sys/{path}"), value).unwrap_or_else(|error| panic!("{path}: {error}")));
}

#[test]
fn interfaces_and_addresses() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        let working = Working::new(Attach::new("a"));
        working.is_healthy();
        let (host, container, host_end) = (&working.host, &working.container, working.host_end());
        let route = "route add default via 10.209.0.1 dev eth0";

        ip(container, &["link set eth0 down"]);
        assert!(working.finds(Fault::LinkDown).starts_with(r#"interface "eth0" of the container is down: "#));
        ip(container, &["link set eth0 up", route]);
        working.is_healthy();

        for name in [host_end.as_str(), "cellkit0"] {
            ip(host, &[&format!("link set {name} down")]);
            assert!(working.finds(Fault::LinkDown).contains(&format!(r#"{name:?} of the host is down: ip link set"#)));
            ip(host, &[&format!("link set {name} up")]);
        }
        working.is_healthy();

        ip(host, &[&format!("link set {host_end} nomaster")]);
        assert!(working.finds(Fault::NotConnected).contains(&host_end));
        ip(host, &[&format!("link set {host_end} master cellkit0")]);
        working.is_healthy();

        ip(container, &["address flush dev eth0"]);
        assert!(working.finds(Fault::NoAddress).contains(r#""eth0" of the container has no address"#));
        ip(container, &["address add 10.209.0.2/22 broadcast 10.209.3.255 dev eth0"]);
        assert!(working.finds(Fault::NoDefaultRoute).contains("no default route for IPv4"));
        ip(container, &[route]);
        working.is_healthy();

        ip(host, &["address delete 10.209.0.1/22 dev cellkit0"]);
        assert!(working.finds(Fault::NoGateway).contains("nobody on this machine has 10.209.0.1"));
        ip(host, &["address add 10.209.0.1/22 dev cellkit0"]);
        working.is_healthy();

        ip(host, &["link set cellkit0 arp off"]);
        ip(container, &["neighbour flush all"]);
        container.seen_at(WORLD, 82).expect_err("nobody answers");
        assert!(working.finds(Fault::GatewayDoesNotAnswer).contains("10.209.0.1 does not answer"));
        ip(host, &["link set cellkit0 arp on"]);
        ip(container, &["neighbour flush all"]);
        working.is_healthy();

        ip(host, &[&format!("link set {host_end} mtu 1400")]);
        let told = working.finds(Fault::MtuMismatch);
        assert!(told.contains("up to 1500 bytes") && told.contains("no more than 1400"), "{told}");
        ip(host, &[&format!("link set {host_end} mtu 1500")]);
        working.is_healthy();
        working.remove();
    });
}

#[test]
fn switches_and_routes_of_the_host() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        let working = Working::new(Attach::new("a"));
        let (host, container) = (&working.host, &working.container);
        for (path, fault, told) in [
            (
                "net/ipv4/ip_forward",
                Fault::ForwardingOff,
                "net.ipv4.ip_forward is 0: the host passes no IPv4 packets on: sysctl -w net.ipv4.ip_forward=1",
            ),
            (
                "net/ipv4/conf/cellkit0/forwarding",
                Fault::ForwardingOff,
                r#"no IPv4 packets that come from interface "cellkit0""#,
            ),
            ("net/ipv4/conf/up0/forwarding", Fault::ForwardingOff, r#"that come from interface "up0""#),
        ] {
            set(host, path, "0");
            container.seen_at(WORLD, 82).expect_err(path);
            let found = working.finds(fault);
            assert!(found.contains(told), "{found}");
            // The switch of all turns on that of each.
            set(host, "net/ipv4/ip_forward", "0");
            set(host, "net/ipv4/ip_forward", "1");
            working.is_healthy();
        }

        ip(host, &["route delete default"]);
        assert!(working.finds(Fault::NoUplink).contains("no default route for IPv4"));
        ip(host, &["route add default via 192.0.2.2"]);
        working.is_healthy();

        ip(host, &["route add 10.209.0.0/24 dev up0"]);
        let told = working.finds(Fault::DuplicateSubnet);
        assert!(told.contains(r#"a route to 10.209.0.0/24 by "up0""#) && told.contains("10.209.0.0/22"), "{told}");
        set(host, "net/ipv4/conf/cellkit0/rp_filter", "1");
        let told = working.finds(Fault::ReversePathFilter);
        assert!(told.contains(r#"the way back to 10.209.0.2 is by "up0""#), "{told}");
        ip(host, &["route delete 10.209.0.0/24 dev up0"]);
        working.is_healthy();
        ip(host, &["address add 10.209.1.1/32 dev up0"]);
        assert!(working.finds(Fault::DuplicateSubnet).contains(r#""up0" of the host has the address 10.209.1.1"#));
        ip(host, &["address delete 10.209.1.1/32 dev up0"]);
        working.is_healthy();

        ip(&working.uplink.0, &["link set wan0 down"]);
        assert!(working.finds(Fault::NoCarrier).contains(r#""up0" of the host, its way to the world"#));
        ip(&working.uplink.0, &["link set wan0 up"]);
        working.is_healthy();
        working.remove();
    });
}

#[test]
fn rules_of_others() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        let working = Working::new(Attach::new("a"));
        let host = &working.host;
        let _server = working.uplink.0.serve(82);
        let blocked = |blocked: bool| {
            assert_eq!(working.container.seen_at(WORLD, 82).is_err(), blocked, "as the traffic has it");
        };
        // As iptables, and so Docker, does it.
        host.output("nft", "add table ip filter");
        host.output("nft", "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
        host.output("nft", "add chain ip filter DOCKER-USER");
        host.output("nft", "add rule ip filter FORWARD counter jump DOCKER-USER");
        host.output("nft", "add rule ip filter FORWARD ct state related,established accept");
        blocked(true);
        let told = working.finds(Fault::ForwardDropped);
        assert!(told.starts_with("the policy of table ip filter, chain FORWARD (of iptables"), "{told}");
        assert!(told.contains("iptables -I FORWARD -i cellkit0 -j ACCEPT"), "{told}");
        host.output("nft", "add rule ip filter DOCKER-USER iifname \"cellkit0\" counter accept");
        blocked(false);
        working.is_healthy();
        host.output("nft", "delete table ip filter");

        // As firewalld does it.
        host.output("nft", "add table inet firewalld");
        host.output("nft", "add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }");
        host.output("nft", "add rule inet firewalld filter_FORWARD ct state established,related accept");
        host.output("nft", "add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited");
        blocked(true);
        let told = working.finds(Fault::ForwardDropped);
        assert!(told.contains("a rule of table inet firewalld, chain filter_FORWARD (firewalld's) drops"), "{told}");
        assert!(told.contains("firewall-cmd"), "{told}");
        host.output("nft", "delete table inet firewalld");
        working.is_healthy();

        // Rules that mean others, or the other direction, are nothing to tell of.
        host.output("nft", "add table ip others");
        host.output("nft", "add chain ip others f { type filter hook forward priority 0; }");
        for rule in [
            "iifname != \"cellkit0\" ip saddr 10.209.0.0/22 drop",
            "ip saddr 10.208.0.0/16 drop",
            "oifname \"docker*\" drop",
            "ct state invalid drop",
            "meta mark 7 drop",
            "tcp dport 25 drop",
        ] {
            host.output("nft", &format!("add rule ip others f {rule}"));
        }
        blocked(false);
        working.is_healthy();
        for rule in ["ip saddr 10.209.0.0/22 oifname \"up*\" counter drop", "iifname \"cellkit0\" reject"] {
            host.output("nft", "flush chain ip others f");
            host.output("nft", &format!("add rule ip others f {rule}"));
            blocked(true);
            assert!(
                working.finds(Fault::ForwardDropped).contains("a rule of table ip others, chain f drops"),
                "{rule}"
            );
        }
        host.output("nft", "delete table ip others");
        working.is_healthy();
        working.remove();
    });
}

#[test]
fn iptables_in_both_versions() {
    faultkit::require!(root, program("ip"), program("nft"), program("iptables-nft"), program("iptables-legacy"));
    isolated!(limit_secs = 60, || {
        let working = Working::new(Attach::new("a"));
        let host = &working.host;
        host.output("iptables-nft", "-P FORWARD DROP");
        assert!(working.finds(Fault::ForwardDropped).starts_with("the policy of table ip filter, chain FORWARD"));
        host.output("iptables-nft", "-A FORWARD -i cellkit0 -s 10.209.0.0/22 -j ACCEPT");
        working.is_healthy();
        host.output("iptables-nft", "-P FORWARD ACCEPT");
        host.output("iptables-nft", "-I FORWARD -i cellkit0 -j REJECT");
        assert!(working.finds(Fault::ForwardDropped).contains("a rule of table ip filter, chain FORWARD"));
        host.output("nft", "delete table ip filter");
        working.is_healthy();

        let legacy = host.run(|| Command::new("iptables-legacy").args(["-t", "filter", "-L"]).output().expect("run"));
        if legacy.status.success() {
            assert!(working.finds(Fault::LegacyRules).contains("iptables-legacy -S FORWARD"));
        } else {
            let why = String::from_utf8_lossy(&legacy.stderr).into_owned();
            assert!(why.contains("do you need to insmod"), "{why}");
            println!("this kernel has no legacy filter table: the rule has a unit test");
            working.is_healthy();
        }
        working.remove();
    });
}

#[test]
fn bridged_frames_that_pass_the_rules_of_ip() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        const SWITCH: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        let working = Working::new(Attach::new("a"));
        working.is_healthy();
        working.host.output("nft", "add table ip filter");
        working.host.output("nft", "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
        if std::fs::exists(SWITCH).expect("look") {
            let before = std::fs::read_to_string(SWITCH).expect("read");
            std::fs::write(SWITCH, "1").expect("on");
            let told = working.finds(Fault::BridgedTrafficFiltered);
            assert!(told.starts_with("net.bridge.bridge-nf-call-iptables is 1"), "{told}");
            std::fs::write(SWITCH, "0").expect("off");
            assert!(!wait(doctor(&working.container)).expect("doctor").has(Fault::BridgedTrafficFiltered));
            std::fs::write(SWITCH, before).expect("as it was");
        } else {
            assert!(!wait(doctor(&working.container)).expect("doctor").has(Fault::BridgedTrafficFiltered));
        }
        working.host.output("nft", "delete table ip filter");
        working.is_healthy();
        working.remove();
    });
}

#[test]
fn a_table_that_somebody_removed_or_flushed() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        let working = Working::new(Attach::new("a"));
        let again = |owner: &str| {
            let other = Ns::new();
            let attachment = wait(working.network.attach(&other, &Attach::new(owner), &mut ())).expect("attach");
            wait(attachment.detach()).expect("detach");
            working.is_healthy();
        };
        // What the table guards is no hole.
        set(&working.host, "net/ipv4/conf/cellkit0/route_localnet", "1");
        working.is_healthy();
        working.host.output("nft", "flush ruleset");
        assert!(working.finds(Fault::RouteLocalnet).contains("net.ipv4.conf.cellkit0.route_localnet is 1"));
        set(&working.host, "net/ipv4/conf/cellkit0/route_localnet", "0");
        assert!(working.finds(Fault::TableMissing).contains(r#"no nf_tables table "cellkit0""#));
        again("b");
        let tables = working.host.output("nft", "list tables");
        let family =
            tables.lines().find_map(|line| line.strip_suffix(" cellkit0")?.strip_prefix("table ")).expect("ours");
        working.host.output("nft", &format!("flush table {family} cellkit0"));
        assert!(working.finds(Fault::TableDamaged).contains("has no rules"));
        working.host.output("nft", "flush ruleset");
        again("c");
        working.remove();
    });
}

#[test]
fn ipv6() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        let working = Working::new(Attach::new("a"));
        let (host, container) = (&working.host, &working.container);
        let other = Ns::new();
        let second = wait(working.network.attach(&other, &Attach::new("b"), &mut ())).expect("attach");
        ip(
            host,
            &["-6 address add fd00:7::1/64 dev cellkit0 nodad", "-6 route add default via fd00:8::1 dev up0 onlink"],
        );
        working.is_healthy();

        set(container, "net/ipv6/conf/eth0/disable_ipv6", "1");
        assert!(working.finds(Fault::Ipv6Disabled).contains("net.ipv6.conf.eth0.disable_ipv6 is 1 in the container"));
        set(container, "net/ipv6/conf/eth0/disable_ipv6", "0");

        // The other one has the address already.
        ip(&other, &["-6 address add fd00:7::2/64 dev eth0 nodad"]);
        ip(container, &["-6 address add fd00:7::2/64 dev eth0"]);
        let start = Instant::now();
        loop {
            let told = working.finds(Fault::AddressNotUsable);
            if told.contains("in use by somebody else") {
                break;
            }
            assert!(told.contains("tentative") && start.elapsed() < Duration::from_secs(20), "{told}");
            std::thread::sleep(Duration::from_millis(100));
        }
        ip(container, &["-6 address delete fd00:7::2/64 dev eth0", "-6 address add fd00:7::3/64 dev eth0 nodad"]);
        assert!(working.finds(Fault::NoDefaultRoute).contains("IPv6"));
        assert!(working.finds(Fault::ForwardingOff).contains("net.ipv6.conf.all.forwarding is 0"));
        ip(container, &["-6 route add default via fd00:7::1"]);
        set(host, "net/ipv6/conf/all/forwarding", "1");
        working.is_healthy();
        set(host, "net/ipv6/conf/all/forwarding", "0");
        ip(host, &["-6 address delete fd00:7::1/64 dev cellkit0", "-6 route delete default dev up0"]);
        wait(second.detach()).expect("detach");
        working.remove();
    });
}

#[test]
fn a_published_port_that_nobody_listens_to() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 60, || {
        let spec =
            Attach::new("a").publish("8080:80".parse().expect("port")).publish("53:53/udp".parse().expect("port"));
        let working = Working::new(spec);
        let ask = || wait(working.network.doctor("a", &working.container)).expect("doctor");
        let found = ask();
        assert_eq!(found.findings().len(), 2, "{found}");
        assert!(
            sentence(&found, Fault::NotListening)
                .contains("8080:80/tcp is published, and nothing in the container listens to its port 80")
        );

        let udp =
            working.container.run(|| std::net::UdpSocket::bind((Ipv4Addr::new(10, 209, 0, 2), 53)).expect("bind"));
        let local = working.container.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).expect("bind"));
        let found = ask();
        assert_eq!(found.findings().len(), 1, "{found}");
        assert!(sentence(&found, Fault::NotListening).contains("listens to its port 80 on 127.0.0.1 only"));
        drop(local);
        // A socket of IPv6 for every address takes IPv4 as well.
        let open = working.container.run(|| TcpListener::bind("[::]:80").expect("bind"));
        assert!(ask().is_healthy(), "{}", ask());
        drop((open, udp));

        let error = wait(working.network.doctor("nobody", &working.container)).expect_err("not attached");
        assert_eq!(error.kind(), vethnet::ErrorKind::NotFound);
        working.remove();
    });
}
