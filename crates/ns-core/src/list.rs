//! Every namespace on the machine that the caller can see.
//!
//! # Theory of operation
//!
//! The kernel has no list of its namespaces (before `listns` of Linux 6.19): they are found by what keeps them.
//!
//! 1. `list/scan.rs` passes over all processes, and if asked their threads and descriptors, and reads in *words* which
//!    namespaces they refer to: `net:[4026531840]`. This is what costs, and so it is done with as little as possible.
//! 2. For each mount namespace found, the mount table of one process tells which files namespaces are pinned to.
//! 3. `list/relate.rs` opens each namespace once, by whatever keeps it, verifies that it is the one the words named, and
//!    asks for its owner and its parent. Those that nobody is in, but that own others or are their parents, are found here.
//!
//! Processes come and go meanwhile. What has gone is left out; a number that was given to another process is noticed,
//! because everything about a process is read below one handle on its directory.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use cellkit_core::{ProcFd, ProcView, Result};

pub use info::{FirstProcess, NamespaceInfo, NamespaceList, OpenFd, PinnedTo, ThreadIn};

use crate::Namespaces;

mod info;
mod relate;
mod scan;
pub(crate) mod text;

/// The links in `/proc/PID/ns`, in the order of [`KINDS`](crate::namespaces::KINDS).
const NAMES: [&CStr; 8] = [c"cgroup", c"ipc", c"mnt", c"net", c"pid", c"time", c"user", c"uts"];

/// Lists every namespace that the caller can see: of all kinds, in use by a process or a thread, pinned to a file, held by
/// a descriptor, or there as the owner or parent of another one. [`ListOptions`] looks for less, and is faster.
///
/// * Files: `/proc/PID/ns/*`, `/proc/PID/task/*/ns/*`, `/proc/PID/fd/*`, `/proc/PID/mountinfo`; ioctl(2) NS_GET_USERNS,
///   NS_GET_PARENT (Linux 4.9), NS_GET_OWNER_UID (4.11).
/// * Privileges: none; but PTRACE_MODE_READ_FSCREDS access (see ptrace(2)) to each process that is to be looked into. The
///   others are counted in [`NamespaceList::unreadable`].
///
/// ```
/// for namespace in &ns_core::list()? {
///     let first = namespace.first.as_ref().map(|process| process.command.to_string_lossy());
///     println!("{namespace} {} {}", namespace.processes.len(), first.unwrap_or_default());
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// # Errors
/// Those of opening and reading the directory `/proc`; [`Limit`](crate::ErrorKind::Limit) and out of memory from whatever
/// lacks a descriptor or memory, for what was not seen then may be there. Processes that end meanwhile are no error.
///
/// See namespaces(7), ioctl_nsfs(2): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
#[doc(alias = "lsns")]
pub fn list() -> Result<NamespaceList> {
    ListOptions::new().threads().fds().pins().list()
}

/// What to look for. A new one looks at processes only, at all kinds of namespace: what lsns(8) does.
///
/// ```
/// use ns_core::{ListOptions, Namespaces};
///
/// // Every network namespace with a process in it, or pinned to a file: `ip netns` makes those.
/// let networks = ListOptions::new().kinds(Namespaces::NET | Namespaces::MOUNT).pins().list()?;
/// let mine = networks.of_process(std::process::id() as i32).next();
/// assert!(mine.is_some_and(|namespace| namespace.first.is_some()));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See lsns(8), namespaces(7): <https://man7.org/linux/man-pages/man8/lsns.8.html>.
#[doc(alias = "lsns")]
#[derive(Clone, Debug)]
#[must_use = "it does nothing until `list` is called"]
#[non_exhaustive]
pub struct ListOptions {
    kinds: Namespaces,
    threads: bool,
    fds: bool,
    pins: bool,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ListOptions {
    /// Processes, and all kinds of namespace.
    pub fn new() -> Self {
        Self { kinds: Namespaces::all(), threads: false, fds: false, pins: false }
    }

    /// Only these kinds. Owners and parents are named all the same, but not listed unless they are of these kinds.
    pub fn kinds(mut self, kinds: Namespaces) -> Self {
        self.kinds = kinds;
        self
    }

    /// Looks at threads too, each of which may have left its process's namespaces by setns(2) or unshare(2).
    pub fn threads(mut self) -> Self {
        self.threads = true;
        self
    }

    /// Looks for open descriptors too: those of each process's first thread.
    pub fn fds(mut self) -> Self {
        self.fds = true;
        self
    }

    /// Looks for files that namespaces are pinned to, in every mount namespace that a process is in.
    pub fn pins(mut self) -> Self {
        self.pins = true;
        self
    }

    /// Lists what there is in the machine's `/proc`, or where that cannot be trusted in a procfs of its own.
    ///
    /// The machine's own comes first because it is several times faster: the kernel remembers what was looked up in it.
    ///
    /// # Errors
    /// As [`list`](list()).
    pub fn list(&self) -> Result<NamespaceList> {
        let proc = ProcFd::of_the_machine().or_else(|_| ProcFd::open(ProcView::Processes))?;
        self.list_in(&proc)
    }

    /// Lists what there is in this procfs, whose pid namespace is the one that numbers the processes.
    ///
    /// ```
    /// use ns_core::ListOptions;
    ///
    /// // For a program that keeps one open anyway.
    /// let proc = cellkit_core::ProcFd::open(cellkit_core::ProcView::Processes)?;
    /// assert!(!ListOptions::new().list_in(&proc)?.namespaces.is_empty());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`list`](list()).
    pub fn list_in(&self, proc: &ProcFd) -> Result<NamespaceList> {
        let looked_at = match self.pins {
            // Mount tables are found by their namespaces.
            true => Self { kinds: self.kinds | Namespaces::MOUNT, ..self.clone() },
            false => self.clone(),
        };
        let seen = scan::scan(proc, &looked_at)?;
        let mut list = relate::relate(proc, &looked_at, seen)?;
        list.namespaces.retain(|namespace| self.kinds.contains(namespace.kind));
        Ok(list)
    }
}
