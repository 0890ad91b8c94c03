//! Limits of a group that exists and may be full of processes: changed all at once or not at all.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use cellkit_core::{Errno, StepText, Subject};

use super::order::{self, Snapshot, Step, companions};
use super::setting::{Setting, amount};
use super::transaction::{self, Files};
use crate::{Cgroup, Error, ErrorKind, Limits, Result};

/// What to do when `memory.max` is to become less than what the group uses.
///
/// ```
/// use cgroupfs::{BelowUsage, Bytes, Limits};
///
/// let limits = Limits::new().memory_max(Bytes::mib(64)).memory_below_usage(BelowUsage::ReclaimOrKill);
/// assert_eq!(Limits::new().memory_below_usage, BelowUsage::Refuse);
/// # let _ = limits;
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BelowUsage {
    /// An error, and nothing is changed. It is looked at before the first write: what the group takes between that and the
    /// write of `memory.max` is reclaimed, or kills. Page cache counts as usage: reclaim first, by `memory.reclaim` or a lower
    /// `memory.high`, neither of which kills.
    #[default]
    Refuse,
    /// As the kernel does it: the write reclaims, and if that is not enough the out-of-memory killer acts in the group.
    ReclaimOrKill,
}

/// One thing that [`Cgroup::apply`] looked at, and what became of it.
///
/// ```
/// # fn show(applied: &cgroupfs::Applied) {
/// for change in applied.changes() {
///     println!("{}: {} became {}", change.file, change.before, change.after);
/// }
/// # }
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The file.
    pub file: String,
    /// Which line of it: the disk, resource or region.
    pub key: Option<String>,
    /// What was asked for.
    pub asked: String,
    /// The value before.
    pub before: String,
    /// The value as it was read back: the kernel rounds.
    pub after: String,
    /// Whether it was written. What was in force already is not.
    pub written: bool,
}

impl fmt::Display for Change {
    /// `memory.max: max -> 4096 (asked for 5000)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Braces show where an empty list is.
        let shown = |text: &str| if text.is_empty() { "\"\"".to_owned() } else { text.to_owned() };
        f.write_str(&self.file)?;
        if let Some(key) = &self.key {
            write!(f, " {key}")?;
        }
        if !self.written {
            return write!(f, ": {}, as before", shown(&self.before));
        }
        write!(f, ": {} -> {}", shown(&self.before), shown(&self.after))?;
        if self.after != self.asked {
            write!(f, " (asked for {})", shown(&self.asked))?;
        }
        Ok(())
    }
}

/// What [`Cgroup::apply`] has done, in the order in which it was done. It prints as a line for each.
///
/// ```no_run
/// use cgroupfs::{Bytes, Hierarchy, Limits};
///
/// let group = Hierarchy::detect()?.open("/web")?;
/// let applied = group.apply(&Limits::new().memory_max(Bytes::gib(2)))?;
/// println!("{applied}"); // memory.max: 1073741824 -> 2147483648
/// applied.undo(&group)?;
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Clone, Debug)]
#[must_use = "it says what the kernel made of the limits, and can undo them"]
pub struct Applied {
    changes: Vec<Change>,
    restore: Vec<Setting>,
    /// Inode number of the group's directory: the id of the group, never used again.
    id: u64,
    below_usage: BelowUsage,
}

