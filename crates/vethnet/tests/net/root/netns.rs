//! Network namespaces and their names, looked at with ip, lsns and /proc.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use faultkit::{End, Failure, Fault, Sweep};
use nix::libc;
use vethnet::{ErrorKind, Net, Netns};

use super::world::{Ns, wait};

/// An empty /run of the test's own: the machine's names are none of its business.
struct Run;

impl Run {
    fn new() -> Self {
        Ns::host().output("mount", "-t tmpfs none /run");
        Self
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let status = Command::new("umount").args(["-R", "/run"]).status().expect("umount");
        assert!(status.success() || thread::panicking());
    }
}

fn mountinfo(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo")
}

/// The names that `ip` knows.
fn names() -> Vec<String> {
    let text = Ns::host().output("ip", "netns list");
    let mut names: Vec<_> =
        text.lines().map(|line| line.split_whitespace().next().expect("a name").to_owned()).collect();
    names.sort();
    names
}

fn listed() -> Vec<(String, Option<u64>)> {
    let list = Netns::list_named().expect("list");
    list.into_iter().map(|found| (found.name.into_string().expect("text"), found.id.map(|id| id.inode()))).collect()
}

/// A program that waits in mount and other namespaces made by `unshare`.
fn sleeper(options: &[&str]) -> Child {
    let child =
        Command::new("unshare").args(options).args(["sleep", "100"]).stdin(Stdio::null()).spawn().expect("unshare");
    let until = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(format!("/proc/{}/comm", child.id())).expect("comm").trim() != "sleep" {
        assert!(Instant::now() < until, "it does not start");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

fn end(mut child: Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn a_name_is_one_of_ip_netns() {
    faultkit::require!(root, program("ip"), program("lsns"));
    isolated!(|| {
        let _run = Run::new();
        assert!(listed().is_empty(), "without a directory");
        let web = Netns::create_named("web").expect("create");
        assert_eq!(names(), ["web"]);
        assert_eq!(listed(), [("web".into(), Some(web.id().inode()))]);
        assert_eq!(fs::metadata("/run/netns/web").expect("stat").ino(), web.id().inode());
        let host = Ns::host();
        assert_eq!(host.output("ip", "netns exec web readlink /proc/self/ns/net").trim(), web.to_string());
        let lo = host.output("ip", "-n web -br link");
        assert!(lo.starts_with("lo") && lo.lines().count() == 1, "{lo}");
        // lsns shows namespaces with a process, and the name they have.
        let sleep = web.run(|| Command::new("sleep").arg("100").spawn().expect("sleep")).expect("run");
        let lsns = host.output("lsns", "-t net -o NS,NSFS -n -r");
        assert!(lsns.contains(&format!("{} /run/netns/web", web.id().inode())), "{lsns}");
        end(sleep);
        assert!(mountinfo("self").lines().any(|line| line.contains(" /run/netns/web ")
            && line.contains(&web.to_string())
            && line.contains("shared:")));

        let other = Netns::open_named("web").expect("open");
        assert_eq!(other, web);
        let error = Netns::create_named("web").expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.hint().expect("hint").contains("open it"), "{error:#}");
        Netns::remove_named("web").expect("remove");
        assert!(names().is_empty() && listed().is_empty());
        assert!(!mountinfo("self").contains("/run/netns/web"));
        // The handle keeps it.
        other.run(|| Command::new("ip").arg("link").output().expect("ip")).expect("run");
        for result in [Netns::open_named("web").map(drop), Netns::remove_named("web")] {
            assert_eq!(result.expect_err("gone").kind(), ErrorKind::NotFound);
        }
    });
}

#[test]
fn names_of_ip_netns_are_ours() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let _run = Run::new();
        let host = Ns::host();
        let first = Netns::create_named("first").expect("create");
        host.output("ip", "netns add second");
        assert_eq!(names(), ["first", "second"]);
        assert_eq!(
            mountinfo("self").lines().filter(|line| line.contains(&first.to_string())).count(),
            1,
            "ip netns found the directory as it wants it"
        );
        let second = Netns::open_named("second").expect("open");
        assert_eq!(host.output("ip", "netns exec second readlink /proc/self/ns/net").trim(), second.to_string());
        Netns::remove_named("second").expect("remove");
        host.output("ip", "netns delete first");
        assert!(names().is_empty() && listed().is_empty());
        // And where `ip netns` was first.
        host.output("umount", "/run/netns");
        host.output("ip", "netns add third");
        Netns::create_named("fourth").expect("create");
        assert_eq!(names(), ["fourth", "third"]);
        Netns::remove_named("third").expect("remove");
        Netns::remove_named("fourth").expect("remove");
    });
}

