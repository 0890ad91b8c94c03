//! Work inside namespaces, on a thread that is used for nothing else.

use std::collections::BTreeMap;
use std::fs;

use ns_core::{Command, ErrorKind, Ipc, Mount, Namespaces, Net, NsFd, Pid, Time, User, Uts, unshare, with_namespaces};

use crate::{KINDS, end, link, run, sleeper, sys};

/// Which namespaces each thread of this process is in. One that ends meanwhile is left out.
fn threads() -> BTreeMap<String, [String; 8]> {
    let tasks = fs::read_dir("/proc/self/task").expect("task");
    let names = tasks.map(|task| task.expect("task").file_name().to_string_lossy().into_owned());
    let links = |task: &str| {
        let link = |kind| Some(fs::read_link(format!("/proc/self/task/{task}/ns/{kind}")).ok()?.display().to_string());
        let links: Option<Vec<String>> = KINDS.iter().map(link).collect();
        links?.try_into().ok()
    };
    names.filter_map(|task| Some((task.clone(), links(&task)?))).collect()
}

/// As [`threads`], when those that have ended have also gone.
fn threads_after(before: &BTreeMap<String, [String; 8]>) -> BTreeMap<String, [String; 8]> {
    for _ in 0..100 {
        if fs::read_dir("/proc/self/task").expect("task").count() == before.len() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    threads()
}

#[test]
fn the_work_is_inside_and_nobody_else_is() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::CONTAINER - Namespaces::USER);
        let before = threads();
        let (mount, uts): (NsFd<Mount>, NsFd<Uts>) = (child.namespace().unwrap(), child.namespace().unwrap());
        let (net, ipc): (NsFd<Net>, NsFd<Ipc>) = (child.namespace().unwrap(), child.namespace().unwrap());
        // What it captures may be the caller's own, on its stack.
        let mut seen = Vec::new();
        let answer = with_namespaces(&[&mount, &net, &uts, &ipc], || {
            seen.extend(["mnt", "net", "uts", "ipc", "user"].map(|kind| (kind, link("thread-self", kind))));
            run("hostname", &["inside"]);
            std::net::UdpSocket::bind("127.0.0.1:0").map(|_| 42)
        });
        assert_eq!(seen.len(), 5);
        for (kind, seen) in seen {
            assert_eq!(seen, link(child.pid(), kind), "{kind}");
        }
        // The loopback interface of a new network is down, and has no address: 127.0.0.1 is not there.
        assert!(
            answer.expect("inside").is_err()
                || run("nsenter", &["-n", "-t", &child.pid().to_string(), "true"]).is_empty()
        );
        assert_eq!(run("nsenter", &["-u", "-t", &child.pid().to_string(), "hostname"]), "inside");
        assert_ne!(run("hostname", &[]), "inside");
        assert_eq!(threads_after(&before), before);
        end(child);
    });
}

#[test]
fn what_is_opened_inside_stays_inside() {
    faultkit::require!(root, program("ip"));
    faultkit::isolated!(|| {
        let child =
            Command::new("/bin/sleep").arg("100").namespaces(Namespaces::NET).loopback_up().spawn().expect("sleep");
        let net: NsFd<Net> = child.namespace().expect("net");
        let listener =
            with_namespaces(&[&net], || std::net::TcpListener::bind("127.0.0.1:0")).expect("enter").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let listening = format!("127.0.0.1:{port}");
        let list = |args: &[&str]| run("nsenter", &[&["-n", "-t", &child.pid().to_string()], args].concat());
        let inside = list(&["cat", "/proc/net/tcp"]);
        let entry = format!("0100007F:{port:04X}");
        assert!(inside.contains(&entry), "{inside}");
        assert!(!fs::read_to_string("/proc/thread-self/net/tcp").expect("tcp").contains(&entry));
        assert!(std::net::TcpStream::connect(&listening).is_err(), "not in this network");
        // From inside, it is accepted by this thread, which never was there.
        let client =
            with_namespaces(&[&net], || std::net::TcpStream::connect(&listening)).expect("enter").expect("connect");
        assert_eq!(listener.accept().expect("accept").1, client.local_addr().expect("address"));
        end(child);
    });
}

#[test]
fn its_children_are_in_the_pid_namespace() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::PID);
        let pid: NsFd<Pid> = child.namespace().expect("pid");
        let expected = link(child.pid(), "pid");
        let started = with_namespaces(&[&pid], || {
            let started = Command::new("/bin/sleep").arg("100").spawn().expect("start");
            // The kernel starts no thread in another pid namespace than its process's own.
            let thread = std::thread::Builder::new().spawn(|| ());
            assert!(thread.is_err(), "a thread in another pid namespace");
            started
        });
        let started = started.expect("enter");
        assert_eq!(link(started.pid(), "pid"), expected);
        assert!(pid.pid_of(&started).expect("number") > 1);
        end(started);
        end(child);
    });
}

