//! The tables as nft(8) sees them, beside those of others, and after kills.

use std::cell::Cell;

use faultkit::{Counted, Failure, Fault, Run, Sweep};
use vethnet::{ErrorKind, Nat};

use super::world::{Bridge, Ns, ip, name, port, wait};

fn nat() -> Nat {
    Nat::new(name("nat1")).bridge(name("br1")).subnet("10.1.0.0/24".parse().expect("range"))
}

const WEB: [&str; 2] = ["10.1.0.2", "fd00:1::2"];

/// The tables in words of nft(8), with these settings.
fn written(comment: &str, links: &str, masquerade: &str, [guard, output, postrouting, forward]: [&str; 4]) -> String {
    format!(
        r#"table inet nat1 {{
    comment "made by vethnet{comment}"
    set links {{ type ifname; {links} }}
    set subnets4 {{ type ipv4_addr; flags interval; elements = {{ 10.1.0.0/24 }}; }}
    set subnets6 {{ type ipv6_addr; flags interval; }}
    set masquerade4 {{ type ipv4_addr; flags interval; {masquerade} }}
    set masquerade6 {{ type ipv6_addr; flags interval; }}
    map published4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
    map published4_at {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
    map published6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
    map published6_at {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
    chain guard {{
        type filter hook prerouting priority raw; policy accept;
        iifname != @links accept
        ip saddr 127.0.0.0/8 drop
        ip daddr 127.0.0.0/8 drop
        {guard}
        ip6 saddr :: accept
        fib saddr . iif oif missing drop
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        meta nfproto ipv4 fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published4_at
        meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @published4
        meta nfproto ipv6 fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_at
        meta nfproto ipv6 fib daddr type local dnat ip6 to meta l4proto . th dport map @published6
    }}
    chain output {{
        type nat hook output priority -100; policy accept;
        {output} fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published4_at
        {output} fib daddr type local dnat ip to meta l4proto . th dport map @published4
        ip6 daddr != ::1 fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_at
        ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @published6
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr @masquerade4 oifname != @links masquerade
        ip saddr @subnets4 oifname @links ct status dnat masquerade
        ip6 saddr @masquerade6 oifname != @links masquerade
        ip6 saddr @subnets6 oifname @links ct status dnat masquerade
        {postrouting}
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ct state established,related accept
        {forward}
    }}
    chain leave {{
        type filter hook postrouting priority filter; policy accept;
        oifname @links accept
        oifname "lo" accept
        ip daddr @subnets4 drop
        ip6 daddr @subnets6 drop
    }}
}}
"#
    )
}

/// What nft(8) makes of its own words.
fn made_of(words: &str) -> String {
    let (reference, dir) = (Ns::new(), faultkit::TempDir::new());
    let file = dir.path().join("table.nft");
    std::fs::write(&file, words).expect("write");
    reference.output("nft", &format!("-f {}", file.display()));
    reference.output("nft", "list ruleset")
}

#[test]
fn every_setting_is_what_its_words_say() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let host = Ns::host();
        let strict = "iifname @links oifname != @links ct status dnat drop";
        let forward = "oifname != @links accept\nct status dnat accept\niifname != @links drop";
        let masquerade = "elements = { 10.1.0.0/24 };";
        let bridge = r#"elements = { "br1" };"#;
        let not_local = "ip daddr != 127.0.0.0/8";
        let spoof = "icmpv6 type nd-router-advert drop\nicmpv6 type nd-redirect drop";
        for (nat, words) in [
            (nat(), written("", bridge, masquerade, ["", not_local, "", &format!("{strict}\n{forward}")])),
            (
                nat().localhost().apart(),
                written(
                    ", on localhost, containers apart",
                    bridge,
                    masquerade,
                    [
                        "",
                        "meta nfproto ipv4",
                        "ip saddr 127.0.0.0/8 oifname @links masquerade",
                        &format!("{strict}\n{forward}\ndrop"),
                    ],
                ),
            ),
            (
                Nat::new(name("nat1")).subnet("10.1.0.0/24".parse().expect("range")).guard().open().keep_addresses(),
                written(", not masqueraded, open to other networks, guarded", "", "", [spoof, not_local, "", forward]),
            ),
        ] {
            assert!(wait(nat.ensure()).expect("ensure"));
            assert_eq!(host.output("nft", "list ruleset"), made_of(&words));
            wait(nat.remove()).expect("remove");
        }
    });
}