/// Whatever copies of a name other mount namespaces have, after its removal the namespace ends.
#[test]
fn a_removed_name_is_gone_from_every_mount_namespace() {
    faultkit::require!(root, program("ip"), program("unshare"));
    isolated!(|| {
        let _run = Run::new();
        let host = Ns::host();
        for propagation in ["private", "slave", "shared", "unchanged"] {
            let web = Netns::create_named("web").expect("create");
            let id = web.to_string();
            host.output("ip", "link add outside type veth peer name inside netns web");
            drop(web);
            let other = sleeper(&["-m", "--propagation", propagation]);
            let pid = other.id().to_string();
            assert!(mountinfo(&pid).contains(&id), "{propagation}: it has a copy");
            Netns::remove_named("web").expect("remove");
            for entry in fs::read_dir("/proc").expect("/proc") {
                let name = entry.expect("entry").file_name().into_string().expect("text");
                if name.bytes().all(|byte| byte.is_ascii_digit()) {
                    let text = fs::read_to_string(format!("/proc/{name}/mountinfo")).unwrap_or_default();
                    assert!(!text.contains(&id), "{propagation}: {text}");
                }
            }
            let until = Instant::now() + Duration::from_secs(20);
            while host.links() != ["lo"] {
                assert!(Instant::now() < until, "{propagation}: the namespace lives on");
                thread::sleep(Duration::from_millis(10));
            }
            end(other);
        }
        // A name that comes later does not appear where the mounts are private.
        let other = sleeper(&["-m", "--propagation", "private"]);
        let late = Netns::create_named("late").expect("create");
        assert!(!mountinfo(&other.id().to_string()).contains(&late.to_string()));
        Netns::remove_named("late").expect("remove");
        end(other);
    });
}

#[test]
fn of_sixty_four_that_want_one_name_one_gets_it() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let _run = Run::new();
        for round in 0..2 {
            if round == 1 {
                // What a killed one left changes nothing.
                fs::write("/run/netns/web", "").expect("write");
                fs::set_permissions("/run/netns/web", fs::Permissions::from_mode(0o444)).expect("chmod");
            }
            let barrier = Barrier::new(64);
            let results: Vec<_> = thread::scope(|scope| {
                let racers: Vec<_> = (0..64)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            Netns::create_named("web")
                        })
                    })
                    .collect();
                racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
            });
            let mut winners = Vec::new();
            for result in results {
                match result {
                    Ok(netns) => winners.push(netns),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}"),
                }
            }
            assert_eq!(winners.len(), 1);
            assert_eq!(listed(), [("web".into(), Some(winners[0].id().inode()))]);
            assert_eq!(mountinfo("self").matches("/run/netns/web").count(), 1);
            Netns::remove_named("web").expect("remove");
        }
    });
}

