//! Each system call of a write fails once, with each of several errnos, and the writer is killed at each.
#![forbid(unsafe_code)]

use cellkit_core::{ProcFd, ProcView};
use faultkit::{Call, Counted, End, Failure, Fault, Run, Sweep};
use idmap::{Caller, Error, IdMaps, MapPlan, SubIds, Way};

use crate::machine::{ANN, Machine};
use crate::paused::Paused;
use crate::sys::AsUser;

const ROWS: &str = "ann:300000:1000\n";

/// Has `plan` written for a new child; if that went well, the child has the maps.
fn write(counted: &Counted<'_>, plan: &MapPlan) -> Result<(), Failure> {
    let child = Paused::new();
    let proc = ProcFd::open(ProcView::Processes).expect("proc");
    counted.run(|| plan.write(&child, &proc, &mut ())).map_err(failure)?;
    let shown = |map: &idmap::IdMap| map.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(child.file("uid_map"), shown(&plan.maps().uid));
    assert_eq!(child.file("gid_map"), shown(&plan.maps().gid));
    if let Some(projid) = &plan.maps().projid {
        assert_eq!(child.file("projid_map"), shown(projid));
    }
    let denied = plan.setgroups() == idmap::Setgroups::Deny;
    assert_eq!(child.file("setgroups"), if denied { "deny" } else { "allow" });
    Ok(())
}

fn failure(error: Error) -> Failure {
    Failure::new(error.operation().to_owned(), error.raw_os_error(), format!("{error:#}"))
}

/// Where a failed call does no harm, and why. Everything else is an error.
fn withstood(call: &Call, errno: i32) -> Option<&'static str> {
    match call.name.as_str() {
        "close" => Some("the descriptor is closed all the same"),
        "poll" | "ppoll" | "read" | "openat" | "wait4" if errno == libc::EINTR => {
            Some("an interrupted call is made again")
        }
        // Whether the maps are right is looked at in the body.
        "read" if call.is_callers() => Some("words of a program are lost, and the map tells"),
        "prlimit64" => Some("the C library asks how many descriptors there can be, and takes none for an answer"),
        "pidfd_send_signal" if errno == libc::EPERM => Some("whether it still lives is looked up in its fdinfo then"),
        "openat2" if errno == libc::EAGAIN || errno == libc::EINTR => Some("a lookup beside a rename is made again"),
        _ => None,
    }
}

fn judge(plan: &MapPlan, run: &Run) -> Result<(), String> {
    let Fault::Fail(errno) = run.fault else {
        return match &run.end {
            End::Killed => Ok(()),
            // One of the processes that were to become newuidmap.
            End::Returned(Err(failure)) if !run.call.is_callers() && failure.text.contains("signal 9") => Ok(()),
            other => Err(format!("{other:?}")),
        };
    };
    match &run.end {
        End::Returned(Ok(())) if withstood(&run.call, errno).is_some() => Ok(()),
        End::Returned(Err(failure)) if failure.errno == Some(errno) => {
            // Before the first step, the process is looked up.
            let looked_up = failure.text.contains("fdinfo") || failure.operation == "pidfd_send_signal";
            let named = plan.describe().iter().any(|step| failure.text.contains(step.call.as_ref()));
            if named || looked_up || failure.text.starts_with("openat2 \"/proc/") {
                Ok(())
            } else {
                Err(format!("it does not say which step it was: {}", failure.text))
            }
        }
        other => Err(format!("{other:?}")),
    }
}

fn sweep(plan: &MapPlan, user: Option<u32>, least: usize) {
    const ERRNOS: &[i32] =
        &[libc::EIO, libc::EINTR, libc::EPERM, libc::EMFILE, libc::ENOMEM, libc::EAGAIN, libc::EINVAL];
    // Every run starts programs, which an emulated machine takes seconds for: some of the calls, some of the errnos.
    let (stride, errnos) = if std::env::var_os("CELLKIT_VM").is_some() { (7, 2) } else { (1, ERRNOS.len()) };
    let least = least / stride;
    let sweep = || {
        Sweep::new(move |counted| {
            let user = user.map(AsUser::new);
            let result = write(counted, plan);
            drop(user);
            result
        })
        .stride(stride)
        .spare("posix_spawn in the C library makes them, and they fail for wrong arguments only", |call| {
            ["rt_sigprocmask", "rt_sigaction"].contains(&call.name.as_str())
        })
    };
    let mut first = true;
    for &errno in ERRNOS.iter().take(errnos) {
        let one = if first { sweep() } else { sweep().ends_of_rows() };
        let swept = one.each(Fault::Fail(errno), |run| judge(plan, run));
        assert!(!first || swept.runs >= least, "{swept:?}");
        first = false;
    }
    for fault in [Fault::Kill, Fault::KillCaller] {
        let swept = sweep().each(fault, |run| judge(plan, run));
        assert!(swept.runs >= least, "{swept:?}");
    }
}

#[test]
fn every_call_of_a_direct_write() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(limit_secs = 600, || {
        let caller = Caller::current().expect("caller");
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let maps = maps.with_projid("0:0:100".parse().expect("map"));
        let plan = MapPlan::explicit(maps, &caller, &SubIds::default()).expect("plan").deny_setgroups();
        assert_eq!(plan.way(), Way::Direct);
        sweep(&plan, None, 20);
    });
}

fn plan_of_ann() -> MapPlan {
    let _ann = AsUser::new(ANN);
    let caller = Caller::current().expect("caller");
    MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan")
}

#[test]
fn every_call_of_an_ordinary_users_write() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(limit_secs = 600, || {
        let _machine = Machine::with("", "");
        let plan = plan_of_ann();
        assert_eq!(plan.way(), Way::SingleId);
        sweep(&plan, Some(ANN), 20);
    });
}

#[test]
fn every_call_around_the_real_newuidmap() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(limit_secs = 600, || {
        let _machine = Machine::with(ROWS, ROWS);
        let plan = plan_of_ann();
        assert_eq!(plan.way(), Way::Helper);
        sweep(&plan.deny_setgroups(), Some(ANN), 40);
    });
}

#[test]
fn every_call_around_a_newuidmap_that_knows_descriptors() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(limit_secs = 600, || {
        let _machine = Machine::with(ROWS, ROWS).and_programs(&faultkit::built_example("newuidmap"));
        let plan = plan_of_ann();
        assert_eq!(plan.way(), Way::Helper);
        sweep(&plan, Some(ANN), 40);
    });
}
