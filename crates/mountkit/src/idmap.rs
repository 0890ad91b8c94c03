//! Idmapped mounts: files whose owners are others when looked at through the mount.
//!
//! The kernel takes a user namespace for the map: what is `outside` in its maps is what the mount shows, what is `inside`
//! is what the file system holds. Container root, uid 0 in a namespace that maps 0 to 100000, so owns through such a mount
//! what root owns on the disk, and what it makes there belongs to root on the disk.
//!
//! That last is why nosuid is set with it: a set-user-id program that the container makes is root's on the disk, and whoever
//! reaches the disk by another way would run it as root (CVE-2025-64507). nosuid on the mount stops those who come through the
//! mount; the directory below must be closed to all others.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use cellkit_core::{Errno, Error, Result, Subject};

use crate::sys::{self, RawMountAttr};

/// The machine's first user namespace has this inode number.
const FIRST: u64 = 0xefff_fffd;

/// Refuses what is not a user namespace to take a map from.
pub(crate) fn check(userns: BorrowedFd<'_>) -> Result<()> {
    let subject = || Subject::Thing(format!("fd {}", userns.as_raw_fd()));
    match sys::mount::namespace_kind(userns) {
        Ok(libc::CLONE_NEWUSER) => {}
        // Another kind, or what is no namespace at all.
        Ok(_) | Err(Errno(libc::ENOTTY | libc::EINVAL)) => {
            let why = "an id map is taken from a user namespace, and this is none";
            return Err(Error::invalid("mount_setattr", why).on(subject()));
        }
        Err(errno) => return Err(Error::from_errno("ioctl", errno.0).on(subject())),
    }
    let stat = sys::statx(userns.as_raw_fd()).map_err(|errno| Error::from_errno("statx", errno.0).on(subject()))?;
    if stat.inode == FIRST {
        let why = "the machine's first user namespace maps each id to itself, and the kernel takes no map from it";
        return Err(Error::invalid("mount_setattr", why).on(subject()));
    }
    Ok(())
}

/// Adds the map to what is set of a mount.
pub(crate) fn add(attr: &mut RawMountAttr, userns: BorrowedFd<'_>) {
    attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
    attr.userns_fd = userns.as_raw_fd() as u64;
}

/// What the kernel means by refusing a map.
pub(crate) fn hint(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno(libc::EINVAL) => {
            "id map: this file system, or one that is mounted below it, cannot be idmapped by this kernel (ext4, xfs, btrfs, \
             erofs can; tmpfs since Linux 6.3, overlay not); or the mount has been attached before; or the user namespace \
             has no maps yet"
        }
        Errno(libc::EPERM) => {
            "id map: the mount has one already (another can be given to a new bind of it since Linux 6.15); or \
             CAP_SYS_ADMIN is missing in the user namespace that the file system was mounted in, or in the one of the map"
        }
        _ => return None,
    })
}

/// `mount_setattr(MOUNT_ATTR_IDMAP)` of a detached tree, with nosuid.
pub(crate) fn set(mount: &impl AsFd, userns: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = RawMountAttr { attr_set: libc::MOUNT_ATTR_NOSUID, ..RawMountAttr::default() };
    add(&mut attr, userns);
    sys::mount::set_attr(mount, (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as u32, &attr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    #[test]
    fn only_user_namespaces_have_maps() {
        let null = std::fs::File::open("/dev/null").expect("open");
        let error = check(null.as_fd()).expect_err("a device");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("this is none"), "{error}");
        // A namespace of another kind.
        let proc = cellkit_core::ProcFd::open(cellkit_core::ProcView::Processes).expect("proc");
        let mounts = proc.this_thread().expect("this thread").namespace("mnt").expect("a namespace");
        assert!(check(mounts.as_fd()).is_err());
    }

    #[test]
    fn each_refusal_has_a_hint() {
        assert!(hint(Errno(libc::EINVAL)).is_some_and(|hint| hint.contains("tmpfs since Linux 6.3")));
        assert!(hint(Errno(libc::EPERM)).is_some_and(|hint| hint.contains("6.15")));
        assert_eq!(hint(Errno(libc::ENOENT)), None);
    }
}
