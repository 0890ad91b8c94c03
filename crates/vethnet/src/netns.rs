//! [`Netns`]: a network namespace as a descriptor.
#![forbid(unsafe_code)]

mod named;
mod visit;

use std::fmt;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use cellkit_core::sys::{NSFS_MAGIC, fs_magic};
use cellkit_core::{Errno, Error, ProcFd, ProcView, Result, Subject};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::hint::HINTS;
use crate::sys;

pub use named::NamedNetns;
pub(crate) use visit::{JoinGuard, apart, died, duplicate, enter, inside, inside_blocking, spawn_small};

/// A network namespace, kept alive by this handle.
///
/// * C calls: a descriptor of nsfs, verified by ioctl(2) NS_GET_NSTYPE (Linux 4.11).
/// * It is made, entered and left on threads that live only for that: the threads of the caller never change their
///   namespace, and nothing forks.
/// * Without a name it ends with its last handle, process and connection, and all links in it with it.
///   [`create_named`](Netns::create_named) gives one a name as `ip netns add` does.
/// * Two handles are equal if they mean the same namespace.
/// * Methods block, for microseconds, but for making a namespace, which takes the kernel some milliseconds.
///
/// ```no_run
/// use std::process::Command;
///
/// use vethnet::{Net, Netns};
///
/// # async fn example() -> vethnet::Result<()> {
/// let web = Netns::new()?;
/// Net::inside(&web).await?.loopback_up().await?;
/// // ip netns exec web ip address
/// let status = web.run(|| Command::new("ip").arg("address").status())?;
/// # let _ = status;
/// # Ok(())
/// # }
/// ```
///
/// See network_namespaces(7): <https://man7.org/linux/man-pages/man7/network_namespaces.7.html>.
#[doc(alias("CLONE_NEWNET", "setns", "nsfs", "ip netns"))]
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    id: NetnsId,
}

/// Which network namespace: as long as it lives, no other has the same.
///
/// It prints as `/proc/PID/ns/net` reads.
///
/// ```
/// let id = vethnet::Netns::of_this_thread()?.id();
/// assert_eq!(id.to_string(), format!("net:[{}]", id.inode()));
/// # Ok::<(), vethnet::Error>(())
/// ```
///
/// See namespaces(7): <https://man7.org/linux/man-pages/man7/namespaces.7.html>.
#[doc(alias("st_ino", "st_dev"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsId {
    /// The device number of nsfs, the same for all namespaces of the machine.
    #[must_use]
    pub fn device(self) -> u64 {
        self.device
    }

    /// The inode number, by which `lsns` and `ls -l /proc/PID/ns` show the namespace.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.inode
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

