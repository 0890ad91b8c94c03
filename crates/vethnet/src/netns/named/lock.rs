//! The lock under which names of network namespaces are given and taken away.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Instant;

use cellkit_core::{Errno, Error, ErrorKind, Result};

use super::{DIR, LIMIT, NOT_OURS, PAUSE};
use crate::hint::HINTS;
use crate::sys;

/// The lock on the directory, which `ip netns add` takes too while it makes it a mount. Held until dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to close(2): a child that is just being spawned elsewhere may hold the descriptor a moment longer.
        sys::unlock(&self.0);
    }
}

impl Lock {
    pub(super) fn take() -> Result<Self> {
        let dir = Path::new(DIR);
        let file = File::open(dir).map_err(|error| Error::from_io("openat", &error).on(dir).with_hints(&HINTS))?;
        let until = Instant::now() + LIMIT;
        loop {
            match sys::try_lock(&file) {
                Ok(()) => return Ok(Self(file)),
                Err(Errno(libc::EWOULDBLOCK | libc::EINTR)) if Instant::now() < until => std::thread::sleep(PAUSE),
                Err(Errno(libc::EWOULDBLOCK | libc::EINTR)) => {
                    return Err(Error::timed_out("flock", LIMIT)
                        .on(dir)
                        .with_hint("another process holds the lock: find it with lslocks or fuser"));
                }
                Err(Errno(errno)) => return Err(Error::from_errno("flock", errno).on(dir).with_hints(&HINTS)),
            }
        }
    }

    /// The same, and the directory is a shared mount of its own.
    pub(super) fn on_directory() -> Result<Self> {
        let dir = Path::new(DIR);
        let fail = |call: &'static str, Errno(errno): Errno| {
            let error = Error::from_errno(call, errno).on(dir).with_hints(&HINTS);
            if error.kind() == ErrorKind::Permission { error.with_hint(NOT_OURS) } else { error }
        };
        match DirBuilder::new().mode(0o755).create(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(fail("mkdir", Errno(error.raw_os_error().unwrap_or(0))));
            }
            _ => {}
        }
        let lock = Self::take()?;
        let path = CString::new(DIR).unwrap_or_default();
        match sys::netns::make_shared(&path) {
            Ok(()) => {}
            // It is no mount yet.
            Err(Errno(libc::EINVAL)) => {
                sys::netns::bind_on_itself(&path).map_err(|errno| fail("mount", errno))?;
                if let Err(errno) = sys::netns::make_shared(&path) {
                    // Nobody has used it: the lock is held.
                    let _ = sys::netns::unmount(&path);
                    return Err(fail("mount", errno));
                }
            }
            Err(errno) => return Err(fail("mount", errno)),
        }
        Ok(lock)
    }
}
