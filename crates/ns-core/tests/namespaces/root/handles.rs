//! What a handle tells, beside what /proc and `lsns` tell.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ns_core::{
    AnyNamespace, Cgroup, Command, ErrorKind, Ipc, Mount, Namespaces, Net, NsFd, Pid, Time, User, Uts,
    in_initial_user_namespace, unshare,
};

use crate::{KINDS, end, kernel, link, run, sleeper, sys};

fn pidfd_of(pid: u32) -> OwnedFd {
    cellkit_core::sys::pidfd_open(pid as i32).expect("pidfd_open")
}

/// A handle on each kind, in the order of [`KINDS`].
fn all_of(pidfd: impl AsFd) -> Vec<Box<dyn AnyNamespace>> {
    let pidfd = pidfd.as_fd();
    vec![
        Box::new(NsFd::<Cgroup>::of_process(pidfd).expect("cgroup")),
        Box::new(NsFd::<Ipc>::of_process(pidfd).expect("ipc")),
        Box::new(NsFd::<Mount>::of_process(pidfd).expect("mnt")),
        Box::new(NsFd::<Net>::of_process(pidfd).expect("net")),
        Box::new(NsFd::<Pid>::of_process(pidfd).expect("pid")),
        Box::new(NsFd::<Time>::of_process(pidfd).expect("time")),
        Box::new(NsFd::<User>::of_process(pidfd).expect("user")),
        Box::new(NsFd::<Uts>::of_process(pidfd).expect("uts")),
    ]
}

#[test]
fn ids_are_those_of_proc_and_lsns() {
    faultkit::require!(root, program("lsns"));
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::CONTAINER - Namespaces::USER);
        let listed = run("lsns", &["-n", "-o", "TYPE,NS", "-p", &child.pid().to_string()]);
        let mut kinds = Namespaces::empty();
        for (namespace, name) in all_of(&child).iter().zip(KINDS) {
            assert_eq!(namespace.to_string(), link(child.pid(), name));
            let row = [name, &namespace.id().to_string()];
            assert!(listed.lines().any(|line| line.split_whitespace().eq(row)), "{row:?} in {listed}");
            kinds |= namespace.kind();
        }
        assert_eq!(kinds, Namespaces::all());
        let net = NsFd::<Net>::of_pid(child.pid()).expect("net");
        assert_eq!(net, child.namespace().expect("net"));
        assert_ne!(net, NsFd::of_this_thread().expect("net"));
        let set = HashSet::from([net.try_clone().expect("dup"), net, child.namespace().expect("net")]);
        assert_eq!(set.len(), 1, "equal handles have equal hashes");
        end(child);
    });
}

#[test]
fn a_handle_is_verified() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let net = NsFd::<Net>::open("/proc/self/ns/net").expect("net");
        assert_eq!(net.to_string(), link("self", "net"));
        let error = NsFd::<Uts>::from_fd(net.into()).expect_err("a net namespace");
        assert_eq!((error.operation(), error.kind()), ("ioctl NS_GET_NSTYPE", ErrorKind::Invalid));
        assert!(error.to_string().ends_with("this is a net namespace, not a uts namespace"), "{error}");
        for path in ["/dev/null", "/etc/passwd", "/proc/self/status", "/"] {
            let error = NsFd::<Uts>::open(path).expect_err(path);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains(path) && error.to_string().contains("no namespace"), "{error}");
        }
        assert_eq!(NsFd::<Uts>::open("/no/such/file").expect_err("none").kind(), ErrorKind::NotFound);
        assert_eq!(NsFd::<Uts>::open("/a\0b").expect_err("NUL").kind(), ErrorKind::Invalid);
        let mut child = std::process::Command::new("/bin/true").spawn().expect("true");
        let pidfd = pidfd_of(child.id());
        child.wait().expect("wait");
        assert_eq!(NsFd::<Uts>::of_process(&pidfd).expect_err("dead").kind(), ErrorKind::Gone);
        assert_eq!(NsFd::<Uts>::of_pid(i32::MAX).expect_err("nobody").kind(), ErrorKind::NotFound);
        assert_eq!(NsFd::<Uts>::of_pid(-1).expect_err("no number").kind(), ErrorKind::Invalid);
    });
}

#[test]
fn a_pidfd_needs_no_proc() {
    faultkit::require!(root, kernel(6.11));
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::NET | Namespaces::PID);
        let expected = [link(child.pid(), "net"), link(child.pid(), "pid")];
        sys::in_a_fork(|| {
            unshare(Namespaces::MOUNT).expect("unshare");
            run("mount", &["-t", "tmpfs", "cover", "/proc"]);
            // Without this capability there is no private procfs either.
            sys::drop_sys_admin();
            assert!(fs::read_link("/proc/self/ns/net").is_err(), "covered");
            assert_eq!(NsFd::<Mount>::of_this_thread().expect("mnt").kind(), Namespaces::MOUNT);
            let (net, pid): (NsFd<Net>, NsFd<Pid>) = (child.namespace().expect("net"), child.namespace().expect("pid"));
            assert_eq!([net.to_string(), pid.to_string()], expected);
        });
        end(child);
    });
}