impl Netns {
    /// A new network namespace, without a name. In it is a loopback interface, which is down.
    ///
    /// * C call: unshare(2) CLONE_NEWNET, on a thread that ends. It is owned by the user namespace of the caller.
    /// * Blocks for some milliseconds. In a task, use `tokio::task::spawn_blocking`.
    /// * Privileges: CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// Permission; Limit (ENOSPC) when `user.max_net_namespaces` is reached.
    pub fn new() -> Result<Self> {
        visit::on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::from_errno("unshare CLONE_NEWNET", errno as i32).with_hints(&HINTS))?;
            Self::of_this_thread()
        })
    }

    /// That of the calling thread.
    ///
    /// * C call: ioctl(2) SIOCGSKNS on a socket (Linux 4.9); without CAP_NET_ADMIN, `/proc/thread-self/ns/net`.
    ///
    /// # Errors
    /// Those of socket(2) and of opening /proc.
    #[doc(alias = "SIOCGSKNS")]
    pub fn of_this_thread() -> Result<Self> {
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|errno| Error::from_errno("socket", errno as i32).with_hints(&HINTS))?;
        match sys::netns_of(&socket) {
            Ok(fd) => Self::adopt(fd),
            Err(_) => Self::adopt(ProcFd::open(ProcView::Processes)?.this_thread()?.namespace("net")?),
        }
    }

    /// That of the process a pidfd refers to.
    ///
    /// * C call: ioctl(2) PIDFD_GET_NET_NAMESPACE (Linux 6.11); before that `/proc/PID/ns/net`, with the process checked to
    ///   be the same still.
    /// * Privileges: PTRACE_MODE_READ_FSCREDS over the process, as ptrace(2) tells.
    ///
    /// # Errors
    /// Permission; [`Gone`](crate::ErrorKind::Gone) when the process has died; Invalid for what is no pidfd.
    #[doc(alias = "PIDFD_GET_NET_NAMESPACE")]
    pub fn of_pidfd(pidfd: impl AsFd) -> Result<Self> {
        let pidfd = pidfd.as_fd();
        match sys::netns::of_pidfd(pidfd) {
            Ok(fd) => Self::adopt(fd),
            // An older kernel, or no pidfd, which /proc tells apart.
            Err(Errno(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP)) => {
                Self::adopt(ProcFd::open(ProcView::Processes)?.process(pidfd)?.namespace("net")?)
            }
            Err(Errno(errno)) => Err(Error::from_errno("ioctl PIDFD_GET_NET_NAMESPACE", errno)
                .on(Subject::Thing("a pidfd".into()))
                .with_hints(&HINTS)
                .or_gone()),
        }
    }

    /// That of the file at a path: `/run/netns/web`, `/var/run/docker/netns/…`, `/proc/PID/ns/net`.
    ///
    /// * C call: openat(2) O_RDONLY | O_NONBLOCK, ioctl(2) NS_GET_NSTYPE.
    ///
    /// # Errors
    /// Those of openat(2); Invalid for what is not a network namespace, with a hint where it is an empty file.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Not blocking: a FIFO would wait for its writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(
            |error| {
                let is_gone = error.kind() == std::io::ErrorKind::NotFound && path.starts_with("/proc");
                let error = Error::from_io("openat", &error).on(path);
                if is_gone { error.with_hint("there is no such process, any more") } else { error }
            },
        )?;
        let is_empty = file.metadata().is_ok_and(|data| data.is_file() && data.len() == 0);
        let is_of_nsfs = fs_magic(file.as_raw_fd()) == Ok(NSFS_MAGIC);
        Self::adopt(file.into()).map_err(|error| {
            let error = error.on(path);
            // Those of nsfs look like empty files too.
            if is_empty && !is_of_nsfs { error.with_hint(named::EMPTY) } else { error }
        })
    }

    /// The namespace a descriptor is open on, which another library or process may have given.
    ///
    /// # Errors
    /// Invalid for what is not a network namespace.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self> {
        Self::adopt(fd.into())
    }

    fn adopt(fd: OwnedFd) -> Result<Self> {
        // What is of another file system is not asked: it may be a device, to which the request means something else.
        let kind = match fs_magic(fd.as_raw_fd()) {
            Ok(NSFS_MAGIC) => sys::netns::namespace_type(fd.as_fd()),
            _ => Err(Errno(libc::ENOTTY)),
        };
        let why = match kind {
            Ok(libc::CLONE_NEWNET) => None,
            Ok(_) => Some("this is a namespace of another kind"),
            Err(_) => Some("this is not a namespace"),
        };
        if let Some(why) = why {
            return Err(Error::invalid("ioctl NS_GET_NSTYPE", why)
                .on(Subject::Namespace("a network namespace".into()))
                .with_hint("open /proc/PID/ns/net or a file of /run/netns"));
        }
        let stat = nix::sys::stat::fstat(&fd).map_err(|errno| Error::from_errno("fstat", errno as i32))?;
        Ok(Self { fd, id: NetnsId { device: stat.st_dev, inode: stat.st_ino } })
    }

    /// Which namespace it is.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// A second handle on it.
    ///
    /// # Errors
    /// Limit (EMFILE).
    #[doc(alias = "dup")]
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { fd: duplicate(self.fd.as_fd())?, id: self.id })
    }

    /// Does `work` inside, on a thread that ends with it, and waits for it.
    ///
    /// * C call: setns(2) CLONE_NEWNET. The thread is in no other namespace than the caller but this; so are sockets that
    ///   are opened and programs that are started there, which live on.
    /// * Blocks. A panic of `work` goes on in the caller.
    /// * Privileges: CAP_SYS_ADMIN, over the namespace and in the caller's user namespace.
    ///
    /// Files below `/proc/sys/net` are those of the thread that opens them, so sysctls are set here:
    /// `router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))`.
    ///
    /// `ip netns exec` does more: it gives the program a mount namespace with a /sys that shows the network namespace, and
    /// with the files of `/etc/netns/NAME` over those of `/etc`.
    ///
    /// # Errors
    /// Permission; Limit (EAGAIN) when no thread can be made.
    #[doc(alias("setns", "ip netns exec"))]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = visit::builder()
                .spawn_scoped(scope, || visit::enter(&self.fd).map(|()| work()))
                .map_err(|error| Error::from_io("clone", &error).with_hints(&HINTS))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Does blocking `work` inside, on a thread that ends with it, without blocking the task.
    ///
    /// As [`run`](Netns::run). Dropping the future does not end the work: it goes on by itself.
    ///
    /// ```no_run
    /// # async fn example(web: vethnet::Netns) -> vethnet::Result<()> {
    /// let socket = web.run_async(|| std::net::TcpListener::bind("0.0.0.0:80")).await?;
    /// # drop(socket);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Netns::run).
    pub async fn run_async<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let netns = duplicate(self.fd.as_fd())?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let thread = visit::spawn(move || {
            let result = visit::enter(&netns).map(|()| work());
            drop(netns);
            // Nobody listens when the future was dropped.
            let _ = answer.send(result);
        })?;
        match answered.await {
            Ok(result) => result,
            // It ended without an answer: it panicked.
            Err(_) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => Err(visit::died()),
            },
        }
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Netns {}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Netns> for OwnedFd {
    fn from(netns: Netns) -> Self {
        netns.fd
    }
}

impl TryFrom<OwnedFd> for Netns {
    type Error = Error;

    fn try_from(fd: OwnedFd) -> Result<Self> {
        Self::adopt(fd)
    }
}