#[test]
fn elements_are_shown_with_their_owners() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let host = Ns::host();
        let nat = nat().guard();
        wait(async {
            nat.ensure().await.expect("ensure");
            nat.add_subnet("fd00:1::/64".parse().expect("range")).await.expect("another range");
            let error = nat.add_subnet("10.1.0.128/25".parse().expect("range")).await.expect_err("it is there in part");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            let ports =
                [port("8080:80"), port("[2001:db8::1]:53:5353/udp"), port("192.0.2.1:5000-5001:7000-7001/sctp")];
            let mac = "02:00:00:00:00:02".parse().expect("address");
            nat.guard_port("web", &name("v1-2"), mac, &WEB.map(ip)).await.expect("guard");
            // Nobody has the two addresses here, so no program can be asked.
            let error = nat.publish("web", &WEB.map(ip), &ports).await.expect_err("not this machine's");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            host.output("ip", "address add 192.0.2.1/32 dev lo");
            host.output("ip", "address add 2001:db8::1/128 dev lo nodad");
            nat.publish("web", &WEB.map(ip), &ports).await.expect("publish");
        });
        let text = host.output("nft", "list ruleset");
        for element in [
            r#"tcp . 8080 comment "web" : 10.1.0.2 . 80"#,
            r#"tcp . 8080 comment "web" : fd00:1::2 . 80"#,
            r#"2001:db8::1 . udp . 53 comment "web" : fd00:1::2 . 5353"#,
            r#"192.0.2.1 . sctp . 5000 comment "web" : 10.1.0.2 . 7000"#,
            r#"192.0.2.1 . sctp . 5001 comment "web" : 10.1.0.2 . 7001"#,
            "elements = { fd00:1::/64 }",
            r#""v1-2" comment "web""#,
            r#""v1-2" . 02:00:00:00:00:02 . 10.1.0.2 comment "web""#,
            r#""v1-2" . 02:00:00:00:00:02 . fe80::ff:fe00:2 comment "web""#,
            "iifname != @ports accept",
            "iifname . ether saddr . ip saddr @senders4 accept",
            "iifname . ether saddr . ip6 saddr @senders6 accept",
        ] {
            assert!(text.contains(element), "{element} in {text}");
        }
        // Whoever saves the table and loads it again has the same.
        let text = host.output("nft", "list table inet nat1");
        assert_eq!(made_of(&text), text);
        wait(async {
            nat.remove_subnet("fd00:1::/64".parse().expect("range")).await.expect("remove");
            assert!(!host.output("nft", "list ruleset").contains("fd00:1::/64"));
            nat.remove().await.expect("remove");
        });
        host.output("ip", "address delete 192.0.2.1/32 dev lo");
        host.output("ip", "address delete 2001:db8::1/128 dev lo");
    });
}

#[test]
fn tables_of_others_stay_and_their_names_are_theirs() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let host = Ns::host();
        // As Docker by iptables-nft and firewalld have them.
        for line in [
            "add table ip nat",
            "add chain ip nat PREROUTING { type nat hook prerouting priority -100 ; }",
            "add rule ip nat PREROUTING fib daddr type local counter",
            "add table ip filter",
            "add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
            "add table inet firewalld",
            "add chain inet firewalld filter_INPUT { type filter hook input priority 10 ; }",
        ] {
            host.output("nft", line);
        }
        let before = host.output("nft", "-a list ruleset");
        wait(async {
            for family in ["inet", "bridge"] {
                host.output("nft", &format!("add table {family} nat1"));
                let with = host.output("nft", "-a list ruleset");
                let error = nat().guard().ensure().await.expect_err("taken");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                assert!(error.hint().expect("hint").contains("another name"), "{error:#}");
                nat().remove().await.expect("none of ours");
                assert_eq!(nat().reconcile(|_| false).await.expect("reconcile"), [""; 0]);
                assert_eq!(host.output("nft", "-a list ruleset"), with, "untouched");
                host.output("nft", &format!("delete table {family} nat1"));
            }
            nat().ensure().await.expect("ensure");
            let error = nat().localhost().ensure().await.expect_err("other settings");
            assert_eq!((error.kind(), error.to_string().lines().count()), (ErrorKind::Invalid, 1), "{error:#}");
            nat().publish("web", &[ip(WEB[0])], &[port("8080:80")]).await.expect("publish");
            let ours = host.output("nft", "list table inet nat1");
            // Somebody flushes everything: the next ensure makes it anew, and what is published again is there again.
            host.output("nft", "delete table inet nat1");
            let error = nat().publish("web", &[ip(WEB[0])], &[port("8080:80")]).await.expect_err("no table");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:#}");
            nat().unpublish(&[ip(WEB[0])], &[port("8080:80")]).await.expect("gone already");
            assert!(nat().ensure().await.expect("ensure"));
            nat().publish("web", &[ip(WEB[0])], &[port("8080:80")]).await.expect("publish");
            assert_eq!(host.output("nft", "list table inet nat1"), ours);
            nat().remove().await.expect("remove");
            // One of two tables is not enough.
            for family in ["inet", "bridge"] {
                assert!(nat().guard().ensure().await.expect("ensure"));
                let ours = host.output("nft", "list ruleset");
                host.output("nft", &format!("delete table {family} nat1"));
                assert!(nat().guard().ensure().await.expect("anew"));
                assert_eq!(host.output("nft", "list ruleset"), ours);
                assert!(!nat().guard().ensure().await.expect("there already"));
                nat().remove().await.expect("remove");
            }
        });
        assert_eq!(host.output("nft", "-a list ruleset"), before);
        host.output("nft", "flush ruleset");
    });
}

