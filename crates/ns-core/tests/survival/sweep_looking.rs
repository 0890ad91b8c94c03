//! Faults at every system call that looks at the machine: a list is whole, or says that it is not; a probe says what it
//! could not find out; neither leaves anything.

use std::collections::BTreeSet;

use faultkit::{Call, Counted, End, Failure, Fault, Run, Sweep};
use ns_core::{Command, Finding, ListOptions, Namespaces, State, probe};

use crate::failure;
use crate::sweep::{names, stride};
use crate::sweep_handles::{fail, judge};

fn sweep<'a>(body: impl Fn(&Counted<'_>) -> Result<(), Failure> + 'a) -> Sweep<'a> {
    Sweep::new(body).stride(stride())
}

/// What lists of the same machine have in common: the namespaces, who is in them and what is known about them.
fn shown(list: &ns_core::NamespaceList, test: u32) -> BTreeSet<String> {
    // The body's own process is another one each time.
    let own = [test as i32, std::process::id() as i32];
    let others = |pids: &[i32]| pids.iter().filter(|pid| !own.contains(pid)).count();
    let row = |namespace: &ns_core::NamespaceInfo| {
        let first = namespace.first.is_some();
        format!("{namespace} {:?} {:?} {} {first}", namespace.owner, namespace.parent, others(&namespace.processes))
    };
    list.into_iter().map(row).collect()
}

const PROC: &str = "where the machine's /proc cannot be had, a private one is";

/// What a list does without.
fn withstood(call: &Call) -> Option<&'static str> {
    match &*call.name {
        "sched_getaffinity" => Some("who does not know how many processors there are works with one"),
        _ => (call.number <= 3).then_some(PROC),
    }
}

mod root {
    use super::*;

    #[test]
    fn every_call_of_a_list_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let test = std::process::id();
            let kinds = Namespaces::UTS | Namespaces::USER | Namespaces::MOUNT;
            let held = Command::new("/bin/true").namespaces(kinds).spawn_paused().expect("paused");
            let uts = held.namespace::<ns_core::Uts>().expect("uts");
            uts.pin("/run/pin").expect("pin");
            let options = ListOptions::new().kinds(kinds).threads().fds().pins();
            let whole = shown(&options.list().expect("list"), test);
            let lists = sweep(|counted| {
                let list = counted.run(|| options.list()).map_err(fail)?;
                match shown(&list, test) == whole {
                    true => Ok(()),
                    false => Err(Failure::new("not whole", None, format!("{list:?}"))),
                }
            });
            // A list that lacks something for want of descriptors or memory would be taken for the whole one.
            for errno in [libc::EMFILE, libc::ENOMEM] {
                let swept = lists.each(Fault::Fail(errno), |run| judge(run, errno, &|call, _| withstood(call)));
                // The allocator's own calls vary.
                assert!(swept.runs * stride() > 100 && swept.unmet * 20 <= swept.runs, "{swept:?}");
            }
            // What may not be looked at is left out, and it is said whose.
            let lists = lists.ends_of_rows();
            for errno in [libc::EPERM, libc::ENOSYS, libc::EINTR] {
                lists.each(Fault::Fail(errno), |run| match &run.end {
                    End::Returned(Ok(())) => Ok(()),
                    End::Returned(Err(failure)) if failure.operation == "not whole" => Ok(()),
                    End::Returned(Err(failure)) if names(&failure.operation, &run.call.name) => Ok(()),
                    other => Err(format!("{other:?}")),
                });
            }
            ns_core::unpin("/run/pin").expect("unpin");
            drop(held);
        });
    }

    /// Enough processes that the work is shared among threads, none of which can be had.
    #[test]
    fn a_list_without_threads_to_be_had_is_whole() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let test = std::process::id();
            let start = || Command::new("/bin/sleep").arg("10000").spawn().expect("sleep");
            let mut children: Vec<_> = std::iter::repeat_with(start).take(140).collect();
            let options = ListOptions::new().kinds(Namespaces::UTS);
            let whole = shown(&options.list().expect("list"), test);
            let lists = Sweep::new(|counted| {
                let list = counted.run(|| options.list()).map_err(fail)?;
                if shown(&list, test) == whole {
                    Ok(())
                } else {
                    Err(Failure::new("not whole", None, format!("{list:?}")))
                }
            });
            let lists = lists.spare("the other sweep's", |call| !["clone3", "clone"].contains(&&*call.name));
            lists.each(Fault::Fail(libc::EAGAIN), |run| match &run.end {
                End::Returned(Ok(())) => Ok(()),
                other => Err(format!("{other:?}")),
            });
            for child in &mut children {
                child.kill().expect("kill");
                child.wait().expect("wait");
            }
        });
    }
}

/// What a finding says, but for numbers that change by themselves.
fn line(finding: &Finding) -> String {
    let moves = finding.detail.chars().any(|c| c.is_ascii_digit()) && finding.state == State::Fact;
    let detail = if moves { "a number" } else { &finding.detail };
    format!("{:?} {} {detail}", finding.state, finding.what)
}

#[test]
fn a_probe_says_what_it_could_not_find_out() {
    faultkit::isolated!(|| {
        let whole: BTreeSet<String> = probe().expect("probe").findings.iter().map(line).collect();
        let body = |counted: &Counted<'_>| {
            let found = counted.run(probe).map_err(|error| failure(&error))?;
            // What is not as it was is not known, or says an errno: a child that dies takes its files along. Whether a private procfs was to be had is true as it is.
            let wrong =
                found.findings.iter().filter(|finding| !whole.contains(&line(finding)) && finding.what != "procfs");
            let wrong: Vec<String> = wrong
                .filter(|finding| finding.state != State::Unknown && !finding.detail.contains("(E"))
                .map(line)
                .collect();
            if wrong.is_empty() { Ok(()) } else { Err(Failure::new("wrong", None, wrong.join("; "))) }
        };
        let judge = |run: &Run| match &run.end {
            End::Returned(Ok(())) => Ok(()),
            End::Returned(Err(failure)) if names(&failure.operation, &run.call.name) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        let waits = "a wait fails where there is no child only, and has then not reaped";
        let some = crate::sweep::sweep(body).spare(waits, |call| call.name == "waitid").ends_of_rows();
        let swept = some.stride(17 * stride()).each(Fault::Fail(libc::EPERM), judge);
        assert!(swept.runs * stride() > 15, "{swept:?}");
        // Those that are made once.
        let once = ["capget", "uname", "prlimit64", "landlock_create_ruleset", "seccomp", "close_range", "pidfd_open"];
        let once = Sweep::new(body).spare("the other sweep's", move |call| !once.contains(&&*call.name));
        once.stride(stride()).each(Fault::Fail(libc::EPERM), judge);
    });
}
