//! Boxes on a bridge, as ip and nft see it and real connections use it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::run::{Running, Said, boxed, cellrun, host, inside, links, nothing_is_left, say};

/// A server on a port that answers each connection with its name and the address it sees.
fn server(port: u16) -> String {
    format!(
        "use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 9, LocalPort => {port}, ReuseAddr => 1) or die; \
         $| = 1; print \"ready\\n\"; while ($c = $s->accept) {{ print $c \"web sees \", $c->peerhost, \"\\n\"; close $c }}"
    )
}

fn serve(port: u16, options: &[&str]) -> Running {
    let mut running =
        Running::start(cellrun(["box", "--net", "bridge"]).args(options).args(["--", "perl", "-e", &server(port)]));
    assert_eq!(running.line(), "ready");
    running
}

/// What `ADDRESS:PORT` says to somebody in the namespaces of a process.
fn ask_from(pid: i32, address: &str, port: u16) -> Said {
    let script = format!("exec 3<>/dev/tcp/{address}/{port}; cat <&3");
    say(Command::new("timeout").args(["2", "nsenter", "-n", "-t", &pid.to_string(), "bash", "-c", &script]))
}

/// What it says to this namespace.
fn ask(address: Ipv4Addr, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddrV4::new(address, port).into(), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}

/// The address of `eth0` of a running box, asked by ip(8) from outside.
fn address(running: &Running) -> Ipv4Addr {
    let line = host(&format!("nsenter -n -t {} ip -4 -o addr show dev eth0", running.payload()));
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, prefix) = words[3].split_once('/').expect("a prefix");
    assert_eq!(prefix, "22", "{line}");
    address.parse().expect("an address")
}

fn forwarding() -> String {
    host("cat /proc/sys/net/ipv4/ip_forward").trim().to_owned()
}

/// The world as it is before and has to be after.
fn assert_empty() {
    assert_eq!(links(), ["lo"]);
    assert_eq!(host("nft list ruleset"), "");
    assert_eq!(forwarding(), "0");
}

/// The world beyond the host: a process in a network namespace with 192.0.2.2, wired to the host's 192.0.2.1.
fn uplink() -> Running {
    let mut world = Running::start(Command::new("unshare").args(["-n", "sh", "-c", "echo ready; read line || true"]));
    assert_eq!(world.line(), "ready");
    let pid = world.pid();
    host(&format!(
        "ip link add up0 type veth peer name wan0 netns {pid} && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up
         nsenter -n -t {pid} sh -c 'ip addr add 192.0.2.2/24 dev wan0; ip link set wan0 up; ip link set lo up'"
    ));
    world
}