#[test]
fn a_number_that_was_given_again_is_nobody_elses() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let first = sleeper(Namespaces::UTS);
        let (number, pidfd) = (first.pid(), first.as_fd().try_clone_to_owned().expect("dup"));
        end(first);
        let second = Command::new("/bin/sleep").arg("100").set_tid([number]).spawn().expect("the same number");
        assert_eq!(second.pid(), number);
        let here = NsFd::<Pid>::of_this_thread().expect("pid");
        for error in [
            NsFd::<Uts>::of_process(&pidfd).map(drop).expect_err("dead"),
            NsFd::<Pid>::for_children(&pidfd).map(drop).expect_err("dead"),
            here.pid_of(&pidfd).map(drop).expect_err("dead"),
            ns_core::enter_process(&pidfd, Namespaces::UTS).expect_err("dead"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
        }
        end(second);
    });
}

#[test]
fn the_first_of_each_kind() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::CONTAINER - Namespaces::USER);
        assert!(!child.namespace::<Uts>().unwrap().is_initial().expect("uts"));
        assert!(!child.namespace::<Ipc>().unwrap().is_initial().expect("ipc"));
        assert!(!child.namespace::<Pid>().unwrap().is_initial().expect("pid"));
        assert!(!child.namespace::<Cgroup>().unwrap().is_initial().expect("cgroup"));
        // These two have had a number of their own for a short time only.
        let is_new = kernel() >= (6, 17);
        for answer in [child.namespace::<Net>().unwrap().is_initial(), child.namespace::<Mount>().unwrap().is_initial()]
        {
            match answer {
                Ok(initial) => assert!(is_new && !initial),
                Err(error) => {
                    assert!(!is_new && error.kind() == ErrorKind::Unsupported, "{error:#}");
                    assert!(error.to_string().contains("6.17"), "{error}");
                }
            }
        }
        end(child);
    });
}

#[test]
fn what_an_older_kernel_lacks_is_said_with_the_first_that_has_it() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let mount = NsFd::<Mount>::of_this_thread().expect("mnt");
        let pid = NsFd::<Pid>::of_this_thread().expect("pid");
        for (answer, since) in [
            (mount.mount_namespace_id().map(drop), "6.11"),
            (mount.mount_count().map(drop), "6.12"),
            (mount.next().map(drop), "6.12"),
            (mount.previous().map(drop), "6.12"),
            (pid.pid_from_pidns(1).map(drop), "6.11"),
            (pid.open_process(1).map(drop), "6.11"),
        ] {
            match answer {
                // Walking is for the machine's first pid namespace only.
                Err(error) if error.kind() != ErrorKind::Permission => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                    assert!(error.to_string().contains(since), "{error}");
                }
                _ => {}
            }
        }
        // This one works on every kernel.
        let child = sleeper(Namespaces::PID);
        assert_eq!(child.namespace::<Pid>().expect("pid").pid_of(&child).expect("number"), 1);
        end(child);
    });
}

#[test]
fn owners_and_parents_are_those_of_lsns() {
    faultkit::require!(root, program("lsns"));
    faultkit::isolated!(|| {
        let paused = Command::new("/bin/true")
            .namespaces(Namespaces::USER | Namespaces::PID | Namespaces::NET)
            .spawn_paused()
            .expect("paused");
        let user: NsFd<User> = paused.namespace().expect("user");
        let pid: NsFd<Pid> = paused.namespace().expect("pid");
        let net: NsFd<Net> = paused.namespace().expect("net");
        let uts: NsFd<Uts> = paused.namespace().expect("uts");
        let here = NsFd::<User>::of_this_thread().expect("user");
        assert_eq!(net.owner().expect("owner"), user);
        assert_eq!(pid.owner().expect("owner"), user);
        assert_eq!(uts.owner().expect("owner"), here, "inherited, and so not the container's");
        assert_eq!(user.owner().expect("owner"), here);
        assert_eq!(user.parent().expect("parent"), Some(here));
        assert_eq!(pid.parent().expect("parent"), Some(NsFd::of_this_thread().expect("pid")));
        assert_eq!(user.owner_uid().expect("uid"), 0);

        // NS, PNS (parent) and ONS (owner), 0 where there is none.
        let listed = run("lsns", &["-n", "-o", "NS,PNS,ONS"]);
        let of = |id: ns_core::NsId| {
            let rows = listed.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
            rows.into_iter().find(|row| row.first() == Some(&id.to_string())).expect("row")
        };
        assert_eq!(of(net.id())[2], user.id().to_string());
        assert_eq!(of(pid.id())[1..], [pid.parent().unwrap().unwrap().id().to_string(), user.id().to_string()]);
    });
}

