//! The calling process enters namespaces.

use std::fs;

use ns_core::{
    AnyNamespace, Cgroup, Command, ErrorKind, Ipc, Mount, Namespaces, Net, NsFd, Pid, User, Uts, enter, enter_process,
    unshare,
};

use crate::{KINDS, end, kernel, link, run, sleeper, sys};

#[test]
fn several_at_once_in_whatever_order() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::CONTAINER - Namespaces::USER);
        sys::in_a_fork(|| {
            let (mount, uts): (NsFd<Mount>, NsFd<Uts>) = (child.namespace().unwrap(), child.namespace().unwrap());
            let (net, ipc): (NsFd<Net>, NsFd<Ipc>) = (child.namespace().unwrap(), child.namespace().unwrap());
            let (pid, cgroup): (NsFd<Pid>, NsFd<Cgroup>) = (child.namespace().unwrap(), child.namespace().unwrap());
            let user: NsFd<User> = child.namespace().unwrap();
            // The user namespace is this process's own, which the kernel would refuse.
            enter(&[&mount, &user, &pid, &uts, &net, &cgroup, &ipc]).expect("enter");
            for kind in KINDS.iter().filter(|kind| **kind != "pid") {
                assert_eq!(link("self", kind), link(child.pid(), kind), "{kind}");
            }
            assert_eq!(link("self", "pid_for_children"), link(child.pid(), "pid"));
            assert_ne!(link("self", "pid"), link(child.pid(), "pid"), "the process itself stays");
            assert_eq!(std::env::current_dir().expect("cwd"), std::path::Path::new("/"));
            let seen = run("sh", &["-c", "kill -0 1 && readlink /proc/self/ns/net"]);
            assert_eq!(seen, link(child.pid(), "net"));
        });
        end(child);
    });
}

#[test]
fn all_of_a_process_at_once_as_nsenter_does() {
    faultkit::require!(root, program("nsenter"));
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::CONTAINER - Namespaces::USER);
        let script = "for kind in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$kind; done";
        let pid = child.pid().to_string();
        // A procfs of this pid namespace shows nothing to a process of another: ours is mounted once more for both.
        let by_nsenter = run("nsenter", &["-t", &pid, "-m", "-u", "-i", "-n", "-C", "sh", "-c", script]);
        sys::in_a_fork(|| {
            enter_process(&child, Namespaces::all() - Namespaces::PID).expect("enter");
            assert_eq!(run("sh", &["-c", script]), by_nsenter);
            // Once more is no error: there is nothing left to join.
            enter_process(&child, Namespaces::all() - Namespaces::PID).expect("enter");
        });
        sys::in_a_fork(|| {
            enter_process(&child, Namespaces::all()).expect("enter");
            assert_eq!(link("self", "pid_for_children"), link(child.pid(), "pid"));
        });
        end(child);
    });
}

#[test]
fn root_enters_a_container_whose_network_is_not_the_containers() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // A network that root made, and a user namespace that has no power over it: whoever joins that one first is
        // refused the network.
        let outer = sleeper(Namespaces::NET);
        let paused = Command::new("/bin/true")
            .namespaces(Namespaces::USER | Namespaces::UTS | Namespaces::MOUNT)
            .spawn_paused()
            .expect("paused");
        let theirs = ["net", "user", "uts", "mnt"]
            .map(|kind| link(if kind == "net" { outer.pid() } else { paused.pid() }, kind));
        sys::in_a_fork(|| {
            let net: NsFd<Net> = outer.namespace().expect("net");
            let (user, uts): (NsFd<User>, NsFd<Uts>) = (paused.namespace().unwrap(), paused.namespace().unwrap());
            let mount: NsFd<Mount> = paused.namespace().expect("mnt");
            enter(&[&user, &mount, &net, &uts]).expect("enter");
            assert_eq!(["net", "user", "uts", "mnt"].map(|kind| link("self", kind)), theirs);
        });
        drop(paused);
        end(outer);
    });
}

#[test]
fn who_may_not_is_told_and_by_pidfd_nothing_has_changed() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::UTS | Namespaces::NET);
        sys::in_a_fork(|| {
            let net: NsFd<Net> = child.namespace().expect("net");
            let before = KINDS.map(|kind| link("self", kind));
            sys::drop_sys_admin();
            let error = enter(&[&net]).expect_err("no capability");
            assert_eq!((error.operation(), error.kind()), ("setns", ErrorKind::Permission));
            assert!(error.to_string().contains(&net.to_string()), "{error}");
            assert!(error.hint().expect("hint").contains("CAP_SYS_ADMIN"), "{error:#}");
            let error = enter_process(&child, Namespaces::all()).expect_err("no capability");
            assert_eq!((error.operation(), error.kind()), ("setns", ErrorKind::Permission), "{error:#}");
            assert!(error.to_string().contains("CLONE_NEWNET|CLONE_NEWUTS"), "{error}");
            assert_eq!(KINDS.map(|kind| link("self", kind)), before);
        });
        let pidfd = child.as_fd_clone();
        end(child);
        let error = enter_process(&pidfd, Namespaces::NET).expect_err("dead");
        assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
    });
}