#[test]
fn what_is_started_among_others_shares_no_memory() {
    faultkit::require!(root, kernel(5.16));
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::UTS);
        let uts: NsFd<Uts> = child.namespace().expect("uts");
        let plan = Command::new("/bin/true").plan().expect("plan");
        let shares = || sys::share_memory(plan.spawn_paused().expect("paused").pid());
        assert!(shares(), "as a rule it does");
        assert!(!with_namespaces(&[&uts], shares).expect("enter"));
        assert!(shares(), "this thread has been nowhere");
        sys::in_a_fork(|| {
            ns_core::enter(&[&uts]).expect("enter");
            assert!(!shares());
        });
        end(child);
    });
}

#[test]
fn a_panic_is_the_callers() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::UTS);
        let before = threads();
        let uts: NsFd<Uts> = child.namespace().expect("uts");
        let panic = std::panic::catch_unwind(|| with_namespaces(&[&uts], || std::panic::panic_any(7u8)).map(drop));
        assert_eq!(panic.expect_err("a panic").downcast_ref::<u8>(), Some(&7));
        assert_eq!(threads_after(&before), before);
        end(child);
    });
}

#[test]
fn what_threads_cannot_join_is_refused_with_their_number() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let paused = Command::new("/bin/true").namespaces(Namespaces::USER).spawn_paused().expect("paused");
        let user: NsFd<User> = paused.namespace().expect("user");
        let error = with_namespaces(&[&user], || unreachable!()).expect_err("a user namespace");
        assert_eq!((error.operation(), error.kind()), ("setns", ErrorKind::Invalid));
        assert!(error.to_string().contains("this one would have 2"), "{error}");
        assert!(error.hint().expect("hint").contains("Command::join"), "{error:#}");
        drop(paused);
        sys::in_a_fork(|| {
            unshare(Namespaces::TIME).expect("unshare");
            let time = NsFd::<Time>::for_children_of_this_thread().expect("time");
            let here = NsFd::<Time>::of_this_thread().expect("time");
            assert!(with_namespaces(&[&here], || ()).is_err(), "where its children will not be");
            let _ = time;
        });
        // Its own is no other.
        let own = NsFd::<User>::of_this_thread().expect("user");
        assert_eq!(with_namespaces(&[&own], || 7).expect("nothing to join"), 7);
        let uts = NsFd::<Uts>::of_this_thread().expect("uts");
        let error = with_namespaces(&[&uts, &uts], || ()).expect_err("twice");
        assert!(error.to_string().contains("a second uts"), "{error}");
    });
}

#[test]
fn without_the_right_the_work_does_not_run() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::NET);
        sys::in_a_fork(|| {
            let net: NsFd<Net> = child.namespace().expect("net");
            sys::drop_sys_admin();
            let error = with_namespaces(&[&net], || unreachable!()).expect_err("no capability");
            assert_eq!((error.operation(), error.kind()), ("setns", ErrorKind::Permission));
            assert!(error.to_string().contains(&net.to_string()), "{error}");
        });
        end(child);
    });
}

#[test]
fn inside_tokio_the_workers_stay_where_they_are() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sleeper(Namespaces::NET | Namespaces::MOUNT | Namespaces::UTS);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().expect("runtime");
        let net = std::sync::Arc::new(NsFd::<Net>::of_process(&child).expect("net"));
        let mount = std::sync::Arc::new(NsFd::<Mount>::of_process(&child).expect("mnt"));
        let own = KINDS.map(|kind| link("self", kind));
        let expected = [link(child.pid(), "net"), link(child.pid(), "mnt")];
        runtime.block_on(async {
            let tasks: Vec<_> = (0..24)
                .map(|_| {
                    let (net, mount) = (net.clone(), mount.clone());
                    tokio::spawn(async move {
                        let look = || [link("thread-self", "net"), link("thread-self", "mnt")];
                        let inside = with_namespaces(&[&*net, &*mount], look).expect("enter");
                        tokio::task::yield_now().await;
                        (inside, KINDS.map(|kind| link("thread-self", kind)))
                    })
                })
                .collect();
            for task in tasks {
                let (inside, outside) = task.await.expect("task");
                assert_eq!(inside, expected);
                assert_eq!(outside, own);
            }
        });
        // A thread that was joined may be listed for a moment more.
        let elsewhere = || threads().into_iter().filter(|(_, namespaces)| *namespaces != own).collect::<Vec<_>>();
        for _ in 0..100 {
            if elsewhere().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let wrong = elsewhere();
        assert!(wrong.is_empty(), "{wrong:?}");
        drop(runtime);
        end(child);
    });
}
