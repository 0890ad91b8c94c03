//! In which order limits are written to a group that may be full of processes.
//!
//! # Theory of operation
//! What a write gives can be taken back unnoticed. What a write takes may be felt: forks fail, memory is reclaimed, and
//! memory.max kills, which nothing undoes. So a change has three phases:
//! 1. **Raise** what grows. A failure after this is undone without trace.
//! 2. **Neither**: what is not more or less (lists, weights, rates of disks). Most of what a kernel can refuse is here
//!    (a disk that is none, a list of processors it does not have), so it is refused before anything is taken.
//! 3. **Lower** what shrinks, ending with memory.max, the one write that can kill.
//!
//! The pairs, by what would go wrong the other way round:
//! * `min`, `low`, `high`, `max`: raised from `max` down and lowered from `min` up, so that a group whose values are in
//!   order before and after is in order after every single write. Lowering `high` before `max` has the kernel reclaim
//!   before it may kill; raising `max` before `high` never lets a group run into `max` unthrottled.
//! * `swap.max` and `max`: a raise of one comes before the lowering of the other, since pages that must leave memory need
//!   a place to go to, and a kill cannot be undone; for that moment, the sum is the old limit of one and the new limit of
//!   the other. When both shrink, swap does first: what is then pushed out of memory does not exceed what was asked
//!   for. `swap.high` keeps below `swap.max` as `high` does below `max`.
//! * `oom.group` is set in phase 2: if memory.max kills, it kills by the new rule.
//! * `hugetlb max` and `rsvd.max`: a reservation that was granted must be usable, so max is raised first and lowered last.
//! * `cpu.max` and `cpu.max.burst`: the kernel refuses a burst above the quota. If the old quota has room for the new
//!   burst, the burst is first; otherwise the quota grows, and is.
//! * `cpu.idle` and `cpu.weight`: an idle group takes no weight, and leaving idle resets the weight. So idle is left before
//!   the weight is set; and undoing a change to idle needs the weight of before.
//! * `cpuset.mems` before `cpuset.cpus`: what runs on new processors finds its new memory already there. A partition
//!   is ended before the lists change and begun after. They come last of phase 2, for the kernel does not let a list that
//!   was empty be emptied again while there are processes; then what was in effect is written instead.
//! * `pids.max` is lowered first of all: it bounds what can happen meanwhile.
//!
//! An undo is the same writes in reverse with the old values, which is again raises before lowerings.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::collections::BTreeMap;

use cellkit_core::Subject;

use super::setting::{Setting, amount, first_word};
use crate::{Error, Result};

/// The files of a group that matter to a change, as they were before it.
pub(crate) type Snapshot = BTreeMap<String, String>;

/// A setting with what there is before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub setting: Setting,
    /// The value before.
    pub before: String,
    /// Whether it has to be written at all.
    pub write: bool,
    /// The files and contents that bring back what was before, in order.
    pub restore: Vec<(String, String)>,
    /// What comes next to it, where the kernel does not take it back.
    pub instead: Option<String>,
}

/// Which files, beside those that are written, have to be read to know what a change does.
pub(crate) fn companions(file: &str) -> &'static [&'static str] {
    match file {
        "cpu.max" => &["cpu.max.burst"],
        "cpu.max.burst" => &["cpu.max"],
        "cpu.idle" | "cpu.weight.nice" => &["cpu.weight", "cpu.idle"],
        "cpu.weight" => &["cpu.idle"],
        "memory.max" => &["memory.current"],
        "cpuset.cpus" => &["cpuset.cpus.effective"],
        "cpuset.mems" => &["cpuset.mems.effective"],
        _ => &[],
    }
}

/// The steps that bring `settings` about, in a safe order.
pub(crate) fn plan(settings: Vec<Setting>, snapshot: &Snapshot) -> Result<Vec<Step>> {
    check_burst(&settings, snapshot)?;
    let burst_first = is_burst_first(&settings, snapshot);
    let mut steps: Vec<Step> = settings.into_iter().map(|setting| Step::new(setting, snapshot)).collect();
    steps.sort_by_cached_key(|step| step.rank(burst_first));
    Ok(steps)
}

/// The settings of a new group, in the order in which they are safe there: everything is a lowering of no limit.
pub(crate) fn for_new(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.retain(|setting| !setting.initial);
    // No quota has room for any burst.
    settings.sort_by_cached_key(|setting| rank(setting, Way::Lower, true));
    settings
}

/// What a write does to the value of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Raise,
    Neither,
    Lower,
}

