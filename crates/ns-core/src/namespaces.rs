//! The eight kinds of namespace, as a set and as types.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use cellkit_core::{Error, ProcFd, Result, Subject};

use crate::hint::HINTS;
use crate::sys;

bitflags::bitflags! {
    /// A set of kinds of namespace, for [`Command::namespaces`](crate::Command::namespaces).
    ///
    /// Each needs CAP_SYS_ADMIN in the user namespace that will own it, but for [`USER`](Self::USER) itself, which an
    /// ordinary user may make and in which it then has every capability: ask for both in one set.
    ///
    /// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Namespaces: u64 {
        /// Mounts: what is mounted where. Linux 2.4.19.
        #[doc(alias = "CLONE_NEWNS")]
        const MOUNT = 0x0002_0000;
        /// The root of the cgroup tree as it is seen from inside. Linux 4.6.
        #[doc(alias = "CLONE_NEWCGROUP")]
        const CGROUP = 0x0200_0000;
        /// Host name and NIS domain name. Linux 2.6.19.
        #[doc(alias = "CLONE_NEWUTS")]
        const UTS = 0x0400_0000;
        /// System V IPC and POSIX message queues. Linux 2.6.19.
        #[doc(alias = "CLONE_NEWIPC")]
        const IPC = 0x0800_0000;
        /// User and group ids, and capabilities. Linux 3.8.
        #[doc(alias = "CLONE_NEWUSER")]
        const USER = 0x1000_0000;
        /// Process ids: the child is PID 1, and its end ends all. Linux 2.6.24.
        #[doc(alias = "CLONE_NEWPID")]
        const PID = 0x2000_0000;
        /// Interfaces, addresses, routes, ports, rules. Linux 2.6.29.
        #[doc(alias = "CLONE_NEWNET")]
        const NET = 0x4000_0000;
    }
}

impl Namespaces {
    /// The C names, as strace prints them: `CLONE_NEWNS|CLONE_NEWPID`.
    pub(crate) fn c_names(self) -> String {
        let names = [
            (Self::USER, "CLONE_NEWUSER"),
            (Self::PID, "CLONE_NEWPID"),
            (Self::MOUNT, "CLONE_NEWNS"),
            (Self::NET, "CLONE_NEWNET"),
            (Self::UTS, "CLONE_NEWUTS"),
            (Self::IPC, "CLONE_NEWIPC"),
            (Self::CGROUP, "CLONE_NEWCGROUP"),
        ];
        let set = names.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name);
        set.collect::<Vec<_>>().join("|")
    }
}

/// A kind of namespace, as a type parameter of [`NsFd`].
pub trait Kind: private::Kind {}

/// A kind of namespace that a fresh start can join: [`Command::join`](crate::Command::join).
///
/// Pid, user and mount namespaces are not: whoever is in those may see and trace the child before its execve.
pub trait Joinable: Kind {}

impl Joinable for Ipc {}
impl Joinable for Net {}
impl Joinable for Uts {}

mod private {
    pub trait Kind {
        const NAME: &'static str;
        const CLONE_FLAG: i32;
        const CLONE_FLAG_NAME: &'static str;
        /// The number of the PIDFD_GET_*_NAMESPACE request (Linux 6.11).
        const PIDFD_REQUEST: u8;
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:literal, $flag:ident, $request:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $kind {}
        impl Kind for $kind {}
        impl private::Kind for $kind {
            const NAME: &'static str = $name;
            const CLONE_FLAG: i32 = libc::$flag;
            const CLONE_FLAG_NAME: &'static str = stringify!($flag);
            const PIDFD_REQUEST: u8 = $request;
        }
    )*};
}

kinds! {
    /// The cgroup namespace.
    Cgroup: "cgroup", CLONE_NEWCGROUP, 1;
    /// The IPC namespace.
    Ipc: "ipc", CLONE_NEWIPC, 2;
    /// The mount namespace.
    Mount: "mnt", CLONE_NEWNS, 3;
    /// The network namespace.
    Net: "net", CLONE_NEWNET, 4;
    /// The pid namespace.
    Pid: "pid", CLONE_NEWPID, 5;
    /// The time namespace.
    Time: "time", CLONE_NEWTIME, 7;
    /// The user namespace.
    User: "user", CLONE_NEWUSER, 9;
    /// The UTS namespace.
    Uts: "uts", CLONE_NEWUTS, 10;
}

