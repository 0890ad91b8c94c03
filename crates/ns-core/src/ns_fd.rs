//! A handle on one namespace, typed by its kind.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cellkit_core::{Errno, Error, ProcFd, ProcView, ProcessDir, Result, Subject};

mod family;
mod mount_ns;
mod pid_ns;

pub use family::{Nested, in_initial_user_namespace};
#[cfg(fuzzing)]
pub(crate) use pid_ns::nspid;

use crate::hint::HINTS;
use crate::namespaces::{Kind, Namespaces, by_kind};
use crate::program::c_string;
use crate::sys;

/// What names a namespace on a running machine: device and inode number of its file.
///
/// Two handles are on the same namespace exactly when their ids are equal; so says namespaces(7). A number is given to
/// another namespace once this one is gone, so an id that is kept for later is worth something only while something
/// (a handle, a process, a pin) keeps the namespace.
///
/// ```
/// use std::collections::HashSet;
///
/// use ns_core::{NsFd, NsId, Uts};
///
/// let mut seen: HashSet<NsId> = HashSet::new();
/// assert!(seen.insert(NsFd::<Uts>::of_this_thread()?.id()));
/// assert!(!seen.insert(NsFd::<Uts>::of_this_thread()?.id()));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
#[doc(alias = "st_ino")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NsId {
    dev: u64,
    inode: u64,
}

impl NsId {
    pub(crate) fn new(dev: u64, inode: u64) -> Self {
        Self { dev, inode }
    }

    /// The device number of nsfs, the same for all.
    #[must_use]
    pub fn dev(self) -> u64 {
        self.dev
    }

    /// The inode number: the one that `lsns` and `/proc/PID/ns` show.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.inode
    }
}

impl fmt::Display for NsId {
    /// The inode number, as `lsns -o NS` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inode, f)
    }
}

/// A namespace of any kind: an [`NsFd`] whose kind is known when the program runs.
///
/// It is sealed: only [`NsFd`] is one, so that a descriptor behind it has been verified.
///
/// ```
/// use ns_core::{AnyNamespace, Ipc, Namespaces, NsFd, Uts};
///
/// let mixed: [&dyn AnyNamespace; 2] = [&NsFd::<Uts>::of_this_thread()?, &NsFd::<Ipc>::of_this_thread()?];
/// assert_eq!(mixed[0].kind() | mixed[1].kind(), Namespaces::UTS | Namespaces::IPC);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
pub trait AnyNamespace: AsFd + fmt::Debug + fmt::Display + Send + Sync + private::Sealed {
    /// Its kind: a set of exactly one.
    fn kind(&self) -> Namespaces;

    /// What names it.
    fn id(&self) -> NsId;
}

mod private {
    pub trait Sealed {}
    impl<K: crate::namespaces::Kind> Sealed for super::NsFd<K> {}
}

