//! Properties of a unit.
#![forbid(unsafe_code)]

use std::time::Duration;

use zbus::zvariant::Value;

use super::limit;
use crate::{Cgroup, Limits, Result};

/// A property's value, in the types of D-Bus that systemd's resource settings have.
///
/// ```
/// use cgroupfs::systemd::PropertyValue;
///
/// let value = PropertyValue::from("kill");
/// assert_eq!(value, PropertyValue::String("kill".to_owned()));
/// ```
///
/// See <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PropertyValue {
    /// `b`
    Bool(bool),
    /// `u`
    U32(u32),
    /// `i`
    I32(i32),
    /// `t`. "No limit" is the greatest number.
    U64(u64),
    /// `s`
    String(String),
    /// `as`
    Strings(Vec<String>),
    /// `ay`: a set of processors or memory nodes, a bit each.
    Bytes(Vec<u8>),
    /// `a(st)`: a number for each device node.
    DeviceNumbers(Vec<(String, u64)>),
}

impl PropertyValue {
    pub(super) fn to_value(&self) -> Value<'_> {
        match self {
            Self::Bool(value) => Value::from(*value),
            Self::U32(value) => Value::from(*value),
            Self::I32(value) => Value::from(*value),
            Self::U64(value) => Value::from(*value),
            Self::String(value) => Value::from(value.as_str()),
            Self::Strings(values) => Value::from(values.iter().map(String::as_str).collect::<Vec<_>>()),
            Self::Bytes(values) => Value::from(values.as_slice()),
            Self::DeviceNumbers(values) => {
                Value::from(values.iter().map(|(device, number)| (device.as_str(), *number)).collect::<Vec<_>>())
            }
        }
    }
}

impl From<bool> for PropertyValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for PropertyValue {
    fn from(value: u64) -> Self {
        Self::U64(value)
    }
}

impl From<&str> for PropertyValue {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<Duration> for PropertyValue {
    /// In microseconds, as systemd counts. What is longer than it can count is for ever.
    fn from(value: Duration) -> Self {
        Self::U64(u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Properties to set, collected. See [`Unit::set_properties`](super::Unit::set_properties).
///
/// ```
/// use cgroupfs::systemd::Properties;
/// use cgroupfs::{Bytes, Limits};
///
/// let properties = Properties::new()
///     .limits(Limits::new().memory_max(Bytes::mib(64))) // MemoryMax
///     .set("ManagedOOMMemoryPressure", "kill");
/// ```
///
/// See systemd.resource-control(5): <https://man7.org/linux/man-pages/man5/systemd.resource-control.5.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Properties {
    limits: Limits,
    others: Vec<(String, PropertyValue)>,
}

impl Properties {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits, each as the property that systemd has for its file: `memory.max` is `MemoryMax`, `cpu.max` is
    /// `CPUQuotaPerSecUSec` and `CPUQuotaPeriodUSec`, `pids.max` is `TasksMax`, and so on. One that is set to no limit is
    /// set as well: systemd has defaults of its own, such as `DefaultTasksMax`. Limits that were given before are forgotten.
    ///
    /// systemd has properties for `memory.min`, `low`, `high`, `max`, `swap.max`, `zswap.max` (253) and `zswap.writeback`
    /// (256), `cpu.max`, `cpu.weight`, `cpu.idle` (252), `pids.max`, `io.max`, `io.weight`, `io.latency`, `cpuset.cpus` and
    /// `cpuset.mems`. Any other limit is an error when the properties are used, unless the group has it already, as a new
    /// group has what the kernel begins with: write it to the files of a delegated unit's group, where systemd leaves it
    /// alone.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Any other property, by the name it has on the bus.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<PropertyValue>) -> Self {
        self.others.push((name.into(), value.into()));
        self
    }

    /// All of them, as systemd takes them for a unit that it makes.
    pub(super) fn for_new(&self) -> Result<Vec<(String, PropertyValue)>> {
        limit::of_new(&self.limits).map(|limits| self.all(limits))
    }

    /// The same for a unit that runs in `group`.
    pub(super) fn for_running(&self, group: &Cgroup) -> Result<Vec<(String, PropertyValue)>> {
        limit::of_running(&self.limits, group).map(|limits| self.all(limits))
    }

    /// A property that is set more than once adds up; the limits of several devices are such.
    fn all(&self, limits: Vec<(&'static str, PropertyValue)>) -> Vec<(String, PropertyValue)> {
        let limits = limits.into_iter().map(|(name, value)| (name.to_owned(), value));
        limits.chain(self.others.iter().cloned()).collect()
    }
}
