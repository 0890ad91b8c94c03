//! Id maps of user namespaces: which ids of a container are which ids outside, who may write that, and writing it.
//!
//! * [`IdMap`], [`IdMaps`], [`Extent`], [`IdRange`]: maps that cannot be wrong, with lookups in both directions and an
//!   algebra (through, relative to, invert, intersect, subtract); read of a process by [`IdMaps::of_process`].
//! * [`Caller`], [`User`], [`SubIds`]: what decides which maps a process may write, among it `/etc/subuid` and
//!   `/etc/subgid`, or the service that stands in for them; [`SubIdTable`]: all rows, and which ids are given twice.
//! * [`IdMaps::verify`]: newuidmap's verdict before it is run.
//! * [`MapPlan`]: the maps with the way to write them, checked before anything is done and printable; then
//!   [`MapPlan::write`] for a child that waits, named by its pidfd.
//! * [`UsernsFd`]: a user namespace with given maps as a descriptor, for idmapped mounts and for joining, with no process
//!   left in it; [`UsernsCache`] keeps those that were made.
//! * [`Shift`]: who owns a tree is changed on the disk, with its lists and capabilities, where no idmapped mount is possible.
//! * [`probe()`]: whether a user namespace can be made here and what can be mapped in it, tried; and why not what cannot.
//!
//! # Who is that?
//! ```
//! use idmap::IdMaps;
//!
//! // Root inside is user 1000, and 1 to 65536 are 100000 and above.
//! let maps = IdMaps::new("0:1000:1,1:100000:65536".parse()?, "0:1000:1,1:200000:65536".parse()?);
//! assert_eq!(maps.uid.to_outside(33), Some(100_032));
//! assert_eq!(maps.gid.to_inside(1000), Some(0));
//! assert_eq!(maps.uid.to_inside(0), None);
//! # Ok::<(), idmap::Error>(())
//! ```
//!
//! # What can be mapped here?
//! ```
//! let here = idmap::probe()?;
//! if let Some(why) = here.why_not() {
//!     eprintln!("no user namespace: {why}");
//! }
//! # Ok::<(), idmap::Error>(())
//! ```
//!
//! # The maps of a child
//! ```no_run
//! use cellkit_core::{ProcFd, ProcView};
//! use idmap::{Caller, MapPlan, SubIds, Way};
//!
//! # fn paused_child() -> std::os::fd::OwnedFd { unimplemented!() }
//! let caller = Caller::current()?;
//! let subids = SubIds::of(&caller)?;
//! let plan = MapPlan::auto(&caller, &subids)?;
//! if let Some(why) = plan.why_single_id() {
//!     eprintln!("only one id is mapped: {why}");
//! }
//! // A child that clone3 made with CLONE_NEWUSER, and that waits.
//! let pidfd = paused_child();
//! plan.write(&pidfd, &ProcFd::open(ProcView::Processes)?, &mut ())?;
//! # Ok::<(), idmap::Error>(())
//! ```
//!
//! # A user namespace without a process
//! ```no_run
//! let userns = idmap::UsernsFd::with_maps(&"100000:100000:65536".parse()?)?;
//! // mountkit::Bind::new("/srv/base").idmap(&userns).mount()?
//! # drop(userns);
//! # Ok::<(), idmap::Error>(())
//! ```
//!
//! # A tree that belongs to a container
//! ```no_run
//! # let root = std::fs::File::open("/srv/root").unwrap();
//! // What is root's in the tree becomes 100000's on the disk.
//! let shifted = idmap::Shift::to_outside(&"100000:100000:65536".parse()?).apply(&root)?;
//! # let _ = shifted;
//! # Ok::<(), idmap::Error>(())
//! ```
//!
//! # Kernel support
//! Everything here works from Linux 5.15 on; user namespaces must be enabled (`user.max_user_namespaces`, and on some
//! distributions `kernel.unprivileged_userns_clone` or `kernel.apparmor_restrict_unprivileged_userns`).
//!
//! # What it does not do
//! It starts no program in a user namespace (`ns-core` does: the README of this crate has both together), loads no module of a name service into its process, and
//! mounts nothing.
#![deny(unsafe_code)]

mod caller;
mod decimal;
mod etc_file;
mod extent;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod id_kind;
mod id_map;
mod id_maps;
mod id_range;
mod login_defs;
mod missing;
mod newidmap;
mod nsswitch;
mod overflow_ids;
mod owner;
mod plan;
mod probe;
mod running;
mod shift;
mod subid;
mod sys;
#[cfg(test)]
mod tests;
mod user;
mod userns;
mod verify;
mod wanted_ids;
mod write;

#[cfg(test)]
use id_kind::IdKind;

pub use caller::{Caller, Setgroups};
pub use cellkit_core::{Error, ErrorKind, Result};
pub use extent::Extent;
pub use id_map::IdMap;
pub use id_maps::IdMaps;
pub use id_range::IdRange;
pub use overflow_ids::OverflowIds;
pub use owner::Owner;
pub use plan::{MapPlan, Way};
pub use probe::{Found, Observation, Obstacle, Probe, Topic, probe};
pub use shift::{Shift, Shifted, Unmapped};
pub use subid::{SubIdConflict, SubIdRow, SubIdTable, SubIds};
pub use user::User;
pub use userns::{UsernsCache, UsernsFd, UsernsId};
pub use wanted_ids::WantedIds;
