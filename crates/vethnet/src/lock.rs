//! The lock on the state directory, which comes and goes with what is in it.
//!
//! Theory of operation. The lock is flock(2) on the state directory itself: it ends with the process that holds it,
//! however it ends, and no lock file is left. The directory is made for the lock, and whoever releases the lock removes
//! it: rmdir(2) refuses as long as anything is in it, so that no one has to know whether it was the last.
//!
//! So who waited may get the lock of a directory that is gone, while others use a new one of the same name. Whoever got
//! the lock therefore looks whether the path still leads to what was locked, and begins again if not. That holds from
//! then on: only the holder of the lock removes the directory.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind as Io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, Error, Result};

use crate::hint::HINTS;
use crate::sys;

/// How long others may hold the lock, all that come before together: each makes a bridge or removes one, a matter of
/// milliseconds.
const LIMIT: Duration = Duration::from_secs(30);
/// The first pause between attempts, and the longest: a hundred that wait must not be what the holder waits for.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// The lock, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    directory: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not empty, mounted, a symbolic link, in a directory of somebody else's: it stays, and an empty directory that
        // stays hurts nobody.
        let _ = fs::remove_dir(&self.path);
        // Not left to close(2): a child that is just being spawned elsewhere may hold the descriptor a moment longer.
        sys::unlock(&self.directory);
    }
}

fn fail(call: &'static str, error: &std::io::Error, path: &Path) -> Error {
    Error::from_io(call, error).on(path).with_hints(&HINTS)
}

impl Lock {
    /// Whether this directory itself is what is locked.
    pub(crate) fn is_of(&self, path: &Path) -> bool {
        self.path == path
    }

    pub(crate) async fn take(path: &Path) -> Result<Self> {
        let mut waiting = Waiting::new(path);
        loop {
            if let Some(lock) = waiting.attempt()? {
                return Ok(lock);
            }
            tokio::time::sleep(waiting.pause()).await;
        }
    }

    pub(crate) fn take_blocking(path: &Path) -> Result<Self> {
        let mut waiting = Waiting::new(path);
        loop {
            if let Some(lock) = waiting.attempt()? {
                return Ok(lock);
            }
            std::thread::sleep(waiting.pause());
        }
    }
}

/// Somebody who wants the lock.
#[derive(Debug)]
struct Waiting<'a> {
    path: &'a Path,
    until: Instant,
    /// The directory that was there the last time.
    directory: Option<File>,
    pause: Duration,
}

impl<'a> Waiting<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, until: Instant::now() + LIMIT, directory: None, pause: PAUSE }
    }

    /// How long to wait before the next attempt.
    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// One attempt, without waiting. `None` when it is to be tried again a moment later.
    fn attempt(&mut self) -> Result<Option<Lock>> {
        let directory = match self.directory.take() {
            Some(directory) => Some(directory),
            None => open(self.path)?,
        };
        if let Some(directory) = directory {
            match sys::try_lock(&directory) {
                Ok(()) if is_at(&directory, self.path)? => {
                    return Ok(Some(Lock { directory, path: self.path.to_owned() }));
                }
                // The lock of a directory that is gone: the next attempt is with the one that came after it.
                Ok(()) => {}
                Err(Errno(libc::EWOULDBLOCK | libc::EINTR)) => self.directory = Some(directory),
                Err(Errno(errno)) => {
                    return Err(Error::from_errno("flock", errno).on(self.path).with_hints(&HINTS));
                }
            }
        }
        if Instant::now() < self.until {
            return Ok(None);
        }
        Err(Error::timed_out("flock", LIMIT)
            .on(self.path)
            .with_hint("another process holds the lock: find it with lslocks or fuser"))
    }
}

/// Makes the directory if it is missing, and opens it. `None` when it was removed in between.
fn open(path: &Path) -> Result<Option<File>> {
    // Of which mkdir(2) says nothing, and openat(2) that it vanished.
    if path.as_os_str().is_empty() {
        return Err(Error::invalid("state directory", "its path is empty"));
    }
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        // Something had the name, and when it was looked at, it was no directory: removed again, or a file, which
        // opening finds out.
        Err(error) if error.kind() == Io::AlreadyExists => {}
        made => made.map_err(|error| fail("mkdir", &error, path))?,
    }
    match OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(fail("openat", &error, path)),
    }
}

/// Whether the path leads to this directory. Not its number of links: file systems differ in those of directories.
fn is_at(directory: &File, path: &Path) -> Result<bool> {
    let held = directory.metadata().map_err(|error| fail("fstat", &error, path))?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == Io::NotFound => Ok(false),
        Err(error) => Err(fail("statx", &error, path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_lock_is_one() {
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("net");
        let lock = Lock::take_blocking(&path).unwrap();
        fs::write(path.join("in use"), "").unwrap();
        let mut second = Waiting::new(&path);
        assert!(second.attempt().unwrap().is_none());
        drop(lock);
        assert!(second.attempt().unwrap().is_some(), "it was in use, so it is still the same");
        second.until = Instant::now();
        let _third = Lock::take_blocking(&path).unwrap();
        assert_eq!(second.attempt().unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn the_lock_of_a_directory_that_is_gone_is_none() {
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("net");
        let first = Lock::take_blocking(&path).unwrap();
        let (mut second, mut third) = (Waiting::new(&path), Waiting::new(&path));
        assert!(second.attempt().unwrap().is_none() && third.attempt().unwrap().is_none());
        drop(first);
        assert!(!path.exists(), "nothing was in it");
        assert!(second.attempt().unwrap().is_none(), "of nothing");
        let held = second.attempt().unwrap().unwrap();
        assert!(path.exists(), "made anew");
        assert!(third.attempt().unwrap().is_none(), "the old one is free, and another's is held");
        assert!(third.attempt().unwrap().is_none());
        drop(held);
        assert!(third.attempt().unwrap().is_none() && third.attempt().unwrap().is_some());
    }

    #[test]
    fn what_is_no_directory() {
        assert_eq!(Lock::take_blocking(Path::new("")).unwrap_err().kind(), ErrorKind::Invalid);
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("net");
        fs::write(&path, "").unwrap();
        let error = Lock::take_blocking(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"");
        fs::remove_file(&path).unwrap();
        // A symbolic link is followed, and stays.
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        drop(Lock::take_blocking(&path).unwrap());
        assert!(path.is_dir());
    }

    /// Each racer has an open file of its own, so to flock(2) they are as different as processes.
    #[test]
    fn one_at_a_time_while_the_directory_comes_and_goes() {
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("net");
        let (inside, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for racer in 0..6 {
                let (path, inside, gone) = (&path, &inside, &gone);
                scope.spawn(move || {
                    for round in 0..60 {
                        let lock = Lock::take_blocking(path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else has it too");
                        let file = path.join("file");
                        gone.fetch_add(usize::from(!file.exists()), Ordering::SeqCst);
                        // Now and then it stays in use.
                        if (racer + round) % 3 == 0 {
                            fs::write(&file, "").unwrap();
                        } else {
                            let _ = fs::remove_file(&file);
                        }
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        let lock = Lock::take_blocking(&path).unwrap();
        let _ = fs::remove_file(path.join("file"));
        drop(lock);
        assert!(!path.exists());
        assert!(gone.into_inner() > 20);
    }
}
