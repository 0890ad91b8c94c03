//! What groups counted that are gone: kept ready while they live, and worked out when they end. See [`parent`](super::parent).
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use cellkit_core::{ProcFd, ProcView};

use super::counts::{Counts, MOST, each, zip};
use super::event::{Event, EventFile, Uncounted, What};
use super::group::{Found, Group};
use super::parent::{Parent, Settled};
use super::poll::Source;
use super::{ATTEMPTS, Watch};
use crate::tree::vanished;
use crate::{Cgroup, Error, Result};

impl Watch {
    /// Has the group above account for this one, if it can.
    pub(super) fn join_parent(&mut self, group: &Cgroup, index: u64) -> Result<()> {
        let known = self.groups.get(&index);
        if known.is_none_or(|known| known.parent.is_some() || known.counted(EventFile::MemoryEvents).is_none()) {
            return Ok(());
        }
        let Some(parent) = Parent::open(group)? else { return Ok(()) };
        let id = parent.name.id;
        let parent_index = match self.parents.iter().find(|(_, known)| known.name.id == id) {
            Some((parent_index, _)) => *parent_index,
            None => {
                let parent_index = self.next_index;
                self.next_index += 1;
                self.poll.add(&parent.events, Source::Parent(parent_index))?;
                self.parents.insert(parent_index, parent);
                parent_index
            }
        };
        let settled = self.settle_with(parent_index, index);
        if settled.is_ok() {
            if let Some(known) = self.groups.get_mut(&index) {
                known.parent = Some(parent_index);
            }
        } else {
            if let Some(parent) = self.parents.get_mut(&parent_index) {
                parent.children.remove(&index);
            }
            self.prune_parents();
        }
        settled
    }

    /// Works out what others counted, now that `index` is watched. Where nothing at all has been counted since it was last
    /// worked out, that takes no more than this group's own numbers.
    fn settle_with(&mut self, parent_index: u64, index: u64) -> Result<()> {
        let before = self.below(parent_index)?;
        self.refresh(index, EventFile::MemoryEvents)?;
        let after = self.below(parent_index)?;
        let own = self.told(index);
        let Some(parent) = self.parents.get_mut(&parent_index) else { return Ok(()) };
        parent.children.insert(index);
        match parent.settled {
            Some(settled) if before == Some(settled.below) && after == before => {
                let others = zip(&settled.others, &own, u64::saturating_sub);
                parent.settled = Some(Settled { others, ..settled });
                Ok(())
            }
            // Those that are gone are found by the next look.
            _ => self.settle(parent_index).map(drop),
        }
    }

    /// Works out anew what others counted, from what all watched groups below the parent say. Answers those that are gone:
    /// then it could not be worked out, and is to be tried again without them.
    fn settle(&mut self, parent_index: u64) -> Result<Vec<u64>> {
        let Some(parent) = self.parents.get_mut(&parent_index) else { return Ok(Vec::new()) };
        parent.settled = None;
        let children = parent.children.clone();
        for _ in 0..ATTEMPTS {
            let Some(before) = self.below(parent_index)? else { break };
            let (mut sum, mut vanished) = ([0; MOST], Vec::new());
            for child in &children {
                if self.refresh(*child, EventFile::MemoryEvents)? == Found::Removed {
                    vanished.push(*child);
                }
                sum = zip(&sum, &self.told(*child), u64::saturating_add);
            }
            if !vanished.is_empty() {
                return Ok(vanished);
            }
            if self.below(parent_index)? == Some(before) {
                let others = zip(&before, &sum, u64::saturating_sub);
                if let Some(parent) = self.parents.get_mut(&parent_index) {
                    parent.settled = Some(Settled { below: before, others });
                }
                break;
            }
        }
        Ok(Vec::new())
    }

    /// What the groups below a parent counted; nothing when it is gone itself.
    pub(super) fn below(&mut self, parent_index: u64) -> Result<Option<Counts>> {
        let Some(parent) = self.parents.get(&parent_index) else { return Ok(None) };
        match parent.below(&mut self.buffer) {
            Ok(counts) => Ok(Some(counts)),
            Err(errno) if vanished(errno) => Ok(None),
            Err(errno) => Err(Error::from_errno("read memory.events", errno.0).on(parent.name.path())),
        }
    }

    /// What was told of a group's `memory.events`.
    fn told(&self, index: u64) -> Counts {
        let counted = self.groups.get(&index).and_then(|group| group.counted(EventFile::MemoryEvents));
        counted.map_or([0; MOST], |counted| counted.told)
    }

    /// Leaves what the group counts to what others count.
    pub(super) fn stop_counting(&mut self, index: u64) {
        let Some(parent_index) = self.groups.get(&index).and_then(|group| group.parent) else { return };
        let settled = self.parents.get(&parent_index).and_then(|parent| parent.settled);
        let unchanged =
            settled.is_some() && self.below(parent_index).is_ok_and(|below| below == settled.map(|all| all.below));
        if !unchanged && !self.settle(parent_index).is_ok_and(|vanished| vanished.is_empty()) {
            return;
        }
        let told = self.told(index);
        if let Some(settled) = self.parents.get_mut(&parent_index).and_then(|parent| parent.settled.as_mut()) {
            settled.others = zip(&settled.others, &told, u64::saturating_add);
        }
    }

