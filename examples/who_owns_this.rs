//! `nsenter --target PID --user --mount stat --format %u:%g PATH`: whose it is, to a process and to all above it.
//!
//! For a file as the process sees it, or for ids that it has: `cargo run --example who_owns_this -- PID PATH`, or
//! `-- PID UID[:GID]`. As root, or for processes of one's own.
use std::fs::File;

use cellkit_core::{Error, ProcFd, ProcView, Result, Subject};
use idmap::{IdMaps, Owner};
use mountkit::RootFd;
use ns_core::{ListOptions, Namespaces, NsFd, Process, User};

/// A user namespace, by name, with its ids as ids of this one.
type Level = (String, IdMaps);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(Ok(pid)), Some(what), None) = (args.next().map(|pid| pid.parse()), args.next(), args.next()) else {
        eprintln!("usage: who_owns_this PID PATH | PID UID[:GID]");
        std::process::exit(2)
    };
    let levels = levels(&Process::open(pid)?)?;
    let wrong = |why| Error::invalid("id map", why).on(Subject::Value(what.clone()));
    let owner = if what.starts_with('/') {
        // The root of the process may be hostile: no link in it leads out of it.
        let file = File::from(RootFd::open(format!("/proc/{pid}/root"))?.place(&what)?);
        Owner::from(&file.metadata().map_err(|error| Error::from_io("fstat", &error))?)
    } else {
        let (uid, gid) = what.split_once(':').unwrap_or((&what, &what));
        let number = |text: &str| text.parse().map_err(|_| wrong("this is no UID:GID, and a path begins with a slash"));
        let inside = Owner { uid: number(uid)?, gid: number(gid)? };
        let outside = levels.first().map_or(Some(inside), |(_, maps)| maps.to_outside(inside));
        outside.ok_or_else(|| wrong("the process's user namespace has no such id"))?
    };
    for (namespace, maps) in levels {
        let show = |id: Option<u32>| id.map_or("nobody".to_owned(), |id| id.to_string());
        println!("{namespace} {}:{}", show(maps.uid.to_inside(owner.uid)), show(maps.gid.to_inside(owner.gid)));
    }
    println!("{} {owner}", NsFd::<User>::of_this_thread()?);
    Ok(())
}

/// From the user namespace of the process out to this one, which is left out. Read from above, the kernel tells each map as
/// it is here, however many levels there are between.
fn levels(process: &Process) -> Result<Vec<Level>> {
    let here = NsFd::<User>::of_this_thread()?.id();
    let proc = ProcFd::open(ProcView::Processes)?;
    let all = ListOptions::new().kinds(Namespaces::USER).list()?;
    let mut levels = Vec::new();
    let mut id = process.namespace::<User>()?.id();
    while id != here {
        let wrong = |why| Error::invalid("id map", why).on(Subject::Thing(id.to_string()));
        let level = all.get(id).ok_or_else(|| wrong("the namespace has gone"))?;
        let first =
            level.processes.first().ok_or_else(|| wrong("only a process can tell the map, and none is in it"))?;
        levels.push((level.to_string(), IdMaps::of_process(Process::open(*first)?, &proc)?));
        id = level.parent.ok_or_else(|| wrong("this user namespace is not above it"))?;
    }
    Ok(levels)
}
