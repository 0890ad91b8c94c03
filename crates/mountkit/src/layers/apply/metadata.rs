//! Owner, attributes, mode and times of what was made, in the order in which one does not undo another.
//!
//! Changing the owner takes the set-user-id bits and the capabilities away, and writing does so too: they come after. The
//! times come last, and those of a directory when it is left.
#![forbid(unsafe_code)]

use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::time::{Duration, SystemTime};

use cellkit_core::{Error, ErrorKind, Result};

use super::Owner;
use super::make::Work;
use super::report::SkippedWhat;
use super::tree::{Made, os};
use crate::layers::entry::{Entry, Time};
use crate::{FileKind, Metadata, Times};

impl Work<'_> {
    /// Of a regular file that is open.
    pub(super) fn finish_file(&mut self, name: &[u8], file: &File, entry: &Entry) -> Result<()> {
        // Mostly it is as wanted already, and looking costs much less than a change that changes nothing.
        let found = Metadata::of(file)?;
        let mut mode = found.mode();
        if let Some((uid, gid)) = self.owner(entry, &found)? {
            fchown(file, Some(uid), Some(gid)).map_err(|error| Error::from_io("fchown", &error))?;
            mode &= 0o777;
        }
        self.attributes(name, FileKind::Regular, entry)?;
        if mode != entry.mode {
            let mode = Permissions::from_mode(entry.mode);
            file.set_permissions(mode).map_err(|error| Error::from_io("fchmod", &error))?;
        }
        let time = system_time(entry.modified);
        let times = FileTimes::new().set_accessed(time).set_modified(time);
        file.set_times(times).map_err(|error| Error::from_io("utimensat", &error))
    }

    /// Of a link, a FIFO or a device.
    pub(super) fn finish_name(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let found = self.tree.here().dir.stat(os(name))?;
        if let Some((uid, gid)) = self.owner(entry, &found)? {
            self.tree.here().dir.chown(os(name), uid, gid)?;
        }
        self.attributes(name, found.kind(), entry)?;
        let dir = &self.tree.here().dir;
        if found.kind() != FileKind::Symlink && found.mode() != entry.mode {
            dir.chmod(os(name), entry.mode)?;
        }
        dir.set_times(os(name), times(entry))
    }

    /// Of the directory at hand.
    pub(super) fn finish_here(&mut self, entry: &Entry, made: Made) -> Result<()> {
        let found = self.tree.here().dir.stat(".")?;
        if let Some((uid, gid)) = self.owner(entry, &found)? {
            self.tree.here().dir.chown(".", uid, gid)?;
        }
        if made == Made::Before {
            self.forget_attributes(entry)?;
        }
        self.attributes(b".", FileKind::Directory, entry)?;
        // Until it is left its owner works in it. (What may be done to it does not depend on the mode otherwise.)
        let working = if self.tree.unprivileged() { entry.mode | 0o700 } else { entry.mode };
        let at_the_end = (working != entry.mode).then_some(entry.mode);
        // An access control list for what is made in it is given to it at the end too: it is not for what the layer brings.
        let lists = entry.xattrs.iter().filter(|(key, _)| is_default_list(key.to_bytes()));
        let lists: Result<Vec<_>> = lists
            .map(|(key, value)| Ok((key.to_bytes().to_vec(), self.options.owner.attribute(key.to_bytes(), value)?)))
            .collect();
        let lists = lists?;
        let here = self.tree.here();
        here.dir.chmod(".", working)?;
        here.leave_with(times(entry), at_the_end, lists);
        Ok(())
    }

    /// The owner to be given to something that has the one of `found`.
    fn owner(&self, entry: &Entry, found: &Metadata) -> Result<Option<(u32, u32)>> {
        let wanted = self.options.owner.ids(entry.uid, entry.gid)?;
        Ok(wanted.filter(|&ids| ids != (found.uid(), found.gid())))
    }

    fn attributes(&mut self, name: &[u8], kind: FileKind, entry: &Entry) -> Result<()> {
        for (key, value) in &entry.xattrs {
            let key = key.to_bytes();
            if kind == FileKind::Directory && is_default_list(key) {
                continue;
            }
            let set = match is_allowed(key, kind) {
                false => false,
                true => {
                    let value = self.options.owner.attribute(key, value)?;
                    match self.tree.here().dir.set_xattr(os(name), os(key), &value) {
                        Ok(()) => true,
                        Err(error) if error.kind() == ErrorKind::Permission && self.options.owner == Owner::Caller => {
                            false
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            if !set {
                self.report.skip(entry.shown(), SkippedWhat::Attribute(os(key).to_owned()));
            }
        }
        Ok(())
    }

    /// Takes from a directory of a lower layer what attributes it has and the entry does not.
    fn forget_attributes(&mut self, entry: &Entry) -> Result<()> {
        let dir = &self.tree.here().dir;
        let keys = match dir.list_xattrs(".") {
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
            keys => keys?,
        };
        for key in keys {
            let bytes = key.as_encoded_bytes();
            // They are sorted.
            let stays = || entry.xattrs.binary_search_by(|(wanted, _)| wanted.to_bytes().cmp(bytes)).is_ok();
            if is_allowed(bytes, FileKind::Directory) && !stays() {
                dir.remove_xattr(".", &key)?;
            }
        }
        Ok(())
    }
}

fn is_default_list(key: &[u8]) -> bool {
    key == b"system.posix_acl_default"
}

/// What of attributes is the image's own business: not what the host's kernel acts by, or an overlay.
fn is_allowed(key: &[u8], kind: FileKind) -> bool {
    let has_user = matches!(kind, FileKind::Regular | FileKind::Directory);
    match key {
        b"security.capability" => kind == FileKind::Regular,
        b"system.posix_acl_access" => kind != FileKind::Symlink,
        b"system.posix_acl_default" => kind == FileKind::Directory,
        _ => has_user && key.starts_with(b"user.") && !key.starts_with(b"user.overlay."),
    }
}

fn times(entry: &Entry) -> Times {
    let time = system_time(entry.modified);
    Times::new().accessed(time).modified(time)
}

/// A time; one that is further away than the standard library can say is 1970.
fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let start = match time.seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(whole),
        false => SystemTime::UNIX_EPOCH.checked_add(whole),
    };
    start
        .and_then(|start| start.checked_add(Duration::from_nanos(u64::from(time.nanoseconds))))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
