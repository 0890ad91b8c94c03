//! SIGKILL of cellrun at any moment: the payload dies with it, and what is left is found and removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use faultkit::Ledger;
use nix::sys::signal::Signal;

use crate::run::{Running, boxed, cellrun, children, eventually, host, links, nothing_is_left, say, time_to_start};

/// The processes of this pid namespace that run the payload's command, as ps would list them.
fn payloads() -> usize {
    let named = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\x004242")
    };
    fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| named(entry).then_some(())).count()
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).expect("a pid")
}

/// Kills one that has been running for so long, and waits until its payload is gone.
fn kill_after(wait: Duration, options: &[&str]) {
    let running = Running::boxed(&[options, &["--", "sleep", "4242"]].concat());
    std::thread::sleep(wait);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().status, -9);
    eventually("the payload dies with its cellrun", || {
        faultkit::reap_orphans();
        payloads() == 0 && children(own_pid()).is_empty()
    });
}

#[test]
fn at_any_moment_then_recover() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        let variants: [&[&str]; 3] =
            [&["--net", "bridge", "-p", "8080:80"], &["--net", "bridge", "--init"], &["--net", "none"]];
        let mut left = 0;
        for options in variants {
            let time = time_to_start(options);
            nothing_is_left();
            let ledger = Ledger::take();
            for round in 0..10 {
                let name = format!("victim{round}");
                kill_after(time * round / 8, &[options, &["--name", &name]].concat());
                left += usize::from(Path::new("/run/cellrun").join(format!("{name}.json")).exists());
                let said = say(&mut cellrun(["recover"]));
                let names = if said.out.is_empty() { String::new() } else { format!("{name}\n") };
                assert_eq!(said.ok(), names, "round {round} of {options:?}");
                assert_eq!(links(), ["lo"]);
                assert_eq!(host("nft list ruleset; cat /proc/sys/net/ipv4/ip_forward"), "0\n");
                nothing_is_left();
            }
            ledger.assert_same();
        }
        assert!(left >= 5, "the kills came too early to mean anything: {left} of 30 left a record");
    });
}

#[test]
fn at_any_moment_then_the_next_box() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        let time = time_to_start(&["-p", "8080:80"]);
        for round in 0..8 {
            kill_after(time * (round + 1) / 7, &["--name", "same", "-p", "8080:80"]);
            // The same name, the same port: what the dead one left is gone before the new one starts.
            let said = boxed(&["--name", "same", "-p", "8080:80", "--", "true"]);
            assert_eq!(said.ok(), "", "round {round}");
            assert_eq!(links(), ["lo"]);
            assert_eq!(host("nft list ruleset"), "");
            nothing_is_left();
        }
    });
}

#[test]
fn between_the_lease_and_what_it_speaks_of() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        // Moments that are too short to be met by chance, made by hand from what a killed one left: its lease is gone
        // and the bridge is not, as in its removal; its lease is not there yet, as at its beginning.
        let early = "ip link delete cellkit0; nft flush ruleset; echo 0 >/proc/sys/net/ipv4/ip_forward
            rm -rf /run/cellrun/.net-*/ip_forward /run/cellrun/.net-*/cellkit0/*";
        for by_hand in ["rm /run/cellrun/.net-*/cellkit0/lease/x-*.json", early] {
            let mut running =
                Running::boxed(&["--name", "x", "-p", "8080:80", "--", "sh", "-c", "echo ready; sleep 4242"]);
            running.until("ready");
            running.kill();
            host(by_hand);
            assert_eq!(say(&mut cellrun(["recover"])).ok(), "x\n", "{by_hand}");
            // Without its lease the host's end goes when the kernel gets to the dead container's network.
            eventually("the host's end is gone", || links() == ["lo"]);
            assert_eq!(host("nft list ruleset; cat /proc/sys/net/ipv4/ip_forward"), "0\n", "{by_hand}");
            nothing_is_left();
        }
    });
}