trait AsFdClone {
    fn as_fd_clone(&self) -> std::os::fd::OwnedFd;
}

impl AsFdClone for ns_core::Child {
    fn as_fd_clone(&self) -> std::os::fd::OwnedFd {
        std::os::fd::AsFd::as_fd(self).try_clone_to_owned().expect("dup")
    }
}

#[test]
fn a_failure_on_the_way_says_how_far_it_came() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // A user namespace with a network of its own: in it, root's own UTS namespace is out of reach.
        let outer = sleeper(Namespaces::UTS);
        let paused =
            Command::new("/bin/true").namespaces(Namespaces::USER | Namespaces::NET).spawn_paused().expect("paused");
        sys::in_a_fork(|| {
            let (user, net): (NsFd<User>, NsFd<Net>) = (paused.namespace().unwrap(), paused.namespace().unwrap());
            let uts: NsFd<Uts> = outer.namespace().expect("uts");
            enter(&[&user]).expect("user");
            let error = enter(&[&uts, &net]).expect_err("not the container's");
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            assert!(error.to_string().contains(&uts.to_string()), "{error}");
            assert!(format!("{error:#}").starts_with("entered 1 of 2 namespaces: "), "{error:#}");
            assert_eq!(link("self", "net"), link(paused.pid(), "net"));
        });
        drop(paused);
        end(outer);
    });
}

#[test]
fn one_of_each_kind() {
    faultkit::require!(root);
    let (one, other) = (NsFd::<Net>::of_this_thread().expect("net"), NsFd::<Net>::of_this_thread().expect("net"));
    let error = enter(&[&one, &other]).expect_err("twice");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("a second net namespace"), "{error}");
}

#[test]
fn new_ones_of_every_kind() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_a_fork(|| {
            let before = KINDS.map(|kind| link("self", kind));
            unshare(Namespaces::empty()).expect("nothing");
            assert_eq!(KINDS.map(|kind| link("self", kind)), before);
            // Before 6.3 the standard library starts no program in another time namespace.
            let new = if kernel() >= (6, 3) { Namespaces::all() } else { Namespaces::CONTAINER };
            unshare(new).expect("unshare");
            for (kind, before) in KINDS.iter().zip(&before) {
                let children_only = ["pid", "time"].contains(kind);
                assert_eq!(link("self", kind) == *before, children_only, "{kind}");
            }
            fs::write("/proc/self/uid_map", "0 0 1").expect("uid_map");
            // What another program sees: PID 1, a network with one interface, a name of its own.
            let uts = run("sh", &["-c", "echo $$; hostname inner; hostname; ip -br link | wc -l"]);
            assert_eq!(uts, "1\ninner\n1");
        });
        assert_ne!(run("hostname", &[]), "inner");
    });
}

#[test]
fn a_start_after_new_namespaces_for_children_works() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_a_fork(|| {
            unshare(Namespaces::TIME | Namespaces::UTS).expect("unshare");
            let mut child = Command::new("/bin/sleep").arg("100").spawn().expect("start");
            assert_eq!(link(child.pid(), "time"), link("self", "time_for_children"));
            child.kill().expect("kill");
            child.wait().expect("wait");
        });
    });
}

#[test]
fn nested_too_deep() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_a_fork(|| {
            let mut made = 0;
            let error = loop {
                match unshare(Namespaces::USER) {
                    Ok(()) => made += 1,
                    Err(error) => break error,
                }
                assert!(made <= 33, "no end");
                fs::write("/proc/self/uid_map", "0 0 1").expect("uid_map");
                fs::write("/proc/self/setgroups", "deny").expect("setgroups");
                fs::write("/proc/self/gid_map", "0 0 1").expect("gid_map");
            };
            assert!(made >= 20, "{made} deep: {error:#}");
            assert_eq!((error.operation(), error.kind()), ("unshare", ErrorKind::Limit), "{error:#}");
            assert!(error.hint().expect("hint").contains("32"), "{error:#}");
        });
    });
}

#[test]
fn a_name_for_any_kind() {
    faultkit::require!(root);
    let net = NsFd::<Net>::of_this_thread().expect("net");
    let any: &dyn AnyNamespace = &net;
    assert_eq!((any.kind(), any.id()), (Namespaces::NET, net.id()));
    assert_eq!(format!("{any:?}"), format!("NsFd({})", link("thread-self", "net")));
}
