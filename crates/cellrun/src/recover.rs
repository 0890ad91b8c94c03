//! Removes what a container left whose cellrun was killed.
#![forbid(unsafe_code)]

use cellkit_core::{Error, ErrorKind, Result};
use cgroupfs::Cgroup;

use crate::network;
use crate::start::REMOVAL_LIMIT;
use crate::state::Record;

/// Removes everything that the record of a dead container speaks of: processes in its cgroup, the cgroup, its place on the
/// bridge. Its namespaces died with their last process.
///
/// # Errors
/// All that could not be removed. What is gone already is no error.
pub fn remove(id: &str, record: &Record) -> Result<()> {
    let mut errors = Vec::new();
    if let Some(bridge) = &record.network {
        errors.extend(network::recover(id, bridge).err());
    }
    if let Some(path) = &record.cgroup {
        match Cgroup::open(path).and_then(|group| group.remove(REMOVAL_LIMIT)) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Gone) => errors.push(error),
            _ => {}
        }
    }
    Error::all(errors)
}
