//! What a program should size itself to: what its groups leave it, not what the machine has.
//!
//! A thread pool as large as the machine, in a group with half a processor, is throttled in each period of `cpu.max`: its
//! threads use up the quota at once and then all stand still. A heap sized to the machine's memory, in a group with less,
//! is killed. What holds is the least along the way from the process's group to the topmost that can be seen, for a group
//! below may ask for more than one above gives.
//!
//! A quota is time and not processors, so it must be rounded. It is rounded up: with fewer threads the quota could not be
//! used up (2 threads cannot use 2.5 processors), and one more than that is throttled in the last part of a period only.
#![forbid(unsafe_code)]

use std::num::NonZero;
use std::path::PathBuf;

use cellkit_core::Errno;
use nix::sys::sysinfo::sysinfo;

use crate::{Bytes, Cgroup, CpuList, Error, ErrorKind, Hierarchy, Max, Quota, Result, sys};

/// How many processors the calling thread can use. Made by [`effective_cpus`].
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
///
/// ```
/// let cpus = cgroupfs::effective_cpus()?;
/// println!("{} threads, on the processors {}", cpus.count(), cpus.runnable);
/// if let Some((quota, group)) = &cpus.quota {
///     println!("{quota} is the limit of {}", group.display());
/// }
/// assert!(cpus.count().get() as u64 <= cpus.runnable.len());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EffectiveCpus {
    /// The processors it may run on: those of sched_getaffinity(2) that are in `cpuset.cpus.effective` too.
    pub runnable: CpuList,
    /// The least `cpu.max` of the process's group and those above it, and the group that has it.
    pub quota: Option<(Quota, PathBuf)>,
}

impl EffectiveCpus {
    /// How many threads can run at once: the processors it may run on, or the quota rounded up where that is less; at
    /// least one.
    #[must_use]
    pub fn count(&self) -> NonZero<usize> {
        let quota = self.quota.as_ref().and_then(|(quota, _)| {
            let usec = quota.quota_usec().value()?;
            Some(usec.div_ceil(quota.period_usec()))
        });
        let count = quota.map_or(self.runnable.len(), |quota| quota.min(self.runnable.len()));
        usize::try_from(count).ok().and_then(NonZero::new).unwrap_or(NonZero::<usize>::MIN)
    }

    /// How many processors' time it gets, not rounded: 0.5 for `50000 100000`.
    #[must_use]
    pub fn time(&self) -> f64 {
        let runnable = self.runnable.len() as f64;
        let quota = self
            .quota
            .as_ref()
            .and_then(|(quota, _)| Some(quota.quota_usec().value()? as f64 / quota.period_usec() as f64));
        quota.map_or(runnable, |quota| quota.min(runnable))
    }
}

/// How much memory the calling process can use. Made by [`effective_memory`].
///
/// ```
/// use cgroupfs::Bytes;
///
/// let memory = cgroupfs::effective_memory()?;
/// assert!(memory.bytes() <= memory.machine);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EffectiveMemory {
    /// What the machine has: sysinfo(2).
    pub machine: Bytes,
    /// The least `memory.max` of the process's group and those above it, and the group that has it.
    pub max: Option<(Bytes, PathBuf)>,
    /// The least `memory.high` likewise: above it the process is not killed, but slowed down.
    pub high: Option<(Bytes, PathBuf)>,
}

impl EffectiveMemory {
    /// The least of the three. Others share it: what their groups have is not taken off.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let limits = [&self.max, &self.high].into_iter().flatten().map(|(bytes, _)| *bytes);
        limits.fold(self.machine, Bytes::min)
    }
}

/// How many processors the calling thread can use: the processors it may run on, and the least `cpu.max` of all its groups
/// that can be seen.
///
/// * Kernel files: `cpu.max` and `cpuset.cpus.effective`; C call: sched_getaffinity(2).
/// * Without cgroup v2, or without its cpu controller, what the thread may run on is the answer. Limits of version 1
///   hierarchies are not looked at (a cpuset of version 1 shows in the affinity).
/// * Of a container that sees its own group only, limits of groups above it cannot be seen.
/// * Privileges: none. It reads some files; ask once at the start, and again when limits may have changed.
///
/// ```
/// let pool = cgroupfs::effective_cpus()?.count();
/// assert!(pool <= std::thread::available_parallelism()?.max(pool));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// See <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
///
/// # Errors
/// Whatever the kernel says when a file that is there cannot be read.
pub fn effective_cpus() -> Result<EffectiveCpus> {
    match detected()? {
        Some(hierarchy) => hierarchy.effective_cpus(),
        None => Ok(EffectiveCpus { runnable: affinity()?, quota: None }),
    }
}

/// How much memory the calling process can use: the machine's, and the least `memory.max` and `memory.high` of all its
/// groups that can be seen.
///
/// * Kernel files: `memory.max`, `memory.high`; C call: sysinfo(2).
/// * Without cgroup v2, or without its memory controller, the machine's memory is the answer.
/// * Privileges: none.
///
/// ```
/// let heap = cgroupfs::effective_memory()?.bytes().0 / 4 * 3;
/// assert!(heap > 0);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
///
/// # Errors
/// As [`effective_cpus`].
pub fn effective_memory() -> Result<EffectiveMemory> {
    match detected()? {
        Some(hierarchy) => hierarchy.effective_memory(),
        None => Ok(EffectiveMemory { machine: machine()?, max: None, high: None }),
    }
}

