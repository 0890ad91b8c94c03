//! Removes what a container left whose cellrun was killed.
#![forbid(unsafe_code)]

use cellkit_core::{Error, ErrorKind, Result, Subject};
use cgroupfs::Cgroup;
use ns_core::ProcessId;

use crate::start::REMOVAL_LIMIT;
use crate::state::Record;
use crate::{network, root_dir};

/// Removes everything that the record of a dead container speaks of: its processes and pasta's, its place on the bridge, its
/// cgroup, and what its start made in its root directory.
/// Its namespaces die with its processes.
///
/// # Errors
/// All that could not be removed. What is gone already is no error.
pub fn remove(_id: &str, record: &Record) -> Result<()> {
    let mut errors = Vec::new();
    // A payload that changed its ids is not killed with its cellrun: the kernel forgets that wish. Its end ends all that
    // is in its pid namespace, also where it has no cgroup to be found by.
    if let Some(process) = record.process {
        errors.extend(end(process).err());
    }
    if let Some(pasta) = record.pasta {
        errors.extend(end(pasta).err());
    }
    if let Some(bridge) = &record.network {
        errors.extend(network::recover(bridge).err());
    }
    if let Some(path) = &record.cgroup {
        match Cgroup::open(path).and_then(|group| group.remove(REMOVAL_LIMIT)) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Gone) => errors.push(error),
            _ => {}
        }
    }
    if let Some(root) = &record.root {
        errors.extend(root_dir::recover(root).err());
    }
    Error::all(errors)
}

/// Kills it, if it is still the same process, and waits until it has ended.
fn end(process: ProcessId) -> Result<()> {
    let ended = process.open().and_then(|process| {
        process.kill()?;
        process.wait_end(REMOVAL_LIMIT)
    });
    match ended {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::timed_out("ppoll", REMOVAL_LIMIT).on(Subject::Pid(process.pid()))),
        Err(error) if error.kind() == ErrorKind::Gone => Ok(()),
        Err(error) => Err(error),
    }
}
