//! Mounts of a container as data: its root is described, checked without privilege, printed, and only then made.
//!
//! * [`Rootfs`]: a root file system and what is mounted in it. [`Rootfs::steps`] turns it into [`ChildSteps`], one system
//!   call each, which `ns-core` runs in the cloned child; after the last one `/` is the new root and the old one is gone.
//! * [`DetachedMount`]: a mount that is nowhere yet, made by [`Bind`] and attached in one step.
//! * [`Tmpfs`], [`Proc`], [`Sysfs`], [`Devpts`], [`Mqueue`], [`Cgroup2`], [`Hugetlbfs`], [`BinfmtMisc`], and
//!   [`Filesystem`] for any other: new file systems, as detached mounts.
//! * [`Volume`], [`Tmpfs`], [`Sys`]: the parts of a `Rootfs`.
//! * [`RootFd`]: a directory that paths of somebody else are resolved in, and never outside; [`DirFd`]: a directory reached
//!   there, for work on many names.
//! * [`Overlay`]: directories laid over each other.
//! * `layers` (feature of that name): image layers applied to folders.
//!
//! ```
//! use mountkit::{Rootfs, Sys, Tmpfs, Volume};
//!
//! # fn main() -> mountkit::Result<()> {
//! let rootfs = Rootfs::overlay_of_host()
//!     .proc()
//!     .sys(Sys::Fresh)
//!     .dev()
//!     .mask_defaults()
//!     .volume(Volume::bind("/usr", "/mnt/usr").read_only())
//!     .tmpfs("/scratch", Tmpfs::new().size(16 << 20));
//! rootfs.check()?;
//! println!("{}", rootfs.steps()?); // a numbered list of system calls, and why each is made
//! # Ok(())
//! # }
//! ```
//!
//! # When the kernel refuses
//! It has forty reasons and five numbers for them. [`explain`] looks at the machine and says which it was.
//!
//! # What the steps need
//! The child has a new mount namespace, and new pid, network and ipc namespaces where `/proc`, a fresh `/sys` and
//! `/dev/mqueue` are asked for, all owned by its user namespace; a umask of 0; no other thread. Kernel 5.15 or newer.
//!
//! # What this crate does not do
//! It mounts nothing by a path joined to a root, runs no program, reads no configuration from a root file system, and
//! changes nothing in the calling process. It has no fallback for kernels without `mount_setattr` (5.12): there the step's
//! error is ENOSYS.
#![deny(unsafe_code)]

mod attach;
mod attr;
mod bind;
mod change;
mod detached;
mod dir_fd;
mod explain;
mod filesystem;
mod flags;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod idmap;
mod in_root;
#[cfg(feature = "layers")]
pub mod layers;
mod metadata;
mod mount;
mod mount_table;
mod name;
mod overlay;
mod peers;
mod plan;
mod propagation;
mod root_fd;
mod rootfs;
mod shared_fd;
mod step;
mod sys;
mod volume;

pub use attach::Attach;
pub use attr::{Atime, MountAttr};
pub use bind::{Bind, Kept, Locked};
pub use cellkit_core::{ChildSteps, Error, ErrorKind, Result};
pub use change::MountChange;
pub use detached::DetachedMount;
pub use dir_fd::{DirEntry, DirFd, Entries, OpenOptions, Rename};
pub use explain::{Cause, Evidence, Explanation, Reason, explain};
pub use filesystem::{
    BinfmtMisc, Cgroup2, Devpts, Filesystem, HidePid, HugePageSize, HugePages, Hugetlbfs, Mqueue, Proc, Reconfigure,
    Sysfs, Tmpfs,
};
pub use hint::HINTS;
pub use metadata::{FileKind, Metadata, Node, Times};
pub use mount::{Mount, Unmounted};
pub use mount_table::{
    MountDiff, MountEntry, MountIdRange, MountOptions, MountTable, MountTree, MountWatch, SuperFlags, TableSource,
};
pub use overlay::{Overlay, OverlayUuid, OverlayXattrs, RedirectDir, Verity, Xino};
pub use propagation::Propagation;
pub use root_fd::{MountTarget, RootFd};
pub use rootfs::{DeviceNodes, MissingTargets, MountSource, NoPivot, Rootfs, Sys};
pub use sys::resolve::Resolver;
pub use volume::Volume;
