//! `unshare --fork --pid --net --ipc --uts --mount --cgroup COMMAND`: a command in new namespaces.
//!
//! As root: `cargo run --example unshare -- --pid --mount sh -c 'echo I am $$'`; as anybody, with `--map-root-user`.
use cellkit_core::{ProcFd, ProcView};
use idmap::{Caller, Extent, IdMap, IdMaps, MapPlan, SubIds};
use ns_core::{CapabilitySet, Command, Namespaces, Result};

const USAGE: &str = "usage: unshare [--fork] [--pid | --net | --ipc | --uts | --mount | --cgroup | --time | --user]... \
                     [--map-root-user] COMMAND [ARGUMENT]...";

fn main() -> Result<()> {
    let mut kinds = Namespaces::empty();
    let mut maps_root = false;
    let mut args = std::env::args().skip(1);
    let program = loop {
        kinds |= match args.next().as_deref() {
            Some("--fork" | "-f") => continue, // there always is a child
            Some("--pid" | "-p") => Namespaces::PID,
            Some("--net" | "-n") => Namespaces::NET,
            Some("--ipc" | "-i") => Namespaces::IPC,
            Some("--uts" | "-u") => Namespaces::UTS,
            Some("--mount" | "-m") => Namespaces::MOUNT,
            Some("--cgroup" | "-C") => Namespaces::CGROUP,
            Some("--time" | "-T") => Namespaces::TIME,
            Some("--user" | "-U") => Namespaces::USER,
            Some("--map-root-user" | "-r") => {
                maps_root = true;
                Namespaces::USER
            }
            Some(program) if !program.starts_with('-') => break program.to_owned(),
            _ => {
                eprintln!("{USAGE}");
                std::process::exit(2)
            }
        }
    };
    // What a command is not given here it does not have: unshare(1) keeps all capabilities.
    let command = Command::new(program).args(args).namespaces(kinds).capabilities(CapabilitySet::FULL);
    let paused = if maps_root { command.keep_groups() } else { command }.spawn_paused()?;
    if maps_root {
        let caller = Caller::current()?;
        let one = |outside| Extent::new(0, outside, 1).map(IdMap::single);
        let maps = IdMaps::new(one(caller.uid())?, one(caller.gid())?);
        let plan = MapPlan::explicit(maps, &caller, &SubIds::of(&caller)?)?.deny_setgroups();
        plan.write(&paused, &ProcFd::open(ProcView::Processes)?, &mut ())?;
    }
    std::process::exit(paused.resume(&mut ())?.wait()?.shell_code())
}
