//! Whether the calling process is in a group or below it.
//!
//! Whoever kills or freezes a group must not be in it. The groups below it may be a container's, which has made a hundred
//! thousand of them perhaps, or closed them to a manager that is not root. So they are gone through only when there is no
//! other way. The kernel says where the caller is, as the cgroup namespace has it, which need not be as the mount has it:
//! that it is so is seen by the caller being listed there. From there it is a few steps up to the group, or past it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cellkit_core::{Errno, ProcFd, ProcView, sys};

use crate::kill::procs_of;
use crate::proc_text::parse_membership;
use crate::{Cgroup, CgroupType, Error, Result, open};

impl Cgroup {
    /// Refuses what the calling process would not survive.
    pub(crate) fn refuse_own_group(&self, operation: &'static str) -> Result<()> {
        let found = match self.has_caller() {
            Some(found) => found,
            None => self.search_caller()?,
        };
        if found {
            return Err(Error::invalid(operation, "the calling process is in this group or below it").on(self.path()));
        }
        Ok(())
    }

    /// `None` when it cannot be told like this.
    fn has_caller(&self) -> Option<bool> {
        // The threads of one process are in several groups of a threaded subtree.
        if self.cgroup_type().ok()? == CgroupType::Threaded {
            return None;
        }
        if self.stat().is_ok_and(|stat| stat.nr_descendants == 0) {
            return procs_of(self.as_fd()).ok().map(|procs| procs.contains(&own_pid()));
        }
        let proc = ProcFd::open(ProcView::Processes).and_then(|proc| proc.this_thread()).ok()?;
        let membership = parse_membership(&proc.read(Path::new("cgroup")).ok()?).as_written()?;
        let mut here = caller_below(&top_above(self.as_fd().try_clone_to_owned().ok()?).ok()?, &membership)?;
        let wanted = sys::inode(self.as_fd()).ok()?;
        loop {
            let inode = sys::inode(here.as_fd()).ok()?;
            if inode == wanted {
                return Some(true);
            }
            here = match above(&here) {
                Ok(Some(above)) => above,
                Ok(None) => return Some(false),
                Err(_) => return None,
            };
        }
    }

    fn search_caller(&self) -> Result<bool> {
        let mut found = false;
        self.each_group(|dir| {
            found = found || procs_of(dir).is_ok_and(|procs| procs.contains(&own_pid()));
        })?;
        Ok(found)
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// The group above; `None` where the file system is mounted.
fn above(dir: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    match open::above(dir.as_fd()) {
        // Where the caller's own root is, `..` leads nowhere else.
        Ok(above) if sys::inode(above.as_fd())? == sys::inode(dir.as_fd())? => Ok(None),
        Ok(above) => Ok(Some(above)),
        Err(Errno(libc::EXDEV)) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn top_above(mut here: OwnedFd) -> Result<OwnedFd, Errno> {
    while let Some(next) = above(&here)? {
        here = next;
    }
    Ok(here)
}

/// The group below `top` that lists the caller. Which of the names of `membership` are above `top` is not known.
fn caller_below(top: &OwnedFd, membership: &Path) -> Option<OwnedFd> {
    let mut names = membership.components();
    loop {
        let below: PathBuf = std::iter::once(Component::CurDir).chain(names.clone().filter(is_name)).collect();
        if let Ok(dir) = open::beneath(top.as_fd(), &below, open::DIRECTORY) {
            if procs_of(dir.as_fd()).is_ok_and(|procs| procs.contains(&own_pid())) {
                return Some(dir);
            }
        }
        names.next()?;
    }
}

fn is_name(part: &Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}