#[test]
fn boxes_reach_each_other_the_gateway_and_the_world_reaches_published_ports() {
    faultkit::require!(root, program("ip"), program("nft"), program("perl"), program("bash"), program("nsenter"));
    faultkit::isolated!(|| {
        let world = uplink();
        let before = host("ip -o link; ip -4 -o addr; ip route; nft list ruleset");
        let web = serve(80, &["--name", "web", "-p", "8080:80"]);
        let mut other = Running::boxed(&["--name", "other", "--", "bash", "-c", "echo ready; read line || true"]);
        assert_eq!(other.line(), "ready");
        let (at_web, at_other) = (address(&web), address(&other));
        assert_ne!(at_web, at_other);

        // What is there, as others see it.
        assert_eq!(host("ip -o -4 addr show dev cellkit0").split_whitespace().nth(3), Some("10.209.0.1/22"));
        assert_eq!(host("ip -o link show master cellkit0").lines().count(), 2);
        assert!(host("nft list ruleset").contains("table inet cellkit0"));
        assert_eq!(forwarding(), "1");

        // Between boxes, both with their own addresses.
        let said = ask_from(other.payload(), &at_web.to_string(), 80);
        assert_eq!(said.ok(), format!("web sees {at_other}\n"));
        // To the gateway, where the machine listens.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7000)).expect("listen");
        let machine = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().expect("accept");
            stream.write_all(format!("host sees {}\n", peer.ip()).as_bytes()).expect("write");
        });
        assert_eq!(ask_from(other.payload(), "10.209.0.1", 7000).ok(), format!("host sees {at_other}\n"));
        machine.join().expect("server");
        // To the world, behind the machine's address; and not from the world to an address of the network.
        let script = server(7001);
        let mut far =
            Running::start(Command::new("nsenter").args(["-n", "-t", &world.pid().to_string(), "perl", "-e", &script]));
        assert_eq!(far.line(), "ready");
        assert_eq!(ask_from(other.payload(), "192.0.2.2", 7001).ok(), "web sees 192.0.2.1\n");
        drop(far);
        // A published port: from the machine by its own address, from the world, from a box.
        assert!(ask(Ipv4Addr::new(192, 0, 2, 1), 8080).expect("published").starts_with("web sees "));
        assert_eq!(ask_from(world.pid(), "192.0.2.1", 8080).ok(), "web sees 192.0.2.2\n");
        assert!(ask_from(other.payload(), "192.0.2.1", 8080).ok().starts_with("web sees "));
        assert!(ask(Ipv4Addr::new(192, 0, 2, 1), 8081).is_err(), "not published");

        // A third box in the network of the first.
        let options = ["box", "--net", "container:web", "--", "bash", "-c"];
        let script = "ip -4 -o addr show dev eth0; exec 3<>/dev/tcp/127.0.0.1/80; cat <&3";
        let said = say(cellrun(options).arg(script)).ok();
        assert!(said.contains(&format!("inet {at_web}/22")) && said.ends_with("web sees 127.0.0.1\n"), "{said}");

        // The first one goes; the other stays connected; the port is nobody's.
        web.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(web.end().status, 143);
        assert_eq!(host("ip -o link show master cellkit0").lines().count(), 1);
        assert!(ask(Ipv4Addr::new(192, 0, 2, 1), 8080).is_err(), "no longer published");
        let web = serve(80, &["--name", "web", "-p", "8080:80"]);
        assert_eq!(ask_from(world.pid(), "192.0.2.1", 8080).ok(), "web sees 192.0.2.2\n");
        web.kill();
        assert_eq!(other.end().status, 0);
        say(&mut cellrun(["recover"]));
        assert_eq!(host("ip -o link; ip -4 -o addr; ip route; nft list ruleset"), before);
        host("ip link delete up0");
        world.end();
        assert_empty();
        nothing_is_left();
    });
}

#[test]
fn a_network_of_none_of_ones_own() {
    faultkit::require!(root, program("ip"));
    faultkit::isolated!(|| {
        let said = inside(&[], "ip -o link | wc -l; ip -4 -o addr show dev lo; ip route");
        assert!(said.starts_with("1\n") && said.contains("127.0.0.1/8") && said.lines().count() == 2, "{said}");
        let said = boxed(&["--net", "host", "--", "readlink", "/proc/self/ns/net"]).ok();
        assert_eq!(said, host("readlink /proc/self/ns/net"));
        assert_empty();
        nothing_is_left();
    });
}

#[test]
fn what_is_taken_is_refused_and_leaves_nothing() {
    faultkit::require!(root, program("ip"), program("nft"), program("perl"));
    faultkit::isolated!(|| {
        // By somebody who listens.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("listen");
        let said = boxed(&["-p", "8080:80", "--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("8080"), "{said:?}");
        drop(listener);
        assert_empty();
        // By another box, which does not notice.
        let web = serve(80, &["-p", "8080:80"]);
        let (links, rules) = (host("ip -o link"), host("nft list ruleset"));
        let said = boxed(&["-p", "8080:81", "--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("8080"), "{said:?}");
        assert_eq!((host("ip -o link"), host("nft list ruleset")), (links, rules));
        assert!(ask(Ipv4Addr::new(10, 209, 0, 1), 8080).expect("published").starts_with("web sees "));
        web.signal(nix::sys::signal::Signal::SIGTERM);
        web.end();
        assert_empty();
        // A range that is routed elsewhere.
        host("ip route add 10.209.0.0/16 dev lo");
        let said = boxed(&["--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("10.209.0.0/22"), "{said:?}");
        assert_eq!(boxed(&["--subnet", "192.168.77.0/24", "--", "true"]).ok(), "");
        host("ip route del 10.209.0.0/16 dev lo");
        assert_empty();
        nothing_is_left();
    });
}
