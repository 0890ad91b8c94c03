//! The token bucket filter.
#![forbid(unsafe_code)]

use std::time::Duration;

use cellkit_core::{Error, Result, Subject};

use super::message::{TCA_OPTIONS, bytes_of, rate_at, rate_spec, ticks, u32_at, u64_in, wide};
use super::rate::Rate;
use crate::attr::{self, Writer};

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

/// How long a burst at the rate lasts, unless that would be less than [`LEAST_BURST`].
const BURST: Duration = Duration::from_millis(10);
/// Ten full packets of Ethernet: what TCP sends at the beginning, at whatever rate.
const LEAST_BURST: u32 = 16 << 10;
const LATENCY: Duration = Duration::from_millis(50);
/// The smallest MTU of IPv4 and a header of Ethernet: no packet would pass less.
const LEAST_PACKET: u32 = 68 + 14;

/// A token bucket filter: an interface sends no more than `rate`, and what is too much waits.
///
/// * `rate`: with the headers of Ethernet, so TCP gets some 4 % less.
/// * `burst`: how many bytes may go at once after a pause. Packets that are larger are dropped, so it is at least the
///   MTU with 14 bytes of header, whereas the packets of up to 64 KiB that local TCP hands over unsegmented (GSO) are cut
///   into single ones where they do not fit: that costs the processor more and keeps them evenly spaced. Default: 10 ms of
///   the rate, and at least 16 KiB: from 53 mbit on, where cutting would begin to cost, such packets pass whole.
/// * `limit` or `latency`: how much may wait, beyond which it is dropped. Default: 50 ms: enough that a TCP connection
///   that backs off still keeps the line busy, and not so much that everybody else waits for it.
///
/// Kernel: `CONFIG_NET_SCH_TBF`. It reads times in ticks of 64 ns, so a burst reads back a few bytes off what was
/// written. Rates from 34.4 Gbit/s on are in an attribute of their own (Linux 3.13).
///
/// See tc-tbf(8): <https://man7.org/linux/man-pages/man8/tc-tbf.8.html>.
///
/// ```
/// use std::time::Duration;
/// use vethnet::{Rate, Tbf};
///
/// let tbf = Tbf::new(Rate::mbit(8)).latency(Duration::from_millis(20));
/// assert_eq!(tbf.burst_bytes(), 16 << 10);
/// assert_eq!(tbf.limit_bytes(), 20_000 + (16 << 10));
/// ```
#[doc(alias = "tc_tbf_qopt")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Tbf {
    rate: Rate,
    burst: Option<u32>,
    queue: Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Latency(Duration),
    Limit(u32),
}

