//! What the kernel tells about a process through its pidfd.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use cellkit_core::{Errno, Error, ProcFd, ProcView, Result, Subject};

use crate::sys::{self, PIDFD_INFO_CGROUP, PIDFD_INFO_CREDS};

/// A user's or group's four ids, as seen from the caller's user namespace.
///
/// ```
/// use ns_core::{Command, ErrorKind};
///
/// let mut child = Command::new("sleep").arg("100").spawn()?;
/// match child.info() {
///     Ok(info) => assert!(info.uid.real == info.uid.effective && info.gid.real == info.gid.effective),
///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported), // before Linux 6.13
/// }
/// child.kill()?;
/// child.wait()?;
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See credentials(7): <https://man7.org/linux/man-pages/man7/credentials.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// Whose rights it may take on again.
    pub saved: u32,
    /// Whose files it can reach.
    pub file_system: u32,
}

/// What the kernel tells about a process through its pidfd, all at one moment and without /proc.
///
/// ```
/// use ns_core::{ErrorKind, Process, ProcessInfo};
///
/// let me = Process::open(std::process::id() as i32)?;
/// match ProcessInfo::of(&me) {
///     Ok(info) => println!("{} of uid {}, started by {}", info.pid, info.uid.effective, info.parent),
///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported), // before Linux 6.13
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
#[doc(alias("PIDFD_GET_INFO", "pidfd_info"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// Its number in the caller's pid namespace.
    pub pid: i32,
    /// Its parent's number; 0 when the parent is outside of the caller's pid namespace.
    pub parent: i32,
    /// Its user ids.
    pub uid: Ids,
    /// Its group ids.
    pub gid: Ids,
    /// The id of its cgroup: the inode number of the group's directory. `None` without cgroup version 2.
    pub cgroup: Option<u64>,
}

impl ProcessInfo {
    /// Asks about the process of this pidfd: a [`Process`](crate::Process), [`Child`](crate::Child) or
    /// [`PausedChild`](crate::PausedChild), or any other.
    ///
    /// * C call: ioctl(2) PIDFD_GET_INFO, Linux 6.13. No privileges.
    ///
    /// # Errors
    /// [`Gone`](crate::ErrorKind::Gone) when the process has ended and been reaped;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) on older kernels; Invalid for what is no pidfd.
    ///
    /// See pidfd_open(2), ioctl(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias = "PIDFD_GET_INFO")]
    pub fn of(pidfd: impl AsFd) -> Result<Self> {
        const CALL: &str = "ioctl PIDFD_GET_INFO";
        let pidfd = pidfd.as_fd();
        let info = match sys::pidfd_info(pidfd, PIDFD_INFO_CREDS | PIDFD_INFO_CGROUP) {
            Ok(info) => info,
            Err(Errno(libc::ENOTTY | libc::EINVAL)) => {
                // So says an older kernel, and so does any that is asked about what is no pidfd.
                ProcFd::open(ProcView::Processes)?.pid_of(pidfd)?;
                return Err(Error::unsupported(CALL, "asking a pidfd about its process", Some("6.13")));
            }
            Err(errno) => {
                return Err(Error::from_errno(CALL, errno.0).on(Subject::Thing("a process".into())).or_gone());
            }
        };
        let [ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid] = info.ids;
        Ok(Self {
            pid: info.process as i32,
            parent: info.parent as i32,
            uid: Ids { real: ruid, effective: euid, saved: suid, file_system: fsuid },
            gid: Ids { real: rgid, effective: egid, saved: sgid, file_system: fsgid },
            cgroup: (info.mask & PIDFD_INFO_CGROUP != 0).then_some(info.cgroup),
        })
    }
}
