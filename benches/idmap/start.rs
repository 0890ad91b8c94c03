//! Starts, with all that belongs to one: who the caller is, what it owns, the plan, the maps.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use cellkit_core::{ProcFd, ProcView};
use idmap::{Caller, Extent, IdMap, IdMaps, MapPlan, SubIds};
use ns_core::{Command, Namespaces, PausedChild};

const SIX: Namespaces = Namespaces::PID
    .union(Namespaces::NET)
    .union(Namespaces::IPC)
    .union(Namespaces::UTS)
    .union(Namespaces::MOUNT)
    .union(Namespaces::CGROUP);

pub(crate) fn time(way: &str) -> Duration {
    let command = Command::new("/bin/true");
    let begun = Instant::now();
    let paused = match way {
        // As root: no user namespace.
        "plain" => command.namespaces(SIX).spawn_paused().expect("start"),
        "single" | "auto" => {
            let caller = Caller::current().expect("caller");
            let plan = match way {
                "single" => {
                    MapPlan::explicit(own(&caller), &caller, &SubIds::default()).expect("plan").deny_setgroups()
                }
                _ => MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan"),
            };
            // Without setgroups nobody gives groups up.
            let command = if way == "single" { command.keep_groups() } else { command };
            let paused = command.namespaces(Namespaces::USER | SIX).spawn_paused().expect("start");
            plan.write(&paused, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("maps");
            paused
        }
        _ => panic!("what is {way}?"),
    };
    let status = paused.resume(&mut ()).and_then(|mut child| child.wait()).expect("start");
    let time = begun.elapsed();
    assert!(status.success());
    time
}

fn own(caller: &Caller) -> IdMaps {
    let one = |id| IdMap::single(Extent::new(0, id, 1).expect("extent"));
    IdMaps::new(one(caller.uid()), one(caller.gid()))
}

fn auto() -> MapPlan {
    let caller = Caller::current().expect("caller");
    MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan")
}

pub(crate) fn ids() -> u32 {
    auto().maps().uid.count()
}

/// The two programs and nothing else, as any other program would run them.
pub(crate) fn helpers() -> Duration {
    let plan = auto();
    let paused: PausedChild = Command::new("/bin/true").namespaces(Namespaces::USER).spawn_paused().expect("start");
    let proc = ProcFd::open(ProcView::Processes).expect("proc");
    let pid = proc.pid_of(paused.as_fd()).expect("pid").to_string();
    let programs = [("/usr/bin/newuidmap", &plan.maps().uid), ("/usr/bin/newgidmap", &plan.maps().gid)];
    let begun = Instant::now();
    for (program, map) in programs {
        let numbers = map.extents().iter().flat_map(|extent| [extent.inside(), extent.outside(), extent.count()]);
        let arguments: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let mut program = Program::new(program);
        program.arg(&pid).args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        assert!(program.status().expect("helper").success());
    }
    begun.elapsed()
}
