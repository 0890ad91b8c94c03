//! What a group's files count, all at once and again and again.
//!
//! Most of the cost of a snapshot is the kernel's: it adds up the counts of all processors for each file. What is left is kept
//! small: files stay open and are read by pread(2) at offset 0, into one buffer, and parsed into the values that are there
//! already, so that a second reading allocates nothing, but for the lines of `io.stat`.
#![forbid(unsafe_code)]

#[cfg(fuzzing)]
pub(crate) mod parse;
#[cfg(not(fuzzing))]
mod parse;
mod parts;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cellkit_core::Errno;

use crate::tree::vanished;
use crate::{
    Bytes, Cgroup, CgroupEvents, CpuStat, Error, HugePageSize, IoStat, MemoryEvents, MemoryStat, PerDevice, PidsEvents,
    Pressure, Result, SwapEvents, open,
};
use parse::FromFile;
pub use parts::StatsParts;
pub use tree::{Descendants, StatsTree, TreeStats};

/// Where reading begins; a file that fills the buffer is read again with a larger one.
const BUFFER: usize = 8 << 10;
/// Bounds what an absurd file can make us hold.
const BUFFER_MOST: usize = 16 << 20;

/// Declares [`Stats`]: a field for each file.
macro_rules! stats {
    ($($(#[$doc:meta])* $field:ident: $kind:ty = $file:literal in $part:ident,)+) => {
        /// One reading of a group's files. A field is `None` when its part was not asked for, or the group has no such file: the
        /// controller is not enabled for it, the kernel is older, or it is the root.
        ///
        /// ```no_run
        /// use cgroupfs::{Hierarchy, StatsParts};
        ///
        /// let stats = Hierarchy::detect()?.own_group()?.stats(StatsParts::ALL)?;
        /// println!("{:?} of memory by {:?} tasks", stats.memory_current, stats.pids_current);
        /// # Ok::<(), cgroupfs::Error>(())
        /// ```
        ///
        /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* #[doc(alias = $file)] pub $field: Option<$kind>,)+
            /// `hugetlb.*.current`: huge pages in use, by their size.
            pub hugetlb_current: BTreeMap<HugePageSize, Bytes>,
        }

        /// The files, in the order in which they are read.
        const FILES: &[(&str, StatsParts)] = &[$(($file, StatsParts::$part),)+];

        impl Stats {
            /// Takes in the content of the file with this index of [`FILES`], or that it is not there.
            fn take(&mut self, index: usize, text: Option<&[u8]>) -> Result<()> {
                #[allow(non_camel_case_types)]
                enum Index { $($field,)+ }
                match index {
                    $(index if index == Index::$field as usize => take_field(&mut self.$field, text),)+
                    _ => Ok(()),
                }
            }
        }
    };
}

fn take_field<T: FromFile>(field: &mut Option<T>, text: Option<&[u8]>) -> Result<()> {
    match text {
        Some(text) => field.get_or_insert_with(T::default).read_from(text),
        None => {
            *field = None;
            Ok(())
        }
    }
}

stats! {
    /// `cgroup.events`: whether something lives in the group.
    cgroup_events: CgroupEvents = "cgroup.events" in GROUP,
    /// `cpu.stat`: processor time, and how often `cpu.max` was felt.
    cpu_stat: CpuStat = "cpu.stat" in CPU,
    /// `memory.current`: memory in use.
    memory_current: Bytes = "memory.current" in MEMORY,
    /// `memory.peak`: the most there ever was in use. Linux 5.19.
    memory_peak: Bytes = "memory.peak" in MEMORY,
    /// `memory.swap.current`: swap in use.
    memory_swap_current: Bytes = "memory.swap.current" in MEMORY,
    /// `memory.events`: how often memory limits were felt.
    memory_events: MemoryEvents = "memory.events" in MEMORY,
    /// `memory.swap.events`: how often swap limits were felt.
    memory_swap_events: SwapEvents = "memory.swap.events" in MEMORY,
    /// `memory.stat`: what the memory is used for.
    memory_stat: MemoryStat = "memory.stat" in MEMORY_STAT,
    /// `io.stat`: what was read from and written to each disk.
    io_stat: PerDevice<IoStat> = "io.stat" in IO,
    /// `pids.current`: processes and threads.
    pids_current: u64 = "pids.current" in PIDS,
    /// `pids.peak`: the most there ever were. Linux 6.1.
    pids_peak: u64 = "pids.peak" in PIDS,
    /// `pids.events`: how often `pids.max` was felt.
    pids_events: PidsEvents = "pids.events" in PIDS,
    /// `cpu.pressure`: time lost waiting for a processor.
    cpu_pressure: Pressure = "cpu.pressure" in PRESSURE,
    /// `memory.pressure`: time lost waiting for memory.
    memory_pressure: Pressure = "memory.pressure" in PRESSURE,
    /// `io.pressure`: time lost waiting for disks.
    io_pressure: Pressure = "io.pressure" in PRESSURE,
    /// `irq.pressure`: time lost to interrupts. Linux 6.1.
    irq_pressure: Pressure = "irq.pressure" in PRESSURE,
}

/// Reads the [`Stats`] of one group, again and again, by files that stay open.
///
/// * C calls: openat2(2) for each file once; pread(2) for each file each time.
/// * Descriptors: one for the group and one for each file of the parts: at most 17 and one for each size of huge pages.
///   [`StatsReader::reopening`] holds one only.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, Stats, StatsParts, StatsReader};
///
/// let group = Hierarchy::detect()?.open("/web")?;
/// let mut reader = StatsReader::new(&group, StatsParts::CPU | StatsParts::MEMORY)?;
/// let mut stats = Stats::default();
/// loop {
///     reader.read_into(&mut stats)?;
///     println!("{:?}", stats.memory_current);
///     # break;
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Debug)]
pub struct StatsReader {
    group: Cgroup,
    parts: StatsParts,
    /// `None` where they are opened each time.
    files: Option<Files>,
    buffer: Vec<u8>,
}

