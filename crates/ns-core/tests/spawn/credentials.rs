//! Who the payload is and what it may do, as its own /proc and other programs show it.

use ns_core::{Capabilities, Capability, CapabilitySet, Command, ErrorKind, Keyring, Securebits};

use crate::{output, sh};

const CHOWN: CapabilitySet = CapabilitySet::EMPTY.with(Capability::CHOWN);
const TWO: CapabilitySet = CHOWN.with(Capability::NET_ADMIN);

/// Bounding, permitted, effective, inheritable, ambient of a process's status file.
fn sets(status: &str) -> [u64; 5] {
    ["CapBnd:", "CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        u64::from_str_radix(line.trim(), 16).expect(name)
    })
}

fn bits(sets: Capabilities) -> [u64; 5] {
    [sets.bounding, sets.permitted, sets.effective, sets.inheritable, sets.ambient].map(CapabilitySet::bits)
}

fn status() -> Command {
    sh("cat /proc/self/status")
}

#[test]
fn wrong_credentials_are_refused_before_anything_is_done() {
    let new = || Command::new("/bin/true");
    let unknown = Securebits::from_bits_retain(1 << 30);
    for (command, call, said) in [
        (new().groups([1]).keep_groups(), "setgroups", "to be kept"),
        (new().groups(0..65537), "setgroups", "at most 65536"),
        (new().capabilities(Capabilities::NONE.with_effective(CHOWN)), "capset", "permitted"),
        (new().capabilities(Capabilities::NONE.with_inheritable(CHOWN)), "capset", "bounding"),
        (
            new().capabilities(Capabilities::from(CHOWN).with_ambient(CHOWN)),
            "prctl PR_CAP_AMBIENT_RAISE",
            "inheritable",
        ),
        (new().securebits(unknown), "prctl PR_SET_SECUREBITS", "0x40000000"),
        (new().keyring(Keyring::Named("".into())), "keyctl", "1 to 4095"),
        (new().keyring(Keyring::Named(".x".into())), "keyctl", "dot"),
        (new().keyring(Keyring::Named("x".repeat(4096).into())), "keyctl", "1 to 4095"),
        (new().keyring(Keyring::Named("a\0b".into())), "keyctl", "NUL"),
    ] {
        let error = command.plan().expect_err(said);
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, call), "{error}");
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    assert!(new().groups(0..65536).plan().is_ok());
}

#[test]
fn without_privilege_nothing_can_be_raised() {
    faultkit::require!(user);
    let (_, text) = output(status()).expect("start");
    let [_, permitted, effective, inheritable, ambient] = sets(&text);
    assert_eq!([permitted, effective, inheritable, ambient], [0; 4]);
    for (command, call) in [
        (status().capabilities(CHOWN), "capset"),
        (status().capabilities(Capabilities::keeping(CHOWN)), "capset"),
        (status().securebits(Securebits::NOROOT), "prctl PR_SET_SECUREBITS"),
        (status().user(0, 0), "setgroups"),
    ] {
        let error = command.spawn().expect_err(call);
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, call), "{error:#}");
        assert!(error.hint().is_some(), "{error:#}");
    }
}

mod root {
    use super::*;
    use crate::container::Container;
    use ns_core::{Namespaces, Net, NsFd, User};

