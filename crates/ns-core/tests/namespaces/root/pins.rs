//! Namespaces kept by a file, together with `ip netns` and `nsenter`.

use std::fs;
use std::path::Path;

use ns_core::{
    ErrorKind, Ipc, Mount, Namespaces, Net, NsFd, PausedChild, Time, User, Uts, ensure_netns_dir, pins, unpin, unshare,
};

use crate::{end, link, run, sleeper, sys};

/// A process that waits in new namespaces. It has not made its mounts private yet.
fn waiting(kinds: Namespaces) -> PausedChild {
    ns_core::Command::new("/bin/sleep").arg("100").namespaces(kinds).spawn_paused().expect("paused")
}

/// As [`waiting`], in a mount namespace that counts as younger than this process's: on Linux 6.18 that is a matter of
/// the processors that made the two.
fn younger(kinds: Namespaces) -> PausedChild {
    let number = |namespace: ns_core::Result<NsFd<Mount>>| namespace.expect("mnt").mount_namespace_id().ok();
    for _ in 0..1000 {
        let child = waiting(kinds);
        if number(child.namespace()).is_none_or(|theirs| Some(theirs) > number(NsFd::of_this_thread())) {
            return child;
        }
    }
    panic!("all mount namespaces are older than this one");
}

/// What [`ensure_netns_dir`] made goes away again, for the ledger.
fn remove_netns_dir() {
    run("umount", &["/run/netns"]);
    fs::remove_dir("/run/netns").expect("rmdir");
}

fn netns_mounts() -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts.lines().filter(|line| line.contains(" /run/netns ")).count()
}

#[test]
fn ip_netns_knows_ours_and_we_know_theirs() {
    faultkit::require!(root, program("ip"));
    faultkit::isolated!(|| {
        // The machine's own, if it has one, is hidden below this test's /run, but still in the table.
        let hidden = netns_mounts();
        let dir = ensure_netns_dir().expect("dir");
        assert_eq!(ensure_netns_dir().expect("again"), dir);
        assert_eq!(netns_mounts(), hidden + 1, "one mount");
        let child = sleeper(Namespaces::NET);
        let net: NsFd<Net> = child.namespace().expect("net");
        net.pin(dir.join("ours")).expect("pin");
        // Also with nobody in it.
        end(child);
        run("ip", &["netns", "add", "theirs"]);

        let names =
            |text: &str| text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
        let mut listed = names(&run("ip", &["netns", "list"]));
        listed.sort_unstable();
        assert_eq!(listed, ["ours", "theirs"]);
        let found = pins(dir).expect("pins");
        assert_eq!(
            found.iter().map(|pin| pin.path.as_path()).collect::<Vec<_>>(),
            [dir.join("ours"), dir.join("theirs")]
        );
        assert!(found.iter().all(|pin| pin.kind == Namespaces::NET));
        for pin in &found {
            let name = pin.path.file_name().unwrap().to_str().unwrap();
            let seen = run("ip", &["netns", "exec", name, "readlink", "/proc/self/ns/net"]);
            assert_eq!(seen, format!("net:[{}]", pin.id));
            assert_eq!(seen, NsFd::<Net>::open(&pin.path).expect("open").to_string());
            assert_eq!(seen, pin.open().expect("open").to_string());
        }
        assert_eq!(found[0].id, net.id());

        run("ip", &["netns", "del", "ours"]);
        unpin(dir.join("theirs")).expect("unpin");
        assert_eq!(run("ip", &["netns", "list"]), "");
        assert_eq!(pins(dir).expect("pins"), []);
        remove_netns_dir();
    });
}

#[test]
fn the_directory_is_made_once_whoever_begins() {
    faultkit::require!(root, program("ip"));
    faultkit::isolated!(|| {
        let hidden = netns_mounts();
        for _ in 0..100 {
            // All at once: without the lock one would mount over the other's names.
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        ensure_netns_dir().expect("dir");
                    });
                }
            });
            assert_eq!(netns_mounts(), hidden + 1);
            remove_netns_dir();
        }
        // ip holds the same lock, and finds what is there; and so does this what ip has made.
        run("ip", &["netns", "add", "theirs"]);
        ensure_netns_dir().expect("dir");
        assert_eq!((netns_mounts(), pins("/run/netns").expect("pins").len()), (hidden + 1, 1));
        unpin("/run/netns/theirs").expect("unpin");
        remove_netns_dir();
    });
}

