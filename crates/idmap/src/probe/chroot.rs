//! Whether the caller's root directory is that of its mount namespace. No system call says so.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::ProcFd;
use cellkit_core::mountinfo::lines;

use crate::sys::look::{self, RootDirectory};

/// `None` where it cannot be told.
///
/// Where the root directory is in the middle of a mount, it is one. Where it is the beginning of a mount, that may be
/// mounted on another directory, which is then seen by somebody with another root: by process 1, if it is in the same
/// mount namespace. A mount has one number, whoever looks.
pub(super) fn is_chroot(proc: &ProcFd) -> Option<bool> {
    let root = look::root_directory().ok()?;
    if root.is_mount_root == Some(false) {
        return Some(true);
    }
    let own = proc.this_thread().ok()?.read(Path::new("mountinfo")).ok()?;
    let first = proc.read(Path::new("1/mountinfo")).ok()?;
    judge(root, &own, &first)
}

fn judge(root: RootDirectory, own: &[u8], first: &[u8]) -> Option<bool> {
    let number = root.mount.to_string();
    let is_it = |id: &[u8]| id == number.as_bytes();
    // A file system put over `/` later is above the one that is the root directory: the last line counts.
    let place = |mountinfo| lines(mountinfo).filter(|line| is_it(line.id)).last().map(|line| line.target);
    // Process 1 of this pid namespace may be in another mount namespace, which tells nothing.
    match (place(own), place(first)) {
        (Some(b"/"), Some(b"/")) => Some(false),
        (Some(b"/"), Some(_)) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_number_of_the_mount() {
        let root = RootDirectory { mount: 30, is_mount_root: Some(true) };
        let own = b"30 20 0:4 / / rw - tmpfs x rw\n";
        let there = b"20 1 0:3 / / rw - ext4 x rw\n30 20 0:4 / /mnt rw - tmpfs x rw\n";
        assert_eq!(judge(root, own, there), Some(true));
        assert_eq!(judge(root, own, own), Some(false));
        assert_eq!(judge(root, own, b"40 20 0:3 / / rw - ext4 x rw\n"), None, "another mount namespace");
        assert_eq!(judge(root, b"", own), None);
    }
}
