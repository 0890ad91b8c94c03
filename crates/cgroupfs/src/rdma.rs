//! The rdma controller's files.
#![forbid(unsafe_code)]

pub(crate) mod limit;

use crate::{Cgroup, Error, PerResource, RdmaLimit, ResourceName, Result};

/// The files of the rdma controller of a group: `rdma.*`. Made by [`Cgroup::rdma`].
///
/// Where the controller is not enabled for the group, and at the root of the hierarchy, each is
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported). Where the machine has no RDMA device they are empty.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, RdmaCount, RdmaLimit, ResourceName};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// let limit = RdmaLimit { hca_object: Some(RdmaCount::try_from(2000)?.into()), ..RdmaLimit::default() };
/// group.rdma().set_max(&ResourceName::new("mlx5_0")?, &limit)?;
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#rdma-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Rdma<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the rdma controller.
    #[must_use]
    pub fn rdma(&self) -> Rdma<'_> {
        Rdma(self)
    }
}

impl Rdma<'_> {
    /// `rdma.max`: what it may have of each device.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "rdma.max")]
    pub fn max(self) -> Result<PerResource<RdmaLimit>> {
        self.0.get("rdma.max")
    }

    /// Writes the limits of one device to `rdma.max`. What `limit` does not say stays as it is.
    ///
    /// # Errors
    /// As [`max`](Self::max); Invalid for a limit that says nothing; NotFound (ENODEV) when there is no such device;
    /// Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "rdma.max")]
    pub fn set_max(self, device: &ResourceName, limit: &RdmaLimit) -> Result<()> {
        if limit.is_empty() {
            return Err(Error::invalid("write rdma.max", "the limit says nothing").on(self.0.path()));
        }
        self.0.set("rdma.max", format_args!("{device} {limit}"))
    }

    /// `rdma.current`: what it has of each device. The form is that of the limits.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "rdma.current")]
    pub fn current(self) -> Result<PerResource<RdmaLimit>> {
        self.0.get("rdma.current")
    }
}
