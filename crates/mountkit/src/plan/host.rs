//! The machine's own `/` as the lower layer.
//!
//! A privileged child lays one overlay on `/`, and one on each directory below it that is a mount of its own. A child in
//! a new user namespace got the host's mounts as one locked whole: the kernel lets it clone a directory only together
//! with everything mounted below it, and an overlay takes no such directory. So its root is a directory of the scratch
//! tmpfs, filled with one entry for each of `/`.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result, Slot, Subject};

use super::overlay::Lower;
use super::{CLONE_ALL, Plan, THIS_AND_BELOW};
use crate::host_path::open_dir;
use crate::in_root::InRootPath;
use crate::rootfs::Rootfs;
use crate::step::{At, Call, Target};
use crate::{MountTable, sys};

/// Directories that a container has empty ones of, or its own.
const KERNEL: [&str; 3] = ["dev", "proc", "sys"];
/// Directories for what runs now: the container's are empty, writable, and go away with it.
const VOLATILE: [(&str, u32); 2] = [("run", 0o755), ("tmp", 0o1777)];

/// An entry of the host's `/`.
#[derive(Debug)]
enum Entry {
    Symlink,
    Dir,
    File,
}

/// What an unprivileged child's root has for a directory of `/`.
#[derive(Debug, PartialEq, Eq)]
enum DirPlan {
    /// A directory with this mode, and nothing in it.
    Empty(u32),
    /// An overlay of its own.
    Overlay,
    /// The directory itself with all its mounts, read-only.
    ReadOnly,
}

fn decide(mode: u32, readable: bool, mounts_below: bool, is_empty: impl FnOnce() -> bool) -> DirPlan {
    if !readable || (!mounts_below && is_empty()) {
        DirPlan::Empty(mode)
    } else if mounts_below {
        DirPlan::ReadOnly
    } else {
        DirPlan::Overlay
    }
}

/// Whether a child in a new user namespace, made by this process, could list the directory: everybody may, or the caller
/// may without having privileges that the child has not.
fn is_readable(dir: &impl std::os::fd::AsRawFd, mode: u32) -> bool {
    mode & 0o005 == 0o005 || (sys::effective_uid() != 0 && sys::may(dir.as_raw_fd(), libc::R_OK | libc::X_OK))
}

impl Plan {
    pub(super) fn overlay_of_host(&mut self, rootfs: &Rootfs) -> Result<Slot> {
        if rootfs.unprivileged { self.host_by_entry(rootfs) } else { self.host_as_one() }
    }

    fn host_as_one(&mut self) -> Result<Slot> {
        let root = self.overlay(&Lower::look_at(Path::new("/"))?, false)?;
        self.writable.push(root);
        self.attach_root(root);
        for (name, entry) in self.entries()? {
            let path = Path::new("/").join(&name);
            if let Entry::Dir = entry {
                if is_mount_root(&path)? {
                    let overlay = self.overlay(&Lower::look_at(&path)?, false)?;
                    self.writable.push(overlay);
                    self.put(root, overlay, InRootPath::new("move_mount", &name)?, Target::Dir);
                }
            }
        }
        for (name, mode) in VOLATILE {
            self.volatile(root, name, mode)?;
        }
        Ok(root)
    }

    fn host_by_entry(&mut self, rootfs: &Rootfs) -> Result<Slot> {
        self.mkdir_in_scratch(c"root", 0o755, "the root: an entry for each of the host's \"/\"");
        let root = self.clone_of_scratch(c"root", "… as a mount of its own");
        self.writable.push(root);
        self.attach_root(root);
        let table = MountTable::read()?;
        for (name, entry) in self.entries()? {
            let path = Path::new("/").join(&name);
            let c_name = super::c_string("mkdirat", &name)?;
            match entry {
                Entry::Symlink => {
                    let target = link_target(&path)?;
                    let call = Call::Symlinkat { target, at: root, path: c_name };
                    self.push(call, "the same link as the host's", &*path);
                }
                Entry::File => {
                    let mode = libc::S_IFREG | 0o644;
                    let call = Call::Mknodat { at: root, path: c_name.clone(), mode, device: (0, 0) };
                    self.push(call, "a place for a file of the host", &*path);
                    self.host_itself(root, &path, c_name, "a file of the host: an overlay holds directories only")?;
                }
                Entry::Dir => self.host_dir(root, &path, c_name, !table.below(&path).is_empty())?,
            }
        }
        for (name, mode) in VOLATILE {
            if rootfs.read_only {
                self.volatile(root, name, mode)?;
            } else {
                let path = CString::new(name).unwrap_or_default();
                self.push(
                    Call::Mkdirat { at: root, path, mode },
                    "empty: what runs now is not the container's",
                    Path::new(name),
                );
            }
        }
        for name in KERNEL {
            let path = CString::new(name).unwrap_or_default();
            self.push(
                Call::Mkdirat { at: root, path, mode: 0o755 },
                "empty, or a place for the container's own",
                Path::new(name),
            );
        }
        Ok(root)
    }

    fn entries(&mut self) -> Result<Vec<(PathBuf, Entry)>> {
        let entries = entries()?;
        match entries.iter().find(|(_, entry)| matches!(entry, Entry::Dir)) {
            Some((name, _)) => self.elsewhere = Path::new("/").join(name),
            None => return Err(Error::invalid("open", "it has no directory to make a container of").on(Path::new("/"))),
        }
        Ok(entries)
    }