/// The files of a group that are there.
#[derive(Debug)]
struct Files {
    /// In the order of [`FILES`].
    numbered: Vec<Option<File>>,
    hugetlb: Vec<(HugePageSize, Option<File>)>,
}

impl Files {
    /// Opens what is there of the parts.
    fn open(group: &Cgroup, parts: StatsParts) -> Result<Self> {
        let mut is_one_absent = false;
        let mut open = |name: &str| match open::beneath(group.as_fd(), Path::new(name), libc::O_RDONLY) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(errno) if vanished(errno) => {
                is_one_absent = true;
                Ok(None)
            }
            Err(errno) => Err(group.fail(format!("read {name}"), errno)),
        };
        let mut files = Self { numbered: Vec::with_capacity(FILES.len()), hugetlb: Vec::new() };
        for (name, part) in FILES {
            files.numbered.push(if parts.contains(*part) { open(name)? } else { None });
        }
        if parts.contains(StatsParts::HUGETLB) {
            let names = crate::tree::files(group).map_err(|errno| group.fail("getdents64", errno))?;
            for name in names {
                let size = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".current"));
                if let Some(Ok(size)) = size.map(str::parse) {
                    files.hugetlb.push((size, open(&name)?));
                }
            }
        }
        // Nothing of a group that has been removed is there.
        if is_one_absent && !group.exists() {
            return Err(Error::gone("openat2", Some(libc::ENOENT)).on(group.path()));
        }
        Ok(files)
    }

    /// Reads all into `stats`. A file that has gone from its group is forgotten.
    fn read_into(&mut self, group: &Cgroup, buffer: &mut Vec<u8>, stats: &mut Stats) -> Result<()> {
        for (index, ((name, _), slot)) in FILES.iter().zip(&mut self.numbered).enumerate() {
            let text = read_slot(group, name, slot, buffer)?;
            stats.take(index, text).map_err(|error| error.on(group.path().join(name)))?;
        }
        let sizes = &mut stats.hugetlb_current;
        sizes.retain(|size, _| self.hugetlb.iter().any(|(known, _)| known == size));
        for (size, slot) in &mut self.hugetlb {
            match read_slot(group, "hugetlb.*.current", slot, buffer)? {
                Some(text) => sizes.entry(*size).or_default().read_from(text)?,
                None => _ = sizes.remove(size),
            }
        }
        Ok(())
    }
}

