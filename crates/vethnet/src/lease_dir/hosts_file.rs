//! The names of all leases, as one file.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use cellkit_core::Result;

use super::files::{fail, make_dir, read_whole, unlink};
use super::{HOSTS, LeaseDir, Leased};
use crate::hosts;
use crate::lock::Lock;
use crate::name::Owner;

impl<R: Leased> LeaseDir<R> {
    pub(super) fn hosts_path(&self) -> PathBuf {
        self.dir.join(HOSTS)
    }

    /// The names of all, as a file that is rewritten in place when a lease comes or goes. Made when it is missing.
    pub(crate) fn hosts(&self, _: &Lock) -> Result<File> {
        if !fs::symlink_metadata(self.hosts_path()).is_ok_and(|there| there.is_file()) {
            make_dir(&self.dir)?;
            self.rewrite_hosts(None)?;
        }
        File::open(self.hosts_path()).map_err(|error| fail("openat", &error, &self.hosts_path()))
    }

    fn open_hosts(&self) -> Result<File> {
        let path = self.hosts_path();
        // What is no file nobody has mounted.
        if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file()) {
            unlink(&path)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        file.map_err(|error| fail("openat", &error, &path))
    }

    /// The names of all leases, but of the one that ends.
    pub(super) fn rewrite_hosts(&self, ends: Option<&Owner>) -> Result<()> {
        let mut lines = String::new();
        for owner in self.owners()?.into_iter().filter(|owner| Some(owner) != ends) {
            // A damaged one has no names; whoever asks for it is told.
            if let Ok(Some(record)) = self.read(&owner) {
                lines.push_str(&hosts::lines_of(&owner, &record.addresses(), record.names()));
            }
        }
        self.write_hosts(&lines)
    }

    fn write_hosts(&self, lines: &str) -> Result<()> {
        let file = self.open_hosts()?;
        // Whatever the umask: containers read it, maybe as other users.
        let readable = Permissions::from_mode(0o644);
        file.set_permissions(readable).map_err(|error| fail("fchmod", &error, &self.hosts_path()))?;
        hosts::rewrite(&file, hosts::sealed(lines).as_bytes()).map_err(|error| error.on(self.hosts_path()))
    }

    /// Puts the lines of `record` in place of those of `owner`. A file that is damaged is written anew.
    pub(super) fn edit_hosts(&self, owner: &Owner, record: Option<&R>) -> Result<()> {
        let text = read_whole(&self.hosts_path()).ok().flatten();
        let lines = text.and_then(|text| hosts::unsealed(&text).map(str::to_owned));
        let Some(lines) = lines else {
            return self.rewrite_hosts(if record.is_none() { Some(owner) } else { None });
        };
        let mut edited = hosts::without(&lines, owner);
        if let Some(record) = record {
            edited.push_str(&hosts::lines_of(owner, &record.addresses(), record.names()));
        }
        if edited == lines { Ok(()) } else { self.write_hosts(&edited) }
    }
}
