//! Leases put in order after kills, after the machine stopped, and after hands that should not have been there.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::OnceLock;

use cellkit_core::{Error, ProcFd, Result};

use super::files::{read_link, unlink};
use super::{BOOT, Entry, FILE_TEMPORARY, LINK_TEMPORARY, LeaseDir, Leased};
use crate::lock::Lock;
use crate::name::Owner;

/// Which boot of the machine this is, if /proc says so.
fn boot_id() -> Option<&'static str> {
    static ID: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let text = ProcFd::of_the_machine().and_then(|proc| proc.read(Path::new("sys/kernel/random/boot_id"))).ok()?;
        Some(std::str::from_utf8(&text).ok()?.trim_end().to_owned())
    };
    ID.get_or_init(read).as_deref()
}

impl<R: Leased> LeaseDir<R> {
    /// Puts in order what killed processes have left, and the entries that records are missing. Returns what is damaged.
    pub(crate) fn repair(&self, _: &Lock) -> Vec<Error> {
        let mut errors = Vec::new();
        for temporary in [FILE_TEMPORARY, LINK_TEMPORARY] {
            errors.extend(unlink(&self.dir.join(temporary)).err());
        }
        match self.owners() {
            Ok(owners) => errors.extend(owners.iter().filter_map(|owner| self.restore(owner).err())),
            Err(error) => errors.push(error),
        }
        errors.extend(self.drop_orphans().err());
        if self.hosts_path().exists() {
            errors.extend(self.rewrite_hosts(None).err());
        }
        errors
    }

    /// Gives the record's addresses their entries, unless they are somebody else's.
    fn restore(&self, owner: &Owner) -> Result<()> {
        let Some(record) = self.read(owner)? else { return Ok(()) };
        for address in record.addresses() {
            match self.entry(address)? {
                Entry::Of(holder) if holder == *owner => {}
                Entry::Of(holder) if !self.is_orphan(address, &holder)? => {
                    return Err(
                        self.damaged(owner, format!("its address {address} is leased to {:?}", holder.as_str()))
                    );
                }
                _ => self.take_wished(owner, address).map(drop)?,
            }
        }
        Ok(())
    }

    /// Removes the entries whose owners have no record of them. Says whether there was one.
    pub(super) fn drop_orphans(&self) -> Result<bool> {
        let mut any = false;
        for address in self.addresses()? {
            if let Entry::Of(owner) = self.entry(address)? {
                if self.is_orphan(address, &owner)? {
                    any |= unlink(&self.address_path(address))?;
                }
            }
        }
        Ok(any)
    }

    /// What a disk kept of the leases when the machine stopped may lack anything, also the entry of an address that a record
    /// names. What is damaged is told to whoever asks for it.
    pub(super) fn repair_after_a_reboot(&self, lock: &Lock) -> Result<()> {
        let Some(now) = boot_id() else { return Ok(()) };
        let path = self.dir.join(BOOT);
        if read_link(&path)?.as_deref() == Some(now) {
            return Ok(());
        }
        drop(self.repair(lock));
        self.set_link(&path, now)
    }
}
