//! cgroup v2 as directory handles and typed values.
//!
//! * [`Hierarchy`] finds the cgroup2 file system, anywhere, beside version 1 or alone, and one's own group in it.
//! * [`Place`] is the group below which the caller may make groups: the root for root, the topmost delegated group for an
//!   ordinary user. It makes them, and says [why not](Place::why_not) when a controller cannot be had.
//! * [`Cgroup`] is a group: a verified directory handle, for CLONE_INTO_CGROUP, statistics, killing and removal.
//! * The files of each controller are one call away: [`Cgroup::cpu`], [`Cgroup::cpuset`], [`Cgroup::memory`], [`Cgroup::io`],
//!   [`Cgroup::pids`], [`Cgroup::hugetlb`], [`Cgroup::rdma`], [`Cgroup::misc`], [`Cgroup::dmem`], [`Cgroup::pressure`]; each
//!   has a method a file, named after it. Any other is reached by [`Cgroup::raw`].
//! * [`effective_cpus`] and [`effective_memory`] are what a program should size itself to.
//! * [`DeviceRules`] is which devices a group may open and make, which [`Cgroup::devices`] puts into effect.
//! * [`Stats`] is what a group has used, read at once and again and again; [`Watch`] waits for what happens to groups, and
//!   [`PsiTrigger`] for stalls.
//! * [`Limits`] is what a group may use, in types that cannot hold what the kernel would refuse.
//!
//! ```no_run
//! use cgroupfs::{Bytes, CgroupName, Hierarchy, Limits, Quota};
//! use std::time::Duration;
//!
//! let place = Hierarchy::detect()?.place()?;
//! let limits = Limits::new().memory_max("512m".parse::<Bytes>()?).cpu_max(Quota::parse_cpus("0.5")?);
//! limits.check(&place)?; // who holds a missing controller, and what to do, before anything is made
//! let group = place.create(&CgroupName::new("web")?, &limits, &mut ())?;
//! // … start something in it …
//! println!("{:?} {:?}", group.memory().events()?, group.cpu().stat()?);
//! group.remove(Duration::from_secs(5))?;
//! # Ok::<(), cgroupfs::Error>(())
//! ```
//!
//! # Limits of a group that is in use
//! [`Cgroup::apply`] changes the limits of a group full of processes, all or none. It opens every file and reads the old
//! values before it writes anything. Then raises come first, what is neither more nor less next, lowerings last, and
//! `memory.max` last of all, since it alone can kill: `high` is lowered before `max`, swap grows before memory shrinks, a
//! burst never exceeds its quota. When a write is refused, the old values are written back in reverse; what could not be
//! is in [`Error::also`]. [`Applied`] says for each file what was there and what the kernel made of the limit, and
//! [undoes](Applied::undo) it later.
//!
//! ```no_run
//! use cgroupfs::{Bytes, Hierarchy, Limits, Max, SwapOnly};
//!
//! let group = Hierarchy::detect()?.open("/web")?;
//! let limits = Limits::new().memory_max(Bytes::mib(256)).memory_swap_max(SwapOnly(Max::Value(Bytes::gib(1))));
//! for step in group.describe_apply(&limits)? {
//!     println!("{step}"); // write memory.swap.max("1073741824"), then write memory.max("268435456")
//! }
//! let applied = group.apply(&limits)?; // refused where the group uses more: BelowUsage
//! println!("{applied}");
//! applied.undo(&group)?;
//! # Ok::<(), cgroupfs::Error>(())
//! ```
//!
//! # Where is what
//! Everything is at the root of the crate, so that one `use cgroupfs::{…}` does; modules are only for what comes with a
//! feature: `oci` and `systemd`. By what it is for:
//!
//! | | |
//! |---|---|
//! | the hierarchy | [`Hierarchy`], [`Layout`], [`Place`], [`Features`], [`Feature`], [`DelegateFiles`]; [`WhyNot`], [`Reason`] |
//! | a group | [`Cgroup`], [`CgroupName`], [`CgroupType`], [`CgroupEvents`], [`CgroupStat`], [`CgroupStatLocal`], [`FrozenGuard`], [`Origin`], [`Depth`], [`DescendantCount`], [`RawFile`] |
//! | controllers | [`Controller`], [`Controllers`] |
//! | numbers in several files | [`Bytes`], [`Max`], [`Percent`], [`DevNum`], [`PerDevice`], [`PerNode`], [`PerResource`], [`ResourceName`] |
//! | cpu | [`Cpu`], [`CpuStat`], [`CpuStatLocal`], [`Quota`], [`CpuBurst`], [`Weight`], [`NiceWeight`], [`CpuIdle`], [`Uclamp`] |
//! | cpuset | [`Cpuset`], [`CpuList`], [`MemNodeList`], [`Partition`], [`PartitionState`], [`InvalidPartition`], [`InvalidReason`] |
//! | memory | [`Memory`], [`MemoryStat`], [`MemoryNumaStat`], [`MemoryEvents`], [`SwapEvents`], [`SwapOnly`], [`MemoryPlusSwap`], [`OomGroup`], [`ZswapWriteback`], [`PeakWatch`], [`Swappiness`], [`Reclaimed`] |
//! | io | [`Io`], [`IoStat`], [`IoMax`], [`IoWeight`], [`BfqWeight`], [`IoWeights`], [`IoLatency`], [`IoPriorityClass`]; [`IoCostQos`], [`IoCostModel`] and the types of their fields |
//! | pids, hugetlb, rdma, misc, dmem | [`Pids`], [`PidsMax`], [`PidsEvents`]; [`Hugetlb`], [`HugePageSize`], [`HugetlbEvents`], [`HugetlbNumaStat`]; [`Rdma`], [`RdmaLimit`], [`RdmaCount`]; [`Misc`], [`MiscEvents`]; [`Dmem`] |
//! | pressure | [`PressureFiles`], [`Pressure`], [`PressureStall`], [`PressureAccounting`]; [`PsiTrigger`], [`PsiResource`], [`PsiShare`], [`PsiThreshold`], [`Stalled`] |
//! | devices | [`Devices`], [`DeviceRules`], [`DeviceRule`], [`DeviceMatch`], [`DeviceKind`], [`DeviceAccess`], [`OrAny`]; [`DevicePrograms`], [`AttachedProgram`], [`AttachMode`], [`DeviceProgram`] |
//! | limits | [`Limits`], [`CpuShare`], [`BelowUsage`], [`Unified`]; [`Applied`], [`Change`] |
//! | statistics | [`Stats`], [`StatsParts`], [`StatsReader`], [`StatsTree`], [`TreeStats`], [`Descendants`] |
//! | watching | [`Watch`], [`WatchedGroup`], [`WatchedFiles`], [`Event`], [`What`], [`EventFile`], [`Counter`], [`Uncounted`]; with feature `tokio` `WatchStream`, `PsiStream` |
//! | sizing oneself | [`effective_cpus`], [`EffectiveCpus`], [`effective_memory`], [`EffectiveMemory`] |
//!
//! # Features
//! * `tokio`: a watch and triggers of pressure as streams.
//! * `oci`: limits and device rules from an OCI configuration.
//! * `systemd`: transient scopes and slices over D-Bus, with limits as properties.
//!
//! # What it does not do
//! It mounts nothing, does not write to version 1 hierarchies, and moves the caller between groups only when told so
//! ([`Cgroup::attach_self`], [`Cgroup::evacuate`]). It talks to systemd only when it is asked to, with feature `systemd`.
//!
//! See cgroups(7), <https://man7.org/linux/man-pages/man7/cgroups.7.html>, and
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>.
#![deny(unsafe_code)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod attach;
mod await_events;
mod bytes;
mod children;
mod controller;
mod count;
mod cpu;
mod cpuset;
mod create;
mod delegate;
mod dev_num;
mod devices;
mod dmem;
mod effective;
mod enable;
mod evacuate;
mod events;
mod features;
mod freeze;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod hierarchy;
mod hint;
mod hugetlb;
mod id;
mod interface;
mod io;
mod keyed;
mod kill;
mod limits;
mod max;
mod memory;
mod misc;
mod name;
#[cfg(feature = "oci")]
pub mod oci;
mod open;
mod own_group;
mod per_device;
mod per_node;
mod percent;
mod pids;
mod place;
mod pressure;
mod proc_text;
mod psi_trigger;
mod quota;
mod rdma;
mod remove;
mod resource;
mod stats;
mod swap;
mod sys;
#[cfg(feature = "systemd")]
pub mod systemd;
mod threaded;
mod tree;
mod tree_limits;
mod watch;
mod why_not;
mod words;

