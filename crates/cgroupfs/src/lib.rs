//! cgroup v2 as directory handles and typed values.
//!
//! ```text
//! Hierarchy::detect()             the cgroup2 mount, wherever it is, beside version 1 or alone
//!   ├─ place()   ─> Place         where you may make groups;  why_not(controller), if one cannot be had
//!   │                 └─ create(name, &Limits, observer) ─┐
//!   ├─ open("/web"), own_group(), group_of(pidfd) ────────┤
//!   │                                                     v
//!   └─ effective_cpus(), effective_memory()            Cgroup   a handle on the directory of one group
//!        what a program should size itself to             ├─ memory() cpu() io() pids() …   a method for each file
//!                                                         ├─ apply(&Limits) ─> Applied ─> undo
//!      Watch      <── what happens: killed, empty, …  ────┤
//!      PsiTrigger <── when processes stall            ────┤
//!      StatsReader, StatsTree ─> Stats                ────┤
//!                                                         └─ attach, freeze, kill, delegate, devices(), remove
//! ```
//!
//! # Two minutes
//! It takes root, or a group that is delegated to you: `systemd-run --user --scope -p Delegate=yes COMMAND`.
//!
//! ```no_run
//! use cgroupfs::{Bytes, Cgroup, CgroupName, Hierarchy, Limits, PidsMax, Quota, Result, StatsParts};
//! use std::time::Duration;
//!
//! let place = Hierarchy::detect()?.place()?;
//! let limits = Limits::new().memory_max(Bytes::mib(512)).cpu_max(Quota::cpus(0.5)?).pids_max(PidsMax::try_from(64)?);
//! limits.check(&place)?; // who holds a missing controller, and what to do, before anything is made
//! let group = place.create(&CgroupName::new("web")?, &limits, &mut ())?; // (): nobody looks on; or an Observer of each step
//! let ran = run_in(&group);
//! let stats = group.stats(StatsParts::ALL);
//! // Nothing is removed by itself, neither when a handle is dropped nor when the process ends.
//! group.remove(Duration::from_secs(5))?;
//! ran?;
//! println!("{:?}", stats?.memory_peak);
//!
//! fn run_in(group: &Cgroup) -> Result<()> {
//!     // ns_core::Command::new("httpd").cgroup(group) is born in it. With std, a child is moved into it after its start:
//!     let mut child = std::process::Command::new("httpd").spawn().map_err(|error| cgroupfs::Error::from_io("spawn", &error))?;
//!     group.attach_pid(child.id() as i32)?;
//!     child.wait().map_err(|error| cgroupfs::Error::from_io("wait", &error))?;
//!     Ok(())
//! }
//! # Ok::<(), cgroupfs::Error>(())
//! ```
//!
//! Print an error with `{:#}`: it then says what to do. What a killed program left is found by [`Cgroup::open_child`] of its
//! place and its name, and removed like any group.
//!
//! | to | see |
//! |---|---|
//! | know why a limit cannot be had | [`Limits::check`], [`Place::why_not`], [`Cgroup::why_not`], [`Layout`] |
//! | make a group, or many levels | [`Place::create`], [`Cgroup::create_child`], [`Cgroup::create_nested`] |
//! | start a process in it, or move one | `Command::cgroup` of ns-core, [`Cgroup::attach`] |
//! | read or write one file | [`Cgroup::memory`], [`cpu`](Cgroup::cpu), [`cpuset`](Cgroup::cpuset), [`io`](Cgroup::io), [`pids`](Cgroup::pids), [`hugetlb`](Cgroup::hugetlb), [`rdma`](Cgroup::rdma), [`misc`](Cgroup::misc), [`dmem`](Cgroup::dmem), [`pressure`](Cgroup::pressure); any other: [`Cgroup::raw`] |
//! | change the limits of a group in use | [`Cgroup::apply`], and [below](#limits-of-a-group-that-is-in-use) |
//! | say which devices may be used | [`DeviceRules`], [`Cgroup::devices`] |
//! | read statistics, of one group or a thousand | [`Cgroup::stats`], [`StatsReader`], [`StatsTree`] |
//! | hear of kills, of the end, of stalls | [`Watch`], [`PsiTrigger`] |
//! | take memory back | [`Memory::reclaim`], [`Memory::set_high`] |
//! | give a group to a user | [`Cgroup::delegate`] |
//! | pass controllers down by hand | [`Cgroup::enable`], [`Cgroup::enable_down_to`]; `Place::create` does it by itself |
//! | stop everything, or end it | [`Cgroup::freeze`], [`Cgroup::kill`], [`Cgroup::remove`] |
//! | size a thread pool or a heap | [`effective_cpus`], [`effective_memory`] |
//!
//! Values are types that cannot hold what the kernel would refuse. Each reads and prints as the kernel's file does
//! (`"512m".parse::<Bytes>()?`, `"max".parse::<Max<Bytes>>()?`), and those with bounds are made by `try_from` a number.
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
pub use cellkit_core::{Error, ErrorKind, Observer, ProcFd, Result, StepText};
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
