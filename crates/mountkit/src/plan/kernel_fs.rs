//! proc, sysfs and cgroup2.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{Result, Slot};

use super::{CLONE_ALL, Plan, THIS_AND_BELOW};
use crate::in_root::InRootPath;
use crate::rootfs::Sys;
use crate::step::Target;
use crate::{Cgroup2, MountAttr, Proc, Sysfs};

const READ_ONLY_INERT: u64 = MountAttr::INERT.union(MountAttr::RDONLY).bits();

fn place(path: &str) -> Result<InRootPath> {
    InRootPath::new("move_mount", Path::new(path))
}

impl Plan {
    pub(super) fn proc(&mut self, root: Slot, proc: &Proc) -> Result<()> {
        let fd = self.new_fs(&proc.recipe()?, "the processes of the child's own pid namespace");
        self.put(root, fd, place("proc")?, Target::RealDir);
        Ok(())
    }

    pub(super) fn sys(&mut self, root: Slot, sys: Sys) -> Result<()> {
        let fd = match sys {
            Sys::Fresh => {
                let recipe = Sysfs::new().attrs(MountAttr::RDONLY).recipe()?;
                self.new_fs(&recipe, "the devices, with those of the child's own network namespace")
            }
            Sys::BindOfHost => {
                let host = Path::new("/sys");
                let fd = self.clone_of(host, CLONE_ALL, "the host's own, as the network is the host's")?;
                self.set(fd, THIS_AND_BELOW, READ_ONLY_INERT, "read-only before anybody can reach it", host);
                fd
            }
        };
        self.put(root, fd, place("sys")?, Target::RealDir);
        Ok(())
    }

    pub(super) fn cgroup(&mut self, root: Slot, cgroup: &Cgroup2) -> Result<()> {
        let fd = self.new_fs(&cgroup.recipe()?, "the control group that the child is in, as its root");
        self.put(root, fd, place("sys/fs/cgroup")?, Target::Dir);
        Ok(())
    }
}
