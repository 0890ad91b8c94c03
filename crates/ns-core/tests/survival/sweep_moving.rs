//! Faults at every system call that moves a thread or a process into namespaces: it is where it was, or where it was to
//! be, or the error says how far it got.

use std::collections::BTreeMap;

use faultkit::{Call, Counted, End, Failure, Fault, Sweep};
use ns_core::{
    Command, Ipc, Mount, Namespaces, Net, NsFd, PausedChild, Result, User, Uts, enter, enter_process, unshare,
    with_namespaces,
};

use crate::sweep::stride;
use crate::sweep_handles::{ERRNOS, each_errno, fail, judge};
use crate::{failure, sys};

const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts"];

/// Where a process is, or its next child will be.
fn place(pid: impl std::fmt::Display) -> BTreeMap<&'static str, String> {
    let link = |kind: &&'static str| {
        // A pid namespace without its first process is not shown.
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        (*kind, link.map_or("a new one".into(), |link| link.to_string_lossy().into_owned()))
    };
    KINDS.iter().map(link).collect()
}

/// Moves a fork of the body, and holds what it says against where it is then. The faults are the fork's.
fn moves(
    counted: &Counted<'_>,
    wanted: &[&str],
    work: impl FnOnce() -> Result<()>,
) -> std::result::Result<(), Failure> {
    let here = place("self");
    let text = || match work() {
        Ok(()) => String::new(),
        Err(error) => {
            let failure = failure(&error);
            format!("{}\n{}\n{}", failure.operation, failure.errno.unwrap_or_default(), failure.text)
        }
    };
    let answer = counted.run(|| sys::in_a_fork_looked_at(text, place));
    let (text, there) = answer.ok_or_else(|| Failure::new("fork", None, "died"))?;
    let moved: Vec<&str> = KINDS.into_iter().filter(|kind| here[kind] != there[kind]).collect();
    let mut lines = text.splitn(3, '\n');
    match (lines.next(), lines.next(), lines.next()) {
        (Some(operation), Some(errno), Some(text)) => {
            let told = moved.is_empty() || text.contains(&format!("entered {} of ", moved.len()));
            let (errno, text) = (errno.parse().ok(), text.to_owned());
            match told {
                true => Err(Failure::new(operation, errno, text)),
                false => Err(Failure::new("half entered", errno, format!("{moved:?} without a word: {text}"))),
            }
        }
        _ if moved == wanted => Ok(()),
        _ => Err(Failure::new("moved", None, format!("{moved:?}"))),
    }
}

fn sweep<'a>(body: impl Fn(&Counted<'_>) -> std::result::Result<(), Failure> + 'a) -> Sweep<'a> {
    let sweep = Sweep::new(body).stride(stride());
    sweep.spare("the process that looks on is no part of this", Call::is_callers)
}

/// A process that waits in new namespaces.
fn held(kinds: Namespaces) -> PausedChild {
    Command::new("/bin/true").namespaces(kinds).spawn_paused().expect("paused")
}

const HERE: &str = "where the thread has no pidfd that knows its namespaces, /proc does";

/// Looking where the thread is, before it moves.
fn looks(call: &Call) -> Option<&'static str> {
    match &*call.name {
        "pidfd_open" | "ioctl" => Some(HERE),
        "unshare" if call.args[0] == libc::CLONE_THREAD as u64 => Some("/proc knows how many threads there are"),
        _ => None,
    }
}

mod root {
    use super::*;

