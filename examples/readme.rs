//! A command in a container, from an ordinary account: `cargo run --example readme`.
use cellkit_core::{ProcFd, ProcView, Result};
use idmap::{Caller, MapPlan, SubIds};
use mountkit::{Rootfs, Sys};
use ns_core::{Command, Namespaces};

fn main() -> Result<()> {
    let caller = Caller::current()?;
    let maps = MapPlan::auto(&caller, &SubIds::of(&caller)?)?;
    let root = Rootfs::overlay_of_host().unprivileged().proc().sys(Sys::Fresh).dev().mask_defaults();
    let child = Command::new("sh")
        .args(["-c", "echo I am $$ on $(hostname), uid $(id -u); touch /etc/gone-again"])
        .namespaces(Namespaces::CONTAINER)
        .hostname("web")
        .keep_groups() // setgroups is denied to whoever has no range in /etc/subgid
        .steps(root.steps()?)
        .spawn_paused()?; // one clone3: the child waits in its new namespaces
    maps.write(&child, &ProcFd::open(ProcView::Processes)?, &mut ())?;
    let status = child.resume(&mut ())?.wait()?;
    std::process::exit(status.shell_code())
}
