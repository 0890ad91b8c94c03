//! The cost model of a disk, by which `io.weight` is felt: `io.cost.qos` and `io.cost.model`.
//!
//! Both files are in the root of the hierarchy only. A write says what it changes and leaves the rest. What it says of
//! `ctrl` holds when it is the last word, since every other parameter takes the disk out of the kernel's hands; so `ctrl` is
//! printed last, and what was read can be written back.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cellkit_core::Subject;

use crate::words::number;
use crate::{Bytes, Error, Percentile, Result, ScalePercent};

const QOS: &str = "parse io.cost.qos";
const MODEL: &str = "parse io.cost.model";

/// Declares an enum of the kernel's words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident of $key:literal { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$word_doc])* $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text.trim() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Error::invalid(concat!("parse ", $key), concat!("none of" $(, " ", $word)+))
                        .on(Subject::Value(text.to_owned()))),
                }
            }
        }
    };
}

words! {
    /// Whether the io.cost controller is in charge of a disk: `enable` of [`IoCostQos`].
    ///
    /// ```
    /// use cgroupfs::IoCost;
    ///
    /// assert_eq!("1".parse::<IoCost>()?, IoCost::Enabled);
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
    IoCost of "enable" {
        /// `1`: weights are felt.
        Enabled = "1",
        /// `0`: they are not. Every disk begins so.
        Disabled = "0",
    }
}

words! {
    /// Who says how fast a disk is: `ctrl` of [`IoCostQos`] and [`IoCostModel`].
    ///
    /// ```
    /// use cgroupfs::IoCostControl;
    ///
    /// assert_eq!(IoCostControl::Auto.to_string(), "auto");
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
    IoCostControl of "ctrl" {
        /// `auto`: the kernel, which may change its mind. Every disk begins so.
        Auto = "auto",
        /// `user`: who wrote the file last.
        User = "user",
    }
}

words! {
    /// Which model tells the cost of a request: `model` of [`IoCostModel`].
    ///
    /// ```
    /// use cgroupfs::IoCostModelKind;
    ///
    /// assert_eq!("linear".parse::<IoCostModelKind>()?, IoCostModelKind::Linear);
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
    IoCostModelKind of "model" {
        /// `linear`: a base cost for a sequential or a random request, and a cost for each page. The only one so far.
        Linear = "linear",
    }
}

/// A latency that a disk shall keep: `rlat` and `wlat` of [`IoCostQos`]. Whole microseconds, up to 71 minutes.
///
/// ```
/// use cgroupfs::IoCostLatency;
/// use std::time::Duration;
///
/// assert_eq!(IoCostLatency::new(Duration::from_millis(75))?.to_string(), "75000");
/// assert!(IoCostLatency::new(Duration::from_nanos(1)).is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoCostLatency {
    usec: u32,
}

impl IoCostLatency {
    /// A latency of whole microseconds.
    ///
    /// # Errors
    /// Invalid when it is not, or more than the kernel can count.
    pub fn new(latency: Duration) -> Result<Self> {
        match u32::try_from(latency.as_micros()) {
            Ok(usec) if latency.subsec_nanos() % 1000 == 0 => Ok(Self { usec }),
            _ => {
                Err(Error::invalid(QOS, "not whole microseconds below 2^32").on(Subject::Value(format!("{latency:?}"))))
            }
        }
    }

    /// The latency.
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_micros(self.usec.into())
    }
}

impl fmt::Display for IoCostLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.usec.fmt(f)
    }
}

impl FromStr for IoCostLatency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match number::<u32>(text) {
            Some(usec) => Ok(Self { usec }),
            None => Err(Error::invalid(QOS, "not microseconds below 2^32").on(Subject::Value(text.to_owned()))),
        }
    }
}

