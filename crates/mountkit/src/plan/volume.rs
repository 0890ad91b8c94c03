//! A directory or file of the host.
#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;

use cellkit_core::{Error, Result, Slot};

use super::{CLONE, CLONE_ALL, Plan, THIS, THIS_AND_BELOW, absolute_source};
use crate::host_path::open_place;
use crate::rootfs::Rootfs;
use crate::shared_fd::SharedFd;
use crate::step::{Call, Target};
use crate::sys::{self, RawMountAttr};
use crate::volume::ReadOnly;
use crate::{Propagation, Volume};

impl Plan {
    pub(super) fn clone_of_volume(&mut self, volume: &Volume) -> Result<Slot> {
        let source = absolute_source(volume.source())?;
        let (flags, reason) = match volume.is_alone() {
            true => (CLONE, "a volume of the host, without what is mounted below it"),
            false => (CLONE_ALL, "a volume of the host, with what is mounted below it"),
        };
        self.clone_of(&source, flags, reason)
    }

    /// The volume as a detached mount with all that was asked of it.
    pub(super) fn volume(&mut self, volume: &Volume, early: Option<Slot>, rootfs: &Rootfs) -> Result<(Slot, Target)> {
        let is_dir = volume.is_dir()?;
        let kind = if is_dir { Target::Dir } else { Target::File };
        let reach = if volume.is_alone() { THIS } else { THIS_AND_BELOW };
        let fd = match (early, volume.id_map()) {
            (_, Some(userns)) if rootfs.unprivileged => {
                let mount = idmapped_by_the_caller(volume, userns, reach)?;
                self.inherit(&mount, "a volume with an id map, which a user namespace may not make")
            }
            (early, userns) => {
                let fd = match early {
                    Some(fd) => fd,
                    None => self.clone_of_volume(volume)?,
                };
                if let Some(userns) = userns {
                    let call = Call::Idmap { mount: fd, flags: reach, userns: userns.clone() };
                    self.push(call, "its owners are seen through the id maps of a user namespace", volume.source());
                }
                fd
            }
        };
        // Those that begin as private stay so.
        let propagation = match volume.propagates() {
            Propagation::Private => 0,
            other => other.flag(),
        };
        let attr = RawMountAttr { propagation, ..volume.attributes(is_dir) };
        if attr != RawMountAttr::default() {
            self.change(fd, reach, attr, reason(attr), volume.source());
        }
        if volume.read_only_part() == ReadOnly::Top {
            let reason = "read-only itself, but not what is mounted below it";
            self.set(fd, THIS, libc::MOUNT_ATTR_RDONLY, reason, volume.source());
        }
        Ok((fd, kind))
    }
}

fn reason(attr: RawMountAttr) -> &'static str {
    let has = |bit| attr.attr_set & bit != 0;
    match (has(libc::MOUNT_ATTR_RDONLY), has(libc::MOUNT_ATTR_NODEV)) {
        (false, true) => "no device in it can be opened, whoever made the node",
        (true, false) => "read-only before anybody can reach it",
        (true, true) => "read-only before anybody can reach it, and no device in it can be opened",
        (false, false) => "as asked for, before anybody can reach it",
    }
}

fn idmapped_by_the_caller(volume: &Volume, userns: &SharedFd, reach: u32) -> Result<SharedFd> {
    let fail = |operation, errno: cellkit_core::Errno| {
        Error::from_errno(operation, errno.0).on(volume.source()).with_hints(&crate::HINTS)
    };
    let place = open_place(volume.source())?;
    let recursive = reach & libc::AT_RECURSIVE as u32;
    let at = std::os::fd::AsFd::as_fd(&place);
    let mount = sys::mount::clone_tree(Some(at), c"", recursive | libc::AT_EMPTY_PATH as u32)
        .map_err(|errno| fail("open_tree", errno))?;
    let userns_fd = std::os::fd::AsFd::as_fd(userns).as_raw_fd();
    // Private: what is cloned of a shared mount would take part in what becomes of that.
    let attr = RawMountAttr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        propagation: Propagation::Private.flag(),
        userns_fd: u64::from(userns_fd.unsigned_abs()),
        ..RawMountAttr::default()
    };
    sys::mount::set_attr(&mount, reach, &attr).map_err(|errno| fail("mount_setattr", errno))?;
    Ok(mount.into())
}
