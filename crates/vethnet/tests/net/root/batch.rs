//! Many changes in one datagram.

use vethnet::{Batch, ErrorKind, Net};

use super::world::{Ns, wait};

fn make(host: &Ns, count: usize) {
    for at in 0..count {
        host.output("ip", &format!("link add b{at} type veth peer name p{at}"));
    }
}

#[test]
fn all_changes_are_made() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        make(&host, 100);
        wait(async {
            let net = Net::here().await.expect("net");
            let mut batch = Batch::new();
            assert!(batch.is_empty());
            for link in net.links().await.expect("links") {
                if link.name.starts_with('b') {
                    batch = batch.remove_link(&link);
                }
            }
            assert_eq!(batch.len(), 100, "more than one datagram");
            net.apply(batch.loopback_up()).await.expect("apply");
            net.apply(Batch::new()).await.expect("nothing to do");
        });
        assert_eq!(host.links(), ["lo"]);
        let flags = host.ip("link show dev lo")[0]["flags"].to_string();
        assert!(flags.contains("UP"), "{flags}");
    });
}

#[test]
fn those_that_failed_are_named_and_the_others_made() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        make(&host, 80);
        wait(async {
            let net = Net::here().await.expect("net");
            let links = net.links().await.expect("links");
            let mut batch = Batch::new();
            for at in 0..80 {
                let name = format!("b{at}");
                batch = batch.remove_link(links.iter().find(|link| link.name == name).expect("link"));
            }
            // One in the first datagram and the last in the second.
            host.output("ip", "link delete b7");
            host.output("ip", "link delete b79");
            let error = net.apply(batch).await.expect_err("two are gone");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, "RTM_DELLINK"), "{error:#}");
            assert_eq!(error.to_string(), r#"RTM_DELLINK interface "b7": no such device (ENODEV)"#);
            let also: Vec<_> = error.also().iter().map(|error| error.subject().expect("subject").to_string()).collect();
            assert_eq!(also, [r#"interface "b79""#]);
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

#[test]
fn addresses_and_routes_in_one_go() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add va up type veth peer name vb");
        host.output("ip", "link set vb up");
        wait(async {
            let net = Net::here().await.expect("net");
            let va = net.link(&"va".parse::<vethnet::IfName>().expect("name")).await.expect("link").expect("there");
            let route = |text: &str| vethnet::Route::to(text.parse().expect("range"));
            let mut batch = Batch::new().add_address(&va, "10.1.0.1/24".parse::<vethnet::IpNet>().expect("address"));
            for at in 2..100 {
                batch = batch.add_route(route(&format!("10.{at}.0.0/16")).via([10, 1, 0, 2]).dev(&va));
            }
            net.apply(batch).await.expect("apply");
            let named =
                Batch::new().add_route(route("10.200.0.0/16").dev("va".parse::<vethnet::IfName>().expect("name")));
            assert_eq!(net.apply(named).await.expect_err("a name").kind(), ErrorKind::Invalid);
        });
        let routes = host.ip("route");
        assert_eq!(routes.as_array().expect("routes").len(), 99);
        host.output("ip", "link delete va");
    });
}

#[test]
fn a_batch_reaches_the_verbs_of_a_connection() {
    use vethnet::{Bridge, FdbEntry, IfName, LinkChange, Neighbour, RouteTable, Rule, Veth};

    faultkit::require!(root, program("ip"), program("bridge"));
    isolated!(|| {
        let host = Ns::host();
        let name = |text: &str| IfName::new(text).expect("name");
        let mac = |text: &str| text.parse::<vethnet::MacAddr>().expect("mac");
        let rule = || Rule::ipv4().mark(5).lookup(RouteTable::new(100).expect("table")).priority(1000);
        wait(async {
            let net = Net::here().await.expect("net");
            let container = vethnet::Netns::new().expect("netns");
            let bridge = net.create_link(&Bridge::new(name("br0")).up()).await.expect("bridge");
            let mut batch = Batch::new();
            for at in 0..70 {
                let pair = Veth::new(name(&format!("v{at}")), name(&format!("p{at}")));
                batch = batch.create_link(&pair.master(&bridge).peer_netns(&container));
            }
            assert_eq!(batch.len(), 70);
            net.apply(batch).await.expect("links");
            let inside = Net::inside(&container).await.expect("inside");
            assert_eq!(inside.links().await.expect("links").len(), 71, "with the loopback");

            let port = net.link(name("v7")).await.expect("link").expect("there");
            assert_eq!(port.master, Some(bridge.index));
            let neighbour = Neighbour::permanent([10, 1, 0, 9], mac("02:00:00:00:00:09"));
            let entry = FdbEntry::in_bridge(mac("02:00:00:00:00:07"));
            let batch = Batch::new()
                .change_link(&port, &LinkChange::new().alias("seven").up())
                .add_address(&bridge, "10.1.0.1/24".parse::<vethnet::IpNet>().expect("address"))
                .add_neighbour(&bridge, neighbour.clone())
                .add_fdb_entry(&port, entry.clone())
                .add_rule(rule());
            net.apply(batch).await.expect("apply");
            assert_eq!(host.ip("link show dev v7")[0]["ifalias"], "seven");
            assert_eq!(host.ip("neighbour show dev br0")[0]["lladdr"], "02:00:00:00:00:09");
            let table = host.output("bridge", "fdb show dev v7");
            assert!(table.contains("02:00:00:00:00:07 master br0 static"), "{table}");
            let rules = host.output("ip", "rule");
            assert!(rules.contains("fwmark 0x5 lookup 100"), "{rules}");

            let batch = Batch::new()
                .remove_neighbour(&bridge, neighbour.clone())
                .remove_fdb_entry(&port, entry)
                .remove_rule(rule())
                .remove_rule(rule());
            let error = net.apply(batch).await.expect_err("the rule was removed once already");
            assert_eq!((error.operation(), error.kind()), ("RTM_DELRULE", ErrorKind::NotFound), "{error:#}");
            assert!(error.also().is_empty(), "{error:#}");
            assert!(!host.output("ip", "rule").contains("fwmark"));

            for wrong in [
                Batch::new().create_link(&Veth::new(name("x"), name("y")).master(name("br0"))),
                Batch::new().create_link(&Veth::new(name("x"), name("y")).alias("x")),
                Batch::new().change_link(&port, &LinkChange::new().netns(&container)),
            ] {
                let error = net.apply(wrong.remove_link(&bridge)).await.expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            }
            net.apply(Batch::new().remove_link(&bridge)).await.expect("nothing was sent before");
        });
        assert!(!host.links().contains(&"br0".to_owned()));
    });
}
