//! `mount -o bind,X-mount.idmap=b:0:100000:65536 DIR PLACE`: a directory whose files belong to others.
//!
//! As root, and in a mount namespace of its own: `cargo run --example idmapped -- DIR`
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cellkit_core::{ProcFd, ProcView};
use idmap::{Caller, IdMaps, MapPlan, SubIds};
use mountkit::{Bind, Mount, MountChange, Propagation, Result, RootFd};
use ns_core::{Command, Namespaces, NsFd, User};

const CONTAINER_ROOT: u32 = 100_000;

fn main() -> Result<()> {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: idmapped DIR");
        std::process::exit(2)
    };
    let dir = std::path::absolute(dir).map_err(|error| mountkit::Error::from_io("getcwd", &error))?;
    let userns = user_namespace()?;

    ns_core::unshare(Namespaces::MOUNT)?;
    let root = RootFd::open("/")?;
    let all = Mount::open(&root, "/")?;
    all.change(&MountChange::new().propagation(Propagation::Private).recursive())?;

    show("on the disk", &dir)?;
    // Over itself, and in this namespace only: whoever looks from elsewhere sees the disk.
    let _mount = Bind::new(&dir).idmap(&userns).mount()?.attach(&root, &dir)?;
    show("through the mount", &dir)?;
    // What container root makes belongs to root on the disk.
    let touch = Command::new("touch").arg(dir.join("made-by-container-root")).user(CONTAINER_ROOT, CONTAINER_ROOT);
    println!("container root makes a file: {}", touch.status()?);
    show("through the mount", &dir)
}

/// One that maps 0 to 65535 inside to 100000 and above outside. The mount keeps the map; the child is not needed after it.
fn user_namespace() -> Result<NsFd<User>> {
    let caller = Caller::current()?;
    let maps = IdMaps::contiguous(CONTAINER_ROOT, CONTAINER_ROOT, 65_536)?;
    let plan = MapPlan::explicit(maps, &caller, &SubIds::of(&caller)?)?;
    let paused = Command::new("true").namespaces(Namespaces::USER).spawn_paused()?;
    plan.write(&paused, &ProcFd::open(ProcView::Processes)?, &mut ())?;
    paused.namespace()
}

fn show(how: &str, dir: &Path) -> Result<()> {
    println!("{how}:");
    let fail = |error: std::io::Error| mountkit::Error::from_io("getdents64", &error).on(dir);
    let entries = std::fs::read_dir(dir).map_err(fail)?.collect::<std::io::Result<Vec<_>>>().map_err(fail)?;
    let mut names: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
    names.sort();
    for path in names {
        let metadata = path.symlink_metadata().map_err(fail)?;
        println!("  {:6} {:6} {}", metadata.uid(), metadata.gid(), path.display());
    }
    Ok(())
}
