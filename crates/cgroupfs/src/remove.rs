//! Removing a group with everything in it, in bounded time.
//!
//! 1. What lives in it is killed, all at once ([`Cgroup::kill`]).
//! 2. SIGKILL takes its time: the kernel says when the last process is gone, by POLLPRI on `cgroup.events`. That costs one
//!    descriptor for the moment, and no inotify instance, of which a user has 128.
//! 3. The directories are removed, the deepest first.
//!
//! A step that fails does not end it: what can be removed is removed, and all errors are returned.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use cellkit_core::{Errno, sys};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::await_events::EventsFile;
use crate::hint::HINTS;
use crate::tree::{MOST_FAULTS, Visit, vanished, walk};
use crate::{Cgroup, Error, ErrorKind, Result, open};

/// After this long, what still lives is killed again: something may have been put into the group meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(200);

impl Cgroup {
    /// unlinkat(2) with AT_REMOVEDIR: removes the group and all groups below it, after everything in them was killed.
    ///
    /// It blocks until the last process is gone, at most for `time_limit`: a process in an uninterruptible sleep does not
    /// die. Groups and processes that vanish meanwhile are no errors. The handle is used up; after a failure, take a new
    /// one by [`open`](Self::open) and try again.
    ///
    /// # Errors
    /// Invalid for the root of the hierarchy, and when the calling process is in the group; TimedOut, with the processes
    /// that still live in the hint; and what the kernel refused, the first with the [others](Error::also) attached, as far
    /// as they are not too many to be read.
    pub fn remove(self, time_limit: Duration) -> Result<()> {
        // Nearly always nothing is left in it or below it, and this is all there is to do.
        if self.remove_at_once() {
            return Ok(());
        }
        let started = Instant::now();
        let left = || time_limit.saturating_sub(started.elapsed());
        let populated = match self.events() {
            Ok(events) => events.populated,
            Err(error) if error.kind() == ErrorKind::Gone => return Ok(()),
            // Only the root has no such file: killing says so.
            Err(_) => true,
        };
        let mut errors = Vec::new();
        if populated {
            match self.kill() {
                Ok(()) => errors.extend(self.wait_until_empty(time_limit, &left).err()),
                Err(error) if error.kind() == ErrorKind::Invalid => return Err(error),
                Err(error) => errors.push(error),
            }
        }
        let mut pause = Duration::from_millis(1);
        loop {
            let faults = self.remove_directories();
            // Busy can pass: whoever owns the group above may be making groups in it at this moment.
            let busy = faults.iter().any(|fault| fault.kind() == ErrorKind::Busy);
            if !busy || !errors.is_empty() || left().is_zero() {
                errors.extend(faults);
                return Error::all(errors);
            }
            std::thread::sleep(pause.min(left()));
            pause = (pause * 2).min(Duration::from_millis(20));
            errors.extend(self.kill().err());
        }
    }

    /// Waits for `populated 0` in `cgroup.events`.
    fn wait_until_empty(&self, time_limit: Duration, left: &dyn Fn() -> Duration) -> Result<()> {
        let mut last_kill = left();
        let outcome = EventsFile::open(self).and_then(|events| {
            while events.read()?.populated {
                let left = left();
                if left.is_zero() {
                    return Err(self.still_alive(time_limit));
                }
                if last_kill.saturating_sub(left) >= KILL_AGAIN {
                    last_kill = left;
                    self.kill()?;
                }
                events.wait(left.min(KILL_AGAIN))?;
            }
            Ok(())
        });
        match outcome {
            Err(error) if error.kind() == ErrorKind::Gone => Ok(()),
            outcome => outcome,
        }
    }

    fn still_alive(&self, time_limit: Duration) -> Error {
        let mut alive = Vec::new();
        walk(self.dir.as_fd(), |visited, _| {
            if let Visit::Enter(dir) = visited {
                alive.extend(crate::kill::procs_of(dir).unwrap_or_default());
            }
        });
        let error = Error::timed_out("kill all processes of", time_limit).on(self.path());
        let some: Vec<String> = alive.iter().take(8).map(i32::to_string).collect();
        let more = if alive.len() > some.len() { " and more" } else { "" };
        error.with_hint(format!(
            "still alive: {}{more}; /proc/PID/wchan and /proc/PID/stack say what one waits for",
            some.join(" ")
        ))
    }

