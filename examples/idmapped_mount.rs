//! `mount -o bind,X-mount.idmap=b:0:100000:65536 DIR PLACE`: files of the machine's root are the container's root's.
//!
//! As root, and in a mount namespace of its own: `cargo run --example idmapped_mount -- DIR`
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use idmap::{IdMaps, UsernsFd};
use mountkit::{Bind, Mount, MountChange, Propagation, Result, RootFd};
use ns_core::{Command, Namespaces, NsFd, User};

/// Who is root in the container.
const CONTAINER_ROOT: u32 = 100_000;

fn main() -> Result<()> {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: idmapped_mount DIR");
        std::process::exit(2)
    };
    let dir = std::path::absolute(dir).map_err(|error| mountkit::Error::from_io("getcwd", &error))?;
    // 0 to 65535 inside are 100000 and above outside. No process is in it.
    let userns = UsernsFd::with_maps(&IdMaps::contiguous(CONTAINER_ROOT, CONTAINER_ROOT, 65_536)?)?;
    println!("{}, owned by uid {}", userns.id(), userns.owner_uid()?);

    ns_core::unshare(Namespaces::MOUNT)?;
    let root = RootFd::open("/")?;
    let all = Mount::open(&root, "/")?;
    all.change(&MountChange::new().propagation(Propagation::Private).recursive())?;

    show("on the disk", &dir)?;
    // Over itself, and in this namespace only: whoever looks from elsewhere sees the disk.
    let _mount = Bind::new(&dir).idmap(&userns).mount()?.attach(&root, &dir)?;
    show("through the mount", &dir)?;

    // Who joins the namespace is the container's root, and sees root's files as root's.
    let inside = |program: &str| {
        let namespace = NsFd::<User>::from_fd(userns.try_clone()?.into())?;
        Ok::<_, mountkit::Error>(Command::new(program).join(namespace).user(0, 0).current_dir(&dir))
    };
    println!("container root looks, and makes a file:");
    inside("stat")?.args(["-c", "  %6u %6g %n", "."]).status()?;
    inside("touch")?.arg("made-by-container-root").status()?;
    show("through the mount", &dir)
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