/// A handle on a namespace of one kind. The namespace lives at least as long as the handle.
///
/// Two handles are equal when they are on the same namespace.
///
/// ```
/// use ns_core::{Command, Namespaces, Net, NsFd};
///
/// # if !ns_core::probe()?.can_make.contains(Namespaces::NET) { return Ok(()) }
/// let mut child = Command::new("/bin/sleep").arg("60").namespaces(Namespaces::NET).spawn()?;
/// let net: NsFd<Net> = child.namespace()?;
/// println!("{net}"); // net:[4026532201]
/// assert_ne!(net, NsFd::of_this_thread()?);
/// # child.kill()?;
/// # child.wait()?;
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See namespaces(7), ioctl_nsfs(2): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
#[doc(alias("nsfs", "setns"))]
pub struct NsFd<K> {
    fd: OwnedFd,
    id: NsId,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> NsFd<K> {
    /// The namespace that the process of `pidfd` is in.
    ///
    /// * C call: ioctl(2) PIDFD_GET_*_NAMESPACE, which needs no /proc (Linux 6.11); before that `/proc/PID/ns/KIND`.
    /// * Privileges: PTRACE_MODE_READ_FSCREDS over the process, as ptrace(2) tells.
    ///
    /// ```
    /// use ns_core::{Command, NsFd, Pid};
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// assert_eq!(NsFd::<Pid>::of_process(&child)?, NsFd::of_this_thread()?);
    /// child.kill()?;
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Permission without that access; [`Gone`](crate::ErrorKind::Gone) when the process has died.
    ///
    /// See ioctl_nsfs(2), pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias("PIDFD_GET_NET_NAMESPACE", "PIDFD_GET_PID_NAMESPACE", "PIDFD_GET_USER_NAMESPACE"))]
    pub fn of_process(pidfd: impl AsFd) -> Result<Self> {
        Self::by_pidfd(pidfd.as_fd(), K::PIDFD_REQUEST, K::NAME)
    }

    /// `name` is the link in `/proc/PID/ns`, for kernels without the request.
    pub(crate) fn by_pidfd(pidfd: BorrowedFd<'_>, request: u8, name: &'static str) -> Result<Self> {
        match sys::pidfd_namespace(pidfd, request) {
            Ok(fd) => return Self::adopt(fd),
            // An older kernel (ENOTTY, EINVAL), or one built without this kind (EOPNOTSUPP): /proc knows.
            Err(Errno(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP)) => {}
            Err(errno) => {
                return Err(Error::from_errno("ioctl PIDFD_GET_*_NAMESPACE", errno.0)
                    .on(Subject::Namespace(format!("the {name} namespace of {}", whose(pidfd))))
                    .with_hints(&HINTS)
                    .or_gone());
            }
        }
        Self::adopt(ProcFd::open(ProcView::Processes)?.process(pidfd)?.namespace(name)?)
    }

    /// The namespace that the calling thread is in.
    ///
    /// * C calls: pidfd_open(2) PIDFD_THREAD and ioctl(2) PIDFD_GET_*_NAMESPACE, which need no /proc (Linux 6.11);
    ///   before that `/proc/PID/task/TID/ns/KIND`.
    ///
    /// ```
    /// use ns_core::{NsFd, Uts};
    ///
    /// let here = NsFd::<Uts>::of_this_thread()?;
    /// assert!(here.to_string().starts_with("uts:["));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of opening /proc.
    ///
    /// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    pub fn of_this_thread() -> Result<Self> {
        ThisThread::default().namespace(K::PIDFD_REQUEST, K::NAME)
    }

    /// The namespace that the process with this number is in. The number may be another process's by now: where you
    /// have a pidfd, use [`of_process`](Self::of_process).
    ///
    /// * C calls: pidfd_open(2), Linux 5.3, and those of [`of_process`](Self::of_process).
    ///
    /// ```
    /// use ns_core::{NsFd, Uts};
    ///
    /// let here = NsFd::<Uts>::of_pid(std::process::id() as i32)?;
    /// assert_eq!(here, NsFd::of_this_thread()?);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// NotFound when there is no such process, Invalid for a number that is none; and as
    /// [`of_process`](Self::of_process).
    ///
    /// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias = "pidfd_open")]
    pub fn of_pid(pid: i32) -> Result<Self> {
        Self::of_process(crate::Process::open(pid)?)
    }