#[test]
fn the_owner_is_the_uid_that_made_it() {
    faultkit::require!(root, program("setpriv"));
    faultkit::isolated!(|| {
        // unshare(1) drops nothing itself: uid 1234 makes the namespace.
        let mut child = std::process::Command::new("setpriv")
            .args(["--reuid=1234", "--clear-groups", "unshare", "--user", "--fork", "--kill-child", "sleep", "100"])
            .spawn()
            .expect("unshare");
        let inside = || {
            let children = run("pgrep", &["-P", &child.id().to_string()]);
            children.lines().next().and_then(|pid| pid.parse::<i32>().ok())
        };
        let pid = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let pid = std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside)).ok().flatten()?;
            (link(pid, "user") != link("self", "user")).then_some(pid)
        });
        let user = NsFd::<User>::of_pid(pid.expect("a user namespace")).expect("user");
        assert_eq!(user.owner_uid().expect("uid"), 1234);
        child.kill().expect("kill");
        child.wait().expect("wait");
        // The sleep is an orphan now, which --kill-child ends.
        while faultkit::reap_orphans() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
}

#[test]
fn the_first_user_namespace_is_told_by_its_inode_not_by_a_map() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // Only a test that runs in the machine's own namespace can know the answer beforehand.
        let first = link("self", "user") == "user:[4026531837]";
        assert_eq!(in_initial_user_namespace().expect("here"), first);
        let paused = Command::new("/bin/true").namespaces(Namespaces::USER).spawn_paused().expect("paused");
        for file in ["uid_map", "gid_map"] {
            let own = std::fs::read_to_string(format!("/proc/self/{file}")).expect(file);
            let path = format!("/proc/{}/{file}", paused.pid());
            // The whole of what there is, onto itself: what others take for the machine's own.
            if std::fs::write(&path, &own).is_ok() {
                assert_eq!(std::fs::read_to_string(&path).expect(file), own);
            }
        }
        let user: NsFd<User> = paused.namespace().expect("user");
        assert!(!user.is_initial().expect("user"));
    });
}

#[test]
fn what_is_above_the_caller_is_out_of_sight() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_a_fork(|| {
            let outer = NsFd::<User>::of_this_thread().expect("user");
            unshare(Namespaces::USER).expect("unshare");
            assert_ne!(NsFd::<User>::of_this_thread().expect("user"), outer);
            assert!(!in_initial_user_namespace().expect("here"));
            let inner = NsFd::<User>::of_this_thread().expect("user");
            let errors = [
                NsFd::<Net>::of_this_thread().expect("net").owner().expect_err("above"),
                inner.parent().expect_err("above"),
                inner.owner().expect_err("above"),
            ];
            for error in errors {
                assert_eq!(
                    (error.kind(), error.raw_os_error()),
                    (ErrorKind::Permission, Some(libc::EPERM)),
                    "{error:#}"
                );
                assert!(error.hint().expect("hint").contains("above"), "{error:#}");
            }
        });
    });
}

#[test]
fn mount_namespaces_are_numbered_and_counted() {
    faultkit::require!(root, kernel(6.12));
    faultkit::isolated!(|| {
        let here = NsFd::<Mount>::of_this_thread().expect("mnt");
        let (id, before) = (here.mount_namespace_id().expect("id"), here.mount_count().expect("count"));
        let shown = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo").lines().count();
        assert!(before as usize >= shown, "{before} and {shown}");
        std::fs::create_dir("/run/extra").expect("mkdir");
        run("mount", &["-t", "tmpfs", "extra", "/run/extra"]);
        assert_eq!(here.mount_count().expect("count"), before + 1);

        let child = sleeper(Namespaces::MOUNT);
        let theirs: NsFd<Mount> = child.namespace().expect("mnt");
        assert_ne!(theirs.mount_namespace_id().expect("id"), id);
        assert_eq!(theirs.mount_count().expect("count"), before + 1, "a copy");
        end(child);
        run("umount", &["/run/extra"]);
        std::fs::remove_dir("/run/extra").expect("rmdir");
    });
}