#[test]
fn what_is_in_the_place_of_a_name() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let _run = Run::new();
        let host = Ns::host();
        Netns::remove_named(Netns::create_named("a").map(|_| "a").expect("create")).expect("remove");
        let error = Netns::open_named("never").expect_err("nothing of this name");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().expect("hint").contains("ip netns list"), "{error:#}");
        // Ours, theirs that is fresh, theirs that is old.
        for (name, mode, old) in [("ours", 0o444, false), ("fresh", 0, false), ("old", 0, true)] {
            let path = format!("/run/netns/{name}");
            fs::write(&path, "").expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            if old {
                host.output("touch", &format!("-d 2020-01-01 {path}"));
            }
            let error = Netns::open_named(name).expect_err("nothing there");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.hint().expect("hint").contains("was killed"), "{error:#}");
        }
        assert_eq!(listed(), [("fresh".into(), None), ("old".into(), None), ("ours".into(), None)]);
        assert_eq!(Netns::reconcile_named().expect("reconcile"), ["old", "ours"]);
        let error = Netns::create_named("fresh").expect_err("ip may be at it");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.hint().expect("hint").contains("under way or killed"), "{error:#}");
        Netns::remove_named("fresh").expect("a leftover is removed");

        // What is none of ours stays.
        fs::write("/run/netns/file", "text").expect("write");
        fs::create_dir("/run/netns/dir").expect("mkdir");
        std::os::unix::fs::symlink("/proc/self/ns/net", "/run/netns/link").expect("symlink");
        host.output("mkfifo", "/run/netns/fifo");
        for name in ["file", "dir", "link", "fifo"] {
            assert_eq!(Netns::create_named(name).expect_err(name).kind(), ErrorKind::AlreadyExists, "{name}");
            assert_eq!(Netns::remove_named(name).expect_err(name).kind(), ErrorKind::Invalid, "{name}");
        }
        assert!(listed().is_empty());
        assert!(Netns::reconcile_named().expect("reconcile").is_empty());
        assert_eq!(fs::read_dir("/run/netns").expect("dir").count(), 4);
    });
}

#[test]
fn a_kill_anywhere_leaves_nothing_that_is_in_the_way() {
    faultkit::require!(root);
    isolated!(limit_secs = 120, || {
        let _run = Run::new();
        // The directory is there from now on.
        Netns::remove_named(Netns::create_named("web").map(|_| "web").expect("create")).expect("remove");
        let failure =
            |error: vethnet::Error| Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}"));
        let seen = RefCell::new(BTreeSet::new());
        let both = Sweep::new(|counted| {
            counted.run(|| Netns::create_named("web").and_then(|_| Netns::remove_named("web"))).map_err(failure)
        })
        .recover(|| {
            // Whatever is there: the name can be had, or is had and can be removed.
            let left = listed();
            seen.borrow_mut().insert(left.first().map(|(_, id)| id.is_some()));
            match Netns::create_named("web") {
                Ok(_) => assert!(left.is_empty() || left == [("web".into(), None)]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}"),
            }
            Netns::remove_named("web").expect("remove");
        });
        let swept = both.each(Fault::Kill, |run| match run.end {
            End::Killed => Ok(()),
            _ => Err(format!("{:?}", run.end)),
        });
        assert!(swept.runs > 20, "{swept:?}");
        assert_eq!(seen.take(), BTreeSet::from([None, Some(false), Some(true)]), "nothing, an empty file, a name");
    });
}

