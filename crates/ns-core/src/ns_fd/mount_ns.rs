//! Mount namespaces: their unique numbers, and the list of all that the kernel keeps.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use cellkit_core::{Errno, Result};

use super::NsFd;
use crate::namespaces::Mount;
use crate::sys::nsfs;

impl NsFd<Mount> {
    /// The number of this mount namespace that no other will ever have while the machine runs, other than its inode
    /// number: the one that listmount(2) and statmount(2) take.
    ///
    /// * C call: ioctl(2) NS_GET_MNTNS_ID, Linux 6.11. Privileges: none.
    ///
    /// ```
    /// use ns_core::{ErrorKind, Mount, NsFd};
    ///
    /// match NsFd::<Mount>::of_this_thread()?.mount_namespace_id() {
    ///     Ok(number) => println!("listmount(2) takes {number}"),
    ///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) on older kernels.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_MNTNS_ID")]
    pub fn mount_namespace_id(&self) -> Result<u64> {
        nsfs::mount_ns_id(self.as_fd()).map_err(|errno| {
            self.fail_or_unsupported("ioctl NS_GET_MNTNS_ID", errno, "a mount namespace's unique number", "6.11")
        })
    }

    /// How many mounts are in it.
    ///
    /// * C call: ioctl(2) NS_MNT_GET_INFO, Linux 6.12. Privileges: none.
    ///
    /// ```
    /// use ns_core::{ErrorKind, Mount, NsFd};
    ///
    /// match NsFd::<Mount>::of_this_thread()?.mount_count() {
    ///     Ok(count) => assert!(count > 0),
    ///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) on older kernels.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_MNT_GET_INFO")]
    pub fn mount_count(&self) -> Result<u32> {
        let info = nsfs::mount_ns_info(self.as_fd());
        info.map(|info| info.mounts).map_err(|errno| {
            self.fail_or_unsupported("ioctl NS_MNT_GET_INFO", errno, "counting another namespace's mounts", "6.12")
        })
    }

    /// The mount namespace that was made after this one, of all on the machine; `None` after the last.
    ///
    /// With [`previous`](Self::previous) this finds every mount namespace, also those without a process, kept by a pin
    /// or a descriptor alone.
    ///
    /// * C call: ioctl(2) NS_MNT_GET_NEXT, Linux 6.12.
    /// * Privileges: CAP_SYS_ADMIN in the machine's first user namespace, while its first pid namespace is the
    ///   caller's; otherwise, as the kernel has it, EPERM or those only that the caller rules.
    ///
    /// ```no_run
    /// use ns_core::{Mount, NsFd};
    ///
    /// let mut here = NsFd::<Mount>::of_this_thread()?;
    /// while let Some(next) = here.next()? {
    ///     println!("{next}: {} mounts", next.mount_count()?);
    ///     here = next;
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) on older kernels; Permission.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_MNT_GET_NEXT")]
    pub fn next(&self) -> Result<Option<Self>> {
        self.neighbour("ioctl NS_MNT_GET_NEXT", nsfs::next_mount_ns(self.as_fd()))
    }

    /// The mount namespace that was made before this one; `None` before the first. See [`next`](Self::next).
    ///
    /// * C call: ioctl(2) NS_MNT_GET_PREV, Linux 6.12.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_MNT_GET_PREV")]
    pub fn previous(&self) -> Result<Option<Self>> {
        self.neighbour("ioctl NS_MNT_GET_PREV", nsfs::previous_mount_ns(self.as_fd()))
    }

    fn neighbour(&self, call: &'static str, answer: Result<OwnedFd, Errno>) -> Result<Option<Self>> {
        match answer {
            Ok(fd) => Self::adopt(fd).map(Some),
            Err(Errno(libc::ENOENT)) => Ok(None),
            Err(errno) => Err(self.fail_or_unsupported(call, errno, "walking the mount namespaces", "6.12")),
        }
    }
}
