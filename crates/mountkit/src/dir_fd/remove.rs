//! Removing a whole tree that somebody hostile made, and may still be changing.
//!
//! The walk goes down by name from descriptors of what it came through, never up by `..` and never through a link, so it
//! stays below the directory it began in whatever is renamed meanwhile. A tree may be a hundred thousand directories deep:
//! nothing recurses, and of the directories above only some stay open:
//!
//! ```text
//! level  0      64     128    192      248 ... 256    ● open   · closed
//!        ●······●······●······●········●●●●●●●●●
//! ```
//!
//! Back at a closed one, the walk goes down again from the nearest open one above, leaving open a part of what it passes,
//! and checks that each directory is still the one it was. So a level is opened again about as often as the logarithm of
//! the depth says.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cellkit_core::{Errno, Error, Result, Subject};

use super::DirFd;
use crate::hint::HINTS;
use crate::name::Name;
use crate::sys::fs::Record;
use crate::sys::{self, fs};

/// How many of the deepest levels stay open, and into how many parts, or twice as many, what is above them is divided.
const PARTS: usize = 8;
/// How many directories are open at most, but for the few that going down again opens.
const MOST_OPEN: usize = 48;
/// How much of a directory is read at once; and so much where the tree is deep, as each level may keep names of it.
const BUFFER: usize = 32 << 10;
const SMALL_BUFFER: usize = 512;
const DEEP: usize = 32;
/// How often a directory is read again that somebody keeps filling.
const ROUNDS: u32 = 8;
/// How many failures are told.
const ERRORS: usize = 16;

impl DirFd {
    /// `unlinkat`, of a whole tree: removes what has the name, whatever it is, with all that is below it.
    ///
    /// What is gone already is no error. No link is followed and no mount is entered: a directory where something is
    /// mounted stays, as Busy. It holds less than 100 descriptors, and some memory for each level. What cannot be removed
    /// is left, the rest is removed all the same, and the error is the first one with up to 15 more in [`Error::also`].
    ///
    /// # Errors
    /// Busy (EBUSY for a mount; ENOTEMPTY when somebody keeps filling a directory); Permission (EACCES, EPERM, EROFS), also
    /// for a directory that the caller may not read; Limit (EMFILE; EAGAIN when directories are moved meanwhile).
    #[doc(alias = "unlinkat")]
    #[doc(alias = "rm -r")]
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = Name::new("unlinkat", name.as_ref())?;
        let base = sys::statx(self.raw()).map_err(|errno| self.fail("statx", errno, &Name::of_the_dir()))?;
        let mut walk = Walk {
            base: self,
            mount_id: base.mount_id,
            levels: Vec::new(),
            open: BTreeMap::new(),
            buffer: vec![0; BUFFER],
            errors: Vec::new(),
        };
        walk.remove(name.as_c_str().to_owned());
        Error::all(walk.errors)
    }
}

/// A directory that is being emptied.
struct Level {
    /// Its name in the one above.
    name: CString,
    id: ((u32, u32), u64),
    /// Where reading goes on, in a directory that cannot be emptied.
    position: i64,
    /// Directories in it that were seen and are not empty.
    left: Vec<CString>,
    /// Something in it could not be removed.
    failed: bool,
    rounds: u32,
}

struct Walk<'a> {
    base: &'a DirFd,
    mount_id: u64,
    levels: Vec<Level>,
    /// Those of the levels that are open, by number. The first one always is.
    open: BTreeMap<usize, OwnedFd>,
    buffer: Vec<u8>,
    errors: Vec<Error>,
}

/// The walk cannot go on; why is written down.
struct Lost;

/// What became of a name.
enum Outcome {
    Gone,
    /// A directory with something in it.
    Full,
    Stays,
}