impl Hierarchy {
    /// The same as [`effective_cpus`], in this hierarchy.
    ///
    /// # Errors
    /// As [`effective_cpus`].
    pub fn effective_cpus(&self) -> Result<EffectiveCpus> {
        let mut runnable = affinity()?;
        let groups = self.own_and_above()?;
        for group in &groups {
            if let Some(allowed) = present(group.cpuset().cpus_effective())? {
                runnable = runnable.intersection(&allowed);
                // The nearest counts all that is above it.
                break;
            }
        }
        let mut least: Option<(Quota, PathBuf)> = None;
        for group in &groups {
            let Some(quota) = present(group.cpu().max())? else { continue };
            let Max::Value(_) = quota.quota_usec() else { continue };
            if least.as_ref().is_none_or(|(known, _)| is_less(quota, *known)) {
                least = Some((quota, group.path().to_owned()));
            }
        }
        Ok(EffectiveCpus { runnable, quota: least })
    }

    /// The same as [`effective_memory`], in this hierarchy.
    ///
    /// # Errors
    /// As [`effective_memory`].
    pub fn effective_memory(&self) -> Result<EffectiveMemory> {
        let groups = self.own_and_above()?;
        let least = |file: &str| {
            let mut least: Option<(Bytes, PathBuf)> = None;
            for group in &groups {
                let Some(Max::Value(bytes)) = present(group.get::<Max<Bytes>>(file))? else { continue };
                if least.as_ref().is_none_or(|(known, _)| bytes < *known) {
                    least = Some((bytes, group.path().to_owned()));
                }
            }
            Ok::<_, Error>(least)
        };
        Ok(EffectiveMemory { machine: machine()?, max: least("memory.max")?, high: least("memory.high")? })
    }

    /// The calling process's group and those above it, the own one first. None where the mount does not show it.
    fn own_and_above(&self) -> Result<Vec<Cgroup>> {
        let Some(own) = present(self.own_group())? else { return Ok(Vec::new()) };
        let path = own.path_in_hierarchy();
        let above: Result<Vec<Cgroup>> = path.ancestors().skip(1).map(|path| self.open(path)).collect();
        Ok(std::iter::once(own).chain(above?).collect())
    }
}

fn detected() -> Result<Option<Hierarchy>> {
    present(Hierarchy::detect())
}

/// Nothing where the kernel, the mount or the group does not have it.
fn present<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound | ErrorKind::Gone) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether `quota` is less time than `other`, whatever their periods.
fn is_less(quota: Quota, other: Quota) -> bool {
    let share = |one: Quota, another: Quota| {
        one.quota_usec().value().map_or(u128::MAX, |usec| u128::from(usec) * u128::from(another.period_usec()))
    };
    share(quota, other) < share(other, quota)
}

fn affinity() -> Result<CpuList> {
    sys::affinity().map_err(|errno| Error::from_errno("sched_getaffinity", errno.0))
}

fn machine() -> Result<Bytes> {
    let info = sysinfo().map_err(|errno| Error::from_errno("sysinfo", Errno(errno as i32).0))?;
    Ok(Bytes(info.ram_total()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(runnable: &str, quota: Option<&str>) -> EffectiveCpus {
        let quota = quota.map(|quota| (quota.parse().expect("quota"), PathBuf::from("/sys/fs/cgroup/web")));
        EffectiveCpus { runnable: runnable.parse().expect("list"), quota }
    }

    #[test]
    fn a_quota_is_rounded_up_and_processors_bound_it() {
        for (runnable, quota, count, time) in [
            ("0-7", None, 8, 8.0),
            ("0-7", Some("max 100000"), 8, 8.0),
            ("0-7", Some("50000 100000"), 1, 0.5),
            ("0-7", Some("100000 100000"), 1, 1.0),
            ("0-7", Some("100001 100000"), 2, 1.00001),
            ("0-7", Some("250000 100000"), 3, 2.5),
            ("0-7", Some("900000 100000"), 8, 8.0),
            ("3,5", Some("250000 100000"), 2, 2.0),
            // An affinity and a cpuset without a common processor: the kernel runs the thread somewhere all the same.
            ("", None, 1, 0.0),
        ] {
            let cpus = cpus(runnable, quota);
            assert_eq!((cpus.count().get(), cpus.time()), (count, time), "{cpus:?}");
        }
    }

    #[test]
    fn the_least_quota_whatever_the_period() {
        let quota = |text: &str| text.parse::<Quota>().expect("quota");
        assert!(is_less(quota("50000 100000"), quota("6000 10000")));
        assert!(!is_less(quota("50000 100000"), quota("5000 10000")));
        assert!(is_less(quota("17592186044415 1000000"), quota("max 1000")));
    }

    #[test]
    fn the_least_memory() {
        let group = PathBuf::from("/sys/fs/cgroup/web");
        let mut memory = EffectiveMemory { machine: Bytes::gib(8), max: None, high: None };
        assert_eq!(memory.bytes(), Bytes::gib(8));
        memory.max = Some((Bytes::gib(16), group.clone()));
        assert_eq!(memory.bytes(), Bytes::gib(8));
        memory.high = Some((Bytes::gib(2), group.clone()));
        memory.max = Some((Bytes::gib(3), group));
        assert_eq!(memory.bytes(), Bytes::gib(2));
    }

    #[test]
    fn affinity_is_what_proc_says() {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
        let listed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("list");
        assert_eq!(affinity().expect("affinity").to_string(), listed.trim());
    }

    #[test]
    fn memory_is_what_proc_says() {
        let meminfo = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("MemTotal");
        let kib: u64 = total.trim().trim_end_matches(" kB").parse().expect("number");
        assert_eq!(machine().expect("sysinfo"), Bytes::kib(kib));
    }
}
