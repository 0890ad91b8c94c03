//! Ranges that the machine uses already.

use std::process::Command;

use vethnet::{AddressPlan, ErrorKind, IfName};

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_route_or_an_address_of_the_machine_is_a_conflict() {
    faultkit::require!(root, program("ip"));
    faultkit::isolated!(|| {
        ip("link add uplink type bridge");
        ip("link set uplink up");
        ip("address add 192.0.2.5/24 dev uplink");
        ip("address add 10.3.0.9/32 dev uplink");
        ip("route add 10.8.0.0/16 dev uplink");
        ip("-6 address add 2001:db8::5/64 dev uplink nodad");
        ip("-6 address add fd00:3::9/128 dev uplink nodad");
        ip("-6 route add fd00:8::/32 dev uplink");
        ip("route add default via 192.0.2.1");
        ip("-6 route add default via 2001:db8::1");
        let check = |range: &str, own: Option<&str>| {
            let own = own.map(|name| IfName::new(name).expect("name"));
            AddressPlan::new("/nowhere").subnet(range.parse().expect("range")).check(own.as_ref())
        };
        for (range, why) in [
            ("192.0.2.128/25", "a route to 192.0.2.0/24 by uplink"),
            ("10.8.4.0/22", "a route to 10.8.0.0/16 by uplink"),
            ("10.0.0.0/8", "a route to 10.8.0.0/16 by uplink"),
            ("10.3.0.0/24", "the address 10.3.0.9 on uplink"),
            ("2001:db8::/48", "a route to 2001:db8::/64 by uplink"),
            ("fd00:8:1::/48", "a route to fd00:8::/32 by uplink"),
            ("fd00:3::/64", "fd00:3::9"),
        ] {
            let error = check(range, None).expect_err(range);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(why) && error.hint().is_some(), "{error:#}");
            check(range, Some("uplink")).expect("it is the network's own");
            check(range, Some("other")).expect_err("it is not");
        }
        for range in ["10.9.0.0/16", "192.0.3.0/24", "10.3.1.0/24", "fd00:9::/32", "2001:db8:0:1::/64"] {
            check(range, None).expect(range);
        }
        assert_eq!(check("127.0.0.0/16", None).expect_err("loopback").kind(), ErrorKind::Invalid);
        ip("link delete uplink");
    });
}
