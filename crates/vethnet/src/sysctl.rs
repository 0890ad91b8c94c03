//! Files of /proc/sys/net, which show the network namespace of the thread that opens them.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{Error, ErrorKind, ProcFd, Result, Subject};

use crate::hint::HINTS;
use crate::name::IfName;
use crate::plan::{Action, Sysctl};

fn rename(error: &Error, verb: &str, path: &str) -> Error {
    let operation = format!("{verb} {}", path.replace('/', "."));
    let error = match error.raw_os_error() {
        Some(errno) => Error::from_errno(operation, errno),
        None => Error::other(operation, error.to_string()),
    };
    error.on(Subject::Path(Path::new("/proc/sys").join(path))).with_hints(&HINTS)
}

/// Writes the value, or looks whether it is the one, in the network namespace of the calling thread. Says whether there
/// is such a switch: one that is optional may be missing.
pub(crate) fn apply(proc: &ProcFd, sysctl: &Sysctl) -> Result<bool> {
    match sysctl.action {
        Action::Write => match proc.write(&Path::new("sys").join(&sysctl.path), sysctl.value.as_bytes()) {
            Err(error) if sysctl.optional && error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(rename(&error, "write", &sysctl.path)),
            Ok(()) => Ok(true),
        },
        Action::Expect => {
            let hint = match read(proc, &sysctl.path) {
                Ok(value) if value.trim_ascii() == sysctl.value.as_bytes() => return Ok(true),
                Ok(_) => {
                    "IPv6 is switched off in this network namespace: set net.ipv6.conf.default.disable_ipv6=0 in it, or give the network no IPv6 range"
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    "this kernel has no IPv6, or was booted with ipv6.disable=1: give the network no IPv6 range"
                }
                Err(error) => return Err(error),
            };
            Err(Error::unsupported(format!("read {}", sysctl.path.replace('/', ".")), "an IPv6 address here", None)
                .on(Subject::Path(Path::new("/proc/sys").join(&sysctl.path)))
                .with_hint(hint))
        }
    }
}

/// The value, in the network namespace of the calling thread.
pub(crate) fn read(proc: &ProcFd, path: &str) -> Result<Vec<u8>> {
    proc.read(&Path::new("sys").join(path)).map_err(|error| rename(&error, "read", path))
}

/// Whether the interface has IPv6 at all. Not where the kernel was booted without, nor with an MTU below 1280.
pub(crate) fn has_ipv6(proc: &ProcFd, name: &IfName) -> Result<bool> {
    match read(proc, &format!("net/ipv6/conf/{name}/accept_ra")) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the switch is on, in the network namespace of the calling thread.
pub(crate) fn is_on(proc: &ProcFd, path: &str) -> Result<bool> {
    Ok(read(proc, path)?.trim_ascii() != b"0")
}
