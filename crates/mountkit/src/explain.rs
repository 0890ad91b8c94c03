//! Why a mount could not be made: the errno, the kernel's own words, and what the machine looks like now.
//!
//! # Theory of operation
//!
//! The kernel has some forty reasons to refuse a mount and five numbers for them. An explanation is found in three
//! places, the surest first:
//!
//! 1. *What the kernel said*: the log of the file system context, which is in the error already, and for file systems
//!    that still write to the kernel's log (overlay does) the lines there of the last seconds.
//! 2. *What can be seen*: rules by operation look at the mount table, at modes, namespaces, capabilities, limits and free
//!    space, and tell what is there that the kernel refuses.
//! 3. *What is known*: the sentence of [`HINTS`](crate::HINTS), where neither says anything.
//!
//! A rule only speaks when it sees the thing. Steps of a plan ran in a cloned child that is gone by now: its mounts and
//! privileges cannot be looked at, the host's it started from can, and rules about the caller's own privileges are silent.
//!
//! Everything here reads: `/proc` through `ProcFd`, statx(2), statvfs(3), ioctl(2) on namespaces, syslog(2). It is racy by
//! nature, and made for people: decide by [`ErrorKind`](crate::ErrorKind), print this.
#![forbid(unsafe_code)]

mod attach;
mod detach;
mod here;
mod holders;
mod kernel_words;
mod make;
mod path;
mod pivot;
mod place;
mod privilege;
mod space;

use std::fmt;

use cellkit_core::{Error, ErrorKind};

use here::Here;
use place::Failure;

/// Looks at this machine for the reason of `error`: the kernel's own words, locked flags, propagation, user namespaces,
/// covered parts of `/proc`, layer limits, the mount limit, full file systems, who has a mount in use.
///
/// It takes any error of this crate, or of steps that `ns-core` ran for it, and changes nothing. Ask soon after the
/// failure, as the user and in the mount namespace that met it.
///
/// | operation | EINVAL | EPERM | EBUSY | ENOSPC | others |
/// |---|---|---|---|---|---|
/// | `fsopen` | – | privileges, filters | – | – | ENODEV: no such file system |
/// | `fsconfig` | the log; overlay: depth, layers, upper and work, index | privileges, file systems that a user namespace may not mount, own namespaces missing | overlay: upper or work in use | the limit or the file system is full | ELOOP: layers overlap; ENOENT, ENOTDIR: the path |
/// | `fsmount` | – | `/proc` or `/sys` covered, privileges | – | – | |
/// | `open_tree` | unbindable, another namespace, locked mounts below | privileges | – | – | ENOENT, ENOTDIR, EACCES, ELOOP: the path |
/// | `move_mount` | file and directory, shared parent, unbindable, another namespace | privileges | – | mount-max, of this or a peer's namespace | ELOOP: below itself; ENOENT: removed; ENOTDIR |
/// | `mount_setattr` | no mount point, id map refused | locked flags, privileges | open for writing, and by whom | peer groups | |
/// | `pivot_root` | root is no mount, is the initramfs, is shared; new root is no mount | privileges | already the root | – | ENOTDIR |
/// | `umount2` | no mount point, locked | privileges | in use, and by whom | – | |
/// | `openat2`, `mkdirat`, `mknodat`, `symlinkat` and their kin | – | immutable, devices in a user namespace, filters | – | blocks or inodes, and of which mount | ENOENT, ENOTDIR, ELOOP, EACCES: which part of the path; EROFS: which mount; EXDEV, EAGAIN |
/// | `clone3`, `unshare` | – | – | – | `user.max_*_namespaces` | |
/// | every one | | | | | ENOSYS: too old a kernel, or a filter |
///
/// * Files: `/proc/PID/{mountinfo,status,ns/*,attr/current}`, `/proc/filesystems`, `/proc/sys/fs/mount-max`,
///   `/proc/sys/user/*`; for EBUSY `/proc/*/{cwd,root,fdinfo,maps}` of the processes that may be looked at.
/// * C calls: statx(2), statvfs(3), faccessat2(2), ioctl(2) NS_GET_USERNS and NS_MNT_GET_INFO, syslog(2).
/// * Privileges: none; with more it sees more (the kernel's log, other users' processes).
/// * Kernel: any. It cannot fail: what cannot be looked at is not spoken of.
///
/// ```
/// use mountkit::{Bind, Reason, explain};
///
/// let error = Bind::new("/proc/version/nothing").mount().unwrap_err();
/// let why = explain(&error);
/// eprintln!("{error}\n{why}");
/// # if error.raw_os_error() == Some(20) {
/// assert_eq!(why.causes()[0].reason, Reason::NotADirectory);
/// assert!(why.to_string().contains("/proc/version is a regular file"));
/// # }
/// ```
///
/// See mount_namespaces(7): <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
pub fn explain(error: &Error) -> Explanation {
    let mut causes = Causes::default();
    let here = Here::look();
    for error in std::iter::once(error).chain(error.also()) {
        // What this library refused, or waited for in vain, says itself why.
        if error.kind() != ErrorKind::Invalid || error.raw_os_error().is_some() {
            if let Some(failure) = Failure::of(error) {
                one(&failure, &here, &mut causes);
            }
        }
    }
    Explanation { causes: causes.found }
}