impl Tbf {
    /// At this rate.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, burst: None, queue: Queue::Latency(LATENCY) }
    }

    /// How many bytes may go at once after a pause.
    pub const fn burst(mut self, bytes: u32) -> Self {
        self.burst = Some(bytes);
        self
    }

    /// How many bytes may wait, those included that the burst lets pass.
    pub const fn limit(mut self, bytes: u32) -> Self {
        self.queue = Queue::Limit(bytes);
        self
    }

    /// How long a packet may wait. Instead of [`limit`](Tbf::limit).
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.queue = Queue::Latency(latency);
        self
    }

    /// The rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// The burst, in bytes: as it was set, or the default.
    #[must_use]
    pub fn burst_bytes(&self) -> u32 {
        self.burst.unwrap_or_else(|| bytes_within(self.rate, BURST).max(LEAST_BURST))
    }

    /// How much may wait, in bytes: as it was set, or what follows from the latency.
    #[must_use]
    pub fn limit_bytes(&self) -> u32 {
        match self.queue {
            Queue::Limit(bytes) => bytes,
            Queue::Latency(latency) => bytes_within(self.rate, latency).saturating_add(self.burst_bytes()),
        }
    }

    /// Refuses what would let nothing pass.
    pub(crate) fn check(&self) -> Result<()> {
        let fail = |why: &'static str| {
            Err(Error::invalid("tbf", why).on(Subject::Value(format!(
                "rate {} burst {}",
                self.rate,
                self.burst_bytes()
            ))))
        };
        if self.rate == Rate::bytes_per_second(0) {
            fail("at a rate of nothing, nothing would ever pass")
        } else if self.burst_bytes() < LEAST_PACKET {
            fail(
                "the burst is smaller than a packet, so nothing would ever pass: it has to be at least the MTU and 14 bytes",
            )
        } else if self.limit_bytes() < LEAST_PACKET {
            fail("the limit is smaller than a packet, so nothing would ever pass")
        } else if ticks(self.rate, self.burst_bytes()).is_none() {
            fail("the burst would last for more than 274 seconds, which the kernel cannot count")
        } else {
            Ok(())
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let burst = self.burst_bytes();
        // struct tc_tbf_qopt: rate, peakrate, limit, buffer, mtu.
        let mut parameters = rate_spec(self.rate).to_vec();
        parameters.extend_from_slice(&[0; 12]);
        for number in [self.limit_bytes(), ticks(self.rate, burst).unwrap_or(u32::MAX), 0] {
            parameters.extend_from_slice(&number.to_ne_bytes());
        }
        writer.nest(TCA_OPTIONS, |options| {
            options.put(TCA_TBF_PARMS, &parameters).put(TCA_TBF_BURST, &burst.to_ne_bytes());
            if let Some(rate) = wide(self.rate) {
                options.put(TCA_TBF_RATE64, &rate);
            }
        });
    }

    pub(crate) fn parse(options: &[u8]) -> Option<Self> {
        let parameters = attr::find(options, TCA_TBF_PARMS)?;
        let rate = rate_at(parameters, 0, u64_in(options, TCA_TBF_RATE64))?;
        let burst = bytes_of(rate, u32_at(parameters, 28)?);
        Some(Self::new(rate).burst(burst).limit(u32_at(parameters, 24)?))
    }
}

fn bytes_within(rate: Rate, time: Duration) -> u32 {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    u32::try_from(rate.bytes_in(nanoseconds)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(tbf: &Tbf) -> Vec<u8> {
        let mut writer = Writer::new(&[]);
        tbf.write(&mut writer);
        attr::find(&writer.finish().unwrap(), TCA_OPTIONS).unwrap().to_vec()
    }

    #[test]
    fn defaults() {
        let slow = Tbf::new(Rate::mbit(1));
        assert_eq!((slow.burst_bytes(), slow.limit_bytes()), (16384, 6250 + 16384));
        let fast = Tbf::new(Rate::gbit(1));
        assert_eq!((fast.burst_bytes(), fast.limit_bytes()), (1_250_000, 6_250_000 + 1_250_000));
        // From here on a packet of 64 KiB passes whole.
        assert!(Tbf::new(Rate::mbit(53)).burst_bytes() > 65536 && Tbf::new(Rate::mbit(52)).burst_bytes() < 65536);
        assert_eq!(Tbf::new(Rate::gbit(u32::MAX)).limit_bytes(), u32::MAX);
    }

    #[test]
    fn what_is_refused() {
        for (tbf, why) in [
            (Tbf::new(Rate::mbit(0)), "nothing"),
            (Tbf::new(Rate::mbit(1)).burst(0), "burst is smaller"),
            (Tbf::new(Rate::mbit(1)).burst(81), "burst is smaller"),
            (Tbf::new(Rate::mbit(1)).limit(81), "limit is smaller"),
            (Tbf::new(Rate::bits_per_second(8)), "274 seconds"),
        ] {
            let error = tbf.check().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
        Tbf::new(Rate::kbit(8)).check().unwrap();
        Tbf::new(Rate::gbit(1000)).check().unwrap();
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in 1u64..1_000_000_000_000, burst in 82u32..100_000_000, limit in 82u32..) {
            let tbf = Tbf::new(Rate::bytes_per_second(bytes)).burst(burst).limit(limit);
            if tbf.check().is_ok() {
                let read = Tbf::parse(&options(&tbf)).unwrap();
                prop_assert_eq!((read.rate(), read.limit_bytes()), (tbf.rate(), limit));
                prop_assert!(read.burst_bytes() >= burst);
            }
        }

        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Tbf::parse(&bytes);
        }
    }
}