/// What the io.cost controller shall make of one disk: a line of `io.cost.qos`. What is `None` stays as it is.
///
/// A parameter that is set takes the disk out of the kernel's hands ([`IoCostControl::User`]); `ctrl: Auto` gives it back,
/// and what is beside it is not taken.
///
/// ```
/// use cgroupfs::{IoCost, IoCostLatency, IoCostQos, Percentile};
/// use std::time::Duration;
///
/// // The disk is too busy when more than 5 of 100 reads take longer than 75 ms.
/// let qos = IoCostQos {
///     enable: Some(IoCost::Enabled),
///     rpct: Some(Percentile::try_from(95)?),
///     rlat: Some(IoCostLatency::new(Duration::from_millis(75))?),
///     ..IoCostQos::default()
/// };
/// assert_eq!(qos.to_string(), "enable=1 rpct=95.00 rlat=75000");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
// Not #[non_exhaustive]: it is made as a struct literal, and a key of a newer kernel goes into `other`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IoCostQos {
    /// Whether the controller is in charge of the disk.
    pub enable: Option<IoCost>,
    /// Who sets the parameters below.
    pub ctrl: Option<IoCostControl>,
    /// Which of the reads are looked at. With 0 the kernel goes by how full the disk's queue is.
    pub rpct: Option<Percentile>,
    /// When those are slower, the disk is too busy.
    pub rlat: Option<IoCostLatency>,
    /// Which of the writes are looked at.
    pub wpct: Option<Percentile>,
    /// When those are slower, the disk is too busy.
    pub wlat: Option<IoCostLatency>,
    /// The least that the speed may be scaled to.
    pub min: Option<ScalePercent>,
    /// The most that the speed may be scaled to.
    pub max: Option<ScalePercent>,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, String>,
}

impl IoCostQos {
    /// What is wrong with it that the types do not tell.
    pub(crate) fn check(&self) -> Result<()> {
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => {
                Err(Error::invalid("write io.cost.qos", format!("min={min} is more than max={max}")))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for IoCostQos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Words::new(f);
        words.pair("enable", &self.enable)?;
        words.pair("rpct", &self.rpct)?;
        words.pair("rlat", &self.rlat)?;
        words.pair("wpct", &self.wpct)?;
        words.pair("wlat", &self.wlat)?;
        words.pair("min", &self.min)?;
        words.pair("max", &self.max)?;
        words.others(&self.other)?;
        words.pair("ctrl", &self.ctrl)
    }
}

impl FromStr for IoCostQos {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut qos = Self::default();
        for pair in pairs(QOS, text) {
            match pair? {
                ("enable", value) => qos.enable = Some(value.parse()?),
                ("ctrl", value) => qos.ctrl = Some(value.parse()?),
                ("rpct", value) => qos.rpct = Some(value.parse()?),
                ("rlat", value) => qos.rlat = Some(value.parse()?),
                ("wpct", value) => qos.wpct = Some(value.parse()?),
                ("wlat", value) => qos.wlat = Some(value.parse()?),
                ("min", value) => qos.min = Some(value.parse()?),
                ("max", value) => qos.max = Some(value.parse()?),
                (key, value) => _ = qos.other.insert(key.to_owned(), value.to_owned()),
            }
        }
        Ok(qos)
    }
}

/// How fast one disk is, by which the cost of a request is told: a line of `io.cost.model`. What is `None` stays as it is.
///
/// As with [`IoCostQos`], a parameter that is set takes the disk out of the kernel's hands, and `ctrl: Auto` gives it back.
/// The kernel's `tools/cgroup/iocost_coef_gen.py` measures the six numbers.
///
/// ```
/// use cgroupfs::{Bytes, IoCostModel, IoCostModelKind};
///
/// let model = IoCostModel {
///     model: Some(IoCostModelKind::Linear),
///     rbps: Some(Bytes::mib(2048)),
///     rrandiops: Some(230_000),
///     ..IoCostModel::default()
/// };
/// assert_eq!(model.to_string(), "model=linear rbps=2147483648 rrandiops=230000");
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
// Not #[non_exhaustive]: as IoCostQos.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IoCostModel {
    /// Who sets the parameters below.
    pub ctrl: Option<IoCostControl>,
    /// Which model they belong to.
    pub model: Option<IoCostModelKind>,
    /// Bytes that it reads in a second, one after another.
    pub rbps: Option<Bytes>,
    /// Reads of 4 KiB in a second, one after another.
    pub rseqiops: Option<u64>,
    /// Reads of 4 KiB in a second, anywhere.
    pub rrandiops: Option<u64>,
    /// Bytes that it writes in a second, one after another.
    pub wbps: Option<Bytes>,
    /// Writes of 4 KiB in a second, one after another.
    pub wseqiops: Option<u64>,
    /// Writes of 4 KiB in a second, anywhere.
    pub wrandiops: Option<u64>,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, String>,
}