#[cfg(feature = "tokio")]
pub use asynchronous::{PsiStream, WatchStream};
pub use bytes::Bytes;
pub use cellkit_core::{Error, ErrorKind, Result};
pub use children::Origin;
pub use controller::{Controller, Controllers};
pub use count::{BfqWeight, Depth, DescendantCount, IoWeight, PidsMax, Weight};
pub use cpu::burst::CpuBurst;
pub use cpu::share::{CpuIdle, NiceWeight};
pub use cpu::uclamp::Uclamp;
pub use cpu::{Cpu, CpuStat, CpuStatLocal};
pub use cpuset::Cpuset;
pub use cpuset::list::{CpuList, MemNodeList};
pub use cpuset::partition::{InvalidPartition, InvalidReason, Partition, PartitionState};
pub use dev_num::DevNum;
pub use devices::program::DeviceProgram;
pub use devices::rule::{DeviceAccess, DeviceKind, DeviceMatch, DeviceRule, OrAny};
pub use devices::rules::DeviceRules;
pub use devices::{AttachMode, AttachedProgram, DevicePrograms, Devices};
pub use dmem::Dmem;
pub use effective::{EffectiveCpus, EffectiveMemory, effective_cpus, effective_memory};
pub use events::CgroupEvents;
pub use features::{DelegateFiles, Feature, Features};
pub use freeze::FrozenGuard;
pub use group::{Cgroup, RawFile};
pub use hierarchy::{Hierarchy, Layout};
pub use hugetlb::size::HugePageSize;
pub use hugetlb::{Hugetlb, HugetlbEvents, HugetlbNumaStat};
pub use io::{
    Io, IoCost, IoCostControl, IoCostLatency, IoCostModel, IoCostModelKind, IoCostQos, IoLatency, IoMax,
    IoPriorityClass, IoStat, IoWeights,
};
pub use keyed::{parse_flat_keyed, parse_nested_keyed};
pub use limits::Limits;
pub use limits::apply::{Applied, BelowUsage, Change};
pub use limits::settings::CpuShare;
pub use limits::unified::Unified;
pub use max::Max;
pub use memory::{
    Memory, MemoryEvents, MemoryNumaStat, MemoryStat, OomGroup, PeakWatch, Reclaimed, SwapEvents, Swappiness,
    ZswapWriteback,
};
pub use misc::{Misc, MiscEvents};
pub use name::CgroupName;
pub use per_device::PerDevice;
pub use per_node::PerNode;
pub use percent::{Percent, Percentile, ScalePercent};
pub use pids::{Pids, PidsEvents};
pub use place::Place;
pub use pressure::PressureFiles;
pub use pressure::stall::{Pressure, PressureStall};
pub use psi_trigger::{PsiResource, PsiShare, PsiThreshold, PsiTrigger, Stalled};
pub use quota::Quota;
pub use rdma::Rdma;
pub use rdma::limit::{RdmaCount, RdmaLimit};
pub use resource::{PerResource, ResourceName};
pub use stats::{Descendants, Stats, StatsParts, StatsReader, StatsTree, TreeStats};
pub use swap::{MemoryPlusSwap, SwapOnly};
pub use threaded::CgroupType;
pub use tree_limits::{CgroupStat, CgroupStatLocal, PressureAccounting};
pub use watch::{Counter, Event, EventFile, Uncounted, Watch, WatchedFiles, WatchedGroup, What};
pub use why_not::{Reason, WhyNot};
