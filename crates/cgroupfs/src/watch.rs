//! Waiting for what happens to groups.
//!
//! # How it works
//!
//! A file of events answers POLLPRI from when it changes until it is read. A watch holds these files of each group open, in
//! one epoll instance, and remembers the numbers it has told: an event is a difference.
//!
//! Three things make that harder than it sounds.
//!
//! * *Removal wakes nobody.* A file whose group is removed answers POLLERR and POLLPRI to whoever polls it, but no wait ends
//!   for it. A group is emptied first, and that does wake; so after each wake-up, and while a watched group is empty, a
//!   timer has all groups looked at by one poll(2): soon at first, and every second in the end. While every group has
//!   processes and nothing happens, there is no timer. A removed group's files are closed, for they would answer for ever.
//! * *Wake-ups are late.* The kernel holds back a second one for the same file for 10 ms. When the group is removed before
//!   that, it never comes: the look after a wake-up is later than that.
//! * *Counters vanish.* A removed group's files cannot be read any more, not by descriptors that are open either. What was
//!   counted in the last moments is found in the group above: see [`parent`].
#![forbid(unsafe_code)]

mod account;
mod counts;
mod event;
mod group;
mod parent;
mod poll;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::EpollFlags;

use crate::psi_trigger::{PsiTrigger, Stalled};
use crate::{Cgroup, Error, ErrorKind, Result};
pub use event::{Counter, Event, EventFile, Uncounted, WatchedGroup, What};
pub(crate) use group::id_of;
use group::{Found, Group};
use parent::Parent;
use poll::{BATCH, Poll, Source};

/// Later than the kernel holds back a wake-up.
const SOON: Duration = Duration::from_millis(20);
/// How long it may take until the removal of a group is seen that has been empty for long.
const SELDOM: Duration = Duration::from_secs(1);
/// How often numbers that change while they are read are read again.
const ATTEMPTS: u32 = 8;

/// Tells what happens to groups: memory limits felt and processes killed for them, `pids.max` reached, emptied, frozen, and
/// removed; and where processes stall, by a [`PsiTrigger`].
///
/// What is told of a counter is by how much it went up since it was last told of; of a state, that it is another one. A
/// state that changed and changed back before it was looked at is not told of, except that a group in which a process has
/// come and gone is [`What::Empty`] again. What happened before a group was added is not told.
///
/// A group that is removed is told of too, and what was counted in its last moments: see [`Uncounted`].
///
/// * Kernel files: `cgroup.events`, `memory.events`, `memory.swap.events`, `pids.events`; of the group above
///   `memory.events` and `memory.events.local`. Files whose controller is not enabled are not watched, and
///   [`what_is_watched`](Self::what_is_watched) says so.
/// * C calls: epoll_wait(2), timerfd_create(2), pread(2). No inotify instance, of which a user has 128.
/// * Descriptors: two; one for each file of a group, which is four at most; and three for each group above watched ones.
/// * Privileges: those to read the files, which anybody has.
///
/// A signal does not end a wait: it goes on after the handler. To be stopped by one, wait for a signalfd(2) beside the watch, or
/// wait in a limit's steps and look at a flag.
///
/// It can be waited on in three ways: [`next_within`](Self::next_within) or, as an iterator, without a limit; in a loop of
/// one's own, by [`AsFd`], calling [`try_next`](Self::try_next) until there is nothing more; and with feature `tokio` as
/// a stream.
///
/// ```no_run
/// use cgroupfs::{Counter, Hierarchy, Watch, What};
/// use std::time::Duration;
///
/// let group = Hierarchy::detect()?.open("/web")?;
/// let mut watch = Watch::new()?;
/// watch.add(&group)?;
/// // … start something in it …
/// while let Some(event) = watch.next_within(Duration::from_secs(60))? {
///     match event.what {
///         What::Counted(Counter::OomKill, times) => println!("{times} killed for lack of memory"),
///         What::Empty => break,
///         other => println!("{other}"),
///     }
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Debug)]
#[doc(alias = "memory.events")]
#[doc(alias = "cgroup.events")]
#[doc(alias = "pids.events")]
pub struct Watch {
    poll: Poll,
    groups: BTreeMap<u64, Group>,
    parents: BTreeMap<u64, Parent>,
    triggers: BTreeMap<u64, PsiTrigger>,
    next_index: u64,
    queue: VecDeque<Event>,
    /// How long until the groups are looked at again.
    pause: Duration,
    /// Whether the file system is mounted so that `memory.events` counts the group alone.
    local_only: Option<bool>,
    buffer: Box<[u8; 4096]>,
}

