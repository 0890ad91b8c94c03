//! One overlay: a lower directory of the host, upper and work directories in the scratch tmpfs.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Errno, Error, Result, Slot, Subject};

use super::{CLONE, Plan};
use crate::MountTable;
use crate::host_path::{io_error, open_dir};
use crate::shared_fd::SharedFd;
use crate::step::{At, Call};
use crate::sys;

/// A lower directory, and what of it the overlay takes over.
#[derive(Debug)]
pub(super) struct Lower {
    /// As errors name it.
    path: PathBuf,
    /// The mount that the caller made of it, where it is not to be looked up by its path.
    mount: Option<SharedFd>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// MOUNT_ATTR_* that the mount it is on has: a set-user-id program of a nosuid mount stays without effect.
    attributes: u64,
}

impl Lower {
    pub(super) fn look_at(path: &Path) -> Result<Self> {
        let dir = open_dir(path)?;
        let metadata = dir.metadata().map_err(|error| io_error("fstat", &error, path))?;
        let flags =
            sys::mount_flags(dir.as_raw_fd()).map_err(|errno| Error::from_errno("fstatfs", errno.0).on(path))?;
        Ok(Self {
            path: super::absolute_source(path)?,
            mount: None,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            attributes: attributes_of(flags),
        })
    }

    /// The root of a detached mount that the caller made.
    pub(super) fn look_at_mount(mount: &SharedFd, shown: &Path) -> Result<Self> {
        let fail = |call, errno: Errno| Error::from_errno(call, errno.0).on(shown);
        let fd = mount.as_fd().as_raw_fd();
        let stat = sys::statx(fd).map_err(|errno| fail("statx", errno))?;
        let flags = sys::mount_flags(fd).map_err(|errno| fail("fstatfs", errno))?;
        Ok(Self {
            path: shown.to_owned(),
            mount: Some(mount.clone()),
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            attributes: attributes_of(flags),
        })
    }

    /// The kernel does not let a user namespace look below mounts that it did not make.
    pub(super) fn refuse_mounts_below(&self) -> Result<()> {
        let real = std::fs::canonicalize(&self.path).map_err(|error| io_error("realpath", &error, &self.path))?;
        if !MountTable::read()?.below(&real).is_empty() {
            let why = "an unprivileged overlay cannot be on a directory that has mounts below it: use bind(), or unmount them";
            return Err(Error::invalid("fsconfig", why).on(&*self.path));
        }
        Ok(())
    }
}

// statvfs(3)'s flags; their type in the libc crate differs between machines.
const ST_NOSUID: u64 = 2;
const ST_NODEV: u64 = 4;
const ST_NOEXEC: u64 = 8;

fn attributes_of(flags: u64) -> u64 {
    [(ST_NOSUID, libc::MOUNT_ATTR_NOSUID), (ST_NODEV, libc::MOUNT_ATTR_NODEV), (ST_NOEXEC, libc::MOUNT_ATTR_NOEXEC)]
        .into_iter()
        .filter(|(flag, _)| flags & flag != 0)
        .fold(0, |all, (_, attribute)| all | attribute)
}

/// Whether `path` can be the value of `lowerdir=` as it is: `:` parts layers, `\` escapes, kernels before 6.5 part options
/// at `,`, and fsconfig takes 255 bytes.
fn is_plain(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.len() < 256 && !bytes.iter().any(|byte| matches!(byte, b':' | b',' | b'\\'))
}

