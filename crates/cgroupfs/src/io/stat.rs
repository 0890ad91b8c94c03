//! What a group has read from and written to one disk: `io.stat`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::words::number;
use crate::{Error, Max, Percent, Result};

/// What a group and those below it have done to one disk: a line of `io.stat`.
///
/// The first six are there on every kernel; a disk of whom the kernel says nothing has none of anything. The others are there
/// while the io.cost controller is in charge of the disk, or by the parameter `blkcg_debug_stats` of the kernel's `blk_cgroup`.
///
/// ```
/// use cgroupfs::{IoStat, PerDevice};
///
/// let text = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n";
/// let stat: PerDevice<IoStat> = text.parse()?;
/// assert_eq!(stat.get("8:16".parse()?).map(|disk| disk.wios), Some(353));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "io.stat")]
pub struct IoStat {
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Reads.
    pub rios: u64,
    /// Writes.
    pub wios: u64,
    /// Bytes discarded.
    pub dbytes: u64,
    /// Discards.
    pub dios: u64,
    /// `cost.vrate`: how far the speed of the disk is scaled. At the root of the hierarchy only.
    pub cost_vrate: Option<Percent>,
    /// `cost.usage`: time of the disk that it used, in microseconds.
    pub cost_usage: Option<u64>,
    /// `cost.wait`: time that it waited for its share, in microseconds. Debugging.
    pub cost_wait: Option<u64>,
    /// `cost.indebt`: time that it was in debt for requests that could not wait, in microseconds. Debugging.
    pub cost_indebt: Option<u64>,
    /// `cost.indelay`: time that it was held back for its debt, in microseconds. Debugging.
    pub cost_indelay: Option<u64>,
    /// How often it was asked to hold back. Debugging.
    pub use_delay: Option<u64>,
    /// How long it was asked to hold back, in nanoseconds. Debugging.
    pub delay_nsec: Option<u64>,
    /// Of an SSD, how many requests missed the target of `io.latency` in the window. Debugging.
    pub missed: Option<u64>,
    /// Of an SSD, how many requests there were in the window. Debugging.
    pub total: Option<u64>,
    /// How many requests it may have under way for the sake of others' `io.latency`. Debugging.
    pub depth: Option<Max<u64>>,
    /// Of a disk that turns, the average latency in microseconds. Debugging.
    pub avg_lat: Option<u64>,
    /// Of a disk that turns, the window in milliseconds. Debugging.
    pub win: Option<u64>,
    /// Keys that this version of the library does not know, and values that are not what is expected.
    pub other: BTreeMap<String, String>,
}

impl IoStat {
    /// Takes in one word; false when it is none that is known.
    fn take(&mut self, key: &str, value: &str) -> bool {
        let number = || number::<u64>(value);
        let needed = |field: &mut u64| number().map(|number| *field = number).is_some();
        let extra = |field: &mut Option<u64>| {
            *field = number();
            field.is_some()
        };
        match key {
            "rbytes" => needed(&mut self.rbytes),
            "wbytes" => needed(&mut self.wbytes),
            "rios" => needed(&mut self.rios),
            "wios" => needed(&mut self.wios),
            "dbytes" => needed(&mut self.dbytes),
            "dios" => needed(&mut self.dios),
            "cost.vrate" => {
                self.cost_vrate = value.parse().ok();
                self.cost_vrate.is_some()
            }
            "cost.usage" => extra(&mut self.cost_usage),
            "cost.wait" => extra(&mut self.cost_wait),
            "cost.indebt" => extra(&mut self.cost_indebt),
            "cost.indelay" => extra(&mut self.cost_indelay),
            "use_delay" => extra(&mut self.use_delay),
            "delay_nsec" => extra(&mut self.delay_nsec),
            "missed" => extra(&mut self.missed),
            "total" => extra(&mut self.total),
            "depth" => {
                self.depth = if value == "max" { Some(Max::Max) } else { number().map(Max::Value) };
                self.depth.is_some()
            }
            "avg_lat" => extra(&mut self.avg_lat),
            "win" => extra(&mut self.win),
            _ => false,
        }
    }
}

impl FromStr for IoStat {
    type Err = Error;

    /// Reads what is after the device. It takes any text: what is not understood is in `other`.
    fn from_str(text: &str) -> Result<Self> {
        let mut stat = Self::default();
        for word in text.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if !stat.take(key, value) {
                stat.other.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PerDevice;
    use proptest::prelude::*;

    #[test]
    fn as_kernels_write_them() {
        // Linux 6.12 lists disks of whom it has nothing to say.
        let text = "254:0 \n7:7 \n8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021 \
                    cost.vrate=100.00 cost.usage=17\n(unknown) rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n";
        let stat: PerDevice<IoStat> = text.parse().expect("stat");
        assert_eq!((stat.devices.len(), stat.gone.len(), stat.gone[0].rbytes), (3, 1, 1));
        let disk = stat.get("8:0".parse().expect("8:0")).expect("disk");
        assert_eq!((disk.dios, disk.cost_usage), (3021, Some(17)));
        assert_eq!(disk.cost_vrate, Some(Percent::from_hundredths(10_000)));
        assert_eq!(stat.get("254:0".parse().expect("254:0")), Some(&IoStat::default()));
    }

    #[test]
    fn what_is_there_for_debugging_and_what_is_not_known() {
        let text =
            "rbytes=1 use_delay=2 delay_nsec=3 depth=max avg_lat=4 win=5 cost.wait=6 cost.indebt=7 cost.indelay=8";
        let stat: IoStat = text.parse().expect("stat");
        assert_eq!((stat.use_delay, stat.delay_nsec, stat.avg_lat, stat.win), (Some(2), Some(3), Some(4), Some(5)));
        assert_eq!((stat.cost_wait, stat.cost_indebt, stat.cost_indelay), (Some(6), Some(7), Some(8)));
        assert_eq!((stat.depth, stat.other.len()), (Some(Max::Max), 0));
        let stat: IoStat = "missed=1 total=2 depth=3".parse().expect("SSD");
        assert_eq!((stat.missed, stat.total, stat.depth), (Some(1), Some(2), Some(Max::Value(3))));
        let stat: IoStat = "rbytes=x later=max word depth=deep cost.vrate=fast".parse().expect("odd");
        let kept: Vec<_> = stat.other.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(kept, [("cost.vrate", "fast"), ("depth", "deep"), ("later", "max"), ("rbytes", "x"), ("word", "")]);
    }

    proptest! {
        #[test]
        fn numbers_go_to_their_fields(rbytes: u64, wbytes: u64, rios: u64, wios: u64, dbytes: u64, dios: u64) {
            let text = format!("rbytes={rbytes} wbytes={wbytes} rios={rios} wios={wios} dbytes={dbytes} dios={dios}");
            let stat: IoStat = text.parse().unwrap();
            let expected = IoStat { rbytes, wbytes, rios, wios, dbytes, dios, ..IoStat::default() };
            prop_assert_eq!(stat, expected);
        }

        #[test]
        fn no_text_is_refused(text in "\\PC*", near in "((rbytes|cost.vrate|depth|x)=?[0-9a-z.]{0,8} ){0,5}") {
            prop_assert!(text.parse::<IoStat>().is_ok() && near.parse::<IoStat>().is_ok());
        }
    }
}
