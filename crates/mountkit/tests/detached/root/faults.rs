//! Every system call failing once, and the process killed at each: nothing is left but what was attached by then.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use faultkit::{Counted, End, Failure, Fault, Run, Sweep};
use mountkit::{Bind, DetachedMount, Error, MountAttr, Propagation, RootFd, Tmpfs};

use super::idmap::UserNamespace;
use super::{dir_with, host, table, text};

const ENOMEM: i32 = 12;
const ENOSYS: i32 = 38;

/// What was attached on `target` belongs to whoever attached it.
fn unmount(target: &Path) {
    if table().lines().any(|line| line.split(' ').nth(4) == Some(text(target))) {
        host("umount", &["-l", text(target)]);
    }
}

fn failure(error: &Error) -> Failure {
    Failure::new(error.operation(), error.raw_os_error(), error)
}

/// The error is the one that was injected, but for calls whose failure has another way out.
fn judge(run: &Run) -> Result<(), String> {
    let Fault::Fail(errno) = run.fault else { return Ok(()) };
    let other_way = match run.call.name.as_str() {
        // open_tree and mount_setattr are made then.
        "open_tree_attr" | "syscall 467" => true,
        // statmount: the whole table is read then.
        "statmount" | "syscall 457" => true,
        // Before Linux 6.13 the whole table is read, from whichever /proc can be had.
        "openat2" | "fsopen" | "fsconfig" | "fsmount" | "fstatfs" | "fstat" | "newfstatat" | "readlinkat"
            if reads_the_whole_table() =>
        {
            true
        }
        // Nothing can be done about a close, and the standard library asks for a size as a hint only.
        "close" | "lseek" | "statx" => true,
        // A private procfs, where the machine's is taken instead.
        "fsopen" | "fsconfig" | "fsmount" => errno == ENOSYS,
        _ => false,
    };
    match &run.end {
        End::Returned(Err(failure)) if failure.errno == Some(errno) => Ok(()),
        End::Returned(Ok(())) if other_way => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn reads_the_whole_table() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(6), Some(13))
}

/// Sweeps over making and attaching.
fn sweep(make: impl Fn() -> Result<DetachedMount, Error>) {
    let dir = dir_with(&["to"]);
    let (root, target) = (RootFd::open(&*dir).expect("root"), dir.join("to"));
    let sweep = Sweep::new(|counted: &Counted<'_>| {
        let attached = counted.run(|| make()?.attach(&root, "to"));
        unmount(&target);
        attached.map(drop).map_err(|error| failure(&error))
    });
    let sweep = sweep.recover(|| unmount(&target)).stride(stride());
    for errno in [ENOMEM, ENOSYS] {
        sweep.each(Fault::Fail(errno), judge);
    }
    sweep.each(Fault::KillCaller, judge);
}

/// The emulated machine takes every third call.
fn stride() -> usize {
    if std::env::var_os("CELLKIT_VM").is_some() { 3 } else { 1 }
}

fn source() -> (faultkit::TempDir, PathBuf) {
    let dir = dir_with(&["from"]);
    let from = dir.join("from");
    (dir, from)
}

#[test]
fn a_bind_with_attributes() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (_dir, from) = source();
        sweep(|| {
            let bind = Bind::new(&from).recursive().attrs(MountAttr::RDONLY | MountAttr::NODEV);
            let mount = bind.attrs_of_topmost(MountAttr::NOEXEC).mount()?;
            mount.set_propagation(Propagation::Slave)?;
            Ok(mount)
        });
    });
}

#[test]
fn a_tmpfs_with_options() {
    faultkit::require!(root);
    faultkit::isolated!(|| sweep(|| Tmpfs::new().size(1 << 20).mode(0o700).source("swept").no_exec().mount()));
}

#[test]
fn an_idmapped_one() {
    faultkit::require!(root, kernel(6.3), program("unshare"));
    faultkit::isolated!(|| {
        let userns = UserNamespace::new(100_000, 65_536);
        let dir = dir_with(&["from"]);
        let from = Tmpfs::new().mount().expect("mount").attach(&RootFd::open(&*dir).expect("root"), "from");
        let from = from.expect("attach");
        sweep(|| Bind::of_fd(&from).idmap(&userns.fd).mount());
        from.unmount().expect("umount");
    });
}

#[test]
fn an_unmount_takes_away_or_says_why_not() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["to"]);
        let (root, target) = (RootFd::open(&*dir).expect("root"), dir.join("to"));
        let sweep = Sweep::new(|counted: &Counted<'_>| {
            let mount = Tmpfs::new().mount().expect("mount").attach(&root, "to").expect("attach");
            let answer = counted.run(|| mount.unmount_or_detach());
            let there = table().lines().any(|line| line.split(' ').nth(4) == Some(text(&target)));
            unmount(&target);
            match answer {
                Ok(_) if there => Err(Failure::new("umount2", None, "it is still there")),
                answer => answer.map(drop).map_err(|error| failure(&error)),
            }
        });
        let sweep = sweep.recover(|| unmount(&target)).stride(stride());
        // What the C library does to make a thread is its own.
        let of_thread = ["mmap", "mprotect", "clone3", "clone", "rt_sigprocmask", "prctl", "sched_getaffinity"];
        let sweep = sweep.spare("what a thread takes beside its making", move |call| {
            of_thread.contains(&call.name.as_str()) && call.name != "clone3"
        });
        sweep.each(Fault::Fail(ENOMEM), |run| match &run.end {
            // Out of memory for the thread is EAGAIN in the C library's words; it then tries clone(2).
            End::Returned(_) if run.call.name == "clone3" => Ok(()),
            _ => judge(run),
        });
        sweep.each(Fault::KillCaller, judge);
    });
}