    /// A second handle on the same namespace.
    ///
    /// * C call: fcntl(2) F_DUPFD_CLOEXEC.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when the limit on open files is reached.
    ///
    /// See fcntl(2): <https://man7.org/linux/man-pages/man2/fcntl.2.html>.
    #[doc(alias = "dup")]
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        Ok(Self { fd, id: self.id, kind: PhantomData })
    }

    /// The namespace of the file at `path`: a pin such as `/run/netns/web`, or a link such as `/proc/self/ns/net`.
    ///
    /// * C calls: openat(2); ioctl(2) NS_GET_NSTYPE, by which the kind is verified.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use ns_core::{ErrorKind, Net, NsFd};
    ///
    /// let error = NsFd::<Net>::open(Path::new("/dev/null")).expect_err("no namespace");
    /// assert_eq!(error.kind(), ErrorKind::Invalid);
    /// ```
    ///
    /// # Errors
    /// Invalid for a file that is no namespace, or one of another kind: the error says which it is. An empty file where
    /// a pin was wanted has a hint. NotFound, Permission: those of openat(2).
    ///
    /// See open(2), ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        c_string(path, "openat")?;
        // Not blocking: a FIFO that somebody put there would wait for its writer.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = file.map_err(|error| Error::from_io("openat", &error).on(path))?;
        let found = type_of(file.as_fd()).map_err(|error| error.on(path))?;
        // Those of nsfs look like empty files too.
        let is_empty_file = found.is_none() && file.metadata().is_ok_and(|data| data.is_file() && data.len() == 0);
        Self::of_type(file.into(), found, Subject::Path(path.to_owned())).map_err(|error| match is_empty_file {
            true => error.with_hint(
                "an empty file is what is left of a pin after its unmount, or of one that was never finished: remove it",
            ),
            false => error,
        })
    }

    /// Takes a descriptor, verified to be a namespace of this kind.
    ///
    /// * C call: ioctl(2) NS_GET_NSTYPE, Linux 4.11.
    ///
    /// ```
    /// use std::fs::File;
    ///
    /// use ns_core::{Net, NsFd, Uts};
    ///
    /// let file = || File::open("/proc/self/ns/uts").unwrap();
    /// assert_eq!(NsFd::<Uts>::from_fd(file().into())?, NsFd::of_this_thread()?);
    /// let error = NsFd::<Net>::from_fd(file().into()).unwrap_err();
    /// assert!(error.to_string().contains("this is a uts namespace, not a net namespace"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid when it is something else, with the words that say what.
    ///
    /// See <https://man7.org/linux/man-pages/man2/NS_GET_NSTYPE.2const.html>.
    #[doc(alias = "NS_GET_NSTYPE")]
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let shown = Subject::Thing(format!("fd {}", fd.as_raw_fd()));
        Self::verified(fd, shown)
    }

    /// `shown` is what the descriptor is called in an error.
    pub(crate) fn verified(fd: OwnedFd, shown: Subject) -> Result<Self> {
        match type_of(fd.as_fd()) {
            Ok(found) => Self::of_type(fd, found, shown),
            Err(error) => Err(error.on(shown)),
        }
    }

    fn of_type(fd: OwnedFd, found: Option<i32>, shown: Subject) -> Result<Self> {
        match found {
            Some(flag) if flag == K::CLONE_FLAG => Self::adopt(fd),
            found => {
                let why = match found {
                    Some(flag) => {
                        let found = u64::try_from(flag).ok().and_then(Namespaces::from_bits);
                        let found = found.map_or("another sort of", |found| found.name());
                        format!("this is a {found} namespace, not a {} namespace", K::NAME)
                    }
                    None => format!("this is no namespace, but a {} namespace was wanted", K::NAME),
                };
                Err(Error::invalid("ioctl NS_GET_NSTYPE", why).on(shown))
            }
        }
    }

    /// Takes a descriptor that the kernel gave for a namespace of this kind.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Self> {
        let (dev, inode) = sys::file_id(fd.as_fd()).map_err(|errno| Error::from_errno("fstat", errno.0))?;
        Ok(Self { fd, id: NsId { dev, inode }, kind: PhantomData })
    }

    /// What names the namespace on this machine, as long as anything keeps it.
    #[must_use]
    pub fn id(&self) -> NsId {
        self.id
    }
}