/// Calls on files and directories, by which roots and layers are made. Others are of other crates.
const ON_FILES: [&str; 26] = [
    "chdir",
    "chmod",
    "chown",
    "fchdir",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fsetxattr",
    "linkat",
    "mkdir",
    "mkdirat",
    "mknodat",
    "open",
    "open_tree_attr",
    "openat",
    "openat2",
    "realpath",
    "renameat2",
    "setxattr",
    "statx",
    "symlinkat",
    "unlinkat",
    "utimensat",
    "write",
    "copy_file_range",
];
/// Calls on mounts, and those that make namespaces for them.
const ON_MOUNTS: [&str; 16] = [
    "clone",
    "clone3",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "listmount",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "statmount",
    "umount2",
    "unshare",
];

fn one(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let before = causes.found.len();
    if ON_FILES.contains(&failure.operation) || ON_MOUNTS.contains(&failure.operation) {
        look(failure, here, causes);
    }
    let seen = causes.found.get(before..).is_some_and(|found| !found.is_empty());
    if let Some(hint) = failure.hint.filter(|_| !seen) {
        causes.add(Reason::Known, Evidence::Known, hint);
    }
    if let Some(found) = causes.found.get_mut(before..) {
        found.sort_by_key(|cause| cause.evidence);
    }
}

fn look(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    kernel_words::explain(failure, causes);
    match failure.errno {
        libc::ENOSYS => privilege::not_there(failure, here, causes),
        libc::ENOSPC | libc::EDQUOT => space::explain(failure, here, causes),
        errno => match failure.operation {
            "fsopen" | "fsconfig" | "fsmount" => make::explain(failure, here, causes),
            "open_tree" | "move_mount" | "mount_setattr" => attach::explain(failure, here, causes),
            "pivot_root" => pivot::explain(failure, here, causes),
            "umount2" => detach::explain(failure, here, causes),
            _ if matches!(errno, libc::EPERM | libc::EROFS) => path::explain(failure, here, causes),
            _ => {}
        },
    }
    path::explain_lookup(failure, causes);
}

/// What [`explain`] found: the causes, the surest first. Printed it is a line for each.
///
/// ```
/// use mountkit::{Error, explain};
///
/// let why = explain(&Error::invalid("move_mount", "the target is relative"));
/// assert!(why.causes().is_empty()); // the error says it all
/// assert_eq!(why.to_string(), "");
/// ```
///
/// See mount_namespaces(7): <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an explanation is for somebody to read"]
pub struct Explanation {
    causes: Vec<Cause>,
}

impl Explanation {
    /// All of them, the surest first. Empty where the error itself says why, or nobody knows.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        &self.causes
    }

    /// Those that the kernel said or that can be seen on this machine: what the error's own hint does not say.
    pub fn evident(&self) -> impl Iterator<Item = &Cause> {
        self.causes.iter().filter(|cause| cause.evidence != Evidence::Known)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, cause) in self.causes.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{cause}")?;
        }
        Ok(())
    }
}

/// One reason for a failure, as a sentence and as a word to match on.
///
/// ```
/// use mountkit::{Error, explain};
///
/// let error = Error::from_errno("fsopen", 19).on(std::path::Path::new("nosuchfs"));
/// for cause in explain(&error).causes() {
///     println!("{:?}, {:?}: {cause}", cause.reason, cause.evidence);
/// }
/// ```
///
/// See mount_namespaces(7): <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// What sort of reason it is.
    pub reason: Reason,
    /// How it is known.
    pub evidence: Evidence,
    /// The sentence: what is so, and what to do about it.
    pub text: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How sure a [`Cause`] is, the surest first.