    /// Removes what is below the group, then the group. What is gone is no error.
    fn remove_directories(&self) -> Vec<Error> {
        let fail = |operation: &'static str, path: &Path, errno: Errno| {
            Error::from_errno(operation, errno.0).on(path).with_hints(&HINTS)
        };
        let mut errors = Vec::new();
        let faults = walk(self.dir.as_fd(), |visited, below| {
            if let Visit::Leave { above, name } = visited {
                let removed = rmdir(above, Path::new(name));
                if let (Err(errno), true) = (removed, errors.len() < MOST_FAULTS) {
                    errors.push(fail("unlinkat", &self.path.join(below), errno));
                }
            }
        });
        errors.extend(faults.into_iter().map(|(below, errno)| fail("openat2", &self.path.join(below), errno)));
        // Where something below is left, the group itself would only be busy.
        if errors.is_empty() {
            errors.extend(self.remove_own_directory().err());
        }
        errors
    }

    /// Whether three system calls removed it. If not, going about it carefully says why.
    fn remove_at_once(&self) -> bool {
        let Some(name) = self.path.file_name() else { return false };
        let path = Path::new("..").join(name);
        let dir = self.dir.as_fd();
        let identity = |found: FileStat| (found.st_dev, found.st_ino);
        let (Ok(own), Ok(named)) = (fstat(dir), fstatat(dir, &path, AtFlags::AT_SYMLINK_NOFOLLOW)) else {
            return false;
        };
        // The group may have been removed and another made under its name, which is not ours to remove. Nor is it another
        // file system's directory: this group may be at the top of the mount.
        identity(own) == identity(named) && unlinkat(dir, &path, UnlinkatFlags::RemoveDir).is_ok()
    }

    fn remove_own_directory(&self) -> Result<()> {
        let fail = |operation: &'static str, errno| self.fail(operation, errno);
        let above = match open::above(self.dir.as_fd()) {
            Ok(above) => above,
            Err(errno) if vanished(errno) => return Ok(()),
            Err(errno @ Errno(libc::EXDEV)) => {
                return Err(Error::from_errno("unlinkat", errno.0).on(self.path()).with_hint(
                    "the cgroup file system is mounted here with this group at its top: remove it by a mount that \
                     shows the group above",
                ));
            }
            Err(errno) => return Err(fail("openat2", errno)),
        };
        let Some(name) = self.path.file_name() else {
            return Err(fail("unlinkat", Errno(libc::EBUSY)));
        };
        // The group may have been removed and another made under its name, which is not ours to remove.
        match open::beneath(above.as_fd(), Path::new(name), open::DIRECTORY) {
            Ok(named) => {
                let same = sys::inode(named.as_fd()).and_then(|named| Ok(named == sys::inode(self.dir.as_fd())?));
                if !same.map_err(|errno| fail("fstat", errno))? {
                    return Ok(());
                }
            }
            Err(errno) if vanished(errno) => return Ok(()),
            Err(errno) => return Err(fail("openat2", errno)),
        }
        rmdir(above.as_fd(), Path::new(name)).map_err(|errno| fail("unlinkat", errno))
    }
}

/// unlinkat(2) of a directory. One that is gone is no error.
pub(crate) fn rmdir(above: impl AsFd, name: &Path) -> Result<(), Errno> {
    match unlinkat(above, name, UnlinkatFlags::RemoveDir) {
        Ok(()) => Ok(()),
        Err(errno) if vanished(Errno(errno as i32)) => Ok(()),
        Err(errno) => Err(Errno(errno as i32)),
    }
}

#[cfg(test)]
mod tests {
    mod root {
        use std::time::Duration;

        use crate::{CgroupName, ErrorKind, Hierarchy, Limits};

        #[test]
        fn what_does_not_die_in_time_is_named() {
            faultkit::require!(root, cgroup2);
            faultkit::isolated!(|| {
                let place = Hierarchy::detect().expect("hierarchy").place().expect("place");
                let name = CgroupName::new("slow").expect("name");
                let group = place.create(&name, &Limits::new(), &mut ()).expect("create");
                let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
                group.raw("cgroup.procs").write(child.id().to_string()).expect("move");
                // Nothing was killed yet, so this cannot end in time.
                let limit = Duration::from_millis(50);
                let started = std::time::Instant::now();
                let left = || limit.saturating_sub(started.elapsed());
                let error = group.wait_until_empty(limit, &left).expect_err("it lives");
                assert_eq!((error.kind(), error.operation()), (ErrorKind::TimedOut, "kill all processes of"));
                assert!(error.hint().expect("hint").starts_with(&format!("still alive: {};", child.id())), "{error:#}");
                // And a directory that is in use stays, with the reason.
                let faults = group.remove_directories();
                assert_eq!(faults.iter().map(crate::Error::kind).collect::<Vec<_>>(), [ErrorKind::Busy]);
                assert!(faults.iter().all(|fault| fault.hint().is_some_and(|hint| hint.contains("still in it"))));
                group.remove(Duration::from_secs(20)).expect("remove");
                child.wait().expect("wait");
            });
        }
    }
}