    #[test]
    fn all_five_sets_are_those_asked_for() {
        faultkit::require!(root);
        let own = CapabilitySet::of_this_thread().expect("capget");
        let asked = [
            Capabilities::NONE,
            CapabilitySet::EMPTY.into(),
            CHOWN.into(),
            Capabilities::keeping(TWO),
            Capabilities::from(CHOWN).with_bounding(TWO),
            Capabilities::keeping(CHOWN).with_bounding(TWO).with_permitted(TWO).with_effective(CHOWN),
            Capabilities::from(TWO).with_inheritable(CHOWN),
            Capabilities::from(own),
            Capabilities::keeping(own).with_effective(CapabilitySet::EMPTY),
        ];
        for sets_asked in asked {
            // As root, as somebody else, and where others are.
            let other = Command::new("/bin/true").namespaces(Namespaces::NET).spawn_paused().expect("paused");
            let net = || other.namespace::<Net>().expect("net");
            for (uid, command) in
                [(0, status as fn() -> Command), (0, || status().user(0, 7)), (1000, || status().user(1000, 1000))]
            {
                for command in [command(), command().join(net())] {
                    let (_, text) = output(command.capabilities(sets_asked)).expect("start");
                    let expected = sets_asked.after_execve(uid, Securebits::empty());
                    assert_eq!(sets(&text), bits(expected), "{sets_asked} as {uid}");
                }
                let (_, text) = output(command().capabilities(sets_asked).no_new_privs()).expect("start");
                let expected = sets_asked.after_execve_without_gain(uid, Securebits::empty());
                assert_eq!(sets(&text), bits(expected), "{sets_asked} as {uid}, no_new_privs");
            }
        }
        let (_, text) = output(status()).expect("omitted");
        assert_eq!(sets(&text), [0; 5]);
        for (full, ambient) in
            [(Capabilities::from(CapabilitySet::FULL), 0), (Capabilities::keeping(CapabilitySet::FULL), own.bits())]
        {
            let (_, text) = output(status().capabilities(full)).expect("all");
            assert_eq!(sets(&text), [own.bits(), own.bits(), own.bits(), ambient, ambient], "{full}");
        }
    }