#[test]
fn a_pin_is_in_all_mount_namespaces_and_goes_from_all() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = ensure_netns_dir().expect("dir");
        let other = waiting(Namespaces::MOUNT);
        let child = sleeper(Namespaces::NET);
        let seen_by_other = || {
            let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", other.pid())).expect("mountinfo");
            mounts.lines().filter(|line| line.contains(" /run/netns/shared ")).count()
        };
        child.namespace::<Net>().expect("net").pin(dir.join("shared")).expect("pin");
        assert_eq!(seen_by_other(), 1);
        unpin(dir.join("shared")).expect("unpin");
        assert_eq!(seen_by_other(), 0);
        end(child);
        drop(other);
        remove_netns_dir();
    });
}

#[test]
fn every_kind_can_be_pinned_and_nsenter_enters_it() {
    faultkit::require!(root, program("nsenter"));
    faultkit::isolated!(|| {
        let dir = Path::new("/run/pins");
        fs::create_dir(dir).expect("mkdir");
        let child = younger(Namespaces::CONTAINER - Namespaces::USER).resume(&mut ()).expect("resume");
        run("nsenter", &["-u", "-t", &child.pid().to_string(), "hostname", "pinned"]);
        let paused = ns_core::Command::new("/bin/true").namespaces(Namespaces::USER).spawn_paused().expect("paused");
        paused.namespace::<User>().expect("user").pin(dir.join("user")).expect("user");
        child.namespace::<Uts>().expect("uts").pin(dir.join("uts")).expect("uts");
        child.namespace::<Ipc>().expect("ipc").pin(dir.join("ipc")).expect("ipc");
        child.namespace::<Mount>().expect("mnt").pin(dir.join("mnt")).expect("mnt");
        child.namespace::<ns_core::Cgroup>().expect("cgroup").pin(dir.join("cgroup")).expect("cgroup");
        child.namespace::<ns_core::Pid>().expect("pid").pin(dir.join("pid")).expect("pid");
        child.namespace::<Time>().expect("time").pin(dir.join("time")).expect("time");
        let (mount, user) = (link(child.pid(), "mnt"), link(paused.pid(), "user"));
        let found = pins(dir).expect("pins");
        let kinds = found.iter().fold(Namespaces::empty(), |kinds, pin| kinds | pin.kind);
        assert_eq!((found.len(), kinds), (7, Namespaces::all() - Namespaces::NET));
        end(child);
        drop(paused);
        assert_eq!(run("nsenter", &["--uts=/run/pins/uts", "hostname"]), "pinned");
        assert_eq!(run("nsenter", &["--mount=/run/pins/mnt", "readlink", "/proc/self/ns/mnt"]), mount);
        assert_eq!(
            run("stat", &["-L", "-c", "%i", "/run/pins/user"]),
            user.trim_matches(|c: char| !c.is_ascii_digit())
        );
        for pin in found {
            unpin(&pin.path).expect("unpin");
        }
        fs::remove_dir(dir).expect("empty");
    });
}

#[test]
fn a_mount_namespace_is_pinned_in_a_private_place_only_and_not_in_itself() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = Path::new("/run/pins");
        fs::create_dir(dir).expect("mkdir");
        run("mount", &["-t", "tmpfs", "pins", "/run/pins"]);
        run("mount", &["--make-shared", "/run/pins"]);
        let child = younger(Namespaces::MOUNT);
        let mount: NsFd<Mount> = child.namespace().expect("mnt");
        let own = NsFd::<Mount>::of_this_thread().expect("mnt");
        let refused = |namespace: &NsFd<Mount>, said| {
            let error = namespace.pin(dir.join("mnt")).expect_err("a loop");
            assert_eq!((error.operation(), error.kind()), ("move_mount", ErrorKind::Invalid), "{error:#}");
            assert!(error.hint().expect("hint").contains(said), "{error:#}");
            assert!(!dir.join("mnt").exists(), "rolled back");
        };
        refused(&mount, "--make-private");
        run("mount", &["--make-private", "/run/pins"]);
        refused(&own, "older");
        mount.pin(dir.join("mnt")).expect("pin");
        assert_eq!(NsFd::<Mount>::open(dir.join("mnt")).expect("open"), mount);
        unpin(dir.join("mnt")).expect("unpin");
        drop(child);
        run("umount", &["/run/pins"]);
        fs::remove_dir(dir).expect("rmdir");
    });
}