impl Applied {
    /// What was done, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether nothing had to be written.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        !self.changes.iter().any(|change| change.written)
    }

    /// Brings back the values of before, again in a safe order and all or nothing, whatever they are now. Where the group
    /// meanwhile uses more memory than its old limit, what was said for [`apply`](Cgroup::apply) holds.
    ///
    /// # Errors
    /// Invalid for another group than the one of `apply`; as `apply`. A list of processors or memory nodes that was empty
    /// before cannot be emptied while the group has processes (ENOSPC).
    pub fn undo(&self, group: &Cgroup) -> Result<Self> {
        if id_of(group)? != self.id {
            return Err(Error::invalid("undo limits", "they were not applied to this group").on(group.path()));
        }
        change(group, self.restore.clone(), self.below_usage)
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.changes.iter().enumerate() {
            write!(f, "{}{change}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl Cgroup {
    /// Gives a group that exists, and may be full of processes, other limits: all of them, or none.
    ///
    /// 1. The values are checked against each other.
    /// 2. Every file is opened and its old value read. What is missing or not the caller's to write is found here, all at
    ///    once, with nothing changed.
    /// 3. What is not in force already is written: raises first, then what is neither more nor less, then lowerings, with
    ///    `memory.max` last, since it alone can kill.
    /// 4. All is read back, for the report.
    ///
    /// When a write fails, the old values are written back in reverse, through the descriptors that are open already.
    /// A caller that is killed in between leaves some of the limits: applying them again completes them. Two callers at the
    /// same time can leave some of each; no lock keeps them apart, for the processes in the group could hold it too.
    ///
    /// What [`Limits`] does not set stays. What it sets to no limit is written, unlike in a new group.
    ///
    /// * Kernel: 4.5; each file as its accessor says.
    /// * Privileges: write access to the files: root, or the owner. Of a delegated group, the limits belong to the giver.
    ///
    /// # Errors
    /// As [`Limits::check_values`]; Unsupported for a file that is not there, saying why; Invalid for a `memory.max` below
    /// usage, unless [`BelowUsage::ReclaimOrKill`] was chosen, and for a partition that the kernel calls invalid; Gone;
    /// `write memory.max` and the like as the kernel has it. What could not be undone is in [`Error::also`].
    pub fn apply(&self, limits: &Limits) -> Result<Applied> {
        limits.check_values()?;
        change(self, limits.settings(), limits.memory_below_usage)
    }

    /// What [`apply`](Self::apply) would write, in words and in order. Nothing is changed; files are read.
    ///
    /// # Errors
    /// As `apply`, as far as can be known before.
    pub fn describe_apply(&self, limits: &Limits) -> Result<Vec<StepText>> {
        limits.check_values()?;
        let prepared = Prepared::new(self, limits.settings(), limits.memory_below_usage)?;
        let steps = prepared.steps.iter().filter(|step| step.write);
        Ok(steps.map(|step| step.setting.describe().on(self.path())).collect())
    }
}

fn change(group: &Cgroup, settings: Vec<Setting>, below_usage: BelowUsage) -> Result<Applied> {
    let id = id_of(group)?;
    let Prepared { files, steps } = Prepared::new(group, settings, below_usage)?;
    let changes = transaction::run(&files, &steps, || files.report(&steps))?;
    // A file and key once, as the first that touched it found it.
    let mut restore: Vec<Setting> = Vec::new();
    for (file, content) in steps.iter().filter(|step| step.write).flat_map(|step| &step.restore) {
        let setting = Setting::raw(file, content, "as it was before");
        if !restore.iter().any(|known| known.is_of(&setting)) {
            restore.push(setting);
        }
    }
    Ok(Applied { changes, restore, id, below_usage })
}

fn id_of(group: &Cgroup) -> Result<u64> {
    let found = nix::sys::stat::fstat(group.as_fd());
    found.map(|found| found.st_ino).map_err(|errno| group.fail("fstat", Errno(errno as i32)))
}

/// Everything that can fail without a trace has not failed.
struct Prepared<'a> {
    files: Opened<'a>,
    steps: Vec<Step>,
}

impl<'a> Prepared<'a> {
    fn new(group: &'a Cgroup, settings: Vec<Setting>, below_usage: BelowUsage) -> Result<Self> {
        let (files, settings) = Opened::new(group, settings)?;
        let snapshot = files.snapshot()?;
        let steps = order::plan(settings, &snapshot).map_err(|error| error.context(format!("{:?}", group.path())))?;
        let lowered = steps.iter().find(|step| step.setting.file == "memory.max" && step.write);
        if let Some(step) = lowered.filter(|_| below_usage == BelowUsage::Refuse) {
            let usage = snapshot.get("memory.current").map(String::as_str).unwrap_or_default();
            check_usage(group, &step.setting.value, usage)?;
        }
        Ok(Self { files, steps })
    }
}

/// Refuses a `memory.max` below what `memory.current` says, if it says anything.
pub(crate) fn check_usage(group: &Cgroup, asked: &str, usage: &str) -> Result<()> {
    match (amount(asked), amount(usage)) {
        (Some(asked), Some(usage)) if asked < usage => Err(Error::invalid(
            "write memory.max",
            format!("{asked} is less than the {usage} bytes in use: the kernel would reclaim, and then kill"),
        )
        .on(group.path())
        .with_hint(
            "lower memory.high or write memory.reclaim first, which do not kill; or choose BelowUsage::ReclaimOrKill",
        )),
        _ => Ok(()),
    }
}

/// The files of a change, opened before anything is written.
struct Opened<'a> {
    group: &'a Cgroup,
    written: BTreeMap<String, File>,
    /// What is looked at beside them. One that is not there says nothing.
    read: BTreeMap<&'static str, File>,
}

