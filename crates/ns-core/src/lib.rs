//! Start processes in Linux namespaces, from any program, however large and however many threads it has.
//!
//! ```text
//!  Command ──plan()──► Plan ──spawn_paused()──► PausedChild ──resume()──► Child ──wait()──► ExitStatus
//!  collects,           checked,                 one clone3 done;          execve done
//!  never fails         printable                write id maps, wire
//!                                               its network, then go
//! ```
//!
//! A start is data. [`Command`] collects what you want; [`Plan`] is the checked list of system calls, printable before
//! anything is done; [`PausedChild`] is a process that waits, so that its parent can write its id maps and attach its
//! network; [`Child`] runs your program. What fails between is one [`Error`] that names the system call, what it was
//! done to, the errno and a hint.
//!
//! ```
//! use ns_core::{Command, Namespaces};
//!
//! # let kinds = Namespaces::PID | Namespaces::UTS | Namespaces::MOUNT;
//! # if !ns_core::probe()?.can_make.contains(kinds) { return Ok(()) }
//! let status = Command::new("/bin/sh")
//!     .args(["-c", "echo I am $$ on $(hostname)"])
//!     .namespaces(Namespaces::PID | Namespaces::UTS | Namespaces::MOUNT)
//!     .hostname("web")
//!     .spawn()?
//!     .wait()?;
//! assert!(status.success());
//! # Ok::<(), ns_core::Error>(())
//! ```
//!
//! That is for root. An ordinary user asks for [`Namespaces::USER`] too, and writes the id maps while the child waits:
//! [`Command::spawn_paused`] shows all of it. Without [`Command::namespaces`] a start needs no privilege, and is a
//! [`std::process::Command`] that passes nothing on by accident.
//!
//! Whole programs are in the repository's `examples/`: `sandbox` runs what is not trusted for some seconds, `unshare`,
//! `nsenter`, `docker_exec`, `netns_named`, `lsns`, `probe`, `pid1` and others are what their names say.
//!
//! # What is where
//!
//! | to | there is |
//! |---|---|
//! | start a program, talk to it, wait for it | [`Command`], [`Stdio`], [`Child`], [`ExitStatus`], [`Output`] |
//! | see or check a start without making it | [`Command::check`], [`Plan`] |
//! | do something to a process before its program runs | [`PausedChild`] |
//! | say who it is and what it may do | [`Capabilities`], [`Securebits`], [`Keyring`], [`Seccomp`], [`Command::landlock`] |
//! | say what it may use, and when | [`Rlimit`], [`Scheduler`], [`CpuSet`], [`IoPriority`], [`MemoryPolicy`], [`Command::cgroup`] |
//! | leave no zombies, and end together | [`Command::init`], [`Command::subreaper`], [`Command::kill_with_parent`] |
//! | hold a namespace, enter it, keep it | [`NsFd`] and the [table below](#namespaces-that-exist-already) |
//! | know a process that is no child | [`Process`], [`ProcessId`], [`ProcessInfo`] |
//! | enter a container that is hostile | [`seal_this_program`], [`SealedProgram`], [`Command::join_process`] |
//!
//! Then: [what the payload gets](#what-the-payload-gets), [kernel and privileges](#kernel-and-privileges),
//! [errors](#errors), [features](#features), [what this is not](#what-this-is-not), and how it works, the
//! [theory of operation](#theory-of-operation).
//!
//! # Namespaces that exist already
//!
//! An [`NsFd`] is a handle on one, typed by its kind, which says what it is and to what it belongs. It comes from a
//! process by its pidfd, from the calling thread, or from a file.
//!
//! | to | use | what goes there |
//! |---|---|---|
//! | run a program there | [`Command::join`], [`Command::join_process`] | the child, safe from whoever is there |
//! | do a little there and come back | [`with_namespaces`] | a thread of its own, which ends after the work |
//! | move there and stay | [`enter`], [`enter_process`] | the calling process, which must have one thread |
//! | make new ones and stay | [`unshare`] | the calling thread |
//! | keep one without a process | [`NsFd::pin`], [`unpin`], [`pins`] | nobody |
//! | see all there are | [`list`] | nobody |
//! | find out what can be made here | [`probe`] | children that end at once |
//!
//! # What the payload gets
//!
//! Nothing of the caller's reaches it by accident. Unless asked otherwise:
//!
//! | | the payload has | asked for with |
//! |---|---|---|
//! | descriptors | the three standard ones, and no others | [`Command::stdin`] … |
//! | root directory, mounts | the caller's, `/proc` of the caller's pid namespace too; in a new mount namespace a copy of them, what is mounted there unseen outside | [`Command::steps`] (`mountkit` makes them), [`Command::propagation`] |
//! | capabilities | none, in any of the five sets | [`Command::capabilities`] |
//! | user and groups | the caller's; in a new user namespace 0, 0 and no groups | [`Command::user`], [`Command::groups`] |
//! | session keyring | a new one | [`Command::keyring`] |
//! | signals | default dispositions, none blocked | |
//! | umask | 022 | [`Command::umask`] |
//! | processors | all that its cgroup has | [`Command::cpu_affinity`] |
//! | scheduling policy, nice value, I/O priority | the caller's where it is no more than usual; else SCHED_OTHER, 0, none | [`Command::scheduler`], [`Command::nice`], [`Command::io_priority`] |
//! | timer slack, personality | the kernel's own: 50 µs, PER_LINUX | [`Command::timer_slack`], [`Command::personality`] |
//! | resource limits, oom_score_adj, memory policy, secure bits | the caller's | [`Command::rlimit`], [`Command::oom_score_adj`], [`Command::memory_policy`], [`Command::securebits`] |
//! | seccomp filter, landlock ruleset | those that the caller is under, and no others | [`Command::seccomp`], [`Command::landlock`] |
//! | working directory | the caller's, or `/` of another root | [`Command::current_dir`] |
//! | environment | the caller's | [`Command::env`], [`Command::env_clear`] |
//!
//! Whether a payload can be traced and dumped is not its starter's to say: execve makes it so, unless its user may not read
//! the program's file. What can be said is how much it dumps: [`Resource::Core`].
//!
//! # Kernel and privileges
//!
//! Linux 5.15 is the oldest kernel that is supported, and what says nothing of a kernel is older than that; what says nothing
//! of privileges needs none. Nothing here needs root as such:
//!
//! | | needs | kernel | without it |
//! |---|---|---|---|
//! | a start without namespaces | nothing | 5.15 | clone(2), where a filter hides clone3: [`PausedChild::backend`] |
//! | new namespaces | CAP_SYS_ADMIN, or [`Namespaces::USER`] with them | 5.15 | Permission, and [`probe`] says what to do |
//! | a new user namespace | nothing, where the machine allows it | 5.15 | the same |
//! | a new time namespace | CAP_SYS_ADMIN, CAP_SYS_TIME for offsets | 6.3 | a successor in it; with a new pid namespace Unsupported |
//! | a cgroup to be born in | to write `cgroup.procs` there and above | 5.15 | the child moves itself, where a filter hides clone3 |
//! | [`Command::join`], [`enter`], [`with_namespaces`] | CAP_SYS_ADMIN in the owner of each | 5.15 | Permission |
//! | [`NsFd::of_process`] | to read it as ptrace(2) would | 6.11 | a private procfs |
//! | [`NsFd::pin`], [`unpin`] | CAP_SYS_ADMIN over the caller's mounts | 5.15 | Permission |
//! | numbers and neighbours of mount namespaces | nothing; CAP_SYS_ADMIN for neighbours | 6.12 | Unsupported |
//! | [`Command::user`], [`Command::groups`] | CAP_SETUID, CAP_SETGID, which there are in a new user namespace | 5.15 | Permission |
//! | a bounding set of capabilities | CAP_SETPCAP, or else [`Command::no_new_privs`] | 5.15 | it stays |
//! | [`Command::seccomp`], [`Command::landlock`] | [`Command::no_new_privs`], or CAP_SYS_ADMIN | 5.15 | Invalid, when the plan is made |
//! | hard limits, nice values, oom scores beyond the caller's | CAP_SYS_RESOURCE, CAP_SYS_NICE of the machine | 5.15 | Permission |
//! | [`ProcessInfo`] | nothing | 6.13 | Unsupported |
//! | the status of a child that somebody else reaped | nothing | 6.15 | ECHILD |
//! | [`list`], [`probe`] | nothing; they tell what the caller may see and do | 5.15 | what cannot be read is counted |
//!
//! # Errors
//!
//! One type, [`Error`]: the kernel's name of what failed, its subject, the errno and, where there is something to say, a hint.
//! [`ErrorKind`] is what a program decides by. What can be known to be wrong beforehand is
//! [`Invalid`](ErrorKind::Invalid) or [`Unsupported`](ErrorKind::Unsupported) from [`Command::plan`], before anything is done.
//! A step that fails in the child is the error of the start, and the child has ended then.
//!
//! ```
//! use ns_core::{Command, ErrorKind};
//!
//! let error = Command::new("/no/such/program").spawn().unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::NotFound);
//! assert_eq!(error.to_string(), r#"execve "/no/such/program": no such file or directory (ENOENT)"#);
//! assert!(error.hint().is_some_and(|hint| hint.starts_with("there is no such program where the payload runs")));
//! ```
//!
//! # Features
//!
//! None is on unless asked for.
//!
//! * `tokio`: `Child::wait_async` and `Process::wait_end_async`, which wait in a tokio runtime, without a thread and without
//!   a SIGCHLD handler.
//!
//! # What this is not
//!
//! * No container: it makes no root file system (`mountkit`), no id maps (`cellkit-idmap`), no cgroups (`cgroupfs`) and no
//!   network (`vethnet`). `cellrun` is a runtime made of them all. Namespaces alone confine nobody who is root in them: the
//!   caller's files are there until [`Command::steps`] brings another root.
//! * No compiler of seccomp filters, and no maker of landlock rulesets: it takes what libseccomp, `seccompiler` and
//!   `landlock` made.
//! * Not async in its starts: [`Command::spawn`] blocks until the program is executed: a millisecond or so, however large the
//!   caller is.
//! * Not for signal handlers, and for Linux only.
//!
//! # Theory of operation
//!
//! There is exactly one `clone3`, with CLONE_PIDFD, CLONE_CLEAR_SIGHAND, the new namespaces and, if wanted,
//! CLONE_INTO_CGROUP; or one `clone`, where a seccomp filter hides it ([`Backend`]). The child shares its parent's memory
//! (CLONE_VM) on a private stack until `execve`, so that a start costs the same from a program that holds gigabytes; what
//! that demands of the child, and when memory is copied instead, is told in [`cellkit_core::ChildStep`] and in
//! [`Plan::shares_memory`]. A child that joins a pid namespace makes another one there, and ends. One that must not outlive
//! its parent is made by a small thread of its own ([`Command::kill_with_parent`]).
//!
//! Parent and child share one socket pair:
//!
//! ```text
//!   parent                                       child
//!     │  clone3 ──────────────────────────────────► │ closes what it must not inherit
//!     │ ◄──────────────── in its group              │ only where clone3 is hidden: it has moved itself
//!     │  writes uid_map, gid_map, attaches veth     │ waits
//!     │  "go" ────────────────────────────────────► │ runs the plan
//!     │ ◄──────────────── successor {pid, pidfd}    │ joined a pid namespace: its sibling, born there, goes on
//!     │  "go" ────────────────────────────────────► │ (only then)
//!     │ ◄──────────────── terminal, listener of a seccomp filter (if they were asked for)
//!     │ ◄──────────────── fault {step, errno, text} │ and ends, or
//!     │ ◄──────────────── end of file               │ execve: the kernel closed the child's end
//! ```
//!
//! End of file on the child's side (its parent died) ends the child. End of file on the parent's side means that the
//! child's memory is its own by now, since the kernel swaps it before it closes descriptors, in `execve` as in death. A child
//! under its seccomp filter, which need allow it nothing but execve, leaves its fault in memory instead of sending it. It
//! also writes down there which step it is in, so that a child that was killed on the way is not taken for one that runs.
//!
//! All of that is the child's side. In the caller a start allocates and takes locks: it can be made from any thread, beside
//! any other, but not from a signal handler.
#![deny(unsafe_code)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod backend;
mod bitmap;
mod capabilities;
mod capability;
mod cgroup_memory;
mod child;
mod command;
mod dumpable;
mod enter;
mod exit_status;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod keyring;
mod list;
mod namespaces;
mod ns_fd;
mod output;
mod paused;
mod personality;
mod pin;
mod plan;
mod probe;
mod process;
mod process_id;
mod process_info;
mod program;
mod propagation;
mod rlimit;
mod scheduling;
mod sealed;
mod seccomp;
mod securebits;
mod status;
mod stdio;
mod step;
mod sys;
mod watch;
mod with_namespaces;