    #[test]
    fn what_the_caller_has_raised_is_not_passed_on() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            // As if it were run by `setpriv --inh-caps +chown --ambient-caps +chown`.
            crate::sys::raise_ambient(Capability::CHOWN as u8);
            let here = std::fs::read_to_string("/proc/thread-self/status").expect("status");
            assert_eq!(&sets(&here)[3..], [CHOWN.bits(); 2]);
            let inherited = std::process::Command::new("cat").arg("/proc/self/status").output().expect("cat");
            assert_eq!(&sets(&String::from_utf8_lossy(&inherited.stdout))[3..], [CHOWN.bits(); 2], "std passes it on");
            for command in [status(), status().user(1000, 1000)] {
                let (_, text) = output(command).expect("start");
                assert_eq!(sets(&text), [0; 5]);
            }
            crate::sys::lower_inheritable(Capability::CHOWN as u8);
        });
    }

    #[test]
    fn in_a_user_namespace_too() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            for (sets_asked, user) in [
                (Capabilities::NONE, None),
                (CHOWN.into(), None),
                (Capabilities::keeping(TWO), Some((1000, 1000))),
                (CHOWN.into(), Some((1000, 1000))),
            ] {
                let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
                let command = status().namespaces(Namespaces::USER).capabilities(sets_asked);
                let command = match user {
                    Some((uid, gid)) => command.user(uid, gid),
                    None => command,
                };
                let plan = command.stdout(ns_core::Stdio::Fd(writer)).plan().expect("plan");
                let paused = plan.spawn_paused().expect("paused");
                for map in ["uid_map", "gid_map"] {
                    std::fs::write(format!("/proc/{}/{map}", paused.pid()), "0 0 65536").expect(map);
                }
                let mut child = paused.resume(&mut ()).expect("resume");
                drop(plan);
                let text = std::io::read_to_string(std::fs::File::from(reader)).expect("output");
                assert!(child.wait().expect("wait").success());
                let expected = sets_asked.after_execve(user.map_or(0, |(uid, _)| uid), Securebits::empty());
                assert_eq!(sets(&text), bits(expected), "{sets_asked} as {user:?}");
            }
        });
    }

    #[test]
    fn in_the_user_namespace_of_others_too() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(|| {
            let others = Container::new(&["--user", "--map-root-user"], "ready");
            let pidfd = others.pidfd();
            for sets_asked in [Capabilities::NONE, CHOWN.into(), Capabilities::keeping(TWO)] {
                let user = NsFd::<User>::of_process(&pidfd).expect("user namespace");
                let script = "cat /proc/self/status; readlink /proc/self/ns/user";
                let command = sh(script).join(user).keep_groups().capabilities(sets_asked);
                let (_, text) = output(command).expect("start");
                let expected = sets_asked.after_execve(0, Securebits::empty());
                assert_eq!(sets(&text), bits(expected), "{sets_asked}");
                let there = std::fs::read_link(format!("/proc/{}/ns/user", others.pid)).expect("user");
                assert!(text.ends_with(&format!("{}\n", there.display())), "{text}");
            }
        });
    }

    #[test]
    fn a_running_process_is_read_by_its_pidfd() {
        faultkit::require!(root);
        let mut child = sh("read x").stdin(pipe_that_waits()).capabilities(TWO).spawn().expect("start");
        let read = Capabilities::of_process(&child).expect("status");
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).expect("status");
        assert_eq!(bits(read), sets(&text));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(Capabilities::of_process(&child).expect_err("reaped").kind(), ErrorKind::Gone);
    }

    /// A pipe that nobody writes to: the writing end is never closed while this process lives.
    fn pipe_that_waits() -> ns_core::Stdio {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
        std::mem::forget(writer);
        ns_core::Stdio::Fd(reader)
    }

    #[test]
    fn securebits_take_root_its_power() {
        faultkit::require!(root, program("setpriv"));
        let bits = Securebits::NOROOT | Securebits::NOROOT_LOCKED | Securebits::NO_CAP_AMBIENT_RAISE;
        for command in [Command::new("setpriv").arg("--dump"), Command::new("setpriv").arg("--dump").user(0, 0)] {
            let asked = command.securebits(bits).capabilities(Capabilities::keeping(TWO).with_bounding(TWO));
            let (status, text) = output(asked).expect("start");
            assert!(status.success());
            let line = text.lines().find(|line| line.starts_with("Securebits:")).expect("securebits");
            // How it writes the third depends on its version.
            assert!(line.starts_with("Securebits: noroot,noroot_locked,"), "{text}");
            assert!(text.contains("Ambient capabilities: chown,net_admin\n"), "{text}");
        }
        // Root without root's power: bounding alone gives nothing any more.
        let (_, text) = output(status().capabilities(TWO).securebits(Securebits::NOROOT)).expect("start");
        assert_eq!(sets(&text), super::bits(Capabilities::from(TWO).after_execve(0, Securebits::NOROOT)));
    }

    #[test]
    fn capabilities_nobody_has_are_refused() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            // Whatever this machine's root has, there is one that it has not any more.
            let refused = crate::sys::in_a_fork(|| {
                crate::sys::drop_capability(Capability::SYS_PACCT as u8);
                let lacking = CapabilitySet::EMPTY.with(Capability::SYS_PACCT);
                let error = status().capabilities(lacking).spawn().expect_err("nobody has it");
                assert_eq!((error.operation(), error.raw_os_error()), ("capset", Some(libc::EPERM)));
                assert!(error.hint().expect("hint").contains("does not have"));
                assert!(error.to_string().contains(&lacking.to_string()), "{error}");
                1
            });
            assert_eq!(refused, 1);
        });
    }

    #[test]
    fn session_keyrings() {
        faultkit::require!(root);
        let here = crate::sys::session_keyring();
        let plan = |keyring| {
            let name = "credentials::root::prints_its_session_keyring";
            Command::new(std::env::current_exe().expect("exe"))
                .args(["--exact", name, "--nocapture"])
                .env("PRINT_KEYRING", "1")
                .keyring(keyring)
        };
        let serial = |keyring| {
            let (_, text) = output(plan(keyring)).expect("start");
            let value = text.split("session keyring ").nth(1).and_then(|rest| rest.split_whitespace().next());
            value.and_then(|value| value.parse::<i64>().ok()).expect("a serial number")
        };
        assert_eq!(serial(Keyring::Keep), here);
        let fresh = serial(Keyring::New);
        assert!(fresh > 0 && fresh != here);
        // What the payload sees of its own: the name, and that it is another one.
        let name = format!("cellkit-test-{}", std::process::id());
        let (_, text) = output(plan(Keyring::Named(name.clone().into()))).expect("start");
        assert!(text.contains(&format!("named {name}:")), "{text}");
        assert_eq!(crate::sys::session_keyring(), here, "the caller's own is as it was");
    }

    #[test]
    fn prints_its_session_keyring() {
        if std::env::var_os("PRINT_KEYRING").is_some() {
            let serial = crate::sys::session_keyring();
            let keys = std::fs::read_to_string("/proc/keys").expect("keys");
            let line = keys.lines().find(|line| line.starts_with(&format!("{serial:08x} ")));
            let name = line.and_then(|line| line.split("keyring").nth(1)).unwrap_or_default();
            println!("session keyring {serial} named {}", name.trim());
        }
    }
}