#[test]
fn the_dead_are_removed_and_the_living_left_alone() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let host = Ns::host();
        let nat = nat().guard();
        let mac = "02:00:00:00:00:02".parse().expect("address");
        wait(async {
            nat.ensure().await.expect("ensure");
            nat.publish("alive", &WEB.map(ip), &[port("8080:80"), port("0.0.0.0:81:81")]).await.expect("alive");
            nat.guard_port("alive", &name("v1-2"), mac, &WEB.map(ip)).await.expect("guard");
            // Of nobody: somebody's own.
            host.output("nft", "add element inet nat1 published4 { udp . 99 : 10.1.0.99 . 99 }");
            host.output(
                "nft",
                r#"add element inet nat1 published4 { udp . 98 comment "not an owner" : 10.1.0.98 . 98 }"#,
            );
            let before = host.output("nft", "list ruleset");
            for owner in ["dead", "gone"] {
                let first: u16 = if owner == "dead" { 1000 } else { 2000 };
                let range = port(&format!("{first}-{}:1-600/udp", first + 599));
                nat.publish(owner, &[ip("10.1.0.3")], &[range]).await.expect(owner);
                nat.guard_port(owner, &name(owner), mac, &[ip("10.1.0.3")]).await.expect("guard");
                nat.add_link(owner, &name(owner)).await.expect("link");
            }
            let asked = Cell::new(0);
            let removed = nat.reconcile(|owner| {
                asked.set(asked.get() + 1);
                owner == "alive"
            });
            assert_eq!(removed.await.expect("reconcile"), ["dead", "gone"]);
            assert_eq!(asked.get(), 3, "each is asked for once");
            assert_eq!(host.output("nft", "list ruleset"), before);

            // It is decided by what was read: an owner that comes between is not mistaken for the one that was there.
            nat.publish("dead", &[ip("10.1.0.3")], &[port("9000:80")]).await.expect("dead");
            let removed = nat.reconcile(|owner| {
                if owner == "dead" && host.output("nft", "list ruleset").contains(r#"tcp . 9000 comment "dead""#) {
                    host.output("nft", "delete element inet nat1 published4 { tcp . 9000 }");
                    host.output(
                        "nft",
                        r#"add element inet nat1 published4 { tcp . 9000 comment "next" : 10.1.0.4 . 80 }"#,
                    );
                }
                owner == "alive" || owner == "next"
            });
            assert_eq!(removed.await.expect("reconcile"), ["dead"]);
            assert!(host.output("nft", "list ruleset").contains(r#"tcp . 9000 comment "next""#), "it stays");
            nat.remove().await.expect("remove");
        });
    });
}

/// Each system call of making, publishing and removing fails once, and is the last of its process once.
#[test]
fn whatever_call_fails_or_is_the_last_one_reconcile_is_enough() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 240, || {
        let host = Ns::host();
        let bridge = Bridge::new(1);
        let nat = bridge.nat().guard();
        let failure = |error: vethnet::Error| {
            Failure::new(error.operation().to_owned(), error.raw_os_error(), format!("{error:#}"))
        };
        let mac = "02:00:00:00:00:02".parse().expect("address");
        wait(async {
            nat.ensure().await.expect("ensure");
            nat.publish("other", &bridge.addresses(3), &[port("81:81")]).await.expect("other");
        });
        let sweep = Sweep::new(|counted: &Counted<'_>| {
            let work = async {
                nat.guard_port("web", &name("v1-2"), mac, &bridge.addresses(2)).await?;
                nat.publish("web", &bridge.addresses(2), &[port("8080:80"), port("9000-9009:1-10/udp")]).await
            };
            let result = counted.run(|| wait(work)).map_err(failure);
            // A success is undone, so that each run begins alike.
            if result.is_ok() {
                wait(nat.reconcile(|owner| owner != "web")).expect("reconcile");
            }
            result
        })
        .observe(|| host.output("nft", "list ruleset").lines().map(str::to_owned).collect())
        .recover(|| {
            wait(nat.reconcile(|owner| owner != "web")).expect("reconcile");
        });
        let swept = sweep.each(Fault::Kill, |_: &Run| Ok(()));
        println!("killed: {swept:?}");
        assert!(swept.runs > 5, "{swept:?}");
        drop(sweep);
        wait(nat.remove()).expect("remove");
        bridge.remove();
    });
}