/// So that its examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use backend::Backend;
pub use bitmap::{CpuSet, NodeSet};
pub use capabilities::Capabilities;
pub use capability::{Capability, CapabilitySet};
pub use cellkit_core::{ChildSteps, Error, ErrorKind, Observer, Result, StepText};
pub use child::Child;
pub use command::Command;
pub use enter::{enter, enter_process, unshare};
pub use exit_status::{ExitStatus, ResourceUsage};
pub use keyring::Keyring;
pub use list::{FirstProcess, ListOptions, NamespaceInfo, NamespaceList, OpenFd, PinnedTo, ThreadIn, list};
pub use namespaces::{Cgroup, ForChildren, Ipc, Kind, Mount, Namespaces, Net, Pid, Time, TimeOffsets, User, Uts};
pub use ns_fd::{AnyNamespace, Nested, NsFd, NsId, in_initial_user_namespace};
pub use output::Output;
pub use paused::PausedChild;
pub use personality::Personality;
pub use pin::{Pin, ensure_netns_dir, pins, unpin};
pub use plan::Plan;
pub use probe::{Area, Finding, Probe, State, probe};
pub use process::Process;
pub use process_id::ProcessId;
pub use process_info::{Ids, ProcessInfo};
pub use propagation::MountPropagation;
pub use rlimit::{Limit, Resource, Rlimit};
pub use scheduling::{IoPriority, MemoryPolicy, Scheduler};
pub use sealed::{Seal, SealedProgram, seal_this_program};
pub use seccomp::{BpfInstruction, Seccomp, SeccompAction, SeccompCall};
pub use securebits::Securebits;
pub use stdio::Stdio;
pub use with_namespaces::with_namespaces;
