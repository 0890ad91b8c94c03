//! Overlays on overlays, of which the kernel stacks two.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::Result;

use super::dirs::{Dir, OVERLAYFS_SUPER_MAGIC};
use crate::host_path::open_dir;
use crate::{MountEntry, MountTable};

/// An overlay may lie on an overlay, and not on one that lies on another.
pub(crate) fn check_depth(lowers: &[Dir]) -> Result<()> {
    let mut table = None;
    for dir in lowers.iter().filter(|dir| dir.is_on_an_overlay()) {
        let table = match &table {
            Some(table) => table,
            None => table.insert(MountTable::read()?),
        };
        let mount = table.covering_fd(dir)?;
        if mount.is_some_and(|mount| layers_of(mount).iter().any(|layer| is_overlay(layer))) {
            return Err(dir
                .refuse("it is an overlay on an overlay: they stack two deep at most")
                .with_hint("name the layers of that overlay instead of the overlay"));
        }
    }
    Ok(())
}

fn is_overlay(path: &Path) -> bool {
    open_dir(path)
        .is_ok_and(|dir| cellkit_core::sys::fs_magic(dir.as_raw_fd()).is_ok_and(|magic| magic == OVERLAYFS_SUPER_MAGIC))
}

/// The lower directories that the mount table tells of an overlay, where they are absolute.
pub(crate) fn layers_of(overlay: MountEntry<'_>) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for option in overlay.options().into_iter().flatten() {
        let option = option.as_bytes();
        if let Some(one) = option.strip_prefix(b"lowerdir+=").or_else(|| option.strip_prefix(b"datadir+=")) {
            layers.push(one.to_owned());
        } else if let Some(all) = option.strip_prefix(b"lowerdir=") {
            layers.extend(split(all, b':').map(without_backslashes));
        }
    }
    layers.into_iter().map(|layer| PathBuf::from(OsStr::from_bytes(&layer))).filter(|path| path.is_absolute()).collect()
}

/// The parts between separators that no backslash stands before.
fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    bytes.split(move |byte| {
        let here = !escaped && *byte == separator;
        escaped = !escaped && *byte == b'\\';
        here
    })
}

fn without_backslashes(part: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(part.len());
    let mut escaped = false;
    for byte in part {
        escaped = !escaped && *byte == b'\\';
        if !escaped {
            plain.push(*byte);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mountinfo_tells_of_the_layers() {
        let table = MountTable::parse(
            "99 94 0:46 / /m rw,relatime - overlay overlay rw,lowerdir=/a\\134:b:/c\\040d:rel,upperdir=/u\n\
             98 94 0:47 / /n rw - overlay overlay ro,lowerdir+=/x:y,datadir+=/z\n",
        );
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let layers_of = |id| layers_of(table.by_id(id).expect("a mount"));
        assert_eq!(layers_of(99), paths(&["/a:b", "/c d"]));
        assert_eq!(layers_of(98), paths(&["/x:y", "/z"]));
    }
}