#[test]
fn at_any_moment_of_a_short_life_then_recover() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        let whole = || {
            let begun = std::time::Instant::now();
            assert_eq!(boxed(&["-p", "8080:80", "--", "true"]).ok(), "");
            begun.elapsed()
        };
        whole();
        let time = whole();
        for round in 0..16 {
            let running = Running::boxed(&["-p", "8080:80", "--", "true"]);
            std::thread::sleep(time * round / 14);
            running.signal(Signal::SIGKILL);
            let status = running.end().status;
            assert!(status == -9 || status == 0, "round {round}: {status}");
            eventually("nobody is left", || {
                faultkit::reap_orphans();
                children(own_pid()).is_empty()
            });
            assert_eq!(say(&mut cellrun(["recover"])).status, 0, "round {round}");
            assert_eq!(links(), ["lo"], "round {round}");
            assert_eq!(host("nft list ruleset; cat /proc/sys/net/ipv4/ip_forward"), "0\n", "round {round}");
            nothing_is_left();
        }
    });
}

#[test]
fn of_the_payload_with_everything_below() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let script = "for i in 1 2 3; do setsid sleep 4242 & done; echo ready; exec sleep 4242";
        for options in [&[][..], &["--init"]] {
            let mut running = Running::boxed(&[&["--net", "none"], options, &["--", "sh", "-c", script]].concat());
            running.until("ready");
            eventually("all sleep", || payloads() == 4);
            running.signal(Signal::SIGKILL);
            assert_eq!(running.end().status, -9);
            eventually("all die", || {
                faultkit::reap_orphans();
                payloads() == 0 && children(own_pid()).is_empty()
            });
            // Who is dead is removed, who lives is left alone.
            let mut alive =
                Running::boxed(&["--net", "none", "--name", "alive", "--", "sh", "-c", "echo ready; read x || true"]);
            alive.until("ready");
            assert_eq!(say(&mut cellrun(["recover"])).ok(), "", "the next box did it");
            assert_eq!(alive.end().status, 0);
        }
        nothing_is_left();
    });
}

#[test]
fn a_payload_that_changed_its_ids_is_found_without_a_cgroup() {
    faultkit::require!(root, program("setpriv"));
    faultkit::isolated!(|| {
        // The kernel forgets PR_SET_PDEATHSIG when PID 1 changes its ids, and there is no cgroup to find it by.
        let payload =
            ["sh", "-c", "exec setpriv --reuid 1 --regid 1 --clear-groups sleep 4242 >/dev/null 2>&1 </dev/null"];
        let running = Running::boxed(&[&["--net", "none", "--cgroup", "none", "--"][..], &payload].concat());
        eventually("the payload runs", || payloads() == 1);
        running.signal(Signal::SIGKILL);
        assert_eq!(running.end().status, -9);
        assert_eq!(payloads(), 1, "it outlives its cellrun: that is what this test is about");
        assert!(!say(&mut cellrun(["recover"])).ok().is_empty());
        eventually("recovery ends it", || {
            faultkit::reap_orphans();
            payloads() == 0
        });
        nothing_is_left();
    });
}

#[test]
fn the_same_name_in_another_folder_of_records_is_another_container() {
    faultkit::require!(root, program("ip"), program("nft"), program("strace"));
    faultkit::isolated!(|| {
        let mut alive = Running::boxed(&["--name", "web", "-p", "8080:80", "--", "sh", "-c", "echo ready; sleep 4242"]);
        alive.until("ready");
        let other = faultkit::TempDir::new();
        let root = other.path().to_str().expect("UTF-8");
        // Killed after its record was written and before anything was made: the worst moment.
        let killed = std::process::Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", "trace=mkdirat", "-e", "inject=mkdirat:signal=KILL:when=1"])
            .arg(crate::run::program())
            .args(["--root", root, "box", "--name", "web", "--net", "bridge", "--", "true"])
            .output()
            .expect("strace");
        assert!(!killed.status.success());
        assert!(other.path().join("web.json").exists(), "the record of the dead");
        assert_eq!(say(&mut cellrun(["--root", root, "recover"])).ok(), "web\n");
        assert_eq!(payloads(), 1, "the living one of that name lives");
        assert_eq!(links().len(), 3, "and keeps its network: {:?}", links());
        alive.kill();
        say(&mut cellrun(["recover"])).ok();
        nothing_is_left();
    });
}
