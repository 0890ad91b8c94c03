//! How the kernel pretends to be another one.
#![forbid(unsafe_code)]

use std::fmt;

bitflags::bitflags! {
    /// How the kernel pretends to be another one to the payload, for [`Command::personality`](crate::Command::personality).
    ///
    /// Programs that are set-user-id lose those that would weaken them.
    ///
    /// ```
    /// use ns_core::{Command, Personality};
    ///
    /// // setarch --addr-no-randomize head -c12 /proc/self/maps
    /// let same_place = Command::new("head").args(["-c12", "/proc/self/maps"]).personality(Personality::ADDR_NO_RANDOMIZE);
    /// let first = same_place.output()?.stdout;
    /// println!("{}", String::from_utf8_lossy(&first));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See personality(2): <https://man7.org/linux/man-pages/man2/personality.2.html>.
    #[doc(alias("PER_LINUX", "setarch"))]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Personality: u32 {
        /// uname(2) names the 32-bit machine, as `setarch linux32`.
        #[doc(alias = "PER_LINUX32")]
        const LINUX32 = 0x0008;
        /// uname(2) tells of a Linux 2.6.
        const UNAME26 = 0x0002_0000;
        /// Memory is laid out the same every time, as `setarch --addr-no-randomize`: for debuggers.
        const ADDR_NO_RANDOMIZE = 0x0004_0000;
        /// Reads of addresses that system calls are given find function descriptors. For other machines than these.
        const FDPIC_FUNCPTRS = 0x0008_0000;
        /// There is a page of zeros at address 0.
        const MMAP_PAGE_ZERO = 0x0010_0000;
        /// mmap(2) goes from the bottom up.
        const ADDR_COMPAT_LAYOUT = 0x0020_0000;
        /// What can be read can be executed.
        const READ_IMPLIES_EXEC = 0x0040_0000;
        /// Addresses of 32 bits.
        const ADDR_LIMIT_32BIT = 0x0080_0000;
        /// Inode numbers of 16 bits. Without effect.
        const SHORT_INODE = 0x0100_0000;
        /// Times in whole seconds. Without effect.
        const WHOLE_SECONDS = 0x0200_0000;
        /// select(2) and its kin do not change their time limit.
        const STICKY_TIMEOUTS = 0x0400_0000;
        /// Addresses below 3 GiB.
        const ADDR_LIMIT_3GB = 0x0800_0000;
    }
}

impl fmt::Display for Personality {
    /// `PER_LINUX`, or the flags: `ADDR_NO_RANDOMIZE|LINUX32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_empty() {
            true => f.write_str("PER_LINUX"),
            false => f.write_str(&self.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|")),
        }
    }
}