impl fmt::Display for IoCostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Words::new(f);
        words.pair("model", &self.model)?;
        words.pair("rbps", &self.rbps)?;
        words.pair("rseqiops", &self.rseqiops)?;
        words.pair("rrandiops", &self.rrandiops)?;
        words.pair("wbps", &self.wbps)?;
        words.pair("wseqiops", &self.wseqiops)?;
        words.pair("wrandiops", &self.wrandiops)?;
        words.others(&self.other)?;
        words.pair("ctrl", &self.ctrl)
    }
}

impl FromStr for IoCostModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |value: &str| {
            let invalid = || Error::invalid(MODEL, "not a number below 2^64").on(Subject::Value(value.to_owned()));
            number(value).ok_or_else(invalid).map(Some)
        };
        let mut model = Self::default();
        for pair in pairs(MODEL, text) {
            match pair? {
                ("ctrl", value) => model.ctrl = Some(value.parse()?),
                ("model", value) => model.model = Some(value.parse()?),
                ("rbps", value) => model.rbps = plain(value)?.map(Bytes),
                ("rseqiops", value) => model.rseqiops = plain(value)?,
                ("rrandiops", value) => model.rrandiops = plain(value)?,
                ("wbps", value) => model.wbps = plain(value)?.map(Bytes),
                ("wseqiops", value) => model.wseqiops = plain(value)?,
                ("wrandiops", value) => model.wrandiops = plain(value)?,
                (key, value) => _ = model.other.insert(key.to_owned(), value.to_owned()),
            }
        }
        Ok(model)
    }
}

fn pairs<'a>(operation: &'static str, text: &'a str) -> impl Iterator<Item = Result<(&'a str, &'a str)>> {
    text.split_ascii_whitespace().map(move |word| {
        let invalid = || Error::invalid(operation, "a word without =").on(Subject::Value(text.to_owned()));
        word.split_once('=').ok_or_else(invalid)
    })
}

/// Words with a space between them.
struct Words<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    gap: &'static str,
}

impl<'a, 'b> Words<'a, 'b> {
    fn new(to: &'a mut fmt::Formatter<'b>) -> Self {
        Self { to, gap: "" }
    }

    fn pair(&mut self, key: &str, value: &Option<impl fmt::Display>) -> fmt::Result {
        if let Some(value) = value {
            write!(self.to, "{}{key}={value}", self.gap)?;
            self.gap = " ";
        }
        Ok(())
    }

