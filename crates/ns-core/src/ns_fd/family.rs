//! What a namespace is related to: its owner, its parent, the machine's first one.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use cellkit_core::{Errno, Error, Result, Subject};

use super::{NsFd, ThisThread};
use crate::hint::HINTS;
use crate::namespaces::{ForChildren, Kind, Pid, User};
use crate::sys;
use crate::sys::nsfs;

impl<K: Kind> NsFd<K> {
    /// The user namespace that owns this one: the capabilities in it are what counts here. That of a user namespace is
    /// its parent.
    ///
    /// * C call: ioctl(2) NS_GET_USERNS, Linux 4.9.
    /// * Privileges: none, but the owner must be the caller's own user namespace or one below it.
    ///
    /// ```
    /// use ns_core::{Net, NsFd, User};
    ///
    /// let net = NsFd::<Net>::of_this_thread()?;
    /// match net.owner() {
    ///     Ok(owner) if owner == NsFd::<User>::of_this_thread()? => println!("root here may configure {net}"),
    ///     Ok(owner) => println!("{owner} rules {net}"),
    ///     Err(error) => println!("somebody above rules {net}: {error}"),
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Permission (EPERM) when the owner is above the caller's user namespace, or, for the machine's first user
    /// namespace, when there is none.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_USERNS")]
    pub fn owner(&self) -> Result<NsFd<User>> {
        nsfs::owner(self.as_fd()).map_err(|errno| self.fail("ioctl NS_GET_USERNS", errno)).and_then(NsFd::adopt)
    }

    /// Whether this is the one that the machine started with.
    ///
    /// It is told by the inode number, which the kernel keeps fixed, and not by what id maps look like: a map that
    /// covers all ids can be written in any user namespace.
    ///
    /// ```
    /// use ns_core::{NsFd, User};
    ///
    /// let initial = NsFd::<User>::of_this_thread()?.is_initial()?;
    /// assert_eq!(initial, ns_core::in_initial_user_namespace()?);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for [`Mount`](crate::Mount) and [`Net`](crate::Net) before Linux
    /// 6.17, where theirs is a number like any other. Never for other kinds.
    ///
    /// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
    #[doc(alias("PROC_USER_INIT_INO", "USER_NS_INIT_INO", "NET_NS_INIT_INO", "MNT_NS_INIT_INO"))]
    pub fn is_initial(&self) -> Result<bool> {
        let is_fixed = || K::INITIAL_INODE_ALWAYS || sys::kernel_release().is_some_and(|release| release >= (6, 17));
        match self.id().inode() == K::INITIAL_INODE {
            true => Ok(true),
            false if is_fixed() => Ok(false),
            false => {
                Err(Error::unsupported("fstat", "telling the machine's first namespace of this kind", Some("6.17"))
                    .on(Subject::Namespace(self.to_string())))
            }
        }
    }

    /// An ioctl's refusal.
    pub(super) fn fail(&self, call: &'static str, errno: Errno) -> Error {
        Error::from_errno(call, errno.0).on(Subject::Namespace(self.to_string())).with_hints(&HINTS)
    }

    /// As [`fail`](Self::fail), for a request that kernels before `since` do not know.
    pub(super) fn fail_or_unsupported(
        &self,
        call: &'static str,
        errno: Errno,
        feature: &'static str,
        since: &'static str,
    ) -> Error {
        match errno {
            Errno(libc::ENOTTY) => {
                Error::unsupported(call, feature, Some(since)).on(Subject::Namespace(self.to_string()))
            }
            errno => self.fail(call, errno),
        }
    }
}

/// Kinds that lie in each other like the processes that made them: pid and user namespaces.
///
/// ```
/// use ns_core::{Nested, NsFd, Pid, User};
///
/// /// How many levels of it the caller can see.
/// fn depth<K: Nested>(mut at: NsFd<K>) -> usize {
///     let mut levels = 1;
///     while let Ok(Some(parent)) = at.parent() {
///         (at, levels) = (parent, levels + 1);
///     }
///     levels
/// }
/// assert!((1..=33).contains(&depth(NsFd::<User>::of_this_thread()?)));
/// assert!((1..=33).contains(&depth(NsFd::<Pid>::of_this_thread()?)));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
#[doc(alias = "NS_GET_PARENT")]
pub trait Nested: Kind {}

impl Nested for Pid {}
impl Nested for User {}

