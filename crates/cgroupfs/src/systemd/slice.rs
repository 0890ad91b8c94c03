//! A transient slice: a group that holds others.
#![forbid(unsafe_code)]

use super::property::{Properties, PropertyValue};
use super::{CollectMode, Connection, Unit, UnitName, scope};
use crate::{Limits, Result};

/// A transient slice, to be [started](Self::start): a group without processes of its own, for limits that several scopes
/// share. Its name says where it is: `a-b.slice` is in `a.slice`, which systemd makes if need be.
///
/// ```no_run
/// use cgroupfs::systemd::{Connection, Scope, Slice};
/// use cgroupfs::{Bytes, Limits};
///
/// # async fn example() -> cgroupfs::Result<()> {
/// let bus = Connection::user().await?;
/// let jobs = Slice::new("batch-jobs.slice").limits(Limits::new().memory_max(Bytes::gib(4))).start(&bus).await?;
/// let job = Scope::new("job-1.scope").slice("batch-jobs.slice").pid(std::process::id()).start(&bus).await?;
/// # Ok(())
/// # }
/// ```
///
/// See systemd.slice(5): <https://man7.org/linux/man-pages/man5/systemd.slice.5.html>.
#[derive(Clone, Debug)]
#[must_use]
pub struct Slice {
    name: String,
    properties: Properties,
}

impl Slice {
    /// A slice of this name, which ends in `.slice`. It is checked by [`start`](Self::start).
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), properties: Properties::new() }
    }

    /// What a person is to read of it.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.property("Description", PropertyValue::String(text.into()))
    }

    /// What all that is in it may use together. See [`Properties::limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.properties = self.properties.limits(limits);
        self
    }

    /// When systemd forgets it.
    pub fn collect_mode(self, mode: CollectMode) -> Self {
        self.property("CollectMode", mode.word())
    }

    /// Any other property of a slice, by the name it has on the bus.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<PropertyValue>) -> Self {
        self.properties = self.properties.set(name, value);
        self
    }

    /// StartTransientUnit: has systemd make the slice, and waits until that is done.
    ///
    /// * systemd: 244.
    /// * Privileges: as for [`Connection`].
    ///
    /// # Errors
    /// As [`Scope::start`](super::Scope::start).
    ///
    /// See <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>.
    pub async fn start(&self, connection: &Connection) -> Result<Unit> {
        let name = UnitName::of_kind(&self.name, "slice", "a slice's name ends in .slice")?;
        let properties = self.properties.for_new().map_err(|error| error.context(format!("start {name}")))?;
        scope::run(connection, &name, &properties, &[], &[]).await?;
        Unit::open(connection, &name).await
    }
}
