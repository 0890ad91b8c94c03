//! What `list` answers.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::{Namespaces, NsId};

/// Every namespace that [`list`](crate::list) found, by inode number.
///
/// ```
/// use ns_core::{NsFd, User, list};
///
/// let all = list()?;
/// let mine = NsFd::<User>::of_this_thread()?.id();
/// println!("{} namespaces belong to {}", all.owned_by(mine).count(), all.get(mine).expect("I am in it"));
/// // At most one of each kind.
/// assert!((1..=8).contains(&all.of_process(std::process::id() as i32).count()));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See namespaces(7), lsns(8): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
#[doc(alias = "lsns")]
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NamespaceList {
    /// The namespaces, the oldest inode number first.
    pub namespaces: Vec<NamespaceInfo>,
    /// The processes that the caller may not look into (EACCES, EPERM): their namespaces are here only if others show
    /// them. Ascending.
    pub unreadable: Vec<i32>,
}

impl NamespaceList {
    /// The namespace of this id.
    #[must_use]
    pub fn get(&self, id: NsId) -> Option<&NamespaceInfo> {
        let at = self.namespaces.binary_search_by_key(&id.inode(), |namespace| namespace.id.inode()).ok()?;
        self.namespaces.get(at).filter(|namespace| namespace.id == id)
    }

    /// The namespaces that the process of this number is in, at most one of each kind.
    pub fn of_process(&self, pid: i32) -> impl Iterator<Item = &NamespaceInfo> {
        self.namespaces.iter().filter(move |namespace| namespace.processes.binary_search(&pid).is_ok())
    }

    /// The pid or user namespaces whose [`parent`](NamespaceInfo::parent) this is: the next level of their tree.
    ///
    /// ```
    /// use ns_core::{NamespaceList, NsId, list};
    ///
    /// fn print_below(all: &NamespaceList, id: NsId, depth: usize) {
    ///     for child in all.children(id) {
    ///         println!("{:depth$}{child}", "");
    ///         print_below(all, child.id, depth + 2);
    ///     }
    /// }
    /// let all = list()?;
    /// for top in all.namespaces.iter().filter(|namespace| namespace.kind == ns_core::Namespaces::PID) {
    ///     if top.parent.is_none() {
    ///         println!("{top}");
    ///         print_below(&all, top.id, 2);
    ///     }
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    pub fn children(&self, id: NsId) -> impl Iterator<Item = &NamespaceInfo> {
        self.namespaces.iter().filter(move |namespace| namespace.parent == Some(id))
    }

    /// The namespaces whose [`owner`](NamespaceInfo::owner) is this user namespace.
    pub fn owned_by(&self, id: NsId) -> impl Iterator<Item = &NamespaceInfo> {
        self.namespaces.iter().filter(move |namespace| namespace.owner == Some(id))
    }
}

impl<'a> IntoIterator for &'a NamespaceList {
    type Item = &'a NamespaceInfo;
    type IntoIter = std::slice::Iter<'a, NamespaceInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.namespaces.iter()
    }
}

impl IntoIterator for NamespaceList {
    type Item = NamespaceInfo;
    type IntoIter = std::vec::IntoIter<NamespaceInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.namespaces.into_iter()
    }
}

/// One namespace, and all that keeps it.
///
/// ```
/// use ns_core::{Ipc, NsFd, list};
///
/// let ipc = NsFd::<Ipc>::of_this_thread()?;
/// let all = list()?;
/// let info = all.get(ipc.id()).expect("I am in it");
/// assert_eq!(info.to_string(), ipc.to_string()); // ipc:[4026531839]
/// assert!(info.processes.contains(&(std::process::id() as i32)) && !info.is_empty());
///
/// for namespace in all.namespaces.iter().filter(|namespace| namespace.is_empty()) {
///     println!("nobody is in {namespace}");
///     namespace.pins.iter().for_each(|pin| println!("  {pin}")); // mounted on /run/netns/web
///     namespace.fds.iter().for_each(|open| println!("  {open}")); // fd 3 of 1234
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See namespaces(7), ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NamespaceInfo {
    /// Its kind: a set of exactly one.
    pub kind: Namespaces,
    /// What names it.
    pub id: NsId,
    /// The user namespace that owns it: whose capabilities count here. For a user namespace that is its parent.
    ///
    /// `None` where the kernel does not tell: the owner is not the caller's user namespace nor below it, or this is
    /// the initial one; or nothing that keeps the namespace could be opened.
    pub owner: Option<NsId>,
    /// The next one up, for pid and user namespaces; `None` at the top and where the caller cannot see it.
    pub parent: Option<NsId>,
    /// The user who made it, for user namespaces, as the caller's user namespace numbers users.
    pub owner_uid: Option<u32>,
    /// The processes in it, ascending. In a process with threads the first thread counts.
    pub processes: Vec<i32>,
    /// The process of the lowest number in it that was still there to be looked at.
    pub first: Option<FirstProcess>,
    /// The threads in it whose process is not, if they were [looked for](crate::ListOptions::threads).
    pub threads: Vec<ThreadIn>,
    /// The open descriptors on it, if they were [looked for](crate::ListOptions::fds).
    pub fds: Vec<OpenFd>,
    /// The files that it is pinned to, if they were [looked for](crate::ListOptions::pins).
    pub pins: Vec<PinnedTo>,
}

