//! What a group may use, as plain data.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use cellkit_core::{StepText, Subject};
use nix::unistd::{SysconfVar, sysconf};

use crate::{
    Bytes, Controller, Controllers, DevNum, Error, IoMax, Max, PidsMax, Place, Quota, Result, SwapOnly, Weight,
};

/// Limits of a group: data that is collected, looked at and checked before anything is made.
///
/// A limit that is not set is not written. Nor is one that is set to "no limit": that is how a new group begins, and it
/// takes no controller.
///
/// ```
/// use cgroupfs::{Bytes, Limits, PidsMax, Quota};
///
/// let limits = Limits::new()
///     .memory_max(Bytes::mib(512))
///     .cpu_max(Quota::parse_cpus("0.5")?)
///     .pids_max(PidsMax::try_from(64)?);
/// assert_eq!(limits.controllers().to_string(), "cpu memory pids");
/// for step in limits.describe() {
///     println!("{step}: {}", step.reason); // write memory.max("536870912"): memory it may use, in bytes
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Limits {
    /// `memory.max`: memory, the page cache it causes included. Beyond it the out-of-memory killer acts.
    pub memory_max: Option<Max<Bytes>>,
    /// `memory.swap.max`: swap alone.
    pub memory_swap_max: Option<SwapOnly>,
    /// `cpu.max`: processor time a period.
    pub cpu_max: Option<Quota>,
    /// `cpu.weight`: the share of processor time beside siblings. The kernel's default is 100.
    pub cpu_weight: Option<Weight>,
    /// `pids.max`: tasks, threads included. Beyond it fork fails with EAGAIN.
    pub pids_max: Option<Max<PidsMax>>,
    /// `io.max`: what may be read and written in a second, for each disk.
    pub io_max: BTreeMap<DevNum, IoMax>,
}

/// One write of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitWrite {
    pub file: &'static str,
    pub content: String,
    pub controller: Controller,
    pub reason: &'static str,
}

impl LimitWrite {
    pub(crate) fn operation(&self) -> String {
        format!("write {}", self.file)
    }

    pub(crate) fn describe(&self) -> StepText {
        StepText::new(self.operation(), format!("{:?}", self.content), self.reason)
    }
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// `memory.max`: at least a page; the kernel rounds down to whole ones.
    pub fn memory_max(mut self, limit: impl Into<Max<Bytes>>) -> Self {
        self.memory_max = Some(limit.into());
        self
    }

    /// `memory.swap.max`: swap alone; see [`MemoryPlusSwap`](crate::MemoryPlusSwap) for the sum.
    pub fn memory_swap_max(mut self, limit: SwapOnly) -> Self {
        self.memory_swap_max = Some(limit);
        self
    }

    /// `cpu.max`.
    pub fn cpu_max(mut self, quota: Quota) -> Self {
        self.cpu_max = Some(quota);
        self
    }

    /// `cpu.weight`.
    pub fn cpu_weight(mut self, weight: Weight) -> Self {
        self.cpu_weight = Some(weight);
        self
    }

    /// `pids.max`.
    pub fn pids_max(mut self, limit: impl Into<Max<PidsMax>>) -> Self {
        self.pids_max = Some(limit.into());
        self
    }

    /// `io.max` of one disk. What was said of the same disk before stays, as far as `limit` is silent about it.
    pub fn io_max(mut self, device: DevNum, limit: IoMax) -> Self {
        let known = self.io_max.entry(device).or_default();
        *known = known.merge(limit);
        self
    }

