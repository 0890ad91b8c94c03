//! Where one layer is in a store, and who may do what to it meanwhile.
//!
//! # Theory of operation
//!
//! ```text
//! DIR/layers/FORM/sha256-HEX/     flock shared: in use; exclusive: being removed
//!     lock                        flock exclusive: being unpacked
//!     work/                       what is being unpacked
//!     diff/                       the layer, renamed from `work` when it was all there and on the disk
//!     whole                       written last: without it there is no layer, whatever else there is
//! ```
//!
//! Whoever comes for a layer takes the shared lock first and keeps it, so that nobody removes what is being looked at or
//! made. Who finds no `whole` takes the other lock, and looks again: of any number who want a layer at once one unpacks it,
//! and the others wait and find it. Locks are the kernel's and go with their process, so a process that is killed leaves
//! neither a lock nor anything that looks like a layer: the next one that has the lock removes what is there, and begins
//! anew.
//!
//! Who removes a layer has the exclusive lock, and takes `whole` away first. Who waited for the lock meanwhile has it on a
//! directory that is gone: so it is compared with what is at its path, and if need be all begins again.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{ErrorKind as Io, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cellkit_core::{Errno, Error, Result};

use super::marker::Marker;
use crate::RootFd;
use crate::hint::HINTS;
use crate::sys::flock;

/// How often a layer may be removed under one's hands.
const ATTEMPTS: usize = 100;

/// The directory of a layer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    dir: PathBuf,
}

/// The shared lock on a place.
#[derive(Debug)]
pub(super) struct Lease(File);

impl AsFd for Lease {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn io(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::from_io(operation, &error).on(path).with_hints(&HINTS)
}

fn errno(operation: &'static str, path: &Path) -> impl Fn(Errno) -> Error {
    move |errno| Error::from_errno(operation, errno.0).on(path).with_hints(&HINTS)
}

impl Place {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The layer's own folder.
    pub(super) fn diff(&self) -> PathBuf {
        self.dir.join("diff")
    }

    /// Takes the layer, which `make` unpacks into an empty folder if it is not there. The answer is whether it was made.
    pub(super) fn take(
        &self,
        is_it: impl Fn(&Marker) -> bool,
        on_disk: bool,
        make: impl FnOnce(&RootFd) -> Result<Marker>,
    ) -> Result<(Lease, Marker, bool)> {
        let lease = self.lease()?;
        if let Some(marker) = self.marker()?.filter(&is_it) {
            return Ok((lease, marker, false));
        }
        let path = self.dir.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(io("open", &path))?;
        flock::lock(lock.as_fd(), libc::LOCK_EX).map_err(errno("flock", &path))?;
        if let Some(marker) = self.marker()?.filter(&is_it) {
            return Ok((lease, marker, false));
        }
        match self.made(on_disk, make) {
            Ok(marker) => Ok((lease, marker, true)),
            Err(error) => {
                // What is left is what a killed process leaves too. When nobody waits for it, it can go at once.
                drop(lock);
                let exclusive = flock::try_lock(lease.as_fd(), libc::LOCK_EX);
                let removed = if exclusive == Ok(true) { self.remove() } else { Ok(()) };
                match Error::all(std::iter::once(error).chain(removed.err())) {
                    Err(error) => Err(error),
                    Ok(()) => Err(Error::other("unpack", "it failed")),
                }
            }
        }
    }

    /// The directory, made if it is missing, with the shared lock.
    fn lease(&self) -> Result<Lease> {
        for _ in 0..ATTEMPTS {
            match fs::DirBuilder::new().mode(0o700).create(&self.dir) {
                Err(error) if error.kind() != Io::AlreadyExists => return Err(io("mkdir", &self.dir)(error)),
                _ => {}
            }
            let Some(dir) = self.open()? else { continue };
            flock::lock(dir.as_fd(), libc::LOCK_SH).map_err(errno("flock", &self.dir))?;
            if self.is_at_its_path(&dir)? {
                return Ok(Lease(dir));
            }
        }
        Err(Error::from_errno("flock", libc::EBUSY).on(self.dir.as_path()))
    }