impl NamespaceInfo {
    /// Whether no process and no thread that was looked at is in it: a descriptor, a mount or another namespace keeps it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.threads.is_empty()
    }
}

impl fmt::Display for NamespaceInfo {
    /// As `/proc/PID/ns` shows it: `net:[4026531840]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:[{}]", self.kind, self.id)
    }
}

/// The process that stands for a namespace in a list.
///
/// ```
/// for namespace in &ns_core::list()? {
///     if let Some(first) = &namespace.first {
///         println!("{namespace} {} {} {}", first.pid, first.uid, first.command.to_string_lossy());
///     }
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See proc_pid_cmdline(5): <https://man7.org/linux/man-pages/man5/proc_pid_cmdline.5.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstProcess {
    /// Its number in the pid namespace of the procfs that was read.
    pub pid: i32,
    /// Its effective user id, as the caller's user namespace numbers users; 0 for a process that may not be dumped.
    pub uid: u32,
    /// Its arguments with blanks between, of at most 4096 bytes; without any, as kernel threads are, `[name]`.
    pub command: OsString,
}

/// A thread in a namespace that the rest of its process is not in.
///
/// ```
/// for namespace in &ns_core::ListOptions::new().threads().list()? {
///     for thread in &namespace.threads {
///         println!("thread {} of process {} has left for {namespace}", thread.tid, thread.pid);
///     }
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See proc_pid_task(5): <https://man7.org/linux/man-pages/man5/proc_pid_task.5.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct ThreadIn {
    /// The process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
}

impl fmt::Display for ThreadIn {
    /// `thread 12 of 10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} of {}", self.tid, self.pid)
    }
}

/// A descriptor on a namespace.
///
/// ```
/// use std::os::fd::{AsFd, AsRawFd};
///
/// use ns_core::{ListOptions, NsFd, Uts};
///
/// let uts = NsFd::<Uts>::of_this_thread()?;
/// let (pid, fd) = (std::process::id() as i32, uts.as_fd().as_raw_fd());
/// let all = ListOptions::new().fds().list()?;
/// let info = all.get(uts.id()).expect("it is open");
/// assert!(info.fds.iter().any(|open| (open.pid, open.fd) == (pid, fd)));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See proc_pid_fd(5): <https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct OpenFd {
    /// The process that has it.
    pub pid: i32,
    /// Its number there.
    pub fd: i32,
}

impl fmt::Display for OpenFd {
    /// `fd 3 of 10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd {} of {}", self.fd, self.pid)
    }
}

/// A file that a namespace is mounted on, which keeps it.
///
/// ```
/// for namespace in &ns_core::ListOptions::new().pins().list()? {
///     for pin in &namespace.pins {
///         println!("{namespace} {}", pin.path.display()); // net:[4026532201] /run/netns/web
///         assert!(pin.path.is_absolute());
///     }
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See proc_pid_mountinfo(5): <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct PinnedTo {
    /// The mount namespace where it is.
    pub mount_namespace: NsId,
    /// A process of that mount namespace, whose mount table shows it.
    pub pid: i32,
    /// The path, from the root directory of that process.
    pub path: PathBuf,
}

impl fmt::Display for PinnedTo {
    /// `mounted on /run/netns/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounted on {}", self.path.display())
    }
}