    fn others(&mut self, other: &BTreeMap<String, String>) -> fmt::Result {
        other.iter().try_for_each(|(key, value)| self.pair(key, &Some(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, PerDevice, Percent};
    use proptest::option::of;
    use proptest::prelude::*;

    #[test]
    fn as_the_kernel_writes_them() {
        let line = "8:16 enable=1 ctrl=auto rpct=95.00 rlat=75000 wpct=95.00 wlat=150000 min=50.00 max=150.00\n";
        let all: PerDevice<IoCostQos> = line.parse().expect("kernel documentation");
        let qos = all.get("8:16".parse().expect("device")).expect("line");
        assert_eq!(qos.ctrl, Some(IoCostControl::Auto));
        assert_eq!(qos.wlat.expect("wlat").get(), Duration::from_millis(150));
        // Written back, ctrl is the last word: before the others it would not hold.
        assert_eq!(
            qos.to_string(),
            "enable=1 rpct=95.00 rlat=75000 wpct=95.00 wlat=150000 min=50.00 max=150.00 ctrl=auto"
        );
        let line = "254:0 ctrl=user model=linear rbps=174019176 rseqiops=41708 rrandiops=370 wbps=178075866 \
                    wseqiops=42705 wrandiops=378\n";
        let all: PerDevice<IoCostModel> = line.parse().expect("kernel");
        let model = &all.devices.first_key_value().expect("line").1;
        assert_eq!((model.rbps, model.wrandiops), (Some(Bytes(174_019_176)), Some(378)));
        assert!(
            model.to_string().starts_with("model=linear rbps=174019176") && model.to_string().ends_with("ctrl=user")
        );
    }

    #[test]
    fn newer_keys_are_kept() {
        let qos: IoCostQos = "enable=1 burst=3".parse().expect("newer");
        assert_eq!((qos.other["burst"].as_str(), qos.to_string().as_str()), ("3", "enable=1 burst=3"));
    }

    #[test]
    fn what_is_refused() {
        for text in ["enable", "enable=2", "enable=yes", "ctrl=root", "rpct=101", "rlat=-1", "rlat=4294967296", "min=0"]
        {
            assert_eq!(text.parse::<IoCostQos>().expect_err(text).kind(), ErrorKind::Invalid, "{text}");
        }
        for text in ["model", "model=cubic", "rbps=1k", "rbps=", "wbps=+1", "rseqiops=18446744073709551616"] {
            assert_eq!(text.parse::<IoCostModel>().expect_err(text).kind(), ErrorKind::Invalid, "{text}");
        }
        let upside_down: IoCostQos = "min=150 max=50".parse().expect("values");
        let error = upside_down.check().expect_err("min above max");
        assert_eq!(error.to_string(), "write io.cost.qos: min=150.00 is more than max=50.00");
        assert!("min=50 max=50".parse::<IoCostQos>().expect("values").check().is_ok());
    }

    fn control() -> impl Strategy<Value = Option<IoCostControl>> {
        of(prop_oneof![Just(IoCostControl::Auto), Just(IoCostControl::User)])
    }

    prop_compose! {
        fn qos()(
            enable in of(prop_oneof![Just(IoCost::Enabled), Just(IoCost::Disabled)]),
            ctrl in control(),
            pct in (of(0u32..=10_000), of(0u32..=10_000)),
            lat in (of(any::<u32>()), of(any::<u32>())),
            scale in (of(100u32..=1_000_000), of(100u32..=1_000_000)),
        ) -> IoCostQos {
            let percentile = |number: Option<u32>| number.map(|number| Percentile::try_from(Percent::from_hundredths(number)).unwrap());
            let scaling = |number: Option<u32>| number.map(|number| ScalePercent::try_from(Percent::from_hundredths(number)).unwrap());
            let latency = |usec: Option<u32>| {
                usec.map(|usec| IoCostLatency::new(Duration::from_micros(usec.into())).unwrap())
            };
            IoCostQos {
                enable, ctrl, rpct: percentile(pct.0), wpct: percentile(pct.1), rlat: latency(lat.0), wlat: latency(lat.1),
                min: scaling(scale.0), max: scaling(scale.1), other: BTreeMap::new(),
            }
        }
    }

    proptest! {
        #[test]
        fn qos_round_trips(qos in qos()) {
            prop_assert_eq!(qos.to_string().parse::<IoCostQos>().unwrap(), qos);
        }

        #[test]
        fn models_round_trip(ctrl in control(), linear: bool, numbers in prop::array::uniform6(of(any::<u64>()))) {
            let [rbps, rseqiops, rrandiops, wbps, wseqiops, wrandiops] = numbers;
            let model = IoCostModel {
                ctrl, model: linear.then_some(IoCostModelKind::Linear), rbps: rbps.map(Bytes), rseqiops, rrandiops,
                wbps: wbps.map(Bytes), wseqiops, wrandiops, other: BTreeMap::new(),
            };
            prop_assert_eq!(model.to_string().parse::<IoCostModel>().unwrap(), model);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "((enable|rpct|rlat|min|rbps|model|x)=[0-9a-z.]{0,22} ){0,4}") {
            let _ = (text.parse::<IoCostQos>(), text.parse::<IoCostModel>());
            let _ = (near.parse::<IoCostQos>(), near.parse::<IoCostModel>());
        }
    }
}
