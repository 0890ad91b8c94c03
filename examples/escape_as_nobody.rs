//! `unshare --mount --pid … COMMAND` and `unshare --user --map-users 0:100000:65536 --mount --pid … COMMAND`, and who the
//! command is once it is out: a descriptor that somebody forgot to close (CVE-2024-21626) leads out of the root of a
//! container, where root of the machine may do everything, and root of a user namespace is a user that nobody knows.
//!
//! As root: `cargo run --example escape_as_nobody`. The outside is a file system in memory that only this program has.
use std::io::Write;

use cellkit_core::{ProcFd, ProcView};
use idmap::{Caller, IdMaps, MapPlan, SubIds};
use mountkit::{DetachedMount, Rootfs, Tmpfs};
use ns_core::{CapabilitySet, Command, Error, Namespaces, Result, Stdio};

/// What runs in the container. Descriptor 3 should not be there.
const ESCAPE: &str = r#"
    cd /proc/self/fd/3 || exit
    echo "  root here is this uid outside, for so many: $(awk '{ print $2, $3 }' /proc/self/uid_map)"
    echo "  the secret outside belongs to: $(stat -c %U secret)"
    echo "  it reads: $(cat secret 2>&1)"
    echo "  it writes: $(touch mine 2>&1 && echo a file of its own)"
    echo "  it takes over: $(chown 0 secret 2>&1 && echo the secret)"
"#;

fn main() -> Result<()> {
    let caller = Caller::current()?;
    if !(caller.is_privileged() && caller.in_initial_user_namespace()) {
        let why = "only root of the machine has what a container without a user namespace could lose";
        return Err(Error::invalid("escape_as_nobody", why).with_hint("sudo"));
    }
    println!("without a user namespace");
    escape(&outside()?, None)?;
    println!("with a user namespace");
    let maps = IdMaps::contiguous(100_000, 100_000, 65_536)?;
    escape(&outside()?, Some(&MapPlan::explicit(maps, &caller, &SubIds::default())?))
}

/// A tree that is mounted nowhere, with a file that only root may read.
fn outside() -> Result<DetachedMount> {
    let outside = Tmpfs::new().mode(0o755).mount()?;
    let written = outside.root()?.open_dir(".")?.create("secret", 0o600)?.write_all(b"for root only");
    written.map(|()| outside).map_err(|error| Error::from_io("write", &error))
}

fn escape(outside: &DetachedMount, plan: Option<&MapPlan>) -> Result<()> {
    let kinds = if plan.is_some() { Namespaces::CONTAINER } else { Namespaces::CONTAINER - Namespaces::USER };
    let root = Rootfs::overlay_of_host().proc().dev();
    let paused = Command::new("sh")
        .args(["-c", ESCAPE])
        .namespaces(kinds)
        .steps(if plan.is_some() { root.unprivileged() } else { root }.steps()?)
        .capabilities(CapabilitySet::FULL)
        .fd_outside_root(3, outside.root()?)
        .kill_with_parent()
        .stdin(Stdio::Null)
        .spawn_paused()?;
    if let Some(plan) = plan {
        plan.write(&paused, &ProcFd::open(ProcView::Processes)?, &mut ())?;
    }
    let status = paused.resume(&mut ())?.wait()?;
    if status.success() { Ok(()) } else { Err(Error::other("escape_as_nobody", format!("sh ended with {status}"))) }
}