    fn host_dir(&mut self, root: Slot, path: &Path, name: CString, mounts_below: bool) -> Result<()> {
        let dir = open_dir(path)?;
        let metadata = dir.metadata().map_err(|error| Error::from_io("fstat", &error).on(path))?;
        let mode = metadata.permissions().mode() & 0o7777;
        let is_empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        let place = |mode| Call::Mkdirat { at: root, path: name.clone(), mode };
        match decide(mode, is_readable(&dir, mode), mounts_below, is_empty) {
            DirPlan::Empty(mode) => self.push(place(mode), "nothing in it that the child could read", path),
            DirPlan::Overlay => {
                self.push(place(0o755), "a place for a directory of the host", path);
                let overlay = self.overlay(&Lower::look_at(path)?, true)?;
                self.writable.push(overlay);
                self.push(Call::MoveMount { from: overlay, at: At::Fd(root), path: name }, "there it is", path);
            }
            DirPlan::ReadOnly => {
                self.push(place(0o755), "a place for a directory of the host", path);
                let reason = "it has mounts below it, which a user namespace can only have with it and not overlay";
                self.host_itself(root, path, name, reason)?;
            }
        }
        Ok(())
    }

    /// The host's own, read-only.
    fn host_itself(&mut self, root: Slot, path: &Path, name: CString, reason: &'static str) -> Result<()> {
        let clone = self.clone_of(path, CLONE_ALL, reason)?;
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
        self.set(
            clone,
            THIS_AND_BELOW,
            attributes,
            "… so it is read-only, without devices and set-user-id programs",
            path,
        );
        self.push(Call::MoveMount { from: clone, at: At::Fd(root), path: name }, "there it is", path);
        Ok(())
    }

    /// An empty writable directory of the scratch tmpfs at `/name`.
    fn volatile(&mut self, root: Slot, name: &str, mode: u32) -> Result<()> {
        let path = InRootPath::new("move_mount", Path::new(name))?;
        let c_name = path.full().to_owned();
        self.mkdir_in_scratch(&c_name, mode, "empty: what runs now is not the container's");
        let clone = self.clone_of_scratch(&c_name, "… as a mount of its own");
        self.put(root, clone, path, Target::Dir);
        Ok(())
    }
}

/// A directory of the host other than `/`.
pub(super) fn a_directory() -> Result<PathBuf> {
    let found = entries()?.into_iter().find(|(_, entry)| matches!(entry, Entry::Dir));
    let none = || Error::invalid("open", "it has no directory to put things aside in").on(Path::new("/"));
    found.map(|(name, _)| Path::new("/").join(name)).ok_or_else(none)
}

/// The entries of `/` that a container is to have, by name.
fn entries() -> Result<Vec<(PathBuf, Entry)>> {
    let root = Path::new("/");
    let fail = |operation, error: &std::io::Error| Error::from_io(operation, error).on(root);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|error| fail("open", &error))? {
        let entry = entry.map_err(|error| fail("getdents64", &error))?;
        let name = entry.file_name();
        let special = KERNEL.iter().chain(VOLATILE.iter().map(|(name, _)| name)).any(|special| name == *special);
        let file_type = entry.file_type().map_err(|error| fail("getdents64", &error))?;
        let kind = if special {
            continue;
        } else if file_type.is_symlink() {
            Entry::Symlink
        } else if file_type.is_dir() {
            Entry::Dir
        } else if file_type.is_file() {
            Entry::File
        } else {
            // Sockets, FIFOs and device nodes belong to what runs now.
            continue;
        };
        found.push((PathBuf::from(name), kind));
    }
    found.sort_by(|(a, _), (b, _)| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(found)
}

fn link_target(path: &Path) -> Result<CString> {
    let target = std::fs::read_link(path).map_err(|error| Error::from_io("readlink", &error).on(path))?;
    // A link's text has no NUL byte in it.
    Ok(CString::new(target.into_os_string().into_vec()).unwrap_or_default())
}

fn is_mount_root(path: &Path) -> Result<bool> {
    let stat = sys::statx_path(&super::c_string("statx", path)?)
        .map_err(|errno| Error::from_errno("statx", errno.0).on(Subject::from(path)))?;
    Ok(stat.is_mount_root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_directory() {
        assert_eq!(decide(0o755, true, false, || false), DirPlan::Overlay);
        assert_eq!(decide(0o755, true, false, || true), DirPlan::Empty(0o755));
        assert_eq!(decide(0o755, true, true, || true), DirPlan::ReadOnly);
        assert_eq!(decide(0o700, false, false, || false), DirPlan::Empty(0o700));
        assert_eq!(decide(0o700, false, true, || false), DirPlan::Empty(0o700));
    }

    #[test]
    fn the_entries_of_this_machine() {
        let names: Vec<_> = entries().expect("/").into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&PathBuf::from("usr")));
        for special in ["proc", "sys", "dev", "run", "tmp"] {
            assert!(!names.contains(&PathBuf::from(special)), "{special}");
        }
        assert!(names.is_sorted());
    }

    #[test]
    fn mount_points_are_known_without_the_mount_table() {
        assert!(is_mount_root(Path::new("/proc")).expect("statx"));
        assert!(!is_mount_root(Path::new("/proc/self/net")).expect("statx"));
    }
}
