//! Linux mounts for whoever makes containers, sandboxes and images: made out of sight and attached in one step, the whole
//! root of a container as a plan, and paths inside a root that somebody hostile has filled.
//!
//! ```text
//!  Bind  Tmpfs  Proc  Sysfs  …  Filesystem  Overlay       Rootfs: the root of a container as data
//!       └──────────────┬───────────────┘                    │ volume, mount, tmpfs, dev, mask, …
//!                      │ .mount()                           │ .check()  nothing is made, no privilege
//!                      ▼                                    ▼ .steps()  printable
//!               DetachedMount ────── as the root, or in it ─► ChildSteps ──► ns-core's child, or .enter()
//!        seen by nobody; dropped: gone
//!        .change  .idmap  .root  .send
//!                      │ .attach(&RootFd, path)           RootFd ── .open_dir ──► DirFd
//!                      ▼                                  every path in a root, never out of it
//!                    Mount                                MountTable ── MountWatch ── MountDiff
//!        .change  .move_to  .unmount  .detach             what is mounted where
//! ```
//!
//! A directory of the machine, read-only however many mounts are below it, with a place to write above:
//!
//! ```no_run
//! use mountkit::{Bind, Mount, MountChange, Propagation, RootFd, Tmpfs};
//!
//! // After ns_core::unshare(Namespaces::MOUNT): nothing of this is to be seen by others.
//! let root = RootFd::open("/")?;
//! Mount::open(&root, "/")?.change(&MountChange::new().propagation(Propagation::Private).recursive())?;
//!
//! let source = Bind::new("/home/me/project").recursive().read_only().mount()?; // seen by nobody yet
//! let work = source.attach(&root, "srv/build")?;
//! Tmpfs::new().size(512 << 20).mount()?.attach(&root, "srv/build/target")?;
//! // … build …
//! work.detach()?; // with what is mounted below it
//! # Ok::<(), mountkit::Error>(())
//! ```
//!
//! The root of a container, checked and printed before anything is made:
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
//! # What is where
//!
//! | to | there is |
//! |---|---|
//! | show a directory or file elsewhere, with other rights or owners | [`Bind`]; [`Locked`] and [`Kept`] for what a user namespace may not change |
//! | make a file system | [`Tmpfs`], [`Proc`], [`Sysfs`], [`Devpts`], [`Mqueue`], [`Cgroup2`], [`Hugetlbfs`], [`BinfmtMisc`]; [`Filesystem`] for any other |
//! | lay directories over each other | [`Overlay`] |
//! | change, fill, clone or send a mount before anybody sees it, and attach it | [`DetachedMount`], [`Attach`] |
//! | change, move or take away a mount that is seen | [`Mount`], [`MountChange`]; the options of its file system: [`Reconfigure`] |
//! | say what a mount allows | [`MountAttr`], [`Atime`], [`Propagation`] |
//! | describe a container's root | [`Rootfs`] with [`Volume`], [`MountSource`], [`Sys`], [`DeviceNodes`] |
//! | live in such a root | `ns_core::Command::steps` for a child, [`Rootfs::enter`] for the calling process |
//! | read, make, change and remove files in a root that is not trusted | [`RootFd`], for many in one directory [`DirFd`] |
//! | see what is mounted, in this namespace or another, and wait for changes | [`MountTable`], [`MountEntry`], [`MountWatch`] |
//! | unpack image layers, make one, open an image, share unpacked ones | `layers` (feature of that name) |
//! | know why the kernel said EINVAL | [`explain`] |
//!
//! Builders collect and never fail; `mount()` makes a [`DetachedMount`], and what is wrong is an error before anything is
//! made. Two defaults differ where their uses do: a [`Bind`] is of one mount unless [`recursive`](Bind::recursive), and a
//! [`Volume`] brings what is mounted below its source along.
//!
//! # Kernel and privileges
//!
//! Linux 5.15 or newer. *Root* is CAP_SYS_ADMIN in the machine's first user namespace; *in a user namespace* is
//! CAP_SYS_ADMIN in one that owns the caller's mount namespace, as after `unshare --user --mount`; *anybody* has neither.
//!
//! | | root | in a user namespace | anybody | better since |
//! |---|---|---|---|---|
//! | [`RootFd`], [`DirFd`] | yes | yes | yes | |
//! | [`MountTable`], [`MountWatch`], [`explain`] | yes | yes | yes | 6.8: unique ids; 6.13: no `/proc` needed |
//! | [`Rootfs::check`], [`Rootfs::steps`] | yes | yes | yes | |
//! | the steps of a [`Rootfs`] | yes | say [`unprivileged`](Rootfs::unprivileged) | a child in a new user namespace | 6.6: see overlay |
//! | [`Bind`], [`Mount`] | yes | recursive; flags of the machine's mounts are locked | – | 6.15: one call |
//! | an id map ([`Bind::idmap`]) | yes | of file systems mounted there | – | 6.3: tmpfs; 6.15: another map |
//! | [`Tmpfs`], [`Devpts`] | yes | yes | – | |
//! | [`Proc`], [`Sysfs`], [`Mqueue`], [`Cgroup2`] | yes | with a pid, network, ipc or cgroup namespace of its own | – | |
//! | [`BinfmtMisc`] | yes | since 6.7 | – | |
//! | [`Hugetlbfs`], file systems of a disk | yes | – | – | |
//! | [`Overlay`] | yes | yes, with `user.overlay.*` | – | 6.6: a user's upper directory on tmpfs; 6.8: `lowerdir+`; 6.15: by descriptor, detached layers |
//! | [`DetachedMount::try_clone`], attaching to a detached mount | 6.15 | 6.15 | – | |
//! | [`Attach::beneath`] | 6.5 | 6.5 | – | |
//! | `layers` | yes | ids that are mapped | `Owner::Caller`, `Whiteouts::OverlayUser` | |
//!
//! What a kernel lacks has a fallback or is `Unsupported` and says since when it is there; `docs/kernel-features.md` has a
//! row for each. What is older than 5.12 has no mount_setattr(2), and ENOSYS for an answer.
//!
//! # When the kernel refuses
//!
//! It has forty reasons and five numbers for them. An [`Error`] names the call, what it was done to, the errno, the kernel's
//! own words where it has any, and a hint. [`explain`] then looks at the machine and says which of the reasons it was.
//!
//! # What the steps need
//!
//! The child has a new mount namespace, and new pid, network and ipc namespaces where `/proc`, a fresh `/sys` and
//! `/dev/mqueue` are asked for, all owned by its user namespace; a umask of 0; no other thread.
//!
//! # Features
//!
//! None is on by default, and without any the crate needs cellkit-core, libc and bitflags. `layers`: OCI image layers and
//! layouts; it brings flate2, sha2, serde, serde_json and zstd, whose C library it builds: it needs a C compiler.
//!
//! # What this crate does not do
//!
//! It mounts nothing by a path joined to a root, runs no program, reads no configuration from a root file system, and
//! changes nothing in the calling process but by [`Rootfs::enter`]. It pulls no images from a registry, makes no file
//! systems on disks and sets up no loop devices.
//!
//! Whole programs are in the repository's `examples/`: `overlay`, `propagation`, `idmapped_mount`, `pivot_root`, `findmnt` and
//! `unpack_image`.
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
mod host_path;
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
