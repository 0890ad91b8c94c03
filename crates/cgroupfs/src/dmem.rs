//! The dmem controller's files.
#![forbid(unsafe_code)]

use crate::{Bytes, Cgroup, Max, PerResource, ResourceName, Result};

/// The files of the dmem controller of a group: `dmem.*`, for memory of devices such as graphics cards. Linux 6.14. Made
/// by [`Cgroup::dmem`].
///
/// A region is named by its driver: `drm/0000:03:00.0/vram0`. Where the controller is not enabled for the group, each file
/// is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported). Where the machine has no such region they are empty.
///
/// ```no_run
/// use cgroupfs::{Bytes, Hierarchy, ResourceName};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// group.dmem().set_max(&ResourceName::new("drm/0000:03:00.0/vram0")?, Bytes::gib(2))?;
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#dmem-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Dmem<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the dmem controller.
    #[must_use]
    pub fn dmem(&self) -> Dmem<'_> {
        Dmem(self)
    }
}

impl Dmem<'_> {
    /// `dmem.max`: how much it may use of each region.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "dmem.max")]
    pub fn max(self) -> Result<PerResource<Max<Bytes>>> {
        self.0.get("dmem.max")
    }

    /// Writes the limit of one region to `dmem.max`.
    ///
    /// # Errors
    /// As [`max`](Self::max); Invalid (EINVAL) when there is no such region; Permission, for the limits of a delegated group
    /// belong to the giver.
    #[doc(alias = "dmem.max")]
    pub fn set_max(self, region: &ResourceName, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("dmem.max", format_args!("{region} {}", limit.into()))
    }

    /// `dmem.min`: how much of each region is not taken from it whatever happens.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "dmem.min")]
    pub fn min(self) -> Result<PerResource<Max<Bytes>>> {
        self.0.get("dmem.min")
    }

    /// Writes the protection of one region to `dmem.min`.
    ///
    /// # Errors
    /// As [`set_max`](Self::set_max).
    #[doc(alias = "dmem.min")]
    pub fn set_min(self, region: &ResourceName, protection: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("dmem.min", format_args!("{region} {}", protection.into()))
    }

    /// `dmem.low`: how much of each region is taken from it only when there is nothing else to take.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "dmem.low")]
    pub fn low(self) -> Result<PerResource<Max<Bytes>>> {
        self.0.get("dmem.low")
    }

    /// Writes the protection of one region to `dmem.low`.
    ///
    /// # Errors
    /// As [`set_max`](Self::set_max).
    #[doc(alias = "dmem.low")]
    pub fn set_low(self, region: &ResourceName, protection: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("dmem.low", format_args!("{region} {}", protection.into()))
    }

    /// `dmem.current`: how much it uses of each region.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "dmem.current")]
    pub fn current(self) -> Result<PerResource<Bytes>> {
        self.0.get("dmem.current")
    }

    /// `dmem.capacity`: how much of each region the machine has. The root of the hierarchy alone has it.
    ///
    /// # Errors
    /// Unsupported below the root.
    #[doc(alias = "dmem.capacity")]
    pub fn capacity(self) -> Result<PerResource<Bytes>> {
        self.0.get("dmem.capacity")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernels_documentation() {
        let text = "drm/0000:03:00.0/stolen max\ndrm/0000:03:00.0/vram0 1073741824\n";
        let limits: PerResource<Max<Bytes>> = text.parse().expect("dmem.max");
        assert_eq!(limits.get("drm/0000:03:00.0/vram0"), Some(&Max::Value(Bytes::gib(1))));
        assert_eq!(limits.get("drm/0000:03:00.0/stolen"), Some(&Max::Max));
        assert_eq!(limits.to_string(), text);
        let capacity: PerResource<Bytes> =
            "drm/0000:03:00.0/vram0 8514437120\ndrm/0000:03:00.0/stolen 67108864\n".parse().expect("dmem.capacity");
        assert_eq!(capacity.get("drm/0000:03:00.0/stolen"), Some(&Bytes::mib(64)));
    }
}