impl Walk<'_> {
    fn remove(&mut self, name: CString) {
        if let Outcome::Full = self.remove_name(&name, None) {
            self.enter(name);
        }
        while !self.levels.is_empty() {
            if self.reopen().is_err() {
                return;
            }
            let Some(level) = self.levels.last_mut() else { return };
            match level.left.pop() {
                Some(name) => self.enter(name),
                None => match self.read() {
                    Ok(true) => {}
                    Ok(false) => self.leave(),
                    Err(errno) => {
                        self.stays("getdents64", errno, None);
                        self.leave();
                    }
                },
            }
        }
    }

    /// The deepest directory, or the one that all is in.
    fn dir(&self) -> i32 {
        match self.levels.len().checked_sub(1) {
            Some(last) => self.open.get(&last).map_or(-1, AsRawFd::as_raw_fd),
            None => self.base.raw(),
        }
    }

    /// Removes a name in the deepest directory, unless it is a directory with something in it.
    fn remove_name(&mut self, name: &CStr, d_type: Option<u8>) -> Outcome {
        let dir = self.dir();
        let mut answer = Err(Errno(libc::EISDIR));
        if d_type != Some(libc::DT_DIR) {
            answer = fs::unlinkat(dir, name, 0);
        }
        if answer == Err(Errno(libc::EISDIR)) {
            answer = fs::unlinkat(dir, name, libc::AT_REMOVEDIR);
        }
        if answer == Err(Errno(libc::ENOTDIR)) {
            // Exchanged meanwhile.
            answer = fs::unlinkat(dir, name, 0);
        }
        match answer {
            Ok(()) | Err(Errno(libc::ENOENT)) => Outcome::Gone,
            Err(Errno(libc::ENOTEMPTY | libc::EEXIST)) => Outcome::Full,
            Err(errno) => {
                self.stays("unlinkat", errno, Some(name));
                Outcome::Stays
            }
        }
    }

    /// Writes a failure down: of a name in the deepest directory, or of that directory.
    fn stays(&mut self, operation: &'static str, errno: Errno, name: Option<&CStr>) {
        if self.errors.len() < ERRORS {
            let error = Error::from_errno(operation, errno.0).on(self.subject(name)).with_hints(&HINTS);
            self.errors.push(error);
        }
        if let Some(level) = self.levels.last_mut() {
            level.failed = true;
        }
    }

    /// As errors show it: of a very deep tree only the first names.
    fn subject(&self, name: Option<&CStr>) -> Subject {
        let mut path = self.base.path.clone();
        for name in self.levels.iter().take(DEEP).map(|level| level.name.as_c_str()) {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        if self.levels.len() > DEEP {
            path.push("…");
        }
        if let Some(name) = name {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        Subject::PathUnder { path: PathBuf::from(path.as_os_str()), dir: self.base.root.to_path_buf() }
    }

    /// Goes down into a directory of the deepest one.
    fn enter(&mut self, name: CString) {
        let fd = match open(self.dir(), &name) {
            Ok(fd) => fd,
            Err(Errno(libc::ENOENT)) => return,
            // Exchanged meanwhile for something else. A directory again? Then it stays, and whoever did it has won.
            Err(Errno(libc::ENOTDIR | libc::ELOOP)) => {
                if let Outcome::Full = self.remove_name(&name, None) {
                    self.stays("unlinkat", Errno(libc::ENOTEMPTY), Some(&name));
                }
                return;
            }
            Err(errno) => return self.stays("openat", errno, Some(&name)),
        };
        match sys::statx(fd.as_raw_fd()) {
            Ok(stat) if stat.is_mount_root || stat.mount_id != self.mount_id => {
                self.stays("unlinkat", Errno(libc::EBUSY), Some(&name));
            }
            Ok(stat) => {
                let id = (stat.device, stat.inode);
                self.levels.push(Level { name, id, position: 0, left: Vec::new(), failed: false, rounds: 0 });
                self.keep_open(self.levels.len() - 1, fd);
            }
            Err(errno) => self.stays("statx", errno, Some(&name)),
        }
    }

    /// Leaves the deepest directory and removes it, where nothing in it stays.
    fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        drop(self.open.remove(&self.levels.len()));
        if level.failed {
            if let Some(above) = self.levels.last_mut() {
                above.failed = true;
            }
            return;
        }
        if !self.levels.is_empty() && self.reopen().is_err() {
            return;
        }
        match fs::unlinkat(self.dir(), &level.name, libc::AT_REMOVEDIR) {
            Ok(()) | Err(Errno(libc::ENOENT)) => {}
            // Somebody put something into it meanwhile, or the file system does not list what moves under it.
            Err(Errno(libc::ENOTEMPTY | libc::EEXIST)) if level.rounds < ROUNDS => {
                let (name, rounds) = (level.name, level.rounds + 1);
                let depth = self.levels.len();
                self.enter(name);
                if let Some(again) = self.levels.get_mut(depth) {
                    again.rounds = rounds;
                }
            }
            Err(errno) => self.stays("unlinkat", errno, Some(&level.name)),
        }
    }

    /// Reads on in the deepest directory and removes what it can. Answers whether there was anything.
    fn read(&mut self) -> Result<bool, Errno> {
        let depth = self.levels.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        let size = if depth > DEEP { SMALL_BUFFER } else { BUFFER };
        let answer = match buffer.get_mut(..size) {
            Some(part) => fs::getdents(self.dir(), part),
            None => Err(Errno(libc::EINVAL)),
        };
        let mut at = 0;
        let mut position = None;
        let end = *answer.as_ref().unwrap_or(&0);
        while let Some(record) = buffer.get(at..end).and_then(Record::first) {
            at += record.length;
            position = Some(record.next);
            if record.is_dot() {
                continue;
            }
            if let Outcome::Full = self.remove_name(record.name, Some(record.d_type)) {
                if let Some(level) = self.levels.last_mut() {
                    level.left.push(record.name.to_owned());
                }
            }
        }
        if let (Some(level), Some(position)) = (self.levels.last_mut(), position) {
            level.position = position;
        }
        self.buffer = buffer;
        match answer {
            Ok(read) => Ok(read > 0),
            // Somebody else removed the directory.
            Err(Errno(libc::ENOENT)) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Keeps the deepest directory open at `number`, and closes some above it when too many are: see the top of this file.
    fn keep_open(&mut self, number: usize, fd: OwnedFd) {
        self.open.insert(number, fd);
        if self.open.len() > MOST_OPEN {
            let depth = self.levels.len();
            // Powers of two, so that what stays now is also among what stays next time.
            let step = 1 << (depth / PARTS).max(1).ilog2();
            self.open.retain(|number, _| number % step == 0 || number + PARTS >= depth);
        }
    }

    /// Opens the deepest directory again, where it is closed.
    ///
    /// # Errors
    /// It could not, and that is written down: the walk is over.
    fn reopen(&mut self) -> Result<(), Lost> {
        let Some(last) = self.levels.len().checked_sub(1) else { return Ok(()) };
        // The first level is never closed.
        let (from, mut above) = match self.open.last_key_value() {
            Some((&number, _)) if number == last => return Ok(()),
            Some((&number, fd)) => (number, fd.as_raw_fd()),
            None => return self.lost("openat", Errno(libc::EBADF)),
        };
        let step = ((last - from) / PARTS).max(1);
        let mut passed: Option<OwnedFd> = None;
        for number in from + 1..=last {
            let Some(level) = self.levels.get(number) else { return Err(Lost) };
            let opened = open(above, &level.name).and_then(|fd| Ok((sys::statx(fd.as_raw_fd())?, fd)));
            let fd = match opened {
                Ok((stat, fd)) if (stat.device, stat.inode) == level.id => fd,
                Ok(_) | Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
                    return self.lost("openat", Errno(libc::EAGAIN));
                }
                Err(errno) => return self.lost("openat", errno),
            };
            // What is left in a directory that cannot be emptied is not tried again. In another one everything before the
            // position is gone, and some file systems count positions by what is there.
            if number == last && level.failed && fs::seek_dir(fd.as_raw_fd(), level.position).is_err() {
                return self.lost("lseek", Errno(libc::EIO));
            }
            above = fd.as_raw_fd();
            passed = None;
            if last - number < PARTS || (number - from) % step == 0 {
                self.open.insert(number, fd);
            } else {
                passed = Some(fd);
            }
        }
        drop(passed);
        Ok(())
    }

    fn lost(&mut self, operation: &'static str, errno: Errno) -> Result<(), Lost> {
        self.stays(operation, errno, None);
        Err(Lost)
    }
}

fn open(dir: i32, name: &CStr) -> Result<OwnedFd, Errno> {
    fs::open_name(dir, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK, 0)
}