/// Takes a descriptor of a namespace of whatever kind.
pub(crate) fn any_from_fd(fd: OwnedFd) -> Result<Box<dyn AnyNamespace>> {
    fn boxed<K: Kind + 'static>(fd: OwnedFd) -> Result<Box<dyn AnyNamespace>> {
        Ok(Box::new(NsFd::<K>::adopt(fd)?))
    }
    let shown = Subject::Thing(format!("fd {}", fd.as_raw_fd()));
    let flag = match type_of(fd.as_fd()) {
        Ok(flag) => flag,
        Err(error) => return Err(error.on(shown)),
    };
    let refused = |why: &'static str| Err(Error::invalid("ioctl NS_GET_NSTYPE", why).on(shown));
    let Some(flag) = flag else { return refused("this is no namespace") };
    match u64::try_from(flag).ok().and_then(Namespaces::from_bits) {
        Some(kind) => by_kind!(kind, K => boxed::<K>(fd)),
        None => refused("a sort of namespace that is newer than this library"),
    }
}

/// The CLONE_NEW* flag of a namespace; `None` for what is none.
fn type_of(fd: BorrowedFd<'_>) -> Result<Option<i32>> {
    let errno = match sys::namespace_type(fd) {
        Ok(flag) => return Ok(Some(flag)),
        Err(errno) => errno,
    };
    // Each sort of file has its own errno for a request that it does not know.
    match cellkit_core::sys::fs_magic(fd.as_raw_fd()) {
        Ok(cellkit_core::sys::NSFS_MAGIC) => Err(Error::from_errno("ioctl NS_GET_NSTYPE", errno.0).with_hints(&HINTS)),
        Ok(_) => Ok(None),
        Err(errno) => Err(Error::from_errno("fstatfs", errno.0)),
    }
}

/// The calling thread, as its own pidfd shows it, or /proc on kernels that do not.
pub(crate) struct ThisThread {
    pidfd: Option<OwnedFd>,
    proc: OnceCell<ProcessDir>,
}

impl Default for ThisThread {
    fn default() -> Self {
        Self { pidfd: sys::pidfd_of_this_thread().ok(), proc: OnceCell::new() }
    }
}

impl ThisThread {
    /// Where it is, or, for pid and time, where its next child will be.
    pub(crate) fn for_children<K: Kind>(&self) -> Result<NsFd<K>> {
        self.namespace(K::FOR_CHILDREN_REQUEST, K::FOR_CHILDREN)
    }

    fn namespace<K: Kind>(&self, request: u8, name: &'static str) -> Result<NsFd<K>> {
        let by_pidfd = self.pidfd.as_ref().and_then(|pidfd| sys::pidfd_namespace(pidfd.as_fd(), request).ok());
        match by_pidfd {
            Some(fd) => NsFd::adopt(fd),
            None => NsFd::adopt(self.proc()?.namespace(name)?),
        }
    }

    fn proc(&self) -> Result<&ProcessDir> {
        match self.proc.get() {
            Some(dir) => Ok(dir),
            None => {
                let dir = ProcFd::open(ProcView::Processes)?.this_thread()?;
                Ok(self.proc.get_or_init(|| dir))
            }
        }
    }
}

impl<K: Kind> AnyNamespace for NsFd<K> {
    fn kind(&self) -> Namespaces {
        Namespaces::from_bits_retain(K::CLONE_FLAG as u64)
    }

    fn id(&self) -> NsId {
        self.id
    }
}

impl<K> PartialEq for NsFd<K> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<K> Eq for NsFd<K> {}

impl<K> Hash for NsFd<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
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
        write!(f, "{}:[{}]", K::NAME, self.id)
    }
}

impl<K: Kind> fmt::Debug for NsFd<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NsFd({self})")
    }
}

/// The process of a pidfd in words, for an error.
fn whose(pidfd: BorrowedFd<'_>) -> String {
    let pid = ProcFd::open(ProcView::Processes).and_then(|proc| proc.pid_of(pidfd));
    pid.map_or_else(|_| "a process".to_owned(), |pid| format!("pid {pid}"))
}
