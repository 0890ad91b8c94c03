//! The network emulator: delay and loss on purpose.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use cellkit_core::{Error, Result, Subject};

use super::message::{TCA_OPTIONS, u32_at};
use crate::attr::Writer;

const TICK_NANOSECONDS: u128 = 64;
const LIMIT: u32 = 1_000;

/// How many of a million, from none to all.
///
/// ```
/// use vethnet::Probability;
///
/// assert_eq!(Probability::percent(2)?.to_string(), "2%");
/// assert_eq!(Probability::per_million(1_500)?.to_string(), "0.15%");
/// assert!(Probability::percent(101).is_err());
/// # Ok::<(), vethnet::Error>(())
/// ```
///
/// See tc-netem(8): <https://man7.org/linux/man-pages/man8/tc-netem.8.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Probability(u32);

impl Probability {
    /// So many of a million.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for more than a million.
    pub fn per_million(share: u32) -> Result<Self> {
        if share <= 1_000_000 {
            return Ok(Self(share));
        }
        Err(Error::invalid("probability", "it is more than all").on(Subject::Value(share.to_string())))
    }

    /// So many of a hundred.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for more than a hundred.
    pub fn percent(share: u8) -> Result<Self> {
        Self::per_million(u32::from(share) * 10_000)
    }

    /// The kernel's: all is the largest number.
    fn raw(self) -> u32 {
        u32::try_from(u64::from(self.0) * u64::from(u32::MAX) / 1_000_000).unwrap_or(u32::MAX)
    }

    fn from_raw(raw: u32) -> Self {
        Self(u32::try_from((u64::from(raw) * 1_000_000).div_ceil(u64::from(u32::MAX))).unwrap_or(1_000_000))
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A network emulator: what an interface sends is late, lost or doubled, as on a bad line. For tests.
///
/// Kernel: `CONFIG_NET_SCH_NETEM`, which many distributions have in a package of its own (kernel-modules-extra). Times
/// up to 274 seconds.
///
/// See tc-netem(8): <https://man7.org/linux/man-pages/man8/tc-netem.8.html>.
///
/// ```no_run
/// use std::time::Duration;
/// use vethnet::{IfName, Net, Netem, Parent, Probability};
///
/// # async fn example(net: &Net, eth0: &IfName) -> vethnet::Result<()> {
/// let line = Netem::new().delay(Duration::from_millis(40)).jitter(Duration::from_millis(5)).loss(Probability::percent(1)?);
/// net.set_qdisc(eth0, Parent::Root, line).await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "tc_netem_qopt")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Netem {
    delay: Duration,
    jitter: Duration,
    loss: Probability,
    duplicate: Probability,
    limit: u32,
}

impl Default for Netem {
    fn default() -> Self {
        Self::new()
    }
}

impl Netem {
    /// A perfect line.
    pub const fn new() -> Self {
        let (none, never) = (Duration::ZERO, Probability(0));
        Self { delay: none, jitter: none, loss: never, duplicate: never, limit: LIMIT }
    }

    /// How late each packet is.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How much the delay varies to both sides. Packets may overtake each other then.
    pub const fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many are lost.
    pub const fn loss(mut self, share: Probability) -> Self {
        self.loss = share;
        self
    }

    /// How many come twice.
    pub const fn duplicate(mut self, share: Probability) -> Self {
        self.duplicate = share;
        self
    }

    /// How many packets may be on the way. Default: 1000. A fast line with a long delay needs more.
    pub const fn limit(mut self, packets: u32) -> Self {
        self.limit = packets;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail =
            |why: &'static str| Err(Error::invalid("netem", why).on(Subject::Value(format!("{:?}", self.delay))));
        if ticks(self.delay).is_none() || ticks(self.jitter).is_none() {
            fail("a delay has to be less than 274 seconds")
        } else if self.limit == 0 {
            fail("with a limit of no packets, nothing would ever pass")
        } else {
            Ok(())
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter. Attributes could follow.
        let mut options = Vec::with_capacity(24);
        let time = |time| ticks(time).unwrap_or(u32::MAX);
        let fields = [time(self.delay), self.limit, self.loss.raw(), 0, self.duplicate.raw(), time(self.jitter)];
        for number in fields {
            options.extend_from_slice(&number.to_ne_bytes());
        }
        writer.put(TCA_OPTIONS, &options);
    }

    pub(crate) fn parse(options: &[u8]) -> Option<Self> {
        let number = |at| u32_at(options, at);
        let time = |at| Some(Duration::from_nanos(u64::from(number(at)?) * 64));
        Some(Self {
            delay: time(0)?,
            limit: number(4)?,
            loss: Probability::from_raw(number(8)?),
            duplicate: Probability::from_raw(number(16)?),
            jitter: time(20)?,
        })
    }
}

fn ticks(time: Duration) -> Option<u32> {
    u32::try_from(time.as_nanos().div_ceil(TICK_NANOSECONDS)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused() {
        assert!(Netem::new().delay(Duration::from_secs(275)).check().is_err());
        assert!(Netem::new().limit(0).check().is_err());
        Netem::new().delay(Duration::from_secs(274)).check().unwrap();
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(delay in 0u64..4_000_000_000, jitter in 0u64..4_000_000_000, loss in 0u32..=1_000_000, limit in 1u32..) {
            let netem = Netem::new()
                .delay(Duration::from_nanos(delay * 64))
                .jitter(Duration::from_nanos(jitter * 64))
                .loss(Probability::per_million(loss).unwrap())
                .limit(limit);
            let mut writer = Writer::new(&[]);
            netem.write(&mut writer);
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(Netem::parse(attr::find(&bytes, TCA_OPTIONS).unwrap()), Some(netem));
        }

        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(netem) = Netem::parse(&bytes) {
                prop_assert!(netem.loss.0 <= 1_000_000);
            }
        }
    }
}