impl Plan {
    /// A detached overlay on `lower`.
    pub(super) fn overlay(&mut self, lower: &Lower, userxattr: bool) -> Result<Slot> {
        let number = self.overlays;
        self.overlays += 1;
        let numbered = |name: &str| CString::new(format!("{name}{number}")).unwrap_or_default();
        let (upper, work) = (numbered("upper"), numbered("work"));
        self.mkdir_in_scratch(&upper, lower.mode, "what the container writes; the mode is that of the lower directory");
        let lowerdir = match &lower.mount {
            Some(mount) => {
                let from = self.inherit(mount, "the lower directory: a mount that the caller made");
                self.named(lower, from, numbered("lower"))
            }
            None if is_plain(&lower.path) => super::c_string("fsconfig", &lower.path)?,
            None => {
                let reason = "a lower directory whose path an option cannot hold gets a plain name";
                let from = self.clone_of(&lower.path, CLONE, reason)?;
                self.named(lower, from, numbered("lower"))
            }
        };
        if lower.mount.is_some() && userxattr {
            // Which id that is there, only the child can see.
            let call = Call::ChownAs { at: self.scratch, path: upper.clone(), like: lowerdir.clone() };
            self.push(call, "… and the owner, where the child has that id", super::in_scratch(&upper));
        } else if !userxattr && (lower.uid, lower.gid) != (0, 0) {
            let call = Call::Fchownat { at: self.scratch, path: upper.clone(), uid: lower.uid, gid: lower.gid };
            self.push(call, "… and the owner", super::in_scratch(&upper));
        }
        self.mkdir_in_scratch(&work, 0o700, "overlay prepares there what it then renames into place");
        let subject = || Subject::from(&*lower.path);
        let fs = self.steps.slot();
        self.push(Call::Fsopen { fs: c"overlay", into: fs }, "an overlay", subject());
        for (key, value, reason) in [
            (c"lowerdir", lowerdir, "what is there already, never written to"),
            (c"upperdir", upper, "what the container writes"),
            (c"workdir", work, "… and its place to prepare"),
            (c"index", c"off".into(), "whatever this kernel's default is"),
        ] {
            self.push(Call::FsconfigString { fs, key, value }, reason, subject());
        }
        if userxattr {
            let reason =
                "keep notes in user.overlay.*, as a user namespace may; redirects and metacopy are off with it";
            self.push(Call::FsconfigFlag { fs, key: c"userxattr" }, reason, subject());
        } else {
            for (key, value, reason) in [
                (c"redirect_dir", c"nofollow", "attributes planted in a layer must not redirect lookups"),
                (c"metacopy", c"off", "… nor lend it another file's data"),
            ] {
                self.push(Call::FsconfigString { fs, key, value: value.into() }, reason, subject());
            }
        }
        self.push(Call::FsconfigCreate { fs }, "… made", subject());
        // Neither a node that an image brings nor one that the container makes opens a device.
        Ok(self.fsmount(fs, lower.attributes | libc::MOUNT_ATTR_NODEV, subject()))
    }

    /// Mounts the lower directory in the scratch tmpfs, where it has a name that needs no escaping.
    fn named(&mut self, lower: &Lower, from: Slot, name: CString) -> CString {
        self.mkdir_in_scratch(&name, 0o700, "… which is this");
        let call = Call::MoveMount { from, at: At::Fd(self.scratch), path: name.clone() };
        self.push(call, "… there it is", &*lower.path);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flags_of_the_lower_mount_are_kept() {
        assert_eq!(attributes_of(0), 0);
        assert_eq!(attributes_of(ST_NOSUID | 1), libc::MOUNT_ATTR_NOSUID);
        let all = ST_NOSUID | ST_NODEV | ST_NOEXEC;
        assert_eq!(attributes_of(all), super::super::INERT);
    }

    #[test]
    fn names_that_need_no_escaping() {
        assert!(is_plain(Path::new("/srv/a b")));
        for odd in ["/a:b", "/a,b", "/a\\b"] {
            assert!(!is_plain(Path::new(odd)), "{odd}");
        }
        assert!(is_plain(Path::new(&"x".repeat(255))));
        assert!(!is_plain(Path::new(&"x".repeat(256))));
    }

    proptest! {
        #[test]
        fn a_plain_name_parts_nowhere(name in "[ -~]{0,300}") {
            if is_plain(Path::new(&name)) {
                prop_assert_eq!(name.split([':', ',', '\\']).count(), 1);
                prop_assert!(name.len() <= 255);
            }
        }
    }
}
