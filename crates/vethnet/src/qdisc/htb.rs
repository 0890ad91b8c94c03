//! The hierarchical token bucket: classes that share a rate.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use super::handle::Handle;
use super::message::{TCA_OPTIONS, bytes_of, rate_at, rate_spec, ticks, u32_at, u64_in, wide};
use super::rate::Rate;
use crate::attr::{self, Writer};

const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const HTB_VERSION: u32 = 3;
/// The kernel's own default; each of our classes says its quantum, so that it is never used.
const RATE_TO_QUANTUM: u32 = 10;
/// The kernel warns below and above.
const QUANTUM: std::ops::RangeInclusive<u32> = 1_600..=200_000;

/// A hierarchical token bucket: an interface's rate divided among [classes](HtbClass), which lend each other what they do
/// not use.
///
/// What no [filter](crate::Filter) puts into a class goes to the default class; without one it passes unlimited.
///
/// Kernel: `CONFIG_NET_SCH_HTB`.
///
/// See tc-htb(8): <https://man7.org/linux/man-pages/man8/tc-htb.8.html>.
///
/// ```no_run
/// use vethnet::{Htb, HtbClass, IfName, Net, Parent, Rate};
///
/// # async fn example(net: &Net, eth0: &IfName) -> vethnet::Result<()> {
/// let root = "1:".parse()?;
/// net.set_qdisc(eth0, Parent::Root, Htb::new(root).default_class(0x20)).await?;
/// net.set_class(eth0, "1:".parse()?, "1:1".parse()?, &HtbClass::new(Rate::mbit(100))).await?;
/// net.set_class(eth0, "1:1".parse()?, "1:10".parse()?, &HtbClass::new(Rate::mbit(70)).ceil(Rate::mbit(100))).await?;
/// net.set_class(eth0, "1:1".parse()?, "1:20".parse()?, &HtbClass::new(Rate::mbit(30))).await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "tc_htb_glob")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Htb {
    handle: Handle,
    default_class: Option<u16>,
}

impl Htb {
    /// With this handle, which the classes name.
    pub const fn new(handle: Handle) -> Self {
        Self { handle, default_class: None }
    }

    /// The class of what no filter classifies: its minor number.
    pub const fn default_class(mut self, minor: u16) -> Self {
        self.default_class = if minor == 0 { None } else { Some(minor) };
        self
    }

    /// Its handle.
    #[must_use]
    pub const fn handle(&self) -> Handle {
        self.handle
    }

    /// The class of what no filter classifies.
    #[must_use]
    pub const fn default_minor(&self) -> Option<u16> {
        self.default_class
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.handle.minor() == 0 {
            return Ok(());
        }
        Err(Error::invalid("htb", "a qdisc has no second number: that is a class's")
            .on(Subject::Value(self.handle.to_string())))
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
        let mut init = Vec::with_capacity(20);
        for number in [HTB_VERSION, RATE_TO_QUANTUM, u32::from(self.default_class.unwrap_or(0)), 0, 0] {
            init.extend_from_slice(&number.to_ne_bytes());
        }
        writer.nest(TCA_OPTIONS, |options| {
            options.put(TCA_HTB_INIT, &init);
        });
    }

    pub(crate) fn parse(handle: Handle, options: &[u8]) -> Option<Self> {
        let default = u32_at(attr::find(options, TCA_HTB_INIT)?, 8)?;
        Some(Self::new(handle).default_class(u16::try_from(default).ok()?))
    }
}

/// A class of an [`Htb`].
///
/// * `rate`: what it is sure of. `ceil`: what it may borrow up to; default: the rate.
/// * `burst`, `cburst`: how many bytes may go at once at each of the two. Default: as of a [`Tbf`](crate::Tbf).
/// * `quantum`: how many bytes it sends before the next of its siblings that borrow, of the same `prio`. Default: a tenth of
///   the rate in a second, from 1,600 to 200,000.
/// * `prio`: from 0 to 7; lower ones borrow first.
///
/// See tc-htb(8): <https://man7.org/linux/man-pages/man8/tc-htb.8.html>.
///
/// ```
/// use vethnet::{HtbClass, Rate};
///
/// let class = HtbClass::new(Rate::mbit(10)).ceil(Rate::mbit(100)).prio(1);
/// assert_eq!(class.ceil_rate(), Rate::mbit(100));
/// ```
#[doc(alias = "tc_htb_opt")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct HtbClass {
    rate: Rate,
    ceil: Option<Rate>,
    burst: Option<u32>,
    cburst: Option<u32>,
    quantum: Option<u32>,
    prio: u32,
}