impl<'a> Opened<'a> {
    /// Opens what `settings` need, and leaves out those that say only how things are without the file.
    fn new(group: &'a Cgroup, settings: Vec<Setting>) -> Result<(Self, Vec<Setting>)> {
        let mut files = Self { group, written: BTreeMap::new(), read: BTreeMap::new() };
        let (mut kept, mut absent, mut errors) = (Vec::new(), BTreeMap::new(), Vec::new());
        for setting in settings {
            let file = setting.file.to_string();
            if !files.written.contains_key(&file) && !absent.contains_key(&file) {
                match group.open_file(&file, libc::O_RDWR, &|| setting.operation()) {
                    Ok(opened) => _ = files.written.insert(file.clone(), File::from(opened)),
                    Err(error) => _ = absent.insert(file.clone(), Some(error)),
                }
            }
            match absent.get_mut(&file) {
                None => kept.push(setting),
                Some(error) => {
                    let unset = setting.initial && error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Unsupported);
                    // One error a file.
                    errors.extend(error.take().filter(|_| !unset));
                }
            }
        }
        Error::all(errors)?;
        let also = kept.iter().flat_map(|setting| companions(&setting.file));
        for &file in also {
            if files.written.contains_key(file) || files.read.contains_key(file) {
                continue;
            }
            // Undoing a change to idle writes the weight of before.
            let flags = if file == "cpu.weight" { libc::O_RDWR } else { libc::O_RDONLY };
            match group.open_file(file, flags, &|| format!("read {file}")) {
                Ok(opened) => _ = files.read.insert(file, File::from(opened)),
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
        }
        Ok((files, kept))
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let names = self.written.keys().map(String::as_str).chain(self.read.keys().copied());
        names.map(|file| Ok((file.to_owned(), self.read(file)?))).collect()
    }

    /// What the kernel made of the steps.
    fn report(&self, steps: &[Step]) -> Result<Vec<Change>> {
        steps
            .iter()
            .map(|step| {
                let Setting { file, key, value, .. } = &step.setting;
                let after = if step.write { step.setting.value_in(&self.read(file)?) } else { step.before.clone() };
                if file == "cpuset.cpus.partition" && step.write && after.contains(" invalid") {
                    return Err(Error::invalid(step.setting.operation(), "the kernel took it, but calls it invalid")
                        .on(self.group.path())
                        .with_kernel_text(after));
                }
                Ok(Change {
                    file: file.to_string(),
                    key: key.clone(),
                    asked: value.clone(),
                    before: step.before.clone(),
                    after,
                    written: step.write,
                })
            })
            .collect()
    }

    fn file(&self, file: &str) -> Result<&File> {
        self.written
            .get(file)
            .or_else(|| self.read.get(file))
            .ok_or_else(|| Error::other("limits", "a file that was not opened").on(Subject::Value(file.to_owned())))
    }
}

impl Files for Opened<'_> {
    fn read(&self, file: &str) -> Result<String> {
        let opened = self.file(file)?;
        let (mut content, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            // pread(2): from the beginning the kernel makes the content anew.
            match opened.read_at(&mut buffer, content.len() as u64) {
                Ok(0) => return Ok(String::from_utf8_lossy(&content).into_owned()),
                Ok(count) => content.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
                    return Err(self.group.fail(format!("read {file}"), errno));
                }
            }
        }
    }

    fn write(&self, file: &str, content: &str) -> Result<()> {
        let fail = |errno| self.group.fail(format!("write {file}"), Errno(errno));
        let opened = self.file(file)?;
        let written = loop {
            match opened.write_at(content.as_bytes(), 0) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match written {
            Ok(written) if written == content.len() => Ok(()),
            Ok(_) => Err(fail(libc::EIO)),
            Err(error) => Err(fail(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}