/// A handle on a namespace of one kind. The namespace lives at least as long as the handle.
///
/// ```no_run
/// use ns_core::{Command, Namespaces, Net, NsFd};
///
/// let mut child = Command::new("/bin/sleep").arg("60").namespaces(Namespaces::NET).spawn()?;
/// let net: NsFd<Net> = child.namespace()?;
/// println!("{net}"); // net:[4026532201]
/// # child.kill()?;
/// # child.wait()?;
/// # Ok::<(), ns_core::Error>(())
/// ```
pub struct NsFd<K> {
    fd: OwnedFd,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> NsFd<K> {
    /// The namespace that the process of `pidfd` is in.
    ///
    /// * C call: ioctl(2) PIDFD_GET_*_NAMESPACE, which needs no /proc (Linux 6.11); before that `/proc/PID/ns/KIND`.
    /// * Privileges: PTRACE_MODE_READ_FSCREDS over the process, as ptrace(2) tells.
    ///
    /// # Errors
    /// Permission without that access; [`Gone`](crate::ErrorKind::Gone) when the process has died.
    ///
    /// See ioctl_nsfs(2), pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    pub fn of_process(pidfd: impl AsFd) -> Result<Self> {
        let pidfd = pidfd.as_fd();
        match sys::pidfd_namespace(pidfd, K::PIDFD_REQUEST) {
            Ok(fd) => return Ok(Self { fd, kind: PhantomData }),
            // An older kernel (ENOTTY, EINVAL), or one built without this kind (EOPNOTSUPP): /proc knows.
            Err(cellkit_core::Errno(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP)) => {}
            Err(errno) => {
                return Err(Error::from_errno("ioctl PIDFD_GET_*_NAMESPACE", errno.0)
                    .on(Subject::Namespace(format!("the {} namespace of a process", K::NAME)))
                    .with_hints(&HINTS)
                    .or_gone());
            }
        }
        let proc = ProcFd::open(cellkit_core::ProcView::Processes)?;
        let fd = proc.process(pidfd)?.namespace(K::NAME)?;
        Ok(Self { fd, kind: PhantomData })
    }

    /// The namespace that the calling thread is in.
    ///
    /// * File: `/proc/PID/task/TID/ns/KIND`.
    ///
    /// # Errors
    /// Those of opening /proc.
    pub fn of_this_thread() -> Result<Self> {
        let fd = ProcFd::open(cellkit_core::ProcView::Processes)?.this_thread()?.namespace(K::NAME)?;
        Ok(Self { fd, kind: PhantomData })
    }

    /// Takes a descriptor, verified to be a namespace of this kind.
    ///
    /// * C call: ioctl(2) NS_GET_NSTYPE, Linux 4.11.
    ///
    /// # Errors
    /// Invalid when it is something else.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        match sys::namespace_type(fd.as_fd()) {
            Ok(flag) if flag == K::CLONE_FLAG => Ok(Self { fd, kind: PhantomData }),
            _ => Err(Error::invalid("ioctl NS_GET_NSTYPE", format!("this is not a {} namespace", K::NAME))
                .on(Subject::Thing(format!("fd {}", fd.as_raw_fd())))),
        }
    }

    pub(crate) const CLONE_FLAG: i32 = K::CLONE_FLAG;

    pub(crate) const CLONE_FLAG_NAME: &'static str = K::CLONE_FLAG_NAME;

    /// The inode number, which with the kind names a namespace on a running machine.
    ///
    /// # Errors
    /// Those of fstat(2), which only a broken descriptor has.
    pub fn id(&self) -> Result<u64> {
        cellkit_core::sys::inode(self.fd.as_fd())
            .map(|(inode, _)| inode)
            .map_err(|errno| Error::from_errno("fstat", errno.0))
    }
}

impl<K> AsFd for NsFd<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<K> From<NsFd<K>> for OwnedFd {
    fn from(namespace: NsFd<K>) -> Self {
        namespace.fd
    }
}

impl<K: Kind> fmt::Display for NsFd<K> {
    /// As `/proc/PID/ns` shows it: `net:[4026531840]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:[{}]", K::NAME, self.id().unwrap_or(0))
    }
}

impl<K: Kind> fmt::Debug for NsFd<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NsFd({self})")
    }
}

/// Offsets of a new time namespace's clocks, in whole seconds, to those of the machine.
///
/// See time_namespaces(7): <https://man7.org/linux/man-pages/man7/time_namespaces.7.html>.
// Not #[non_exhaustive]: the kernel has these two clocks, and a struct literal is how one says them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOffsets {
    /// Seconds added to CLOCK_MONOTONIC.
    pub monotonic: i64,
    /// Seconds added to CLOCK_BOOTTIME, which is what uptime(1) shows.
    pub boottime: i64,
}

impl TimeOffsets {
    /// What `/proc/self/timens_offsets` takes in one write.
    pub(crate) fn text(self) -> String {
        format!("monotonic {} 0\nboottime {} 0\n", self.monotonic, self.boottime)
    }
}