impl HtbClass {
    /// Sure of this rate.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, ceil: None, burst: None, cburst: None, quantum: None, prio: 0 }
    }

    /// What it may borrow up to.
    pub const fn ceil(mut self, rate: Rate) -> Self {
        self.ceil = Some(rate);
        self
    }

    /// How many bytes may go at once at the rate.
    pub const fn burst(mut self, bytes: u32) -> Self {
        self.burst = Some(bytes);
        self
    }

    /// How many bytes may go at once at the ceil.
    pub const fn cburst(mut self, bytes: u32) -> Self {
        self.cburst = Some(bytes);
        self
    }

    /// How many bytes it sends before the next sibling.
    pub const fn quantum(mut self, bytes: u32) -> Self {
        self.quantum = Some(bytes);
        self
    }

    /// Which classes borrow first: 0 to 7.
    pub const fn prio(mut self, prio: u8) -> Self {
        self.prio = prio as u32;
        self
    }

    /// What it is sure of.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// What it may borrow up to.
    #[must_use]
    pub fn ceil_rate(&self) -> Rate {
        self.ceil.unwrap_or(self.rate)
    }

    /// How many bytes may go at once at the rate.
    #[must_use]
    pub fn burst_bytes(&self) -> u32 {
        self.burst.unwrap_or_else(|| super::Tbf::new(self.rate).burst_bytes())
    }

    fn cburst_bytes(&self) -> u32 {
        self.cburst.unwrap_or_else(|| super::Tbf::new(self.ceil_rate()).burst_bytes())
    }

    fn quantum_bytes(&self) -> u32 {
        let tenth = u32::try_from(self.rate.as_bytes_per_second() / 10).unwrap_or(u32::MAX);
        self.quantum.unwrap_or(tenth.clamp(*QUANTUM.start(), *QUANTUM.end()))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail = |why: &'static str| {
            let subject = format!("rate {} ceil {} prio {}", self.rate, self.ceil_rate(), self.prio);
            Err(Error::invalid("htb class", why).on(Subject::Value(subject)))
        };
        let zero = Rate::bytes_per_second(0);
        if self.rate == zero || self.ceil_rate() == zero {
            fail("at a rate of nothing, nothing would ever pass")
        } else if self.ceil_rate() < self.rate {
            fail("it may borrow up to less than it is sure of: ceil has to be at least rate")
        } else if self.prio > 7 {
            fail("prio has to be from 0 to 7")
        } else if self.quantum_bytes() == 0 {
            fail("a quantum of nothing would never send")
        } else if ticks(self.rate, self.burst_bytes()).is_none()
            || ticks(self.ceil_rate(), self.cburst_bytes()).is_none()
        {
            fail("a burst would last for more than 274 seconds, which the kernel cannot count")
        } else {
            Ok(())
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let ceil = self.ceil_rate();
        // struct tc_htb_opt: rate, ceil, buffer, cbuffer, quantum, level, prio.
        let mut parameters = [rate_spec(self.rate), rate_spec(ceil)].concat();
        let buffer = ticks(self.rate, self.burst_bytes()).unwrap_or(u32::MAX);
        let cbuffer = ticks(ceil, self.cburst_bytes()).unwrap_or(u32::MAX);
        for number in [buffer, cbuffer, self.quantum_bytes(), 0, self.prio] {
            parameters.extend_from_slice(&number.to_ne_bytes());
        }
        writer.nest(TCA_OPTIONS, |options| {
            options.put(TCA_HTB_PARMS, &parameters);
            for (kind, rate) in [(TCA_HTB_RATE64, self.rate), (TCA_HTB_CEIL64, ceil)] {
                if let Some(rate) = wide(rate) {
                    options.put(kind, &rate);
                }
            }
        });
    }

    pub(crate) fn parse(options: &[u8]) -> Option<Self> {
        let parameters = attr::find(options, TCA_HTB_PARMS)?;
        let number = |at| u32_at(parameters, at);
        let rate = rate_at(parameters, 0, u64_in(options, TCA_HTB_RATE64))?;
        let ceil = rate_at(parameters, 12, u64_in(options, TCA_HTB_CEIL64))?;
        Some(Self {
            rate,
            ceil: Some(ceil),
            burst: Some(bytes_of(rate, number(24)?)),
            cburst: Some(bytes_of(ceil, number(28)?)),
            quantum: Some(number(32)?),
            prio: number(40)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new(&[]);
        write(&mut writer);
        attr::find(&writer.finish().unwrap(), TCA_OPTIONS).unwrap().to_vec()
    }

    #[test]
    fn what_is_refused() {
        for (class, why) in [
            (HtbClass::new(Rate::mbit(0)), "nothing"),
            (HtbClass::new(Rate::mbit(1)).ceil(Rate::kbit(1)), "ceil has to be"),
            (HtbClass::new(Rate::mbit(1)).prio(8), "0 to 7"),
            (HtbClass::new(Rate::mbit(1)).quantum(0), "quantum"),
            (HtbClass::new(Rate::bits_per_second(8)), "274"),
        ] {
            let error = class.check().unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(Htb::new("1:1".parse().unwrap()).check().is_err());
        Htb::new("1:".parse().unwrap()).check().unwrap();
    }

    #[test]
    fn the_quantum_is_one_the_kernel_does_not_warn_of() {
        assert_eq!(HtbClass::new(Rate::kbit(8)).quantum_bytes(), 1_600);
        assert_eq!(HtbClass::new(Rate::mbit(1)).quantum_bytes(), 12_500);
        assert_eq!(HtbClass::new(Rate::gbit(100)).quantum_bytes(), 200_000);
    }

    proptest! {
        #[test]
        fn a_qdisc_that_is_written_is_read(major in 1u16..0xffff, minor: u16) {
            let htb = Htb::new(Handle::new(major, 0).unwrap()).default_class(minor);
            prop_assert_eq!(Htb::parse(htb.handle(), &written(|writer| htb.write(writer))), Some(htb));
        }

        #[test]
        fn a_class_that_is_written_is_read(rate in 1u64..10_000_000_000, more in 0u64..10_000_000_000, prio in 0u8..8) {
            let class = HtbClass::new(Rate::bytes_per_second(rate)).ceil(Rate::bytes_per_second(rate + more)).prio(prio);
            if class.check().is_ok() {
                let read = HtbClass::parse(&written(|writer| class.write(writer))).unwrap();
                prop_assert_eq!((read.rate(), read.ceil_rate(), read.prio), (class.rate(), class.ceil_rate(), class.prio));
                prop_assert_eq!(read.quantum_bytes(), class.quantum_bytes());
                prop_assert!(read.burst_bytes() >= class.burst_bytes());
            }
        }

        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = HtbClass::parse(&bytes);
            let _ = Htb::parse(Handle::new(1, 0).unwrap(), &bytes);
        }
    }
}