/// One line of [`Watch::what_is_watched`].
///
/// ```no_run
/// use cgroupfs::{EventFile, Hierarchy, Watch};
///
/// let mut watch = Watch::new()?;
/// watch.add(&Hierarchy::detect()?.own_group()?)?;
/// for watched in watch.what_is_watched() {
///     if watched.absent.contains(&EventFile::MemoryEvents) {
///         println!("{}: the memory controller is not enabled", watched.group.path().display());
///     }
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchedFiles {
    /// The group.
    pub group: WatchedGroup,
    /// The files that are watched.
    pub files: Vec<EventFile>,
    /// Those that were asked for but are not there: their controller is not enabled for the group.
    pub absent: Vec<EventFile>,
    /// Whether what is counted in the last moments before the group is removed can be found in the group above.
    pub counted_above: bool,
}

impl Watch {
    /// epoll_create1(2), timerfd_create(2): a watch of nothing yet.
    ///
    /// # Errors
    /// Limit, when there are too many descriptors.
    pub fn new() -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            groups: BTreeMap::new(),
            parents: BTreeMap::new(),
            triggers: BTreeMap::new(),
            next_index: 1,
            queue: VecDeque::new(),
            pause: SOON,
            local_only: None,
            buffer: Box::new([0; 4096]),
        })
    }

    /// Watches `group` too, by all files it has. Later events are differences from what they say now.
    ///
    /// A group that is watched already stays so: files that it did not have before are watched from now on.
    ///
    /// # Errors
    /// Unsupported for the root of the hierarchy, to which nothing happens; Gone; Limit when there are too many
    /// descriptors. On an error nothing is added.
    pub fn add(&mut self, group: &Cgroup) -> Result<WatchedGroup> {
        self.add_files(group, EventFile::ALL)
    }

    /// As [`add`](Self::add), by these files only: each costs a descriptor. `cgroup.events` is always held open, for it
    /// shows the removal.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_files(&mut self, group: &Cgroup, files: impl IntoIterator<Item = EventFile>) -> Result<WatchedGroup> {
        // A wake-up that is held back now would be lost with the group.
        self.look_soon()?;
        let id = id_of(group, group.path())?;
        let index = match self.groups.iter().find(|(_, known)| known.name.id == id) {
            Some((index, _)) => *index,
            None => self.add_new(group, id)?,
        };
        let Some(known) = self.groups.get_mut(&index) else { return Err(Error::gone("read cgroup.events", None)) };
        let (is_new, name) = (known.wanted.is_empty(), known.name.clone());
        for file in files {
            let outcome = known.want(group, file, &mut self.buffer).and_then(|added| match known.counted(file) {
                Some(counted) if added => self.poll.add(&counted.file, Source::Group(index, file)),
                _ => Ok(()),
            });
            if let Err(error) = outcome {
                if is_new {
                    self.drop_group(index);
                } else {
                    // What could not be waited on is not watched.
                    known.counted.retain(|counted| counted.kind != file);
                }
                return Err(error.on(group.path()));
            }
        }
        if let Err(error) = self.join_parent(group, index) {
            if is_new {
                self.drop_group(index);
            }
            return Err(error);
        }
        Ok(name)
    }

    fn add_new(&mut self, group: &Cgroup, id: u64) -> Result<u64> {
        let index = self.next_index;
        let name = WatchedGroup { id, path: group.path().into() };
        let new = Group::open(group, name, &mut self.buffer)?;
        self.poll.add(new.events_fd(), Source::Group(index, EventFile::CgroupEvents))?;
        self.next_index += 1;
        self.groups.insert(index, new);
        Ok(index)
    }

    /// Reads the file that has changed, and tells what is new; for `cgroup.events` all files of the group.
    fn refresh(&mut self, index: u64, file: EventFile) -> Result<Found> {
        let Some(group) = self.groups.get_mut(&index) else { return Ok(Found::Alive) };
        let had_memory = group.counted(EventFile::MemoryEvents).is_some();
        let found = match file {
            EventFile::CgroupEvents => group.refresh(&mut self.queue, &mut self.buffer)?,
            file => group.refresh_counted(file, &mut self.queue, &mut self.buffer)?,
        };
        group.lost.drain(..).for_each(|file| self.poll.forget(file));
        if had_memory && group.counted(EventFile::MemoryEvents).is_none() {
            // The controller was taken away: the numbers of the group above are no longer about this one.
            if let Some(parent) = group.parent.take().and_then(|parent| self.parents.get_mut(&parent)) {
                parent.children.remove(&index);
                parent.settled = None;
            }
        }
        Ok(found)
    }

    /// Waits for a [`PsiTrigger`] too: [`What::Stalled`].
    ///
    /// # Errors
    /// Limit, when there are too many descriptors.
    pub fn add_trigger(&mut self, trigger: PsiTrigger) -> Result<WatchedGroup> {
        let index = self.next_index;
        self.poll.add_trigger(&trigger, Source::Trigger(index))?;
        self.next_index += 1;
        let name = trigger.group().clone();
        self.triggers.insert(index, trigger);
        Ok(name)
    }

    /// Watches the group no more, and drops the triggers about it. Events of it that are known already are dropped too.
    /// Answers whether it was watched.
    pub fn stop(&mut self, group: &WatchedGroup) -> bool {
        let index = self.groups.iter().find(|(_, known)| known.name == *group).map(|(index, _)| *index);
        if let Some(index) = index {
            self.stop_counting(index);
            self.drop_group(index);
            self.prune_parents();
        }
        let triggers: Vec<u64> =
            self.triggers.iter().filter(|(_, trigger)| trigger.group() == group).map(|(index, _)| *index).collect();
        triggers.iter().for_each(|index| self.drop_trigger(*index));
        self.queue.retain(|event| event.group != *group);
        index.is_some() || !triggers.is_empty()
    }

    /// Every group that is watched, by which files, and which of those asked for it does not have.
    #[must_use]
    pub fn what_is_watched(&self) -> Vec<WatchedFiles> {
        let line = |group: &Group| {
            let has = |file: &EventFile| *file == EventFile::CgroupEvents || group.counted(*file).is_some();
            let (files, absent) = group.wanted.iter().partition(|file| has(file));
            WatchedFiles { group: group.name.clone(), files, absent, counted_above: group.parent.is_some() }
        };
        self.groups.values().map(line).collect()
    }

    /// Whether there is neither a group nor a trigger left to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.triggers.is_empty()
    }

    /// The next event, if one has happened. It does not wait.
    ///
    /// # Errors
    /// What the kernel says to a read of a group that is there. The watch can be used further.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        self.next_until(Some(Instant::now()))
    }

    /// The next event; `None` when there was none within `limit`, or nothing to wait for.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Event>> {
        self.next_until(Instant::now().checked_add(limit))
    }

    fn next_until(&mut self, end: Option<Instant>) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            if self.is_empty() {
                return Ok(None);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let woken = self.poll.wait(left)?;
            let nothing = woken.is_empty();
            self.handle(woken)?;
            if nothing && left.is_some_and(|left| left.is_zero()) {
                return Ok(self.queue.pop_front());
            }
        }
    }

    fn handle(&mut self, woken: Vec<(Source, EpollFlags)>) -> Result<()> {
        // A look at all groups comes last, and only when no other wake-up waits to be taken: so that a group that was woken
        // for is known to have been.
        let is_last = woken.len() < BATCH;
        let (mut look, mut removed, mut errors) = (false, BTreeSet::new(), Vec::new());
        for (source, flags) in woken {
            // Whatever cannot be read says so again, but a trigger said it once: so all are heard.
            match self.handle_one(source, flags, &mut removed) {
                Ok(wants_look) => look |= wants_look,
                Err(error) => errors.push(error),
            }
        }
        if look {
            let looked = if is_last { self.look(&mut removed) } else { Ok(false) };
            let next = match looked {
                Ok(was_quiet) => self.look_again(was_quiet),
                Err(error) => self.look_soon().and(Err(error)),
            };
            errors.extend(next.err());
        }
        errors.extend(self.bury(removed).err());
        Error::all(errors)
    }

    /// Answers whether all groups should be looked at.
    fn handle_one(&mut self, source: Source, flags: EpollFlags, removed: &mut BTreeSet<u64>) -> Result<bool> {
        match source {
            Source::Timer => self.poll.take_alarm(),
            Source::Group(index, file) => {
                self.look_soon()?;
                if self.refresh(index, file)? == Found::Removed {
                    if let Some(group) = self.groups.get_mut(&index).filter(|_| file == EventFile::CgroupEvents) {
                        // Something came into it after it was read.
                        group.read_when_empty = false;
                    }
                    removed.insert(index);
                }
                Ok(false)
            }
            Source::Parent(index) => {
                if self.below(index)?.is_none() {
                    self.drop_parent(index);
                }
                Ok(true)
            }
            Source::Trigger(index) => self.handle_trigger(index, flags).map(|()| false),
        }
    }

    fn handle_trigger(&mut self, index: u64, flags: EpollFlags) -> Result<()> {
        let Some(trigger) = self.triggers.get_mut(&index) else { return Ok(()) };
        let group = trigger.group().clone();
        match trigger.fired(flags.contains(EpollFlags::EPOLLPRI), flags.contains(EpollFlags::EPOLLERR)) {
            Ok(Some(Stalled { total_usec, .. })) => {
                let (resource, threshold) = (trigger.resource(), trigger.threshold());
                self.queue.push_back(Event { group, what: What::Stalled { resource, threshold, total_usec } });
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Gone => {
                self.drop_trigger(index);
                // Of a group that is watched, the watch tells the end.
                if self.groups.values().any(|known| known.name == group) {
                    return self.look_soon();
                }
                if !self.triggers.values().any(|trigger| *trigger.group() == group) {
                    self.queue.push_back(Event { group, what: What::Removed { uncounted: Vec::new() } });
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Looks at every group, by one poll(2); answers whether nothing had happened to any.
    fn look(&mut self, removed: &mut BTreeSet<u64>) -> Result<bool> {
        let (indexes, mut files): (Vec<u64>, Vec<PollFd<'_>>) = self
            .groups
            .iter()
            .map(|(index, group)| (*index, PollFd::new(group.events_fd().as_fd(), PollFlags::POLLPRI)))
            .unzip();
        match nix::poll::poll(&mut files, PollTimeout::ZERO) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::from_errno("poll", errno as i32)),
        }
        let happened = |file: &PollFd<'_>| file.revents().is_some_and(|flags| flags.contains(PollFlags::POLLPRI));
        let changed: Vec<u64> =
            indexes.into_iter().zip(&files).filter(|(_, file)| happened(file)).map(|(index, _)| index).collect();
        for index in &changed {
            if self.refresh(*index, EventFile::CgroupEvents)? == Found::Removed {
                removed.insert(*index);
            }
        }
        Ok(changed.is_empty())
    }

    fn look_soon(&mut self) -> Result<()> {
        self.pause = SOON;
        self.poll.alarm_within(SOON)
    }

    /// After a look: again, and later each time, as long as there is a group that may be removed without a sound.
    fn look_again(&mut self, was_quiet: bool) -> Result<()> {
        if !was_quiet {
            return self.look_soon();
        }
        if self.groups.values().all(|group| !group.read_when_empty) {
            return Ok(());
        }
        self.pause = (self.pause * 2).min(SELDOM);
        self.poll.alarm_within(self.pause)
    }

    /// Forgets a group. What it counted is from now on what others counted.
    fn drop_group(&mut self, index: u64) -> Option<Group> {
        let group = self.groups.remove(&index)?;
        group.files().for_each(|(_, file)| self.poll.forget(file));
        if let Some(parent) = group.parent.and_then(|parent| self.parents.get_mut(&parent)) {
            parent.children.remove(&index);
        }
        Some(group)
    }

    fn drop_parent(&mut self, index: u64) {
        let Some(parent) = self.parents.remove(&index) else { return };
        self.poll.forget(&parent.events);
        for child in &parent.children {
            if let Some(group) = self.groups.get_mut(child) {
                group.parent = None;
            }
        }
    }

    fn prune_parents(&mut self) {
        let childless = self.parents.iter().filter(|(_, parent)| parent.children.is_empty());
        let childless: Vec<u64> = childless.map(|(index, _)| *index).collect();
        childless.into_iter().for_each(|index| self.drop_parent(index));
    }

    fn drop_trigger(&mut self, index: u64) {
        if let Some(trigger) = self.triggers.remove(&index) {
            self.poll.forget(&trigger);
        }
    }
}

impl AsFd for Watch {
    /// Readable when [`try_next`](Self::try_next) should be called, until it answers `None`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

impl Iterator for Watch {
    type Item = Result<Event>;

    /// The next event, whenever it comes. It ends when there is nothing left to wait for.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None).transpose()
    }
}