/// The content of a file, if it is there.
fn read_slot<'a>(
    group: &Cgroup,
    name: &str,
    slot: &mut Option<File>,
    buffer: &'a mut Vec<u8>,
) -> Result<Option<&'a [u8]>> {
    let Some(file) = slot else { return Ok(None) };
    match read_whole(file, buffer) {
        Ok(length) => Ok(Some(buffer.get(..length).unwrap_or_default())),
        // Without its group, a file goes when its controller is taken away, or pressure is switched off.
        Err(errno) if vanished(errno) && group.exists() => {
            *slot = None;
            Ok(None)
        }
        // Pressure that the machine has switched off.
        Err(Errno(libc::EOPNOTSUPP)) => Ok(None),
        Err(errno) => Err(group.fail(format!("read {name}"), errno)),
    }
}

/// Reads the whole file, by one pread(2) unless it is larger than any before.
fn read_whole(file: &File, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    loop {
        match file.read_at(buffer, 0) {
            Ok(length) if length < buffer.len() || buffer.len() >= BUFFER_MOST => return Ok(length),
            Ok(_) => buffer.resize(buffer.len() * 2, 0),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

impl Cgroup {
    /// Reads the parts of the [`Stats`] that are wanted, once. For more than once, see [`StatsReader`].
    ///
    /// # Errors
    /// Gone; Limit, when there are too many descriptors.
    pub fn stats(&self, parts: StatsParts) -> Result<Stats> {
        StatsReader::reopening(self, parts)?.read()
    }
}

impl StatsReader {
    /// Opens the files of the parts that the group has now. Those of a controller that is enabled for it later are not read:
    /// see [`reopen`](Self::reopen).
    ///
    /// # Errors
    /// Gone; Limit, when there are too many descriptors.
    pub fn new(group: &Cgroup, parts: StatsParts) -> Result<Self> {
        let files = Files::open(group, parts)?;
        Ok(Self { files: Some(files), ..Self::reopening(group, parts)? })
    }

    /// The same, but the files are opened for each reading and closed after it: for very many groups. That takes about twice as
    /// long.
    ///
    /// # Errors
    /// Limit, when there are too many descriptors.
    pub fn reopening(group: &Cgroup, parts: StatsParts) -> Result<Self> {
        Ok(Self { group: group.try_clone()?, parts, files: None, buffer: vec![0; BUFFER] })
    }

    /// Opens the files again, so that those are read that have come since.
    ///
    /// # Errors
    /// As [`new`](Self::new). What was open stays so.
    pub fn reopen(&mut self) -> Result<()> {
        if self.files.is_some() {
            self.files = Some(Files::open(&self.group, self.parts)?);
        }
        Ok(())
    }

    /// The group whose statistics these are.
    #[must_use]
    pub fn group(&self) -> &Cgroup {
        &self.group
    }

    /// Reads everything.
    ///
    /// # Errors
    /// As [`read_into`](Self::read_into).
    pub fn read(&mut self) -> Result<Stats> {
        let mut stats = Stats::default();
        self.read_into(&mut stats)?;
        Ok(stats)
    }

    /// Reads everything into `stats`, whose former content is lost. It allocates nothing when it was read into before, as long
    /// as the files have the same keys; but for the disks of `io.stat`.
    ///
    /// # Errors
    /// Gone, when the group has been removed; Parse, when a file is not what it should be. What `stats` has then is of no use.
    pub fn read_into(&mut self, stats: &mut Stats) -> Result<()> {
        match &mut self.files {
            Some(files) => files.read_into(&self.group, &mut self.buffer, stats),
            None => Files::open(&self.group, self.parts)?.read_into(&self.group, &mut self.buffer, stats),
        }
    }
}

/// The error of a file whose content is not what it should be.
fn unreadable(what: &str, text: &[u8]) -> Error {
    Error::parse("parse statistics", format!("{:?} is not {what}", String::from_utf8_lossy(text)))
}