///
/// ```
/// use mountkit::Evidence;
///
/// assert!(Evidence::Said < Evidence::Seen && Evidence::Seen < Evidence::Known);
/// ```
///
/// See fsopen(2): <https://man7.org/linux/man-pages/man2/fsopen.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Evidence {
    /// The kernel said so, in the log of a file system context or in its own.
    Said,
    /// It can be seen on this machine now, and the kernel refuses it.
    Seen,
    /// It is what this errno of this call commonly means; nothing was seen that tells.
    Known,
}

/// What sort of reason a [`Cause`] is, for a program to match on.
///
/// ```
/// use mountkit::{Error, Reason, explain};
///
/// let error = Error::from_errno("pivot_root", 22); // EINVAL
/// assert!(explain(&error).causes().iter().all(|cause| cause.reason != Reason::MountMax));
/// ```
///
/// See mount_namespaces(7): <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The kernel's own words, which no rule knows.
    KernelText,
    /// What the errno commonly means: the hint.
    Known,
    /// The caller lacks a capability, in the user namespace that counts.
    Capability,
    /// The mount namespace belongs to another user namespace.
    NotOwner,
    /// A seccomp filter stands before the call.
    Filter,
    /// A security module (AppArmor, SELinux) confines the caller.
    SecurityModule,
    /// The kernel is older than the call.
    OldKernel,
    /// The kernel has no such file system.
    NoFileSystem,
    /// Only the machine's first user namespace may mount it.
    NotInUserNamespace,
    /// It shows another kind of namespace, which the caller's user namespace does not own.
    ForeignNamespace,
    /// A fresh `/proc` or `/sys` would show what is covered here.
    Revealing,
    /// Flags of a mount that a user namespace may not clear.
    LockedFlags,
    /// Mounts that a user namespace may not take away or look below.
    LockedMounts,
    /// Propagation is in the way: a shared mount.
    Shared,
    /// The mount is unbindable.
    Unbindable,
    /// The path is not where something is mounted.
    NotAMountPoint,
    /// It is the root already.
    AlreadyRoot,
    /// The root is the initramfs.
    Initramfs,
    /// The mount is of another mount namespace, or of none any more.
    OtherMountNamespace,
    /// A file was to be mounted on a directory, or a directory on a file.
    FileAndDirectory,
    /// A mount was to be moved below itself, or a link leads round in a circle.
    Loop,
    /// Somebody uses it.
    InUse,
    /// The mount namespace is full.
    MountMax,
    /// No more namespaces of this kind may be made.
    NamespaceMax,
    /// The file system has no block left.
    NoSpace,
    /// The file system has no inode left.
    NoInodes,
    /// A quota is used up.
    Quota,
    /// The mount or the file system is read-only.
    ReadOnly,
    /// A part of the path does not exist.
    Missing,
    /// A part of the path is no directory.
    NotADirectory,
    /// A symbolic link is where none may be.
    SymbolicLink,
    /// A directory on the way may not be passed, or a file not be read.
    NoAccess,
    /// The file may not be changed by anybody: `chattr +i` or `+a`.
    Immutable,
    /// Overlays are stacked too deep.
    OverlayDepth,
    /// An overlay has too many layers.
    OverlayLayers,
    /// The directories of an overlay overlap.
    OverlayOverlap,
    /// The upper or work directory of an overlay cannot be one.
    OverlayUpper,
    /// Options of an overlay contradict each other, or are not of this kernel.
    Options,
    /// An id map cannot be given to this mount.
    IdMap,
}

/// A list under construction.
#[derive(Debug, Default)]
struct Causes {
    found: Vec<Cause>,
}

impl Causes {
    fn add(&mut self, reason: Reason, evidence: Evidence, text: impl Into<String>) {
        // Paths, names of file systems and the kernel's words are others' to choose, and a terminal acts by some characters.
        let text: String = text
            .into()
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect();
        if !self.found.iter().any(|cause| cause.text == text) {
            self.found.push(Cause { reason, evidence, text });
        }
    }

    fn seen(&mut self, reason: Reason, text: impl Into<String>) {
        self.add(reason, Evidence::Seen, text);
    }

    fn has(&self, reason: Reason) -> bool {
        self.found.iter().any(|cause| cause.reason == reason)
    }
}
