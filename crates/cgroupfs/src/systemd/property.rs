//! Properties of a unit, and which of them a limit is.
#![forbid(unsafe_code)]

use std::time::Duration;

use cellkit_core::Subject;
use zbus::zvariant::Value;

use crate::{Bytes, DevNum, Error, Limits, Max, Quota, Result, SwapOnly};

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
    /// `CPUQuotaPerSecUSec` and `CPUQuotaPeriodUSec`, `pids.max` is `TasksMax`, and so on. Limits that were given before
    /// are forgotten.
    ///
    /// One that systemd has no property for is an error when the properties are used: write it to the files of a
    /// delegated unit's group, where systemd leaves it alone.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Any other property, by the name it has on the bus.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<PropertyValue>) -> Self {
        self.others.push((name.into(), value.into()));
        self
    }

    /// All of them, as systemd takes them.
    pub(super) fn collect(&self) -> Result<Vec<(String, PropertyValue)>> {
        let mut all = Vec::new();
        for write in self.limits.writes() {
            let properties = of_file(&write.file, &write.content())?;
            all.extend(properties.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        // A property that is set more than once adds up; the limits of several devices are such.
        all.extend(self.others.iter().cloned());
        Ok(all)
    }

    /// The same for a unit that runs, which may have a limit that is to be lifted: a new one has none.
    pub(super) fn collect_to_change(&self) -> Result<Vec<(String, PropertyValue)>> {
        let lifts = [
            ("MemoryMax", self.limits.memory_max == Some(Max::Max)),
            ("MemorySwapMax", self.limits.memory_swap_max == Some(SwapOnly(Max::Max))),
            ("CPUQuotaPerSecUSec", self.limits.cpu_max == Some(Quota::UNLIMITED)),
            ("TasksMax", self.limits.pids_max == Some(Max::Max)),
        ];
        let lifts = lifts.into_iter().filter(|(_, lifted)| *lifted);
        let mut all: Vec<_> = lifts.map(|(name, _)| (name.to_owned(), PropertyValue::U64(u64::MAX))).collect();
        all.extend(self.collect()?);
        Ok(all)
    }
}

type Property = (&'static str, PropertyValue);

/// What `content`, which would be written to `file`, is to systemd.
fn of_file(file: &str, content: &str) -> Result<Vec<Property>> {
    let number = |name| Ok(vec![(name, PropertyValue::U64(number_or_max(file, content)?))]);
    match file {
        "memory.max" => number("MemoryMax"),
        "memory.high" => number("MemoryHigh"),
        "memory.low" => number("MemoryLow"),
        "memory.min" => number("MemoryMin"),
        "memory.swap.max" => number("MemorySwapMax"),
        "memory.zswap.max" => number("MemoryZSwapMax"),
        "pids.max" => number("TasksMax"),
        "cpu.weight" => number("CPUWeight"),
        // systemd calls it a weight of "idle", and on the bus 0.
        "cpu.idle" if content == "1" => Ok(vec![("CPUWeight", PropertyValue::U64(0))]),
        "cpu.max" => cpu_max(content),
        "cpuset.cpus" => Ok(vec![("AllowedCPUs", PropertyValue::Bytes(bits(file, content)?))]),
        "cpuset.mems" => Ok(vec![("AllowedMemoryNodes", PropertyValue::Bytes(bits(file, content)?))]),
        "io.weight" => match content.split_once(' ') {
            Some(("default", weight)) => Ok(vec![("IOWeight", PropertyValue::U64(number_or_max(file, weight)?))]),
            Some((device, weight)) => {
                Ok(vec![("IODeviceWeight", of_device(file, device, number_or_max(file, weight)?)?)])
            }
            None => number("IOWeight"),
        },
        "io.max" => io_max(content),
        "io.latency" => match content.split_once(" target=") {
            Some((device, target)) => {
                Ok(vec![("IODeviceLatencyTargetUSec", of_device(file, device, number_or_max(file, target)?)?)])
            }
            None => Err(Error::parse("io.latency", "no target").on(Subject::Value(content.to_owned()))),
        },
        _ => Err(Error::unsupported(file.to_owned(), "a property of systemd for this file", None).with_hint(
            "start the unit without it, delegated, and write it to its group's file: systemd leaves that one alone",
        )),
    }
}

fn number_or_max(file: &str, text: &str) -> Result<u64> {
    match text.parse::<Max<Bytes>>().map_err(|error| error.context(format!("the property for {file}")))? {
        Max::Value(Bytes(number)) => Ok(number),
        Max::Max => Ok(u64::MAX),
    }
}

fn cpu_max(content: &str) -> Result<Vec<Property>> {
    let (quota, period) = content.split_once(' ').unwrap_or((content, "100000"));
    let (quota, period) = (number_or_max("cpu.max", quota)?, number_or_max("cpu.max", period)?);
    let a_second = match quota {
        u64::MAX => u64::MAX,
        _ => u64::try_from(u128::from(quota) * 1_000_000 / u128::from(period.max(1))).unwrap_or(u64::MAX),
    };
    Ok(vec![("CPUQuotaPerSecUSec", PropertyValue::U64(a_second)), ("CPUQuotaPeriodUSec", PropertyValue::U64(period))])
}

fn io_max(content: &str) -> Result<Vec<Property>> {
    let malformed =
        || Error::parse("io.max", "not of the form MAJOR:MINOR KEY=VALUE").on(Subject::Value(content.to_owned()));
    let (device, keys) = content.split_once(' ').ok_or_else(malformed)?;
    let mut properties = Vec::new();
    for key in keys.split_ascii_whitespace() {
        let (key, value) = key.split_once('=').ok_or_else(malformed)?;
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            _ => return Err(malformed()),
        };
        properties.push((name, of_device("io.max", device, number_or_max("io.max", value)?)?));
    }
    Ok(properties)
}

/// systemd wants a device node; these are there for every block device.
fn of_device(file: &str, device: &str, number: u64) -> Result<PropertyValue> {
    let device: DevNum = device.parse().map_err(|error: Error| error.context(format!("the property for {file}")))?;
    Ok(PropertyValue::DeviceNumbers(vec![(format!("/dev/block/{device}"), number)]))
}

/// `0-2,5` as bits, the least first.
fn bits(file: &str, list: &str) -> Result<Vec<u8>> {
    let malformed = || Error::parse(file.to_owned(), "not a list of numbers").on(Subject::Value(list.to_owned()));
    let mut bytes = Vec::new();
    for range in list.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) =
            (first.parse().map_err(|_| malformed())?, last.parse().map_err(|_| malformed())?);
        for number in usize::from(first)..=usize::from(last) {
            if bytes.len() <= number / 8 {
                bytes.resize(number / 8 + 1, 0u8);
            }
            if let Some(byte) = bytes.get_mut(number / 8) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, IoMax, PidsMax, Weight};

    #[test]
    fn limits_as_properties() {
        let disk = DevNum { major: 8, minor: 0 };
        let limits = Limits::new()
            .memory_max(Bytes::mib(64))
            .memory_swap_max(SwapOnly(Max::Value(Bytes(0))))
            .cpu_max(Quota::parse_cpus("0.5").expect("half"))
            .cpu_weight(Weight::try_from(50).expect("weight"))
            .pids_max(PidsMax::try_from(7).expect("tasks"))
            .io_max(disk, IoMax { rbps: Some(Bytes::mib(1).into()), wiops: Some(Max::Value(9)), ..IoMax::default() });
        let mut properties = Properties::new().limits(limits).set("OOMPolicy", "kill").collect().expect("properties");
        properties.sort_by(|a, b| a.0.cmp(&b.0));
        let number = |name: &str, value| (name.to_owned(), PropertyValue::U64(value));
        let device = |name: &str, value| {
            (name.to_owned(), PropertyValue::DeviceNumbers(vec![("/dev/block/8:0".to_owned(), value)]))
        };
        assert_eq!(
            properties,
            [
                number("CPUQuotaPerSecUSec", 500_000),
                number("CPUQuotaPeriodUSec", 100_000),
                number("CPUWeight", 50),
                device("IOReadBandwidthMax", 1 << 20),
                device("IOWriteIOPSMax", 9),
                number("MemoryMax", 64 << 20),
                number("MemorySwapMax", 0),
                ("OOMPolicy".to_owned(), "kill".into()),
                number("TasksMax", 7),
            ]
        );
    }

    #[test]
    fn a_limit_is_lifted_where_there_may_be_one() {
        let limits = Limits::new().memory_max(Max::Max).pids_max(Max::Max).cpu_max(Quota::UNLIMITED);
        let properties = Properties::new().limits(limits.memory_swap_max(SwapOnly(Max::Max)));
        assert_eq!(properties.collect().expect("of a new unit"), []);
        let names = ["MemoryMax", "MemorySwapMax", "CPUQuotaPerSecUSec", "TasksMax"];
        let all = names.map(|name| (name.to_owned(), PropertyValue::U64(u64::MAX)));
        assert_eq!(properties.collect_to_change().expect("of one that runs"), all);
    }

    #[test]
    fn contents_of_files() {
        let one = |file: &str, content: &str| of_file(file, content).expect(file);
        assert_eq!(one("memory.high", "max"), [("MemoryHigh", PropertyValue::U64(u64::MAX))]);
        assert_eq!(one("cpu.max", "max 100000").first(), Some(&("CPUQuotaPerSecUSec", PropertyValue::U64(u64::MAX))));
        assert_eq!(one("cpu.max", "3000 1000").first(), Some(&("CPUQuotaPerSecUSec", PropertyValue::U64(3_000_000))));
        assert_eq!(one("cpu.idle", "1"), [("CPUWeight", PropertyValue::U64(0))]);
        assert_eq!(one("cpuset.cpus", "0-2,9"), [("AllowedCPUs", PropertyValue::Bytes(vec![0b111, 0b10]))]);
        assert_eq!(one("cpuset.mems", "0"), [("AllowedMemoryNodes", PropertyValue::Bytes(vec![1]))]);
        assert_eq!(one("io.weight", "default 200"), [("IOWeight", PropertyValue::U64(200))]);
        let target = PropertyValue::DeviceNumbers(vec![("/dev/block/8:16".to_owned(), 75_000)]);
        assert_eq!(one("io.latency", "8:16 target=75000"), [("IODeviceLatencyTargetUSec", target)]);
        for file in ["hugetlb.2MB.max", "cpu.max.burst", "memory.oom.group", "no.such"] {
            let error = of_file(file, "1").expect_err(file);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().is_some_and(|hint| hint.contains("delegated")));
        }
        for (file, content) in [("io.max", "8:0"), ("io.max", "8:0 x=1"), ("cpuset.cpus", "a"), ("memory.max", "-1")] {
            assert!(of_file(file, content).is_err(), "{file} {content}");
        }
    }
}
