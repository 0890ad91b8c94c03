//! What a network is refused for, and what is described of it.
#![forbid(unsafe_code)]

use super::*;

fn network() -> Network {
    Network::new(IfName::new("cellkit0").unwrap(), Subnet::default())
}

#[test]
fn a_plan_is_described_without_a_look_at_the_machine() {
    let spec = Attach::new("web").publish("192.0.2.1:8080:80".parse().unwrap());
    let lines: Vec<_> = network().describe(&spec).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(lines.first().unwrap(), r#"RTM_NEWLINK("cellkit0", type bridge, address 02:63:55:63:34:c0, mtu 1500)"#);
    assert_eq!(lines.last().unwrap(), "NFT_MSG_NEWSETELEM(inet cellkit0, 192.0.2.1:8080:80/tcp to 10.209.0.2)");
    let host = IfName::of_owner(network().name(), &crate::name::Owner::new("web").unwrap());
    for part in [
        "write net.ipv4.ip_forward(\"1\")",
        "write net.ipv6.conf.eth0.accept_ra(\"0\")",
        &format!("write net.ipv6.conf.{host}.accept_ra(\"0\")"),
        &format!("write net.ipv6.conf.{host}.autoconf(\"0\")"),
        "RTM_NEWROUTE(default via 10.209.0.1 dev eth0)",
        "RTM_NEWADDR(\"eth0\", 10.209.0.2/22)",
        "RTM_SETLINK(\"eth0\", addrgenmode none)",
    ] {
        assert!(lines.iter().any(|line| line == part), "{part} in {lines:#?}");
    }
}

#[test]
fn what_cannot_be_reached_is_refused_before_anything_is_looked_at() {
    for port in ["127.0.0.1:8080:80", "[::1]:8080:80", "[2001:db8::1]:8080:80"] {
        let error = network().describe(&Attach::new("web").publish(port.parse().unwrap())).unwrap_err();
        assert_eq!((error.operation(), error.kind()), ("published port", crate::ErrorKind::Invalid), "{port}: {error}");
    }
    network().localhost().describe(&Attach::new("web").publish("127.0.0.1:8080:80".parse().unwrap())).unwrap();
}

#[test]
fn a_routed_plan_has_no_bridge() {
    let network = Network::routed(IfName::new("pods").unwrap(), "10.40.0.0/16".parse().unwrap())
        .subnet("fd40::/64".parse().unwrap());
    let lines: Vec<_> = network.describe(&Attach::new("web")).unwrap().iter().map(ToString::to_string).collect();
    assert!(!lines.iter().any(|line| line.contains("bridge") || line.contains("master")), "{lines:#?}");
    for part in [
        "RTM_NEWADDR(\"eth0\", 10.40.0.2/32)",
        "RTM_NEWADDR(\"eth0\", fd40::2/128)",
        "RTM_NEWROUTE(default via 169.254.1.1 dev eth0 onlink)",
        "RTM_NEWROUTE(default via fe80::1 dev eth0 onlink)",
    ] {
        assert!(lines.iter().any(|line| line == part), "{part} in {lines:#?}");
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_is_done() {
    let new = |subnet: &str| Network::new(IfName::new("cellkit0").unwrap(), subnet.parse().unwrap());
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let web = Attach::new("web");
    for (network, spec, want) in [
        (
            new("10.1.0.0/32"),
            web.clone(),
            "network \"10.1.0.0/32\": a bridge and a container need two addresses, and this is one",
        ),
        (
            new("10.1.0.0/24").subnet("10.2.0.0/24".parse().unwrap()),
            web.clone(),
            "network \"10.2.0.0/24\": it has one range of a family",
        ),
        (new("127.0.0.0/8"), web.clone(), "subnet \"127.0.0.0/8\": not for hosts: of 127.0.0.0/8, they are loopback's"),
        (
            new("10.1.0.0/24").gateway(address("10.1.1.1")),
            web.clone(),
            "gateway \"10.1.1.1\": it is not on the link: no range of the network has it",
        ),
        (
            new("10.1.0.0/24").gateway(address("fd00::1")),
            web.clone(),
            "gateway \"fd00::1\": it is not on the link: no range of the network has it",
        ),
        (
            new("10.1.0.0/24").gateway(address("10.1.0.255")),
            web.clone(),
            "gateway \"10.1.0.255\": no host has the first or the last address of a range",
        ),
        (new("10.1.0.0/24").mtu(67), web.clone(), "network \"67\": the MTU has to be from 68 to 65535"),
        (new("fd00::/64").mtu(1279), web.clone(), "network \"1279\": the MTU has to be from 1280 to 65535"),
        (
            new("10.1.0.0/24"),
            web.clone().address(address("10.1.1.2")),
            "lease an address \"10.1.1.2\": it is not in 10.1.0.0/24",
        ),
        (
            new("10.1.0.0/24"),
            web.clone().address(address("10.1.0.1")),
            "lease an address \"10.1.0.1\": it is the gateway of 10.1.0.0/24",
        ),
        (
            new("10.1.0.0/24").gateway(address("10.1.0.254")),
            web.clone().address(address("10.1.0.1")),
            "lease an address \"10.1.0.1\": it is the gateway of 10.1.0.0/24",
        ),
        (
            new("10.1.0.0/24").gateway(address("10.1.0.254")),
            web.clone().address(address("10.1.0.254")),
            "lease an address \"10.1.0.254\": it is reserved",
        ),
        (
            Network::routed(IfName::new("pods").unwrap(), "10.1.0.0/24".parse().unwrap()),
            web.clone().address(address("10.1.0.1")),
            "lease an address \"10.1.0.1\": it is the gateway of 10.1.0.0/24",
        ),
        (
            new("10.1.0.0/24"),
            web.clone().address(address("10.1.0.255")),
            "lease an address \"10.1.0.255\": it is not for containers in 10.1.0.0/24",
        ),
        (
            new("10.1.0.0/24"),
            web.clone().address(address("10.1.0.0")),
            "lease an address \"10.1.0.0\": it is not for containers in 10.1.0.0/24",
        ),
        (
            new("10.1.0.0/24"),
            web.clone().address(address("10.1.0.7")).address(address("10.1.0.8")),
            "lease an address \"10.1.0.8\": a second address of 10.1.0.0/24 is wished for",
        ),
        (
            Network::routed(IfName::new("pods").unwrap(), Subnet::default()).gateway(address("10.209.0.1")),
            web.clone(),
            "gateway \"10.209.0.1\": in a network that is routed it is nobody's address",
        ),
    ] {
        let error = network.describe(&spec).expect_err(want);
        assert_eq!((error.kind(), error.to_string()), (crate::ErrorKind::Invalid, want.to_owned()));
    }
    // The edges that are right.
    for (network, want) in [
        (new("10.1.0.0/31"), "10.1.0.1/31"),
        (new("fd00::/127"), "fd00::1/127"),
        (new("10.1.0.0/24").gateway(address("10.1.0.254")), "10.1.0.2/24"),
        (new("10.1.0.0/24").gateway(address("10.1.0.2")), "10.1.0.3/24"),
        (Network::routed(IfName::new("pods").unwrap(), "10.1.0.7/32".parse().unwrap()), "10.1.0.7/32"),
    ] {
        let lines: Vec<_> = network.describe(&web).unwrap().iter().map(ToString::to_string).collect();
        assert!(lines.contains(&format!("RTM_NEWADDR(\"eth0\", {want})")), "{want} in {lines:#?}");
    }
}

#[test]
fn futures_can_be_spawned() {
    fn is_send(_: impl Send) {}
    let (network, spec) = (network(), Attach::new("web"));
    is_send(network.attach(std::io::stdin(), &spec, &mut ()));
    is_send(network.check(&spec));
    is_send(network.detach("web"));
    is_send(network.reconcile(|_| true));
    is_send(crate::Net::here());
}

#[test]
fn without_a_runtime_it_is_an_error_not_a_panic() {
    let mut here = std::pin::pin!(crate::Net::here());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = here.as_mut().poll(&mut context) else { panic!("no error") };
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    assert!(error.hint().unwrap().contains("enable_all"));
}
