//! One watched group: its files, and what was told of them.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use cellkit_core::Errno;

use super::counts::{Counts, each, lines, read_counts, read_text, risen};
use super::event::{Event, EventFile, Uncounted, WatchedGroup, What};
use crate::tree::vanished;
use crate::{Cgroup, Controller, Error, Result, open};

/// What reading a group's files showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Alive,
    Removed,
}

pub(super) type Queue = VecDeque<Event>;

#[derive(Debug)]
pub(super) struct Group {
    pub name: WatchedGroup,
    events: File,
    state: State,
    /// The files of counters that the group has.
    pub counted: Vec<Counted>,
    /// Files that are gone from it, for the watch to forget.
    pub lost: Vec<File>,
    /// Those that were asked for.
    pub wanted: Vec<EventFile>,
    /// By the index of the group above, when that accounts for this one.
    pub parent: Option<u64>,
    /// Whether nothing lived in it when its counters were read: then none of them goes up any more.
    pub read_when_empty: bool,
}

/// A file of counters, and what was told of it.
#[derive(Debug)]
pub(super) struct Counted {
    pub kind: EventFile,
    pub file: File,
    pub told: Counts,
}

impl Group {
    /// Opens the files and reads what all later events are differences from.
    pub fn open(group: &Cgroup, name: WatchedGroup, buffer: &mut [u8; 4096]) -> Result<Self> {
        let operation = || "read cgroup.events".to_owned();
        let events = File::from(group.open_file("cgroup.events", libc::O_RDONLY, &operation)?);
        let text = read_text(&events, buffer).map_err(|errno| group.fail(operation(), errno))?;
        let state = State::parse(text);
        Ok(Self {
            name,
            events,
            state,
            counted: Vec::new(),
            lost: Vec::new(),
            wanted: Vec::new(),
            parent: None,
            read_when_empty: !state.populated,
        })
    }

    /// Opens one more file, if the group has it; answers whether it did. What was told of it begins with what it says now.
    pub fn want(&mut self, group: &Cgroup, kind: EventFile, buffer: &mut [u8; 4096]) -> Result<bool> {
        if !self.wanted.contains(&kind) {
            self.wanted.push(kind);
        }
        if kind == EventFile::CgroupEvents || self.counted(kind).is_some() {
            return Ok(false);
        }
        let fail = |errno| group.fail(format!("read {kind}"), errno);
        let Some(file) = open_if_there(group, kind.name()).map_err(fail)? else { return Ok(false) };
        let told = read_counts(&file, kind, buffer).map_err(fail)?;
        self.counted.push(Counted { kind, file, told });
        Ok(true)
    }

    pub fn counted(&self, kind: EventFile) -> Option<&Counted> {
        self.counted.iter().find(|counted| counted.kind == kind)
    }

    /// The files to wait on, and which they are.
    pub fn files(&self) -> impl Iterator<Item = (EventFile, &File)> {
        let counted = self.counted.iter().map(|counted| (counted.kind, &counted.file));
        std::iter::once((EventFile::CgroupEvents, &self.events)).chain(counted)
    }

    pub fn events_fd(&self) -> &impl AsFd {
        &self.events
    }

    /// Reads one file of counters and tells what is new.
    pub fn refresh_counted(&mut self, kind: EventFile, queue: &mut Queue, buffer: &mut [u8; 4096]) -> Result<Found> {
        match self.count(kind, queue, buffer)? {
            true => Ok(Found::Alive),
            // Gone with its group, or without it.
            false => self.refresh(queue, buffer),
        }
    }

    /// Reads all files, for `cgroup.events` has changed, and tells what is new: the counters first, for they are what the
    /// state came of. They are read after the state, so that those of an empty group are its last.
    pub fn refresh(&mut self, queue: &mut Queue, buffer: &mut [u8; 4096]) -> Result<Found> {
        let Some(mut state) = self.read_state(buffer)? else { return Ok(Found::Removed) };
        let (mut lost, mut errors) = (Vec::new(), Vec::new());
        for kind in EventFile::ALL {
            match self.count(kind, queue, buffer) {
                Ok(true) => {}
                Ok(false) => lost.push(kind),
                // Its own wake-up comes again, but not that for the state, which has been read.
                Err(error) => errors.push(error),
            }
        }
        if !lost.is_empty() {
            match self.read_state(buffer) {
                Ok(Some(now)) => {
                    state = now;
                    self.lose(&lost, queue);
                }
                Ok(None) => return Ok(Found::Removed),
                Err(error) => errors.push(error),
            }
        }
        self.tell_state(state, queue);
        // What could not be read may still go up, for all that is known.
        self.read_when_empty &= errors.is_empty();
        Error::all(errors).map(|()| Found::Alive)
    }