impl Step {
    fn new(setting: Setting, snapshot: &Snapshot) -> Self {
        let text = |file: &str| snapshot.get(file).map(String::as_str).unwrap_or_default();
        let before = setting.value_in(text(&setting.file));
        let was_idle = text("cpu.idle").trim() == "1";
        let own = |contents: Vec<String>| contents.into_iter().map(|content| (setting.file.to_string(), content));
        let weight = || ("cpu.weight".to_owned(), text("cpu.weight").trim().to_owned());
        let (write, restore) = match &*setting.file {
            // Of an idle group the kernel answers some weight that cannot be set, and going back to idle brings it back.
            "cpu.weight" | "cpu.weight.nice" if was_idle => (true, Vec::new()),
            // Coarser than the weight: that is what is put back.
            "cpu.weight.nice" => (true, vec![weight()]),
            "cpu.idle" if !was_idle => {
                let restore = own(setting.restore(&before)).chain(std::iter::once(weight())).collect();
                (!setting.is_in_force(&before), restore)
            }
            _ => (!setting.is_in_force(&before), own(setting.restore(&before)).collect()),
        };
        let in_effect = || snapshot.get(&format!("{}.effective", setting.file)).map(|text| text.trim().to_owned());
        let list = matches!(&*setting.file, "cpuset.cpus" | "cpuset.mems");
        let instead = if list && before.is_empty() { in_effect() } else { None };
        Self { setting, before, write, restore, instead }
    }

    /// Raises first, then what is neither, then lowerings.
    fn rank(&self, burst_first: bool) -> (Way, i16, String) {
        let way = match (ladder(&self.setting.file), amount(&self.before), amount(&self.setting.value)) {
            (None, _, _) => Way::Neither,
            (Some(_), Some(before), Some(asked)) if asked > before => Way::Raise,
            _ => Way::Lower,
        };
        rank(&self.setting, way, burst_first)
    }
}

fn rank(setting: &Setting, way: Way, burst_first: bool) -> (Way, i16, String) {
    let key = setting.key.clone().unwrap_or_default();
    match ladder(&setting.file) {
        Some(rung) if way == Way::Raise => (way, -rung, key),
        Some(rung) => (way, rung, key),
        None => (Way::Neither, among_neither(setting, burst_first), key),
    }
}

/// Files of which more is more: in the order in which they are lowered, and the reverse of that in which they are raised.
fn ladder(file: &str) -> Option<i16> {
    Some(match file {
        "pids.max" => 1,
        "cgroup.max.depth" | "cgroup.max.descendants" => 2,
        "memory.min" => 5,
        "memory.low" => 6,
        "memory.zswap.max" => 7,
        "memory.swap.high" => 8,
        "memory.swap.max" => 9,
        "memory.high" => 10,
        "memory.max" => 11,
        _ if file.starts_with("hugetlb.") && file.ends_with(".rsvd.max") => 3,
        _ if file.starts_with("hugetlb.") && file.ends_with(".max") => 4,
        _ => return None,
    })
}

fn among_neither(setting: &Setting, burst_first: bool) -> i16 {
    match &*setting.file {
        "io.max" => 1,
        "io.latency" => 2,
        "io.weight" | "io.bfq.weight" => 3,
        "io.prio.class" => 4,
        "rdma.max" => 5,
        "misc.max" => 6,
        // From max down to min, as for memory.
        "dmem.max" => 7,
        "dmem.low" => 8,
        "dmem.min" => 9,
        "cpu.idle" if setting.value == "0" => 10,
        "cpu.weight" => 11,
        "cpu.weight.nice" => 12,
        "cpu.idle" => 13,
        "cpu.uclamp.min" => 14,
        "cpu.uclamp.max" => 15,
        "cpu.max.burst" if burst_first => 16,
        "cpu.max" => 17,
        "cpu.max.burst" => 18,
        "memory.oom.group" => 19,
        "memory.zswap.writeback" => 20,
        "cpuset.cpus.partition" if setting.value == "member" => 21,
        "cpuset.mems" => 22,
        "cpuset.cpus" => 23,
        "cpuset.cpus.exclusive" => 24,
        "cpuset.cpus.partition" => 25,
        // What is not known here is the most likely to be refused.
        _ => 0,
    }
}

/// The quota in a text of cpu.max.
pub(crate) fn quota_of(text: &str) -> Option<u64> {
    amount(first_word(text))
}

/// The quota and the burst that are asked for, or else are there.
fn bandwidth(settings: &[Setting], snapshot: &Snapshot) -> (Option<u64>, Option<u64>) {
    let value = |file: &str| {
        let asked = settings.iter().find(|setting| setting.file == file).map(|setting| setting.value.as_str());
        asked.or_else(|| snapshot.get(file).map(String::as_str))
    };
    (value("cpu.max").and_then(quota_of), value("cpu.max.burst").and_then(amount))
}

fn is_burst_first(settings: &[Setting], snapshot: &Snapshot) -> bool {
    let (_, burst) = bandwidth(settings, snapshot);
    let quota = snapshot.get("cpu.max").map(String::as_str).and_then(quota_of);
    matches!((quota, burst), (Some(quota), Some(burst)) if burst.cmp(&quota) != Ordering::Greater)
}

/// A burst above the quota, of which only one is changed, is known before anything is written.
fn check_burst(settings: &[Setting], snapshot: &Snapshot) -> Result<()> {
    let asked = settings.iter().any(|setting| matches!(&*setting.file, "cpu.max" | "cpu.max.burst"));
    match bandwidth(settings, snapshot) {
        (Some(quota), Some(burst)) if asked && burst > quota => {
            Err(Error::invalid("cpu.max.burst", format!("more than the quota of {quota} microseconds"))
                .on(Subject::Value(burst.to_string()))
                .with_hint("the burst is at most the quota of cpu.max: change both, or the burst first"))
        }
        _ => Ok(()),
    }
}
