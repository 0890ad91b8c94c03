//! [`Tun`]: links whose other end is a program.
//!
//! A tun or tap belongs to the network namespace of the thread that opened `/dev/net/tun`, so it is opened on a short-lived
//! thread inside that of the [`Net`]. The device file itself is the caller's: the path is looked up in the mount namespace
//! the program is in.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::name::IfName;
use crate::net::Net;
use crate::netns;
use crate::sys::tun as sys;

const DEVICE: &str = "/dev/net/tun";
const IFF_TUN: i16 = 0x1;
const IFF_TAP: i16 = 0x2;
const IFF_MULTI_QUEUE: i16 = 0x100;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
/// 0x8000, as a signed number.
const IFF_TUN_EXCL: i16 = i16::MIN;

/// A link whose other end is a program, which reads what is sent by it and writes what it receives.
///
/// * C call: open(2) of `/dev/net/tun`, ioctl(2) TUNSETIFF, TUNSETOWNER, TUNSETGROUP, TUNSETPERSIST.
/// * It goes with its last descriptor, unless it is [`persistent`](Self::persistent).
/// * Packets have no `struct tun_pi` before them (IFF_NO_PI).
/// * Needs CONFIG_TUN (module tun) and the device file. Kernel: 5.15. Privileges: CAP_NET_ADMIN and CAP_SYS_ADMIN over the
///   namespace; to open a persistent one that has an [`owner`](Self::owner), only what entering the namespace takes.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use std::fs::File;
/// use std::io::Read;
/// use std::os::fd::OwnedFd;
/// use vethnet::{IfName, LinkChange, Tun};
///
/// let name = IfName::new("tap0")?;
/// let queue = net.create_tun(&Tun::tap(name.clone())).await?;
/// net.change_link(&name, &LinkChange::new().up()).await?;
/// let mut frame = [0; 1514];
/// let length = File::from(OwnedFd::from(queue)).read(&mut frame);
/// # let _ = length;
/// # Ok(())
/// # }
/// ```
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/tuntap.html>.
#[doc(alias = "TUNSETIFF")]
#[doc(alias = "IFF_TAP")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_tun"]
pub struct Tun {
    name: IfName,
    flags: i16,
    nonblocking: bool,
    persistent: bool,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Tun {
    /// One that passes IP packets.
    #[doc(alias = "IFF_TUN")]
    pub fn new(name: IfName) -> Self {
        Self::with(name, IFF_TUN)
    }

    /// One that passes Ethernet frames.
    #[doc(alias = "IFF_TAP")]
    pub fn tap(name: IfName) -> Self {
        Self::with(name, IFF_TAP)
    }

    fn with(name: IfName, mode: i16) -> Self {
        Self { name, flags: mode | IFF_NO_PI, nonblocking: false, persistent: false, owner: None, group: None }
    }

    /// More than one descriptor can be open, each with a queue: the kernel spreads flows over them.
    #[doc(alias = "IFF_MULTI_QUEUE")]
    pub fn multi_queue(mut self) -> Self {
        self.flags |= IFF_MULTI_QUEUE;
        self
    }

    /// Packets have a `struct virtio_net_hdr` before them, for a virtual machine.
    #[doc(alias = "IFF_VNET_HDR")]
    pub fn vnet_hdr(mut self) -> Self {
        self.flags |= IFF_VNET_HDR;
        self
    }

    /// Reading waits for nothing (O_NONBLOCK), for use with a runtime.
    pub fn nonblocking(mut self) -> Self {
        self.nonblocking = true;
        self
    }

    /// It stays when nobody has it open, until [`remove_link`](Net::remove_link).
    #[doc(alias = "TUNSETPERSIST")]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// The user who may open it without privileges.
    #[doc(alias = "TUNSETOWNER")]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// The group who may.
    #[doc(alias = "TUNSETGROUP")]
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    fn subject(&self) -> Subject {
        Subject::Interface(self.name.to_string())
    }

    fn fault(&self, operation: &'static str) -> impl FnOnce(Errno) -> Error {
        let subject = self.subject();
        move |Errno(errno)| Error::from_errno(operation, errno).on(subject).with_hints(&HINTS)
    }

    /// In the namespace of the calling thread. It is made persistent last: when something fails before, it goes with the
    /// descriptor.
    fn open(&self, exclusive: bool) -> Result<TunQueue> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(if self.nonblocking { libc::O_NONBLOCK } else { 0 });
        let file = options.open(DEVICE).map_err(|error| {
            Error::from_io("open", &error)
                .on(Path::new(DEVICE))
                .with_hint("it takes the device file and the module tun: modprobe tun, or mknod /dev/net/tun c 10 200")
        })?;
        let fd = OwnedFd::from(file);
        let flags = if exclusive { self.flags | IFF_TUN_EXCL } else { self.flags };
        match sys::set_interface(fd.as_fd(), self.name.as_str(), flags) {
            Ok(()) => {}
            // The kernel's word for a name that is taken, where it was to be made.
            Err(Errno(libc::EBUSY)) if exclusive => return Err(self.fault("ioctl TUNSETIFF")(Errno(libc::EEXIST))),
            Err(errno) => return Err(self.fault("ioctl TUNSETIFF")(errno)),
        }
        if exclusive {
            if let Some(uid) = self.owner {
                sys::set_owner(fd.as_fd(), uid).map_err(self.fault("ioctl TUNSETOWNER"))?;
            }
            if let Some(gid) = self.group {
                sys::set_group(fd.as_fd(), gid).map_err(self.fault("ioctl TUNSETGROUP"))?;
            }
            if self.persistent {
                sys::set_persistent(fd.as_fd()).map_err(self.fault("ioctl TUNSETPERSIST"))?;
            }
        }
        Ok(TunQueue(fd))
    }
}

