//! What the kernel says of mounts: listmount(2), statmount(2), statx(2), and the wait for changes. For the parent.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// All architectures number the calls since Linux 5.12 alike, from where their own tables ended.
const SYS_STATMOUNT: libc::c_long = libc::SYS_mount_setattr + 15;
const SYS_LISTMOUNT: libc::c_long = libc::SYS_mount_setattr + 16;

/// The mount to list below that stands for the caller's root.
pub(crate) const LSMT_ROOT: u64 = u64::MAX;

pub(crate) const STATMOUNT_SB_BASIC: u64 = 0x1;
pub(crate) const STATMOUNT_MNT_BASIC: u64 = 0x2;
pub(crate) const STATMOUNT_PROPAGATE_FROM: u64 = 0x4;
pub(crate) const STATMOUNT_MNT_ROOT: u64 = 0x8;
pub(crate) const STATMOUNT_MNT_POINT: u64 = 0x10;
pub(crate) const STATMOUNT_FS_TYPE: u64 = 0x20;
pub(crate) const STATMOUNT_MNT_NS_ID: u64 = 0x40;
pub(crate) const STATMOUNT_MNT_OPTS: u64 = 0x80;
pub(crate) const STATMOUNT_FS_SUBTYPE: u64 = 0x100;
pub(crate) const STATMOUNT_SB_SOURCE: u64 = 0x200;
pub(crate) const STATMOUNT_SUPPORTED_MASK: u64 = 0x1000;
pub(crate) const STATMOUNT_MNT_UIDMAP: u64 = 0x2000;
pub(crate) const STATMOUNT_MNT_GIDMAP: u64 = 0x4000;

/// struct mnt_id_req.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    /// The last id of the page before, or the mask.
    param: u64,
    namespace: u64,
}

impl Request {
    fn new(namespace: Option<u64>, mount: u64, param: u64) -> Self {
        // Linux 6.8 knows the request without its last field only.
        let size = if namespace.is_some() { 32 } else { 24 };
        Self { size, spare: 0, mount, param, namespace: namespace.unwrap_or(0) }
    }
}

/// listmount(2): the unique ids of the mounts below `mount`, from the one after `last`, in ascending order; `namespace` is
/// the caller's own when `None`.
pub(crate) fn listmount(namespace: Option<u64>, mount: u64, last: u64, ids: &mut [u64]) -> Result<usize, Errno> {
    let request = Request::new(namespace, mount, last);
    let args = [std::ptr::from_ref(&request) as usize, ids.as_mut_ptr() as usize, ids.len(), 0, 0, 0];
    // SAFETY: the request is as large as it says, and the kernel writes at most ids.len() numbers into ids.
    unsafe { syscall(SYS_LISTMOUNT, args) }
}

/// statmount(2): writes struct statmount and its strings into `answer`; EOVERFLOW when it is too small.
pub(crate) fn statmount(namespace: Option<u64>, mount: u64, mask: u64, answer: &mut [u8]) -> Result<(), Errno> {
    let request = Request::new(namespace, mount, mask);
    let args = [std::ptr::from_ref(&request) as usize, answer.as_mut_ptr() as usize, answer.len(), 0, 0, 0];
    // SAFETY: the request is as large as it says, and the kernel writes at most answer.len() bytes into answer.
    unsafe { syscall(SYS_STATMOUNT, args) }.map(drop)
}

/// The number of the mount that a descriptor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountId {
    /// Never used again. Linux 6.8.
    Unique(u64),
    /// Used again once the mount is gone. Linux 5.8.
    Old(u64),
}

impl std::fmt::Display for MountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unique(id) => write!(f, "unique id {id}"),
            Self::Old(id) => write!(f, "id {id}"),
        }
    }
}

const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// statx(2) of a descriptor: the unique id where the kernel has one.
pub(crate) fn mount_of(fd: BorrowedFd<'_>) -> Result<MountId, Errno> {
    statx(fd, STATX_MNT_ID_UNIQUE | libc::STATX_MNT_ID)
}

/// statx(2) of a descriptor: the id that is used again.
pub(crate) fn old_mount_of(fd: BorrowedFd<'_>) -> Result<MountId, Errno> {
    statx(fd, libc::STATX_MNT_ID)
}

fn statx(fd: BorrowedFd<'_>, mask: u32) -> Result<MountId, Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let args = [
        fd.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        // The mount is known without asking the file system, whose server may not answer.
        (libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC) as usize,
        mask as usize,
        answer.as_mut_ptr() as usize,
        0,
    ];
    // SAFETY: the path is a static empty string, and the kernel writes one struct statx into answer.
    unsafe { syscall(libc::SYS_statx, args) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statx.
    let answer = unsafe { answer.assume_init() };
    let id = answer.stx_mnt_id;
    Ok(if answer.stx_mask & STATX_MNT_ID_UNIQUE != 0 { MountId::Unique(id) } else { MountId::Old(id) })
}

/// The unique id of a mount namespace: ioctl NS_GET_MNTNS_ID, Linux 6.11.
pub(crate) fn namespace_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // _IOR(0xb7, 0x5, __u64), but where reading has another bit.
    const READ: usize = if cfg!(any(target_arch = "mips64", target_arch = "powerpc64", target_arch = "sparc64")) {
        0x4000_0000
    } else {
        0x8000_0000
    };
    const NS_GET_MNTNS_ID: usize = READ | 8 << 16 | 0xb7 << 8 | 0x5;
    let mut id = 0_u64;
    let args = [fd.as_raw_fd() as usize, NS_GET_MNTNS_ID, std::ptr::from_mut(&mut id) as usize, 0, 0, 0];
    // SAFETY: of all the requests of descriptors of any kind this number is nsfs's, which writes one u64.
    unsafe { syscall(libc::SYS_ioctl, args) }?;
    Ok(id)
}

/// Waits up to `timeout` milliseconds (-1: for ever) for the mount namespace that `mountinfo` shows to have changed since
/// it was opened, or since the last time this said so. EINTR is the caller's.
pub(crate) fn await_change(mountinfo: BorrowedFd<'_>, timeout: i32) -> Result<bool, Errno> {
    let mut poll = libc::pollfd { fd: mountinfo.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
    // SAFETY: one pollfd, as said.
    match unsafe { libc::poll(&mut poll, 1, timeout) } {
        -1 => Err(Errno::last()),
        _ => Ok(poll.revents & (libc::POLLPRI | libc::POLLERR) != 0),
    }
}

/// Takes the calling thread, and no other, into a mount namespace.
pub(crate) fn enter_mount_namespace(namespace: BorrowedFd<'_>) -> Result<(), (&'static str, Errno)> {
    // SAFETY: no pointers. The thread's root and working directory are its own then.
    unsafe { syscall(libc::SYS_unshare, [libc::CLONE_FS as usize, 0, 0, 0, 0, 0]) }
        .map_err(|errno| ("unshare", errno))?;
    let args = [namespace.as_raw_fd() as usize, libc::CLONE_NEWNS as usize, 0, 0, 0, 0];
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_setns, args) }.map(drop).map_err(|errno| ("setns", errno))
}