// Not isolated: the kernel shows them all to the machine's first pid namespace only.
#[test]
fn mount_namespaces_are_walked_in_both_directions() {
    type Step = fn(&NsFd<Mount>) -> ns_core::Result<Option<NsFd<Mount>>>;
    faultkit::require!(root, kernel(6.12));
    let here = NsFd::<Mount>::of_this_thread().expect("mnt");
    let child = sleeper(Namespaces::MOUNT);
    let theirs: NsFd<Mount> = child.namespace().expect("mnt");
    let pid = NsFd::<Pid>::of_this_thread().expect("pid");
    let first = in_initial_user_namespace().expect("user") && pid.is_initial().expect("pid");
    for (from, to, step) in [(&here, &theirs, NsFd::next as Step), (&theirs, &here, NsFd::previous as Step)] {
        let mut met = false;
        let mut at = step(from);
        while let Ok(Some(found)) = &at {
            met |= found == to;
            at = step(found);
        }
        match at {
            Ok(_) => assert!(met, "{to} was not met from {from}"),
            Err(error) => {
                assert!(!first && error.kind() == ErrorKind::Permission, "{error:#}");
                assert!(error.hint().expect("hint").contains("first pid namespace"), "{error:#}");
            }
        }
    }
    end(child);
}

#[test]
fn numbers_of_processes_are_translated_as_nspid_has_them() {
    faultkit::require!(root, kernel(6.11));
    faultkit::isolated!(|| {
        let script = "sleep 100 & echo $!; exec sleep 100";
        let (reader, writer) = std::io::pipe().expect("pipe");
        let plan = Command::new("/bin/sh").args(["-c", script]).namespaces(Namespaces::PID);
        let plan = plan.stdout(ns_core::Stdio::Fd(writer.into())).plan().expect("plan");
        let outer = plan.spawn().expect("sh");
        drop(plan);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut line).expect("read");
        let inner: i32 = line.trim().parse().expect("a number");
        assert_ne!(inner, 1);

        let inside: NsFd<Pid> = outer.namespace().expect("pid");
        let here = NsFd::<Pid>::of_this_thread().expect("pid");
        assert_eq!(inside.pid_of(&outer).expect("pid"), 1);
        assert_eq!(here.pid_of(&outer).expect("pid"), outer.pid());
        assert_eq!(inside.pid_from_pidns(1).expect("pid"), outer.pid());
        assert_eq!(inside.tgid_from_pidns(1).expect("pid"), outer.pid());
        let inner_here = inside.pid_from_pidns(inner).expect("pid");
        let status = std::fs::read_to_string(format!("/proc/{inner_here}/status")).expect("status");
        let nspid = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("NSpid");
        assert_eq!(nspid.split_whitespace().collect::<Vec<_>>(), [inner_here.to_string(), inner.to_string()]);
        assert_eq!(inside.pid_in_pidns(inner_here).expect("pid"), inner);
        assert_eq!(inside.tgid_in_pidns(inner_here).expect("pid"), inner);
        let pidfd = inside.open_process(inner).expect("pidfd");
        assert_eq!(pidfd.pid(), inner_here);
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd())).expect("fdinfo");
        assert!(info.lines().any(|line| line.split_whitespace().eq(["Pid:", &inner_here.to_string()])), "{info}");

        for error in [
            inside.pid_of(pidfd_of(std::process::id())).expect_err("outside"),
            inside.open_process(29999).expect_err("nobody"),
            inside.pid_from_pidns(0).expect_err("nobody"),
            inside.pid_in_pidns(-1).expect_err("nobody"),
        ] {
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, Some(libc::ESRCH)), "{error:#}");
            assert!(error.hint().expect("hint").contains("no such process"), "{error:#}");
        }
        end(outer);
        assert_eq!(inside.open_process(1).expect_err("dead").kind(), ErrorKind::NotFound);
        assert_eq!(inside.pid_of(&pidfd).expect_err("dead").kind(), ErrorKind::Gone);
        faultkit::reap_orphans();
    });
}

#[test]
fn where_children_will_be() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_a_fork(|| {
            let me = pidfd_of(std::process::id());
            assert_eq!(NsFd::<Pid>::for_children(&me).expect("pid"), NsFd::of_this_thread().expect("pid"));
            unshare(Namespaces::PID | Namespaces::TIME).expect("unshare");
            let time = NsFd::<Time>::for_children(&me).expect("time");
            assert_eq!(time.to_string(), link("self", "time_for_children"));
            assert_ne!(time, NsFd::of_this_thread().expect("time"));
            // Before its first process /proc does not show a pid namespace; newer kernels give it by pidfd.
            for answer in [NsFd::<Pid>::for_children(&me), NsFd::for_children_of_this_thread()] {
                match answer {
                    Ok(pid) => assert_ne!(pid, NsFd::of_this_thread().expect("pid")),
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Gone), "{error:#}"),
                }
            }
            let child = Command::new("/bin/sleep").arg("100").spawn().expect("sleep");
            let expected = link("self", "pid_for_children");
            assert_eq!(NsFd::<Pid>::for_children(&me).expect("pid").to_string(), expected);
            assert_eq!(NsFd::<Pid>::for_children_of_this_thread().expect("pid").to_string(), expected);
            assert_eq!(NsFd::<Pid>::of_pid(child.pid()).expect("pid").to_string(), expected);
            end(child);
        });
    });
}
