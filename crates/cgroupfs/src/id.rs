//! The kernel's number of a group, and the group of a number.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use cellkit_core::{Errno, Subject, sys};

use crate::tree::{Visit, vanished, walk};
use crate::{Cgroup, Error, Hierarchy, Result, open, sys as own_sys};

impl Cgroup {
    /// name_to_handle_at(2): the kernel's 64-bit id of the group, as BPF programs, perf and the out-of-memory killer's trace
    /// points have it. No other group gets it before the machine is booted again.
    ///
    /// * Kernel: 5.5; before, and where the call is filtered, fstat(2): the inode number, which is the same on 64 bits.
    /// * Privileges: none.
    ///
    /// ```no_run
    /// use cgroupfs::Hierarchy;
    ///
    /// let hierarchy = Hierarchy::detect()?;
    /// let group = hierarchy.own_group()?;
    /// assert_eq!(hierarchy.open_by_id(group.id()?)?.path(), group.path());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See name_to_handle_at(2): <https://man7.org/linux/man-pages/man2/name_to_handle_at.2.html>.
    ///
    /// # Errors
    /// The errno of fstat(2). A group that has been removed still has its id.
    #[doc(alias("name_to_handle_at", "cgroup_id"))]
    pub fn id(&self) -> Result<u64> {
        own_sys::kernfs_id(self.dir.as_fd())
            .or_else(|_| sys::inode(self.dir.as_fd()).map(|(inode, _)| inode))
            .map_err(|errno| self.fail("fstat", errno))
    }
}

impl Hierarchy {
    /// open_by_handle_at(2): the group with this [id](Cgroup::id), below the mounted hierarchy.
    ///
    /// * Kernel: 5.5.
    /// * Privileges: CAP_DAC_READ_SEARCH in the initial user namespace. Without it, the groups below the mounted hierarchy
    ///   are gone through, as far as they may be read.
    ///
    /// # Errors
    /// NotFound when no group that the mount shows has this id.
    #[doc(alias = "open_by_handle_at")]
    pub fn open_by_id(&self, id: u64) -> Result<Cgroup> {
        const OPEN: &str = "open_by_handle_at";
        let none = || Error::from_errno(OPEN, libc::ENOENT).on(Subject::Thing(format!("group {id}")));
        match own_sys::open_kernfs_id(self.as_fd(), id) {
            // The path, which is needed too, comes from going up; so a group that the mount does not show is none.
            Ok(found) => self.locate(found, id)?.ok_or_else(none),
            Err(errno) if errno.0 == libc::ESTALE => Err(none()),
            Err(_) => self.search(id)?.ok_or_else(none),
        }
    }

    /// Goes up from `found` and learns its name on each level.
    fn locate(&self, found: std::os::fd::OwnedFd, id: u64) -> Result<Option<Cgroup>> {
        let fail = |operation: &'static str, errno: Errno| {
            Error::from_errno(operation, errno.0).on(Subject::Thing(format!("group {id}")))
        };
        let top = sys::inode(self.as_fd()).map_err(|errno| fail("fstat", errno))?;
        let mut names = Vec::new();
        let mut here = found;
        loop {
            let inode = sys::inode(here.as_fd()).map_err(|errno| fail("fstat", errno))?;
            if inode == top {
                break;
            }
            let above = match open::above(here.as_fd()) {
                Ok(above) => above,
                Err(errno) if vanished(errno) || errno.0 == libc::EXDEV => return Ok(None),
                Err(errno) => return Err(fail("openat2", errno)),
            };
            // The root of the whole hierarchy is above itself.
            if sys::inode(above.as_fd()).is_ok_and(|above| above == inode) {
                return Ok(None);
            }
            match crate::tree::name_of(above.as_fd(), inode.0) {
                Ok(Some(name)) => names.push(name),
                Ok(None) => return Ok(None),
                Err(errno) => return Err(fail("getdents", errno)),
            }
            here = above;
        }
        let path: std::path::PathBuf = std::iter::once("/".into()).chain(names.into_iter().rev()).collect();
        let group = self.open(path)?;
        // Another may have been made under its name.
        Ok((group.id()? == id).then_some(group))
    }

    fn search(&self, id: u64) -> Result<Option<Cgroup>> {
        let mut found = None;
        walk(self.as_fd(), |visited, below| {
            if let Visit::Enter(dir) = visited {
                if found.is_none() && sys::inode(dir).is_ok_and(|(inode, _)| inode == id) {
                    found = Some(below.to_owned());
                }
            }
        });
        match found {
            Some(below) => {
                let group = self.open(std::path::Path::new("/").join(below))?;
                Ok((group.id()? == id).then_some(group))
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    mod root {
        use crate::{CgroupName, Hierarchy};

        #[test]
        fn both_ways_find_the_same_group() {
            faultkit::require!(root, cgroup2);
            faultkit::isolated!(|| {
                let hierarchy = Hierarchy::detect().expect("hierarchy");
                let place = hierarchy.place().expect("place");
                let names = ["a", "b", "c"].map(|name| CgroupName::new(name).expect("name"));
                let deep = place.group().create_nested(&names).expect("nested");
                let id = deep.id().expect("id");
                assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(deep.path()).expect("stat")), id);
                let by_handle = hierarchy.open_by_id(id).expect("by handle");
                assert_eq!(by_handle.path(), deep.path());
                assert_eq!(hierarchy.search(id).expect("search").expect("found").path(), deep.path());
                let top = hierarchy.open("/").expect("top");
                assert_eq!(hierarchy.open_by_id(top.id().expect("id")).expect("top").path(), top.path());
                // What is outside of what is mounted here is none, and so is what is gone.
                let below = Hierarchy::at(&deep).expect("at");
                let error = below.open_by_id(top.id().expect("id")).expect_err("outside");
                assert_eq!(error.kind(), crate::ErrorKind::NotFound);
                place.group().open_child("a").expect("a").remove(std::time::Duration::from_secs(20)).expect("remove");
                assert_eq!(hierarchy.open_by_id(id).expect_err("gone").kind(), crate::ErrorKind::NotFound);
                assert!(hierarchy.search(id).expect("search").is_none());
            });
        }
    }
}
