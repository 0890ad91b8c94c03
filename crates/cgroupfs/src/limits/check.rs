//! What can be known to be wrong before anything is made or changed.
#![forbid(unsafe_code)]

use cellkit_core::Subject;

use super::order;
use super::setting::{Setting, amount, page_size};
use crate::why_not::passed_down;
use crate::{Cgroup, Controllers, CpuList, Error, Limits, MemNodeList, Place, Result};

/// What a new group needs.
pub(crate) struct ForNew {
    /// The controllers that the place does not pass down yet.
    pub enable: Controllers,
    /// In order.
    pub writes: Vec<Setting>,
}

impl Limits {
    /// Checks the values, and that groups made in `place` can have the controllers. Nothing is made or changed.
    ///
    /// # Errors
    /// As [`check_values`](Self::check_values); Invalid for processors or memory nodes that the place does not have;
    /// Unsupported for each controller that cannot be had, saying who holds it and, in the hint, what to do. The first, with
    /// the [others](Error::also).
    pub fn check(&self, place: &Place) -> Result<()> {
        self.checked(place).map(drop)
    }

    /// The same, and what is to be done for a new group. What the place passes down is read once.
    pub(crate) fn checked(&self, place: &Place) -> Result<ForNew> {
        let settings = self.settings();
        let mut errors = self.value_errors(&settings);
        let writes = order::for_new(settings);
        let needed: Controllers = writes.iter().filter_map(Setting::controller).collect();
        let mut enable = needed;
        if !needed.is_empty() {
            // What cannot be read is as good as not passed down, and why_not says what is the matter.
            enable = needed.without(passed_down(place.group()).unwrap_or(Controllers::NONE));
        }
        let mut asked = Controllers::NONE;
        for write in &writes {
            let Some(controller) = write.controller().filter(|one| enable.without(asked).contains(*one)) else {
                continue;
            };
            asked = asked.or(controller.into());
            let why_not = place.why_not(controller);
            errors.extend(why_not.map(|why_not| why_not.error(write.operation(), place.group())));
        }
        errors.extend(self.outside(place.group()));
        Error::all(errors).map(|()| ForNew { enable, writes })
    }

    /// Checks the values by themselves and against each other.
    ///
    /// `memory.min` ≤ `low` ≤ `high` ≤ `max` is wise, but neither the kernel nor this asks for it.
    ///
    /// ```
    /// use cgroupfs::{Bytes, Limits};
    ///
    /// let error = Limits::new().memory_max(Bytes(100)).check_values().unwrap_err();
    /// assert_eq!(error.to_string(), r#"memory.max "100": less than one page of 4096 bytes"#);
    /// ```
    ///
    /// # Errors
    /// Invalid for a value that no kernel would take or that nothing could run with: a `memory.max` of less than a page, an
    /// `io.max` of 0 (Linux 5.10 to 6.12 refuse 1 as well, when it is written), a burst above the quota, an idle group
    /// with a weight, a partition without processors. The first, with the [others](Error::also).
    pub fn check_values(&self) -> Result<()> {
        Error::all(self.value_errors(&self.settings()))
    }

    fn value_errors(&self, settings: &[Setting]) -> Vec<Error> {
        let mut errors = Vec::new();
        let mut refuse = |what: &'static str, why: String, value: String| {
            errors.push(Error::invalid(what, why).on(Subject::Value(value)));
        };
        let value = |file: &str| settings.iter().find(|setting| setting.file == file).map(|setting| &*setting.value);
        let page = page_size();
        if let Some(memory) = value("memory.max").filter(|text| amount(text).is_some_and(|bytes| bytes < page)) {
            refuse("memory.max", format!("less than one page of {page} bytes"), memory.to_owned());
        }
        for (device, limit) in &self.io_max {
            if let Some(key) = limit.zero() {
                refuse("io.max", format!("{key} of 0 is not taken: max is none"), device.to_string());
            }
        }
        let quota = value("cpu.max").and_then(order::quota_of);
        if let (Some(quota), Some(burst)) = (quota, value("cpu.max.burst").and_then(amount)) {
            if burst > quota {
                refuse("cpu.max.burst", format!("more than the quota of {quota} microseconds"), burst.to_string());
            } else if quota != u64::MAX && burst.saturating_add(quota) > crate::Quota::MOST_QUOTA_USEC {
                refuse("cpu.max.burst", "with the quota, more than the kernel can count".to_owned(), burst.to_string());
            }
        }
        let weighed = value("cpu.weight").or(value("cpu.weight.nice"));
        if let (Some("1"), Some(weight)) = (value("cpu.idle"), weighed) {
            refuse("cpu.idle", "an idle group takes no weight".to_owned(), weight.to_owned());
        }
        if let (Some("root" | "isolated"), Some("")) = (value("cpuset.cpus.partition"), value("cpuset.cpus")) {
            refuse("cpuset.cpus.partition", "a partition needs processors".to_owned(), String::new());
        }
        errors
    }

    /// The processors and memory nodes that are asked for and that groups below `above` do not have.
    fn outside(&self, above: &Cgroup) -> Vec<Error> {
        let mut errors = Vec::new();
        let mut refuse = |file: &'static str, has: String, asked: String| {
            let why = format!("the group above has only {has}");
            errors.push(Error::invalid(file, why).on(Subject::Value(asked)));
        };
        // Of a place without the controller, why_not has spoken already.
        if let Some(cpus) = self.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty()) {
            if let Ok(has) = above.get::<CpuList>("cpuset.cpus.effective") {
                if !cpus.is_subset(&has) {
                    refuse("cpuset.cpus", has.to_string(), cpus.to_string());
                }
            }
        }
        if let Some(mems) = self.cpuset_mems.as_ref().filter(|mems| !mems.is_empty()) {
            if let Ok(has) = above.get::<MemNodeList>("cpuset.mems.effective") {
                if !mems.is_subset(&has) {
                    refuse("cpuset.mems", has.to_string(), mems.to_string());
                }
            }
        }
        errors
    }
}
