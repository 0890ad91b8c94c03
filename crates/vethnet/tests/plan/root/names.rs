//! The files as the C library of a container reads them.

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;

use vethnet::{AddressPlan, HostName, Hosts, ResolvConf, Wish};

fn run(program: &str, words: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(words).output().expect(program);
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The addresses of a name, as the C library finds them.
fn getent(name: &str) -> Vec<String> {
    let (_, text) = run("getent", &["ahosts", name]);
    let mut addresses: Vec<_> =
        text.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn name(name: &str) -> HostName {
    HostName::new(name).expect("name")
}

fn mount(words: &[&str]) {
    assert!(run("mount", words).0, "mount {words:?}");
}

#[test]
fn containers_of_one_network_find_each_other_as_they_come_and_go() {
    faultkit::require!(root, program("getent"), program("mount"), program("umount"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let plan = AddressPlan::new(dir.path().join("plan")).subnet("10.88.0.0/24".parse().expect("range"));
        let plan = plan.subnet("fd00:88::/64".parse().expect("range"));
        let file = plan.hosts_file().expect("file");
        let path = dir.path().join("plan/hosts");
        // As a runtime does: once, and never again.
        mount(&["--bind", "-o", "ro", &path.display().to_string(), "/etc/hosts"]);
        assert_eq!(getent("web"), [""; 0]);
        plan.lease(Wish::new("c1").name(name("web")).name(name("www.internal"))).expect("web");
        assert_eq!(getent("web"), ["10.88.0.2", "fd00:88::2"]);
        assert_eq!(getent("www.internal"), ["10.88.0.2", "fd00:88::2"]);
        plan.lease(Wish::new("c2").name(name("db"))).expect("db");
        // Two that serve the same.
        plan.lease(Wish::new("c3").name(name("web"))).expect("another web");
        assert_eq!(getent("web"), ["10.88.0.2", "10.88.0.4", "fd00:88::2", "fd00:88::4"]);
        assert_eq!(getent("db"), ["10.88.0.3", "fd00:88::3"]);
        assert_eq!(getent("localhost"), ["127.0.0.1", "::1"]);
        plan.release("c1").expect("release");
        assert_eq!(getent("web"), ["10.88.0.4", "fd00:88::4"]);
        assert_eq!(plan.collect(|owner| owner == "c2").expect("collect"), ["c3"]);
        assert_eq!(getent("web"), [""; 0]);
        assert_eq!(getent("db"), ["10.88.0.3", "fd00:88::3"]);
        // What it is without the plan's own file, with a line beside.
        let own = plan.hosts().expect("hosts").entry([192, 0, 2, 9].into(), [name("mirror")]);
        assert!(run("umount", &["/etc/hosts"]).0);
        let other = dir.path().join("own");
        fs::write(&other, "").expect("write");
        mount(&["--bind", &other.display().to_string(), "/etc/hosts"]);
        own.write_to(fs::File::options().write(true).open("/etc/hosts").expect("open")).expect("write");
        assert_eq!(
            (getent("mirror"), getent("db")),
            (vec!["192.0.2.9".into()], vec!["10.88.0.3".into(), "fd00:88::3".into()])
        );
        assert!(run("umount", &["/etc/hosts"]).0);
        drop(file);
    });
}

#[test]
fn a_name_in_a_hostile_directory_is_replaced_and_not_followed() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let victim = dir.path().join("victim");
        fs::write(&victim, "the host's").expect("write");
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).expect("mkdir");
        for trap in ["hosts", ".hosts.vethnet"] {
            std::os::unix::fs::symlink(&victim, etc.join(trap)).expect("symlink");
        }
        let fd = fs::File::open(&etc).expect("open");
        Hosts::new().replace_in(fd.as_fd(), c"hosts").expect("replace");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "the host's");
        assert!(fs::symlink_metadata(etc.join("hosts")).expect("stat").is_file());
        assert_eq!(fs::read_to_string(etc.join("hosts")).expect("read"), Hosts::new().to_string());
        assert_eq!(fs::read_dir(&etc).expect("list").count(), 1, "nothing else is left");
        for wrong in [c"", c".", c"..", c"a/b", c"/etc/hosts"] {
            Hosts::new().replace_in(fd.as_fd(), wrong).expect_err("it is no name");
        }
    });
}

#[test]
fn nameservers_behind_a_stub() {
    faultkit::require!(root, program("mount"), program("umount"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let stub = dir.path().join("resolv.conf");
        fs::write(&stub, "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n").expect("write");
        mount(&["--bind", &stub.display().to_string(), "/etc/resolv.conf"]);
        mount(&["-t", "tmpfs", "tmpfs", "/run"]);
        let error = ResolvConf::of_host().expect_err("nobody to ask");
        assert!(error.to_string().contains("/etc/resolv.conf") && error.hint().is_some(), "{error:#}");
        fs::create_dir_all("/run/systemd/resolve").expect("mkdir");
        fs::write("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver fe80::1%2\nsearch lan corp\n")
            .expect("write");
        let text = ResolvConf::of_host().expect("the real ones").text().expect("text");
        assert_eq!(text, "search lan corp\nnameserver 192.0.2.53\n");
        fs::write(&stub, "nameserver 192.0.2.1\n").expect("write");
        assert_eq!(ResolvConf::of_host().expect("its own").text().expect("text"), "nameserver 192.0.2.1\n");
        assert!(run("umount", &["/run"]).0 && run("umount", &["/etc/resolv.conf"]).0);
    });
}