    /// Tells the end of groups, and what else the groups above know of them.
    pub(super) fn bury(&mut self, removed: BTreeSet<u64>) -> Result<()> {
        let mut by_parent = BTreeMap::<Option<u64>, Vec<Group>>::new();
        for group in removed.into_iter().filter_map(|index| self.drop_group(index)) {
            by_parent.entry(group.parent).or_default().push(group);
        }
        let mut outcome = Ok(());
        for (parent, mut groups) in by_parent {
            let known = match parent {
                Some(parent) => self.account(parent, &mut groups),
                None => Ok(None),
            };
            // Their end is told in any case.
            let known = known.unwrap_or_else(|error| {
                outcome = Err(error);
                None
            });
            self.tell_removed(parent, groups, known);
        }
        self.prune_parents();
        outcome
    }

    /// What was counted below the parent that was not told, by `groups` that are gone or by others that nobody watches.
    /// Siblings that turn out to be gone too come to `groups`. `None` when it cannot be found out.
    fn account(&mut self, parent_index: u64, groups: &mut Vec<Group>) -> Result<Option<Counts>> {
        let before = self.parents.get(&parent_index).and_then(|parent| parent.settled);
        let told = |groups: &[Group]| {
            let counts = groups.iter().filter_map(|group| group.counted(EventFile::MemoryEvents));
            counts.fold([0; MOST], |sum, counted| zip(&sum, &counted.told, u64::saturating_add))
        };
        let below = self.below(parent_index)?;
        let Some(before) = before.filter(|_| below.is_some()) else {
            self.settle(parent_index)?;
            return Ok(None);
        };
        if below == Some(before.below) {
            // Nothing at all was counted since.
            let others = zip(&before.others, &told(groups), u64::saturating_add);
            if let Some(parent) = self.parents.get_mut(&parent_index) {
                parent.settled = Some(Settled { others, ..before });
            }
            return Ok(if self.counts_below_too() { Some([0; MOST]) } else { None });
        }
        loop {
            let vanished = self.settle(parent_index)?;
            if vanished.is_empty() {
                break;
            }
            groups.extend(vanished.into_iter().filter_map(|index| self.drop_group(index)));
        }
        let now = self.parents.get(&parent_index).and_then(|parent| parent.settled);
        let Some(now) = now.filter(|_| self.counts_below_too()) else { return Ok(None) };
        let new = zip(&now.others, &before.others, u64::saturating_sub);
        Ok(Some(zip(&new, &told(groups), u64::saturating_sub)))
    }

    /// Says whose the counts are that are known of the groups above: the one's that has been removed, when there is one only
    /// and nobody else can have been it.
    fn tell_removed(&mut self, parent: Option<u64>, groups: Vec<Group>, known: Option<Counts>) {
        let lived: Vec<u64> = groups.iter().filter(|group| !group.read_when_empty).map(|group| group.name.id).collect();
        let found = known.unwrap_or_default();
        let strangers = match parent.and_then(|parent| self.parents.get(&parent)) {
            Some(parent) if found != [0; MOST] && lived.len() == 1 => {
                let watched = self.groups.values().map(|group| group.name.id).collect();
                parent.strangers(&watched, &mut self.buffer).ok()
            }
            _ => None,
        };
        let certain = strangers.map_or([0; MOST], |strangers| zip(&found, &strangers, u64::saturating_sub));
        for group in groups {
            let except = known.map(|_| EventFile::MemoryEvents);
            let (mut uncounted, mut ends) = (group.uncounted(except), Vec::new());
            if lived.contains(&group.name.id) {
                // No group is removed that is not empty.
                if group.wanted.contains(&EventFile::CgroupEvents) {
                    ends.push(Event { group: group.name.clone(), what: What::Empty });
                }
                for ((counter, at_most), (_, certain)) in
                    each(EventFile::MemoryEvents, &found).zip(each(EventFile::MemoryEvents, &certain))
                {
                    if certain > 0 {
                        let what = What::Counted(counter, certain);
                        self.queue.push_back(Event { group: group.name.clone(), what });
                    }
                    if at_most > certain {
                        uncounted.push(Uncounted { counter, at_most: Some(at_most - certain) });
                    }
                }
            }
            ends.push(Event { group: group.name.clone(), what: What::Removed { uncounted } });
            self.queue.extend(ends);
        }
    }

    /// Whether `memory.events` counts what happens in the groups below: not where cgroup2 is mounted with memory_localevents.
    fn counts_below_too(&mut self) -> bool {
        let local_only = *self.local_only.get_or_insert_with(|| is_local_only().unwrap_or(true));
        !local_only
    }
}

/// Whether a cgroup2 file system is mounted with memory_localevents: there is one hierarchy, and all its mounts say so.
fn is_local_only() -> Result<bool> {
    let mounts = ProcFd::open(ProcView::Processes)?.this_thread()?.read("mountinfo".as_ref())?;
    Ok(mounts.split(|byte| *byte == b'\n').any(|line| {
        let line = String::from_utf8_lossy(line);
        let options = line.split_once(" - cgroup2 ").and_then(|(_, rest)| rest.split(' ').nth(1));
        options.is_some_and(|options| options.split(',').any(|option| option == "memory_localevents"))
    }))
}
