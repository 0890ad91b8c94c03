//! Block devices by their numbers, and the whole disk under a partition or a file.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::number;
use crate::{Error, Result};

/// A block device by its numbers, as the kernel's files name it: `8:0`.
///
/// The io controller takes whole disks only: see [`whole_disk`](Self::whole_disk) for what a partition is part of, and
/// [`under`](Self::under) for what a file is on.
///
/// ```
/// use cgroupfs::DevNum;
///
/// let disk: DevNum = "8:16".parse()?;
/// assert_eq!((disk.major, disk.minor), (8, 16));
/// assert_eq!(disk.to_string(), "8:16");
/// // A path is looked up; a file that is no block device is refused.
/// assert!(DevNum::of_path("/dev/null").is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevNum {
    /// Which driver: 12 bits.
    pub major: u32,
    /// Which of its devices: 20 bits.
    pub minor: u32,
}

impl DevNum {
    /// stat(2): the numbers of the block device at `path`. Those of a partition are its own.
    ///
    /// # Errors
    /// The errno of stat(2); Invalid when it is no block device.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = fs::metadata(path).map_err(|error| Error::from_io("stat", &error).on(path))?;
        if !found.file_type().is_block_device() {
            return Err(Error::invalid("stat", "this is not a block device").on(path));
        }
        Ok(Self::of_raw(found.rdev()))
    }

    /// stat(2) and sysfs: the whole disk that holds the file or directory at `path`.
    ///
    /// That is where reads and writes of the file are limited. A block device itself is not meant: its node is a file of
    /// another file system, and [`of_path`](Self::of_path) has its numbers.
    ///
    /// ```no_run
    /// use cgroupfs::{Bytes, DevNum, Hierarchy, IoMax};
    ///
    /// let disk = DevNum::under("/var/lib/data")?;
    /// let limit = IoMax { wbps: Some(Bytes::mib(20).into()), ..IoMax::default() };
    /// Hierarchy::detect()?.own_group()?.io().set_max(disk, limit)?;
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errno of stat(2); Invalid when its file system is not on one disk (tmpfs, overlay, NFS, Btrfs, ZFS); as
    /// [`whole_disk`](Self::whole_disk).
    pub fn under(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = fs::metadata(path).map_err(|error| Error::from_io("stat", &error).on(path))?;
        let device = Self::of_raw(found.dev());
        if device.major == 0 {
            return Err(Error::invalid("stat", "its file system is not on one disk of its own")
                .on(path)
                .with_hint("findmnt -T PATH shows what the file system is made from: give the disk itself"));
        }
        device.whole_disk()
    }

    /// sysfs (`/sys/dev/block`): the disk that this partition is part of; a whole disk is itself. A disk that is made from
    /// others (device mapper, RAID, a loop device) is one.
    ///
    /// ```no_run
    /// use cgroupfs::DevNum;
    ///
    /// let partition = DevNum::of_path("/dev/sda1")?; // 8:1
    /// assert_eq!(partition.whole_disk()?.to_string(), "8:0");
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// NotFound when there is no such device, or sysfs is not mounted at `/sys`.
    pub fn whole_disk(self) -> Result<Self> {
        let device = Path::new("/sys/dev/block").join(self.to_string());
        let fail = |operation: &'static str, error: &std::io::Error| {
            Error::from_io(operation, error)
                .on(device.clone())
                .with_hint("there is no such block device (lsblk lists them), or sysfs is not mounted at /sys")
        };
        fs::metadata(&device).map_err(|error| fail("stat", &error))?;
        match fs::metadata(device.join("partition")) {
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(fail("stat", &error)),
            Ok(_) => {}
        }
        // The name is a link to the partition's directory, which is in that of its disk.
        let numbers = fs::read_to_string(device.join("../dev")).map_err(|error| fail("read ../dev", &error))?;
        Self::of_numbers(numbers.trim())
            .ok_or_else(|| Error::parse("read ../dev", format!("{numbers:?} is not MAJOR:MINOR")).on(device))
    }

    fn of_raw(number: u64) -> Self {
        Self { major: libc::major(number), minor: libc::minor(number) }
    }

    /// `MAJOR:MINOR` and nothing else.
    pub(crate) fn of_numbers(text: &str) -> Option<Self> {
        let number = |word, bits: u32| number::<u32>(word).filter(|&number| number < 1 << bits);
        let (major, minor) = text.split_once(':')?;
        Some(Self { major: number(major, 12)?, minor: number(minor, 20)? })
    }
}

impl fmt::Display for DevNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DevNum {
    type Err = Error;

    /// `MAJOR:MINOR`, or the path of a block device, which begins with `/` and is looked up.
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Self::of_path(text);
        }
        Self::of_numbers(text.trim()).ok_or_else(|| {
            Error::invalid("parse device", "neither MAJOR:MINOR nor the path of a block device")
                .on(Subject::Value(text.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn devices_that_are_none() {
        for text in ["", "8", "8:", ":0", "-1:0", "+8:0", "8:0:0", "4096:0", "8:1048576", "sda", "8:\0"] {
            assert_eq!(text.parse::<DevNum>().expect_err(text).kind(), ErrorKind::Invalid, "{text}");
        }
        assert_eq!("/dev/null".parse::<DevNum>().expect_err("a character device").kind(), ErrorKind::Invalid);
        assert_eq!("/dev/no-such-disk".parse::<DevNum>().expect_err("nothing").kind(), ErrorKind::NotFound);
        assert_eq!("/dev/x\0y".parse::<DevNum>().expect_err("NUL").to_string().lines().count(), 1);
    }

    #[test]
    fn a_file_that_is_on_no_disk_and_a_disk_that_is_not_there() {
        // procfs is on no disk wherever this runs.
        let error = DevNum::under("/proc/self").expect_err("procfs");
        assert_eq!(error.to_string(), r#"stat "/proc/self": its file system is not on one disk of its own"#);
        assert!(error.hint().expect("hint").contains("findmnt"));
        assert_eq!(DevNum::under("/no/such/file").expect_err("none").kind(), ErrorKind::NotFound);
        let error = DevNum { major: 4000, minor: 77 }.whole_disk().expect_err("no such device");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().expect("hint").contains("lsblk"));
    }

    /// Whatever disks and partitions there are, sysfs has both ways: a partition's directory is in its disk's.
    #[test]
    fn partitions_belong_to_the_disk_that_lists_them() {
        let disks = fs::read_dir("/sys/block").expect("sysfs");
        for disk in disks.map(|disk| disk.expect("entry").path()) {
            let numbers =
                |dir: &Path| fs::read_to_string(dir.join("dev")).expect("dev").parse::<DevNum>().expect("numbers");
            let whole = numbers(&disk);
            assert_eq!(whole.whole_disk().expect("whole"), whole);
            for part in fs::read_dir(&disk).expect("disk").map(|entry| entry.expect("entry").path()) {
                if part.join("partition").exists() {
                    assert_eq!(numbers(&part).whole_disk().expect("partition"), whole, "{part:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(major in 0u32..1 << 12, minor in 0u32..1 << 20) {
            let device = DevNum { major, minor };
            prop_assert_eq!(device.to_string().parse::<DevNum>().unwrap(), device);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "[0-9:+-]{0,12}") {
            let _ = (DevNum::of_numbers(&text), DevNum::of_numbers(&near));
        }
    }
}