#[test]
fn names_that_are_taken_and_what_is_no_pin() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = Path::new("/run/pins");
        fs::create_dir(dir).expect("mkdir");
        let uts = NsFd::<Uts>::of_this_thread().expect("uts");
        uts.pin(dir.join("pin")).expect("pin");
        fs::write(dir.join("empty"), "").expect("empty");
        fs::write(dir.join("file"), "text").expect("file");
        fs::create_dir(dir.join("dir")).expect("dir");
        run("mkfifo", &["/run/pins/fifo"]);
        std::os::unix::fs::symlink("pin", dir.join("link")).expect("link");
        for (name, said) in [
            ("pin", format!("a uts namespace ({}) is pinned there", uts.id())),
            ("empty", "an empty file".to_owned()),
            ("file", "something else".to_owned()),
            ("dir", "something else".to_owned()),
            ("fifo", "something else".to_owned()),
            ("link", "something else".to_owned()),
        ] {
            let error = uts.pin(dir.join(name)).expect_err(name);
            assert_eq!((error.operation(), error.kind()), ("openat", ErrorKind::AlreadyExists), "{error:#}");
            assert!(error.hint().expect("hint").contains(&said), "{name}: {error:#}");
        }
        assert_eq!(uts.pin(dir.join("no/such/dir")).expect_err("nowhere").kind(), ErrorKind::NotFound);
        for error in [
            uts.pin("/run/pins/a\0b").expect_err("NUL"),
            unpin("/run/pins/a\0b").expect_err("NUL"),
            pins("/run/pins\0").expect_err("NUL"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("NUL"), "{error}");
        }

        let found = pins(dir).expect("pins");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(pins("/run/no-such-dir").expect_err("none").kind(), ErrorKind::NotFound);

        for name in ["empty", "file", "dir", "fifo", "link"] {
            let error = unpin(dir.join(name)).expect_err(name);
            assert_eq!((error.operation(), error.kind()), ("umount2", ErrorKind::Invalid), "{error:#}");
            assert_eq!(error.hint().is_some_and(|hint| hint.contains("Remove it")), name == "empty", "{error:#}");
            assert!(fs::symlink_metadata(dir.join(name)).is_ok(), "left alone");
        }
        assert_eq!(unpin(dir.join("none")).expect_err("none").kind(), ErrorKind::NotFound);

        let error = NsFd::<Uts>::open(dir.join("empty")).expect_err("empty");
        assert!(error.hint().expect("hint").contains("an empty file"), "{error:#}");
        assert_eq!(NsFd::<Uts>::open(dir.join("fifo")).expect_err("FIFO").kind(), ErrorKind::Invalid);
        let error = NsFd::<Net>::open(dir.join("pin")).expect_err("wrong kind");
        assert!(error.to_string().contains("this is a uts namespace, not a net namespace"), "{error}");
        assert_eq!(error.hint(), None, "a file of nsfs is no left-over");
        unpin(dir.join("pin")).expect("unpin");
        fs::remove_dir_all(dir).expect("remove");
    });
}

#[test]
fn of_many_who_want_a_name_one_gets_it() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let uts = NsFd::<Uts>::of_this_thread().expect("uts");
        for _ in 0..20 {
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| uts.pin("/run/wanted"))).collect();
                threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
            });
            let losers = outcomes.into_iter().filter_map(Result::err);
            assert_eq!(losers.map(|error| assert_eq!(error.kind(), ErrorKind::AlreadyExists)).count(), 7);
            unpin("/run/wanted").expect("unpin");
        }
    });
}

#[test]
fn without_the_right_no_file_is_left() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        sys::in_a_fork(|| {
            let uts = NsFd::<Uts>::of_this_thread().expect("uts");
            sys::drop_sys_admin();
            let error = uts.pin(dir.path().join("pin")).expect_err("no capability");
            assert_eq!(error.kind(), ErrorKind::Permission, "{error:#}");
            assert!(error.hint().expect("hint").contains("CAP_SYS_ADMIN"), "{error:#}");
            assert!(!dir.path().join("pin").exists());
            let error = ns_core::ensure_netns_dir().expect_err("no capability");
            assert_eq!((error.operation(), error.kind()), ("mount", ErrorKind::Permission));
            assert!(error.hint().expect("hint").contains("CAP_SYS_ADMIN"), "{error:#}");
        });
    });
}

#[test]
fn a_pin_of_a_more_privileged_namespace_is_locked() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = Path::new("/run/pins");
        fs::create_dir(dir).expect("mkdir");
        NsFd::<Uts>::of_this_thread().expect("uts").pin(dir.join("pin")).expect("pin");
        sys::in_a_fork(|| {
            unshare(Namespaces::USER | Namespaces::MOUNT).expect("unshare");
            let error = unpin(Path::new("/run/pins/pin")).expect_err("locked");
            assert_eq!(error.operation(), "umount2");
            assert!(error.hint().is_some(), "{error:#}");
        });
        unpin(dir.join("pin")).expect("unpin");
        fs::remove_dir(dir).expect("rmdir");
    });
}
