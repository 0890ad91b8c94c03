//! Plants one leak of each kind and sees the ledger name it.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use faultkit::{Ledger, TempDir};

/// What the ledger says once `leak` was done, which `undo` must make unsaid.
fn sees<T>(leak: impl FnOnce() -> T, undo: impl FnOnce(T), expected: &[&str]) {
    let before = Ledger::take();
    let leaked = leak();
    let said = before.differences();
    for text in expected {
        assert!(said.iter().any(|line| line.contains(text)), "{text:?} is not in {said:#?}");
    }
    undo(leaked);
    before.assert_same();
}

fn run(line: &str) {
    let output = Command::new("sh").args(["-e", "-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_descriptor() {
    faultkit::isolated!(|| sees(|| File::open("/etc").unwrap(), drop, &["left behind: fd", "-> /etc"]));
}

#[test]
fn a_child_and_a_zombie() {
    faultkit::isolated!(|| {
        let sleep = || Command::new("sleep").arg("1000").spawn().unwrap();
        sees(sleep, |mut child| drop((child.kill(), child.wait())), &["left behind: process", "(sleep)"]);
        let zombie = || {
            let child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
            let stat = format!("/proc/{}/stat", child.id());
            while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
                std::thread::yield_now();
            }
            child
        };
        sees(zombie, |mut child| drop(child.wait()), &["a zombie"]);
    });
}

#[test]
fn an_orphan() {
    faultkit::isolated!(|| {
        let orphan = || {
            let command = "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!";
            let output = Command::new("sh").args(["-c", command]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let reap = |pid: String| {
            run(&format!("kill -9 {pid}"));
            // It is our child now, and nobody here knows its number but the shell that is gone.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
            while !fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ") {
                assert!(std::time::Instant::now() < deadline);
            }
            assert_eq!(faultkit::reap_orphans(), 1);
        };
        sees(orphan, reap, &["left behind: process", "(sleep)"]);
    });
}

#[test]
fn a_thread() {
    faultkit::isolated!(|| {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = || std::thread::Builder::new().name("leaked".into()).spawn(move || receiver.recv()).unwrap();
        let end = |handle: std::thread::JoinHandle<_>| {
            drop(sender);
            let _ = handle.join();
        };
        sees(thread, end, &["left behind: thread", "(leaked)"]);
    });
}

#[test]
fn a_file_in_a_watched_folder_and_in_the_one_for_temporary_files() {
    let outside = TempDir::new();
    let dir = outside.path();
    fs::write(dir.join("old"), "").unwrap();
    let before = Ledger::take().with_dir(dir);
    fs::write(dir.join("record"), "").unwrap();
    fs::remove_file(dir.join("old")).unwrap();
    let said = before.differences().join("\n");
    assert!(said.contains(&format!("left behind: file {}/record (file)", dir.display())), "{said}");
    assert!(said.contains(&format!("gone: file {}/old (file)", dir.display())), "{said}");
    faultkit::isolated!(|| sees(TempDir::new, drop, &["left behind: file", "cellkit-test-"]));
}

#[test]
fn the_state_of_the_process() {
    faultkit::isolated!(|| {
        let (old, new) = (std::env::current_dir().unwrap(), TempDir::new());
        let expected = format!("left behind: process state working directory {}", new.path().display());
        let change = || std::env::set_current_dir(&new).unwrap();
        sees(change, |()| std::env::set_current_dir(old).unwrap(), &[&expected]);
    });
}

mod root {
    use super::*;

    #[test]
    fn a_mount_also_a_second_one_that_looks_the_same() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let dir = TempDir::new();
            let path = dir.path().to_str().unwrap();
            let mount = format!("mount -t tmpfs leak {path}");
            let umount = format!("umount {path}");
            sees(|| run(&mount), |()| run(&umount), &[&format!("left behind: mount {path} (root /)")]);
            run(&mount);
            sees(|| run(&mount), |()| run(&umount), &[&format!("left behind: mount {path} (root /)")]);
            let shared = format!("mount --make-shared {path}");
            let private = format!("mount --make-private {path}");
            sees(|| run(&shared), |()| run(&private), &["relatime shared - tmpfs", "gone: mount"]);
            run(&umount);
        });
    }

    #[test]
    fn a_link_an_address_a_route_and_a_rule() {
        faultkit::require!(root, program("ip"));
        faultkit::isolated!(|| {
            let veth = "ip link add leak0 type veth peer name leak1";
            sees(|| run(veth), |()| run("ip link del leak0"), &["left behind: link", "\"leak0\"", "\"leak1\""]);
            run(veth);
            // No IPv6 address of their own, whose duplicate detection would end at some time during the test.
            run("ip link set leak0 addrgenmode none up; ip link set leak1 addrgenmode none up");
            // The kernel notices a little later that they have a carrier, and adds a multicast route for each.
            run("for i in $(seq 500); do
                    [ $(ip -6 route show table all | grep -c 'ff00::/8 dev leak') = 2 ] && exit 0; sleep .02
                 done; exit 1");
            sees(|| run("ip link set leak0 mtu 1400"), |()| run("ip link set leak0 mtu 1500"), &["mtu 1400"]);
            let v4 = "ip addr add 10.1.1.1/24 dev leak0";
            sees(
                || run(v4),
                |()| run("ip addr del 10.1.1.1/24 dev leak0"),
                &["left behind: address local \"10.1.1.1\""],
            );
            let v6 = "ip addr add fd00::1/64 dev leak0 nodad";
            sees(|| run(v6), |()| run("ip addr del fd00::1/64 dev leak0"), &["left behind: address local \"fd00::1\""]);
            let route = "ip route add 10.9.0.0/16 dev leak0 table 77";
            sees(|| run(route), |()| run("ip route flush table 77"), &["left behind: route", "10.9.0.0/16"]);
            let rule = "ip rule add from 10.8.0.0/16 lookup 77";
            sees(|| run(rule), |()| run("ip rule del from 10.8.0.0/16"), &["left behind: rule", "10.8.0.0"]);
            run("ip link del leak0");
        });
    }

    #[test]
    fn an_nft_table_and_a_switch() {
        faultkit::require!(root, program("nft"));
        faultkit::isolated!(|| {
            let table = "nft 'add table inet leak; add chain inet leak c; add rule inet leak c counter drop'";
            sees(|| run(table), |()| run("nft delete table inet leak"), &["left behind: nft", "\"leak\"", "drop"]);
            let switch = |value: &str| fs::write("/proc/sys/net/ipv4/ip_forward", value).unwrap();
            let old = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            let new = if old.trim() == "1" { "0" } else { "1" };
            let expected = format!("left behind: sysctl net.ipv4.ip_forward = {new}");
            sees(|| switch(new), |()| switch(&old), &[&expected]);
        });
    }

    #[test]
    fn a_cgroup() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
            let dir = std::path::Path::new(line.split(' ').nth(4).unwrap()).join("any-name/below");
            let remove = |()| {
                fs::remove_dir(&dir).unwrap();
                fs::remove_dir(dir.parent().unwrap()).unwrap();
            };
            let expected = ["left behind: cgroup any-name", "left behind: cgroup any-name/below"];
            sees(|| fs::create_dir_all(&dir).unwrap(), remove, &expected);
        });
    }

    #[test]
    fn a_namespace_that_a_file_a_descriptor_or_a_process_holds() {
        faultkit::require!(root, program("ip"), program("unshare"));
        faultkit::isolated!(|| {
            let pinned = ["left behind: mount /run/netns/leak", "nsfs", "left behind: file /run/netns/leak (file)"];
            // What ip itself leaves, the folder and its mount, is not counted.
            run("ip netns add other");
            sees(|| run("ip netns add leak"), |()| run("ip netns del leak"), &pinned);
            let open = || File::open("/run/netns/other").unwrap();
            sees(open, drop, &["left behind: fd", "-> /run/netns/other"]);
            run("ip netns del other");
            let process = || {
                let mut child = Command::new("unshare").args(["--uts", "sleep", "1000"]).spawn().unwrap();
                let comm = format!("/proc/{}/comm", child.id());
                while fs::read_to_string(&comm).unwrap() != "sleep\n" {
                    assert!(child.try_wait().unwrap().is_none());
                }
                child
            };
            sees(process, |mut child| drop((child.kill(), child.wait())), &["left behind: namespace uts:["]);
        });
    }

    #[test]
    fn what_is_left_fails_the_test() {
        faultkit::require!(root);
        if std::env::var_os("CELLKIT_ISOLATED").is_some() {
            faultkit::isolated!(|| fs::write("/run/left", "").unwrap());
        }
        let failed = std::panic::catch_unwind(|| faultkit::isolated!(|| {}));
        assert!(failed.is_err());
    }
}