    /// Whether the file is still there; so is one that the group never had.
    fn count(&mut self, kind: EventFile, queue: &mut Queue, buffer: &mut [u8; 4096]) -> Result<bool> {
        let Some(counted) = self.counted.iter_mut().find(|counted| counted.kind == kind) else { return Ok(true) };
        let now = match read_counts(&counted.file, kind, buffer) {
            Ok(now) => now,
            Err(errno) if vanished(errno) => return Ok(false),
            Err(errno) => return Err(self.failed(kind, errno)),
        };
        for ((counter, before), (_, now)) in each(kind, &counted.told).zip(each(kind, &now)) {
            if now != before {
                let what = What::Counted(counter, risen(before, now));
                queue.push_back(Event { group: self.name.clone(), what });
            }
        }
        counted.told = now;
        Ok(true)
    }

    /// Nothing when the group has been removed.
    fn read_state(&self, buffer: &mut [u8; 4096]) -> Result<Option<State>> {
        match read_text(&self.events, buffer) {
            Ok(text) => Ok(Some(State::parse(text))),
            Err(errno) if vanished(errno) => Ok(None),
            Err(errno) => Err(self.failed(EventFile::CgroupEvents, errno)),
        }
    }

    /// Files that went without their group, when the controller was taken away.
    fn lose(&mut self, lost: &[EventFile], queue: &mut Queue) {
        let (lost, left) = self.counted.drain(..).partition(|counted| lost.contains(&counted.kind));
        self.counted = left;
        let mut controllers = Vec::new();
        for Counted { kind, file, .. } in lost {
            let controller = if kind == EventFile::PidsEvents { Controller::Pids } else { Controller::Memory };
            self.lost.push(file);
            if !controllers.contains(&controller) {
                controllers.push(controller);
                let what = What::ControllerDisabled(controller);
                queue.push_back(Event { group: self.name.clone(), what });
            }
        }
    }

    fn tell_state(&mut self, now: State, queue: &mut Queue) {
        let before = std::mem::replace(&mut self.state, now);
        self.read_when_empty = !now.populated;
        if !self.wanted.contains(&EventFile::CgroupEvents) {
            return;
        }
        // Something changed, and back again: a process has come and gone. It may also be the late wake-up of what was told
        // already, which cannot be told apart: better said twice than waited for in vain.
        let may_have_come_and_gone = now == before && !now.populated;
        let mut tell = |what| queue.push_back(Event { group: self.name.clone(), what });
        if now.populated && !before.populated {
            tell(What::Populated);
        }
        if now.frozen != before.frozen {
            tell(if now.frozen { What::Frozen } else { What::Thawed });
        }
        if before.populated && !now.populated || may_have_come_and_gone {
            tell(What::Empty);
        }
    }

    /// The counters whose last moments nobody can know, except that of memory.events, which the group above has too.
    pub fn uncounted(&self, except: Option<EventFile>) -> Vec<Uncounted> {
        if self.read_when_empty {
            return Vec::new();
        }
        let files = self.counted.iter().filter(|counted| Some(counted.kind) != except);
        let counters = files.flat_map(|counted| counted.kind.counters());
        counters.map(|counter| Uncounted { counter: *counter, at_most: None }).collect()
    }

    fn failed(&self, file: EventFile, errno: Errno) -> Error {
        Error::from_errno(format!("read {file}"), errno.0).on(self.name.path())
    }
}

/// The inode number of a group's directory, which is the kernel's number for the group.
pub(crate) fn id_of(dir: impl AsFd, shown: &Path) -> Result<u64> {
    let stat = nix::sys::stat::fstat(dir.as_fd());
    stat.map(|stat| stat.st_ino).map_err(|errno| Error::from_errno("fstat", errno as i32).on(shown))
}

/// Opens a file below a directory, if it is there.
pub(super) fn open_if_there(dir: impl AsFd, name: &str) -> Result<Option<File>, Errno> {
    match open::beneath(dir.as_fd(), Path::new(name), libc::O_RDONLY) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(errno) if vanished(errno) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What `cgroup.events` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    populated: bool,
    frozen: bool,
}

impl State {
    fn parse(text: &[u8]) -> Self {
        let mut state = Self::default();
        for (key, value) in lines(text) {
            match key {
                b"populated" => state.populated = value != 0,
                b"frozen" => state.frozen = value != 0,
                _ => {}
            }
        }
        state
    }
}
