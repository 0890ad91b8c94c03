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