    /// The controllers these limits need.
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        self.writes().iter().map(|write| write.controller).collect()
    }

    /// The writes in words, in order. [`Place::describe_create`] has them with the steps before.
    #[must_use]
    pub fn describe(&self) -> Vec<StepText> {
        self.writes().iter().map(LimitWrite::describe).collect()
    }

    /// Checks the values, and that groups made in `place` can have the controllers. Nothing is made or changed.
    ///
    /// # Errors
    /// Invalid for a value the kernel would not take or that nothing could run with; Unsupported for each controller that
    /// cannot be had, saying who holds it and, in the hint, what to do. The first, with the [others](Error::also).
    pub fn check(&self, place: &Place) -> Result<()> {
        let mut errors: Vec<Error> = self.check_values().err().into_iter().collect();
        let mut asked = Controllers::NONE;
        for write in self.writes() {
            if !asked.contains(write.controller) {
                asked = asked.iter().chain([write.controller]).collect();
                let why_not = place.why_not(write.controller);
                errors.extend(why_not.map(|why_not| why_not.error(write.operation(), place.group())));
            }
        }
        Error::all(errors)
    }

    fn check_values(&self) -> Result<()> {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
        let page = Bytes(page.unwrap_or(4096));
        if let Some(Max::Value(memory)) = self.memory_max {
            if memory < page {
                return Err(Error::invalid("memory.max", format!("less than one page of {page} bytes"))
                    .on(Subject::Value(memory.to_string())));
            }
        }
        for (device, limit) in &self.io_max {
            if let Some(key) = limit.zero() {
                return Err(Error::invalid("io.max", format!("{key} of 0 is not taken: the least is 1"))
                    .on(Subject::Value(device.to_string())));
            }
        }
        Ok(())
    }

    /// What is to be written to a new group, in order.
    ///
    /// In a new and empty group any order would do. This one is safe in others too: the number of tasks first, for it
    /// bounds what the rest can be undermined by; memory before swap, so that the sum never exceeds what was asked for.
    pub(crate) fn writes(&self) -> Vec<LimitWrite> {
        let mut writes = Vec::new();
        let mut add = |file, content, controller, reason| {
            writes.push(LimitWrite { file, content, controller, reason });
        };
        if let Some(Max::Value(tasks)) = self.pids_max {
            add("pids.max", tasks.to_string(), Controller::Pids, "tasks it may hold");
        }
        if let Some(Max::Value(memory)) = self.memory_max {
            add("memory.max", memory.to_string(), Controller::Memory, "memory it may use, in bytes");
        }
        if let Some(SwapOnly(Max::Value(swap))) = self.memory_swap_max {
            add("memory.swap.max", swap.to_string(), Controller::Memory, "swap it may use, in bytes");
        }
        if let Some(weight) = self.cpu_weight {
            add("cpu.weight", weight.to_string(), Controller::Cpu, "its share of processor time beside siblings");
        }
        if let Some(quota) = self.cpu_max {
            if quota != Quota::UNLIMITED {
                add("cpu.max", quota.to_string(), Controller::Cpu, "processor time a period, in microseconds");
            }
        }
        for (device, limit) in &self.io_max {
            if !limit.limits_nothing() {
                add("io.max", format!("{device} {limit}"), Controller::Io, "what it may read and write in a second");
            }
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_written() {
        let disk = DevNum { major: 8, minor: 0 };
        let limits = Limits::new()
            .io_max(disk, IoMax { rbps: Some(Bytes::mib(1).into()), ..IoMax::default() })
            .io_max(disk, IoMax { wiops: Some(Max::Value(7)), ..IoMax::default() })
            .memory_swap_max(SwapOnly(Max::Value(Bytes(0))))
            .memory_max(Bytes::mib(64))
            .cpu_max(Quota::cpus(2.0).expect("two"))
            .cpu_weight(Weight::try_from(50).expect("weight"))
            .pids_max(PidsMax::LEAST);
        let text: Vec<String> = limits.describe().iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                r#"write pids.max("1")"#,
                r#"write memory.max("67108864")"#,
                r#"write memory.swap.max("0")"#,
                r#"write cpu.weight("50")"#,
                r#"write cpu.max("200000 100000")"#,
                r#"write io.max("8:0 rbps=1048576 wiops=7")"#,
            ]
        );
        assert_eq!(limits.controllers().to_string(), "cpu io memory pids");
        assert!(limits.check_values().is_ok());
    }

    #[test]
    fn no_limit_needs_no_controller() {
        let limits = Limits::new()
            .memory_max(Max::Max)
            .memory_swap_max(SwapOnly(Max::Max))
            .cpu_max(Quota::UNLIMITED)
            .pids_max(Max::Max)
            .io_max(DevNum { major: 8, minor: 0 }, IoMax { rbps: Some(Max::Max), ..IoMax::default() });
        assert!(limits.controllers().is_empty() && limits.describe().is_empty());
        assert_eq!(Limits::new().controllers(), Controllers::NONE);
    }

    #[test]
    fn values_nothing_could_run_with() {
        for bytes in [0, 1, 4095] {
            let error = Limits::new().memory_max(Bytes(bytes)).check_values().expect_err("less than a page");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().starts_with(&format!("memory.max \"{bytes}\": less than one page")), "{error}");
        }
        let none = IoMax { riops: Some(Max::Value(0)), ..IoMax::default() };
        let error = Limits::new().io_max(DevNum { major: 8, minor: 0 }, none).check_values().expect_err("zero");
        assert_eq!(error.to_string(), r#"io.max "8:0": riops of 0 is not taken: the least is 1"#);
    }
}