/// A queue of a tun or tap: read(2) from it what the link sends, one packet a call, and write(2) what it receives.
///
/// It is a descriptor: take it out by `OwnedFd::from`, for a `File` or a runtime. Close-on-exec.
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/tuntap.html>.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{IfName, Tun};
///
/// let queue = net.create_tun(&Tun::new(IfName::new("tun0")?)).await?;
/// let file = std::fs::File::from(std::os::fd::OwnedFd::from(queue));
/// # let _ = file;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a link that is not persistent goes with its last descriptor"]
pub struct TunQueue(OwnedFd);

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<TunQueue> for OwnedFd {
    fn from(queue: TunQueue) -> Self {
        queue.0
    }
}

impl Net {
    /// Makes a tun or tap, down, and returns its first queue.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): a link has this name.
    /// * [`NotFound`](crate::ErrorKind::NotFound): there is no `/dev/net/tun`.
    /// * [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN over the namespace.
    #[doc(alias = "TUNSETIFF")]
    pub async fn create_tun(&self, spec: &Tun) -> Result<TunQueue> {
        let (netns, spec) = (self.netns()?, spec.clone());
        netns::inside(netns.as_fd(), move || spec.open(true)).await
    }

    /// Opens a queue of a tun or tap that is there: of a persistent one, or one more of one with
    /// [`multi_queue`](Tun::multi_queue). The kind and the flags have to be those it was made with.
    ///
    /// # Errors
    /// * [`NotFound`](crate::ErrorKind::NotFound): there is no link of this name.
    /// * [`Invalid`](crate::ErrorKind::Invalid): it is something else, or was made with other flags.
    /// * [`Busy`](crate::ErrorKind::Busy): it has one queue, and that is open.
    #[doc(alias = "TUNSETIFF")]
    pub async fn open_tun(&self, spec: &Tun) -> Result<TunQueue> {
        // Where there is none the kernel would make it.
        self.index_of(&(&spec.name).into()).await?;
        let (netns, spec) = (self.netns()?, spec.clone());
        netns::inside(netns.as_fd(), move || spec.open(false)).await
    }
}
