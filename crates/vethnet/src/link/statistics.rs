//! [`LinkStatistics`]: what a link has counted.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use crate::attr;
use crate::exchange::{Mode, Request};
use crate::link::LinkRef;
use crate::link::consts::RTM_GETSTATS;
use crate::link::read::u32_of;
use crate::net::Net;

/// `struct if_stats_msg`
const HEADER: usize = 12;
/// IFLA_STATS_LINK_64, and its bit in the filter.
const LINK_64: u16 = 1;

/// The counters in the order of `struct rtnl_link_stats64`, each with what it counts.
macro_rules! counters {
    ($($name:ident: $text:literal,)*) => {
        /// What a link has counted since it was made.
        ///
        /// * Kernel: `struct rtnl_link_stats64`, by RTM_GETSTATS. What each driver counts where is its own; for virtual links
        ///   the first eight matter.
        ///
        /// ```no_run
        /// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
        /// let counted = net.link_statistics(vethnet::IfName::new("eth0")?).await?;
        /// println!("{} bytes in, {} out", counted.rx_bytes, counted.tx_bytes);
        /// # Ok(())
        /// # }
        /// ```
        ///
        /// See the kernel's documentation: <https://docs.kernel.org/networking/statistics.html>.
        #[doc(alias = "rtnl_link_stats64")]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct LinkStatistics {
            $(#[doc = $text] pub $name: u64,)*
            /// Packets received that were meant for another machine. Linux 5.19.
            pub rx_otherhost_dropped: Option<u64>,
        }

        impl LinkStatistics {
            /// A kernel that counts less, or more, says so by the length.
            fn parse(bytes: &[u8]) -> Self {
                let mut words = bytes.chunks_exact(8).filter_map(|word| word.first_chunk().copied().map(u64::from_ne_bytes));
                Self {
                    $($name: words.next().unwrap_or_default(),)*
                    rx_otherhost_dropped: words.next(),
                }
            }
        }
    };
}

counters! {
    rx_packets: "Packets received.",
    tx_packets: "Packets sent.",
    rx_bytes: "Bytes received.",
    tx_bytes: "Bytes sent.",
    rx_errors: "Packets received that were bad.",
    tx_errors: "Packets that could not be sent.",
    rx_dropped: "Packets received and not passed on.",
    tx_dropped: "Packets dropped on their way out.",
    multicast: "Multicast packets received.",
    collisions: "Collisions while sending.",
    rx_length_errors: "Packets received of a wrong length.",
    rx_over_errors: "Packets received that were too much at once.",
    rx_crc_errors: "Packets received with a wrong checksum.",
    rx_frame_errors: "Packets received that were not aligned.",
    rx_fifo_errors: "Packets received for which the queue had no room.",
    rx_missed_errors: "Packets that the host had no buffer for.",
    tx_aborted_errors: "Packets whose sending was given up.",
    tx_carrier_errors: "Packets not sent for want of a carrier.",
    tx_fifo_errors: "Packets not sent for want of room in the queue.",
    tx_heartbeat_errors: "Heartbeat errors while sending.",
    tx_window_errors: "Late collisions while sending.",
    rx_compressed: "Compressed packets received.",
    tx_compressed: "Compressed packets sent.",
    rx_nohandler: "Packets received that nobody wanted.",
}

fn get(index: u32, link: Option<&LinkRef>) -> Request {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&1u32.to_ne_bytes());
    Request { operation: "RTM_GETSTATS", subject: link.map(LinkRef::subject), kind: RTM_GETSTATS, flags: 0, body }
}

fn take(body: &[u8]) -> Option<(u32, LinkStatistics)> {
    let index = body.get(4..).and_then(u32_of)?;
    let counters = attr::find(body.get(HEADER..)?, LINK_64)?;
    Some((index, LinkStatistics::parse(counters)))
}

impl Net {
    /// What one link has counted.
    ///
    /// C call: RTM_GETSTATS with IFLA_STATS_LINK_64. Kernel 4.7. Privileges: none.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound): there is no such link.
    #[doc(alias = "IFLA_STATS_LINK_64")]
    pub async fn link_statistics(&self, link: impl Into<LinkRef>) -> Result<LinkStatistics> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        let answers = self.request(get(index, Some(&link))).await?;
        let found = answers.first().and_then(|body| take(body));
        found
            .map(|(_, counted)| counted)
            .ok_or_else(|| Error::parse("RTM_GETSTATS", "the kernel's answer has no counters").on(link.subject()))
    }

    /// What every link has counted, each with its number.
    ///
    /// C call: RTM_GETSTATS with NLM_F_DUMP. Kernel 4.7. Privileges: none.
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    pub async fn statistics(&self) -> Result<Vec<(u32, LinkStatistics)>> {
        let answers = self.talk(&[get(0, None)], Mode::Dump).await?;
        Ok(answers.iter().filter_map(|body| take(body)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_the_order_of_the_header() {
        let words: Vec<u8> = (1..=25u64).flat_map(u64::to_ne_bytes).collect();
        let counted = LinkStatistics::parse(&words);
        assert_eq!((counted.rx_packets, counted.tx_bytes, counted.rx_nohandler), (1, 4, 24));
        assert_eq!(counted.rx_otherhost_dropped, Some(25));
        assert_eq!(LinkStatistics::parse(&words[..24 * 8]).rx_otherhost_dropped, None, "before 5.19");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..260)) {
            let _ = take(&bytes);
        }
    }
}