    #[test]
    fn every_call_of_work_elsewhere_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let held = held(Namespaces::NET | Namespaces::UTS | Namespaces::MOUNT);
            let net: NsFd<Net> = held.namespace().expect("net");
            let mount: NsFd<Mount> = held.namespace().expect("mnt");
            let own = NsFd::<Ipc>::of_this_thread().expect("ipc");
            let elsewhere = Sweep::new(|counted| {
                let work = || counted.run(|| with_namespaces(&[&mount, &net, &own], || 7));
                let here = place("self");
                let outcome = work();
                assert_eq!(here, place("self"));
                outcome.map(|answer| assert_eq!(answer, 7)).map_err(fail)
            });
            let elsewhere = elsewhere
                .stride(stride())
                .spare("the stack for signals of a new thread, which the standard library insists on", |call| {
                    !call.is_callers() && ["mmap", "mprotect"].contains(&&*call.name)
                })
                .spare("masking signals cannot fail, and the C library does not look", |call| {
                    call.name == "rt_sigprocmask"
                });
            let thread = |call: &Call, errno| match &*call.name {
                "clone3" if errno == libc::ENOSYS => Some("clone(2) where clone3 is hidden"),
                "prctl" => Some("a thread without a name"),
                "sched_getaffinity" => Some("what the C library asks about a thread's stack"),
                "setns" if !call.is_callers() => Some("what cannot be joined is tried once more"),
                _ => looks(call),
            };
            let errnos = if stride() > 1 { &ERRNOS[1..2] } else { &ERRNOS[..] };
            for &errno in errnos {
                let swept = elsewhere.each(Fault::Fail(errno), |run| match &run.end {
                    // pthread_create(3) has one errno for whatever there is too little of.
                    End::Returned(Err(failure)) if (errno, failure.errno) == (libc::ENOMEM, Some(libc::EAGAIN)) => {
                        let told = failure.operation == "clone" && failure.text.contains("no memory");
                        if told { Ok(()) } else { Err(format!("{failure:?}")) }
                    }
                    _ => judge(run, errno, &thread),
                });
                assert!(swept.runs * stride() > 5 && swept.unmet == 0, "{swept:?}");
            }
            drop(held);
        });
    }

    #[test]
    fn a_kill_in_work_elsewhere_leaves_nothing() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let held = held(Namespaces::NET | Namespaces::MOUNT);
            let (net, mount): (NsFd<Net>, NsFd<Mount>) =
                (held.namespace().expect("net"), held.namespace().expect("mnt"));
            let elsewhere = Sweep::new(|counted| counted.run(|| with_namespaces(&[&mount, &net], || ())).map_err(fail));
            elsewhere.stride(stride()).each(Fault::Kill, |run| match &run.end {
                End::Killed => Ok(()),
                other => Err(format!("{other:?}")),
            });
            drop(held);
        });
    }

    #[test]
    fn every_call_of_entering_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let held = held(Namespaces::NET | Namespaces::UTS | Namespaces::MOUNT | Namespaces::USER);
            let (net, uts): (NsFd<Net>, NsFd<Uts>) = (held.namespace().expect("net"), held.namespace().expect("uts"));
            let (mount, user): (NsFd<Mount>, NsFd<User>) =
                (held.namespace().expect("mnt"), held.namespace().expect("user"));
            let own = NsFd::<Ipc>::of_this_thread().expect("ipc");
            let all = ["mnt", "net", "user", "uts"];
            let enters = sweep(|counted| moves(counted, &all, || enter(&[&own, &mount, &user, &net, &uts])));
            let again = |call: &Call, _| match &*call.name {
                "setns" => Some("what cannot be joined is tried once more"),
                _ => looks(call),
            };
            let swept = each_errno(enters, again);
            assert!(swept.iter().all(|swept| swept.runs * stride() > 10), "{swept:?}");
            // One that stays out of reach: nothing else moves, and nothing says it did.
            let one = sweep(|counted| moves(counted, &["uts"], || enter(&[&uts])));
            each_errno(one, |call, _| looks(call));
            drop(held);
        });
    }

    #[test]
    fn every_call_of_entering_a_process_fails_and_then_nothing_has_changed() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let kinds = Namespaces::NET | Namespaces::UTS | Namespaces::MOUNT | Namespaces::PID;
            let held = held(kinds);
            let wanted = ["mnt", "net", "pid_for_children", "uts"];
            let enters = sweep(|counted| moves(counted, &wanted, || enter_process(&held, kinds | Namespaces::USER)));
            let swept = each_errno(enters, |call, _| looks(call));
            assert!(swept.iter().all(|swept| swept.runs * stride() > 10), "{swept:?}");
            drop(held);
        });
    }

    #[test]
    fn every_call_of_new_namespaces_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let kinds = Namespaces::USER | Namespaces::UTS | Namespaces::PID | Namespaces::IPC;
            let wanted = ["ipc", "pid_for_children", "user", "uts"];
            let news = sweep(|counted| moves(counted, &wanted, || unshare(kinds)));
            each_errno(news, |call, _| looks(call));
            let clocks = sweep(|counted| moves(counted, &["time_for_children"], || unshare(Namespaces::TIME)));
            let unknown =
                |call: &Call, _| (call.name == "uname").then_some("a kernel of unknown version counts as old");
            each_errno(clocks, unknown);
        });
    }
}
