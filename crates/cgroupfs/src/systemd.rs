//! Groups that systemd makes, with feature `systemd`: transient scopes and slices over D-Bus.
//!
//! Where systemd is init the hierarchy is systemd's: whoever makes groups beside its own, or writes limits behind its
//! back, finds them overwritten at the next reload. So one asks it for a unit, and what is below a *delegated* unit is
//! one's own. This module asks:
//!
//! * [`Connection`] is a bus with a systemd on it: the system's, or for rootless a user's own.
//! * [`Scope`] makes a group for processes that run already; [`Slice`] makes one that holds others.
//! * [`Unit`] is what comes of it, with its group opened as a [`Cgroup`](crate::Cgroup).
//!
//! ```no_run
//! use cgroupfs::systemd::{Connection, Delegate, Scope};
//! use cgroupfs::{Bytes, Limits};
//! use std::time::Duration;
//!
//! # async fn example(child: &impl std::os::fd::AsFd) -> cgroupfs::Result<()> {
//! let unit = Scope::new("web.scope")
//!     .pidfd(child)
//!     .delegate(Delegate::All)
//!     .limits(Limits::new().memory_max(Bytes::mib(512)))
//!     .start(&Connection::system().await?)
//!     .await?;
//! println!("{:?}", unit.cgroup().memory().events()?);
//! unit.stop(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//! A method that starts or stops a unit answers with a *job* and says nothing of how that ends. The signal `JobRemoved`
//! does, once, and it may come before the answer. So the signal is asked for first, for this unit's name only; the call
//! is made; and signals and answer are taken in whichever order they come. Everybody on a bus may send a signal that
//! looks so: only the one from the connection that owns systemd's name counts.
//!
//! Nothing waits without an end: every operation has a time limit, and a bus that goes away ends it at once.
//!
//! All of it needs a tokio runtime with `enable_io` and `enable_time`; without one an operation is Invalid, and without
//! those two tokio panics.
//!
//! # What it does not do
//! It starts no services and edits no unit files; it does not enter a unit's limits into files either: they are
//! properties of the unit, so that systemd writes the same values again whenever it writes.
//!
//! See <https://systemd.io/CGROUP_DELEGATION/> and
//! <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>.
#![forbid(unsafe_code)]

mod connection;
mod escape;
mod fault;
mod job;
mod limit;
mod property;
mod scope;
mod slice;
#[cfg(test)]
mod tests;
mod unit;
mod unit_name;

pub use connection::Connection;
pub use escape::{escape, escape_path, unescape};
pub use property::{Properties, PropertyValue};
pub use scope::{CollectMode, Delegate, Scope};
pub use slice::Slice;
pub use unit::Unit;
pub use unit_name::UnitName;
