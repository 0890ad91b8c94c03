//! `unshare --map-root-user COMMAND`: the command is root, in a user namespace, and is still whoever ran it outside.
//!
//! As anybody: `cargo run --example map_root -- id`
use cellkit_core::{ProcFd, ProcView};
use idmap::{Caller, IdMaps, MapPlan, SubIds};
use ns_core::{CapabilitySet, Command, Namespaces, Result};

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: map_root COMMAND [ARGUMENT]...");
        std::process::exit(2)
    };
    // One id of each kind, so nobody has to be asked: no privilege, no /etc/subuid, no newuidmap.
    let caller = Caller::current()?;
    let maps = IdMaps::contiguous(caller.uid(), caller.gid(), 1)?;
    let plan = MapPlan::explicit(maps, &caller, &SubIds::default())?.deny_setgroups();

    // The child waits: without a map it would be nobody (65534), whatever it runs.
    let command = Command::new(program).args(words).namespaces(Namespaces::USER);
    // All capabilities there are in the new namespace, as unshare(1) leaves them; outside they are none.
    let paused = command.capabilities(CapabilitySet::FULL).keep_groups().spawn_paused()?;
    plan.write(&paused, &ProcFd::open(ProcView::Processes)?, &mut ())?;
    std::process::exit(paused.resume(&mut ())?.wait()?.shell_code())
}
