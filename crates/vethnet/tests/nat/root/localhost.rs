//! Published ports on 127.0.0.1, and what keeps containers from the host's own 127.0.0.1 then.

use super::world::{Bridge, Ns, Server, World, ask, ip, port, silence, sysctl, told, wait};

#[test]
fn localhost_leads_to_the_container_and_the_container_not_to_localhost() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge, host) = (World::new(), Bridge::new(1), Ns::host());
        let web = bridge.container(2);
        let nat = bridge.nat().localhost();
        wait(async {
            nat.ensure().await.expect("ensure");
            let ports = [port("8080:80"), port("127.0.0.1:8081:80"), port("127.0.0.2:8082:80")];
            nat.publish("web", &bridge.addresses(2), &ports).await.expect("publish");
        });
        sysctl("ipv4/conf/br1/route_localnet", "1");
        let _web = Server::everywhere(&web, 80, "web");
        for (address, port) in [("127.0.0.1", 8080), ("127.0.0.7", 8080), ("127.0.0.1", 8081), ("127.0.0.2", 8082)] {
            assert_eq!(told(&host, ip(address), port).expect(address), "web 10.1.0.1", "{address} {port}");
        }
        ask(&host, ip("127.0.0.2"), 8081).expect_err("another address");
        ask(&host, ip("::1"), 8080).expect_err("there is no way from ::1");
        let refused = ask(&world.0, ip("192.0.2.1"), 8081).expect_err("for the host alone");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        // What the host serves to itself alone, asked by a container that knows how to send there (CVE-2020-8558).
        let _private = Server::new(&host, ip("127.0.0.1"), 631, "private");
        web.output("ip", "address delete 127.0.0.1/8 dev lo");
        web.output("ip", "route add 127.0.0.1 via 10.1.0.1");
        web.run(|| sysctl("ipv4/conf/eth0/route_localnet", "1"));
        silence(&web, ip("127.0.0.1"), 631);
        // And it is the guard that keeps it from it, nothing else does.
        host.output("nft", "flush chain inet nat1 guard");
        assert_eq!(told(&web, ip("127.0.0.1"), 631).expect("without the guard"), "private 10.1.0.2");
        wait(nat.remove()).expect("remove");
        bridge.remove();
        world.remove();
    });
}