#[test]
fn a_call_that_fails_leaves_nothing() {
    faultkit::require!(root);
    isolated!(limit_secs = 120, || {
        let _run = Run::new();
        Netns::remove_named(Netns::create_named("web").map(|_| "web").expect("create")).expect("remove");
        let failure =
            |error: vethnet::Error| Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}"));
        let create = Sweep::new(|counted| {
            let created = counted.run(|| Netns::create_named("web").map(drop));
            // One that failed has left no name; but for the unlink, nothing of it.
            match (&created, listed().as_slice()) {
                (Ok(()), [(_, Some(_))]) => Netns::remove_named("web").expect("remove"),
                (Err(_), []) => {}
                (_, other) => return Err(Failure::new("list", None, format!("{created:?} and {other:?}"))),
            }
            created.map_err(failure)
        })
        .spare("the stack for signals of a new thread, which the standard library insists on", |call| {
            !call.is_callers() && ["mmap", "mprotect"].contains(&&*call.name)
        })
        .spare("masking signals cannot fail, and the C library does not look", |call| call.name == "rt_sigprocmask");
        for errno in [libc::EPERM, libc::ENOMEM] {
            let swept = create.each(Fault::Fail(errno), |run| match &run.end {
                // What cannot fail, what is done another way then, and the look before the work.
                End::Returned(Ok(())) => match &*run.call.name {
                    "close" | "prctl" | "sched_getaffinity" | "ioctl" | "clone3" => Ok(()),
                    "flock" if run.call.args[1] == libc::LOCK_UN as u64 => Ok(()),
                    "openat" if run.call.is_callers() && run.call.number == 1 => Ok(()),
                    other => Err(format!("{other} failed, and all went well")),
                },
                End::Returned(Err(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            });
            assert!(swept.runs > 15, "{swept:?}");
        }
    });
}

#[test]
fn the_namespace_of_a_process_a_path_and_a_thread() {
    faultkit::require!(root, program("unshare"));
    isolated!(|| {
        let here = Netns::of_this_thread().expect("here");
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").expect("link").to_str(), Some(&*here.to_string()));
        let child = sleeper(&["-n"]);
        let path = format!("/proc/{}/ns/net", child.id());
        let pidfd = cellkit_core::sys::pidfd_open(child.id() as i32).expect("pidfd");
        let there = Netns::of_pidfd(&pidfd).expect("of a pidfd");
        assert_eq!(fs::read_link(&path).expect("link").to_str(), Some(&*there.to_string()));
        assert_eq!(Netns::of_path(&path).expect("of a path"), there);
        assert_ne!(there, here);
        end(child);
        assert_eq!(Netns::of_pidfd(&pidfd).expect_err("dead").kind(), ErrorKind::Gone);
        assert_eq!(there.try_clone().expect("clone"), there);
        let fd = OwnedFd::from(there);
        let there = Netns::try_from(fd).expect("a namespace");
        let inside = there.run(|| Netns::of_this_thread().expect("inside")).expect("run");
        assert_eq!(inside, there);
        let inside = wait(there.run_async(|| Netns::of_this_thread().expect("inside"))).expect("run");
        assert_eq!(inside, there);
        assert_eq!(Netns::of_this_thread().expect("here"), here, "the caller stays");

        for path in ["/dev/null", "/proc/self/ns/uts", "/proc/self/status"] {
            let error = Netns::of_path(path).expect_err(path);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            assert!(error.to_string().contains(path) && error.hint().is_some(), "{error:#}");
        }
        let error = Netns::of_pidfd(File::open("/dev/null").expect("open")).expect_err("no pidfd");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
    });
}

#[test]
fn a_new_one_ends_with_its_last_handle() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        let web = Netns::new().expect("new");
        let output = web.run(|| Command::new("ip").args(["-br", "link"]).output().expect("ip")).expect("run");
        assert!(output.stdout.starts_with(b"lo "), "{output:?}");
        // A connection keeps it as well.
        let net = wait(Net::inside(&web)).expect("net");
        host.output("ip", "link add outside type veth peer name inside");
        let mut child = web.run(|| Command::new("sleep").arg("100").spawn().expect("sleep")).expect("run");
        host.output("ip", &format!("link set inside netns {}", child.id()));
        child.kill().expect("kill");
        child.wait().expect("wait");
        drop(web);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(host.links().len(), 2, "outside");
        drop(net);
        let until = Instant::now() + Duration::from_secs(20);
        while host.links() != ["lo"] {
            assert!(Instant::now() < until, "the namespace lives on");
            thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_panic_inside_goes_on_outside() {
    faultkit::require!(root);
    isolated!(|| {
        let netns = Netns::new().expect("new");
        let panic = std::panic::catch_unwind(|| netns.run(|| panic!("inside"))).expect_err("a panic");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
        let panic = std::panic::catch_unwind(|| wait(netns.run_async(|| panic!("inside")))).expect_err("a panic");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
        assert!(netns.as_fd().try_clone_to_owned().is_ok());
    });
}