impl<K: Nested> NsFd<K> {
    /// The namespace of the same kind that this one was made in; `None` for the machine's first.
    ///
    /// * C call: ioctl(2) NS_GET_PARENT, Linux 4.9.
    /// * Privileges: none, but the parent must be the caller's own (for a pid namespace: the one its children will be
    ///   in) or below it.
    ///
    /// ```no_run
    /// use ns_core::{NsFd, Pid};
    ///
    /// /// Whether `inner` is `outer` or somewhere below it.
    /// fn is_below(inner: NsFd<Pid>, outer: &NsFd<Pid>) -> ns_core::Result<bool> {
    ///     let mut level = Some(inner);
    ///     while let Some(at) = level {
    ///         if at == *outer {
    ///             return Ok(true);
    ///         }
    ///         level = at.parent()?;
    ///     }
    ///     Ok(false)
    /// }
    /// ```
    ///
    /// # Errors
    /// Permission (EPERM) when the parent is out of that sight.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_PARENT")]
    pub fn parent(&self) -> Result<Option<Self>> {
        match nsfs::parent(self.as_fd()) {
            Ok(fd) => Self::adopt(fd).map(Some),
            // The kernel has one answer for "none" and "none of your business".
            Err(Errno(libc::EPERM)) if self.id().inode() == K::INITIAL_INODE => Ok(None),
            Err(errno) => Err(self.fail("ioctl NS_GET_PARENT", errno)),
        }
    }
}

impl NsFd<User> {
    /// The uid of whoever made this user namespace, as the caller's own user namespace has it: that user has all
    /// capabilities in it.
    ///
    /// * C call: ioctl(2) NS_GET_OWNER_UID, Linux 4.11. Privileges: none.
    /// * A uid that is not mapped where the caller is shows as the overflow uid, which is 65534 (see
    ///   `/proc/sys/kernel/overflowuid`).
    ///
    /// ```
    /// use ns_core::{NsFd, User};
    ///
    /// let uid = NsFd::<User>::of_this_thread()?.owner_uid()?;
    /// println!("made by {uid}");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// None that this type leaves possible.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    #[doc(alias = "NS_GET_OWNER_UID")]
    pub fn owner_uid(&self) -> Result<u32> {
        nsfs::owner_uid(self.as_fd()).map_err(|errno| self.fail("ioctl NS_GET_OWNER_UID", errno))
    }
}

/// Whether the caller is in the machine's first user namespace, where ids are what they are and root is root.
///
/// Told by the inode number of the calling thread's user namespace, as by [`NsFd::is_initial`].
///
/// ```
/// if ns_core::in_initial_user_namespace()? {
///     println!("not in an unprivileged container");
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// # Errors
/// Those of [`NsFd::of_this_thread`].
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
pub fn in_initial_user_namespace() -> Result<bool> {
    NsFd::<User>::of_this_thread()?.is_initial()
}

impl<K: ForChildren> NsFd<K> {
    /// The namespace that the next child of the process of `pidfd` will be in: another than its own once it has called
    /// unshare(2) or setns(2).
    ///
    /// * C call: ioctl(2) PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE or its like for time, Linux 6.11; before that
    ///   `/proc/PID/ns/pid_for_children`.
    /// * Privileges: as [`of_process`](Self::of_process).
    ///
    /// ```no_run
    /// use std::os::fd::BorrowedFd;
    ///
    /// use ns_core::{NsFd, Pid};
    ///
    /// /// Whether the process has called unshare(2) for a pid namespace.
    /// fn has_unshared(pidfd: BorrowedFd<'_>) -> ns_core::Result<bool> {
    ///     Ok(NsFd::<Pid>::for_children(pidfd)? != NsFd::of_process(pidfd)?)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`of_process`](Self::of_process). A new pid namespace in which no child was started yet is not in /proc: then
    /// it is NotFound or [`Gone`](crate::ErrorKind::Gone) on kernels without the request.
    ///
    /// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
    #[doc(alias("pid_for_children", "time_for_children", "PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE"))]
    pub fn for_children(pidfd: impl AsFd) -> Result<Self> {
        Self::by_pidfd(pidfd.as_fd(), K::FOR_CHILDREN_REQUEST, K::FOR_CHILDREN)
    }

    /// The namespace that the next child of the calling thread will be in.
    ///
    /// * C calls: as [`of_this_thread`](Self::of_this_thread).
    ///
    /// ```
    /// use ns_core::{NsFd, Time};
    ///
    /// // Before anybody calls unshare(2), children are where their parent is.
    /// assert_eq!(NsFd::<Time>::for_children_of_this_thread()?, NsFd::of_this_thread()?);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`for_children`](Self::for_children).
    ///
    /// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
    #[doc(alias("pid_for_children", "time_for_children"))]
    pub fn for_children_of_this_thread() -> Result<Self> {
        ThisThread::default().for_children()
    }
}