    fn open(&self) -> Result<Option<File>> {
        let options = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        match File::options().read(true).custom_flags(options).open(&self.dir) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(io("open", &self.dir)(error)),
        }
    }

    fn is_at_its_path(&self, dir: &File) -> Result<bool> {
        let held = dir.metadata().map_err(io("fstat", &self.dir))?;
        match fs::symlink_metadata(&self.dir) {
            Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
            Err(error) if error.kind() == Io::NotFound => Ok(false),
            Err(error) => Err(io("stat", &self.dir)(error)),
        }
    }

    /// What was written last, if all is there. What cannot be understood is not there.
    fn marker(&self) -> Result<Option<Marker>> {
        let path = self.dir.join("whole");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.parse().ok()),
            Err(error) if [Io::NotFound, Io::InvalidData].contains(&error.kind()) => Ok(None),
            Err(error) => Err(io("read", &path)(error)),
        }
    }

    /// With the lock.
    fn made(&self, on_disk: bool, make: impl FnOnce(&RootFd) -> Result<Marker>) -> Result<Marker> {
        self.empty()?;
        let (work, diff, whole) = (self.dir.join("work"), self.diff(), self.dir.join("whole"));
        fs::create_dir(&work).map_err(io("mkdir", &work))?;
        // Less the umask it was: a layer need not say what its root is.
        fs::set_permissions(&work, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(io("chmod", &work))?;
        let root = RootFd::open(&work)?;
        let marker = make(&root)?;
        let dir = File::open(&self.dir).map_err(io("open", &self.dir))?;
        if on_disk {
            flock::sync_file_system(dir.as_fd()).map_err(errno("syncfs", &self.dir))?;
        }
        fs::rename(&work, &diff).map_err(io("rename", &work))?;
        let new = self.dir.join("whole.new");
        let mut file = File::create(&new).map_err(io("open", &new))?;
        file.write_all(marker.to_string().as_bytes()).map_err(io("write", &new))?;
        if on_disk {
            file.sync_all().map_err(io("fsync", &new))?;
        }
        fs::rename(&new, &whole).map_err(io("rename", &new))?;
        if on_disk {
            dir.sync_all().map_err(io("fsync", &self.dir))?;
        }
        Ok(marker)
    }

    /// Removes all but the lock, the marker first.
    fn empty(&self) -> Result<()> {
        for name in ["whole", "whole.new"] {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != Io::NotFound => return Err(io("unlink", &path)(error)),
                _ => {}
            }
        }
        let dir = RootFd::open(&self.dir)?.open_dir(".")?;
        for name in ["work", "diff"] {
            dir.remove_all(name)?;
        }
        Ok(())
    }

    /// With the exclusive lock: all of it.
    fn remove(&self) -> Result<()> {
        self.empty()?;
        let lock = self.dir.join("lock");
        match fs::remove_file(&lock) {
            Err(error) if error.kind() != Io::NotFound => return Err(io("unlink", &lock)(error)),
            _ => {}
        }
        fs::remove_dir(&self.dir).map_err(io("rmdir", &self.dir))
    }

    /// Removes it unless somebody uses it or waits for it: the answer is whether it is gone. With `only_halves` what is
    /// whole stays.
    pub(super) fn remove_unused(&self, only_halves: bool) -> Result<bool> {
        let Some(dir) = self.open()? else { return Ok(true) };
        if !flock::try_lock(dir.as_fd(), libc::LOCK_EX).map_err(errno("flock", &self.dir))? {
            return Ok(false);
        }
        if !self.is_at_its_path(&dir)? {
            return Ok(true);
        }
        if only_halves && self.marker()?.is_some() {
            return Ok(false);
        }
        self.remove().map(|()| true)
    }
}
