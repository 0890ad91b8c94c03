//! Files of /proc/sys/net, which show the network namespace of the thread that opens them.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{Error, ErrorKind, ProcFd, Result, Subject};

use crate::hint::HINTS;
use crate::plan::Sysctl;

fn rename(error: &Error, verb: &str, path: &str) -> Error {
    let operation = format!("{verb} {}", path.replace('/', "."));
    let error = match error.raw_os_error() {
        Some(errno) => Error::from_errno(operation, errno),
        None => Error::other(operation, error.to_string()),
    };
    error.on(Subject::Path(Path::new("/proc/sys").join(path))).with_hints(&HINTS)
}

/// Writes the value, in the network namespace of the calling thread.
pub(crate) fn write(proc: &ProcFd, sysctl: &Sysctl) -> Result<()> {
    match proc.write(&Path::new("sys").join(&sysctl.path), sysctl.value.as_bytes()) {
        Err(error) if sysctl.optional && error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(rename(&error, "write", &sysctl.path)),
        Ok(()) => Ok(()),
    }
}

/// Whether the switch is on, in the network namespace of the calling thread.
pub(crate) fn is_on(proc: &ProcFd, path: &str) -> Result<bool> {
    let text = proc.read(&Path::new("sys").join(path)).map_err(|error| rename(&error, "read", path))?;
    Ok(text.trim_ascii() != b"0")
}
