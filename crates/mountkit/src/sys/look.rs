//! Questions to the kernel that change nothing: what [`explain`](crate::explain) asks. For the parent.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use cellkit_core::Errno;
use cellkit_core::sys::{OpenHow, open_in, own, syscall};

/// `_IO(0xb7, 1)` of linux/nsfs.h.
const NS_GET_USERNS: usize = 0xb701;
/// `_IOR(0xb7, 10, struct mnt_ns_info)`.
const NS_MNT_GET_INFO: usize = (2 << 30) | (size_of::<MountNsInfo>() << 16) | 0xb70a;

/// `struct mnt_ns_info`.
#[repr(C)]
#[derive(Debug, Default)]
struct MountNsInfo {
    size: u32,
    mounts: u32,
    id: u64,
}

/// The user namespace that owns this namespace.
pub(crate) fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: this request takes no argument.
    let fd = unsafe { syscall(libc::SYS_ioctl, [namespace.as_raw_fd() as usize, NS_GET_USERNS, 0, 0, 0, 0]) }?;
    // SAFETY: just returned by the ioctl.
    Ok(unsafe { own(fd as RawFd) })
}

/// How many mounts this mount namespace has. Linux 6.12.
pub(crate) fn mounts_in(namespace: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut info = MountNsInfo::default();
    let place = std::ptr::from_mut(&mut info) as usize;
    // SAFETY: the kernel writes one struct mnt_ns_info, whose size is part of the request.
    unsafe { syscall(libc::SYS_ioctl, [namespace.as_raw_fd() as usize, NS_MNT_GET_INFO, place, 0, 0, 0]) }?;
    Ok(info.mounts)
}

/// What a link of procfs (`cwd`, `root`, `fd/3`) leads to, as a place (O_PATH): nothing is opened by it.
pub(crate) fn behind_link(process: BorrowedFd<'_>, link: &CStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow { flags: (libc::O_PATH | libc::O_CLOEXEC) as u64, mode: 0, resolve: 0 };
    open_in(process, link, &how)
}

/// The end of the kernel's log: syslog(2) with SYSLOG_ACTION_READ_ALL, which takes nothing out of it.
pub(crate) fn kernel_log(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    const READ_ALL: usize = 3;
    let args = [READ_ALL, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
    let length = unsafe { syscall(libc::SYS_syslog, args) }?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// The time since boot, by the two clocks that may be the one of the kernel's log: as time is kept (CLOCK_MONOTONIC), and
/// as the machine's counter runs, which nobody corrects (CLOCK_MONOTONIC_RAW). In weeks they part by minutes.
pub(crate) fn since_boot() -> [Duration; 2] {
    [libc::CLOCK_MONOTONIC, libc::CLOCK_MONOTONIC_RAW].map(|clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one struct timespec.
        unsafe { libc::clock_gettime(clock, &mut time) };
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    })
}

/// What is left of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) blocks: u64,
    pub(crate) free_blocks: u64,
    /// 0 where inodes are not counted.
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
}

/// fstatvfs(3).
pub(crate) fn space(fd: BorrowedFd<'_>) -> Result<Space, Errno> {
    let mut answer = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the C library writes one struct statvfs into answer.
    if unsafe { libc::fstatvfs(fd.as_raw_fd(), answer.as_mut_ptr()) } == -1 {
        return Err(Errno::last());
    }
    // SAFETY: zeroed, then filled; every bit pattern is a struct statvfs.
    let answer = unsafe { answer.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the types differ between machines")]
    Ok(Space {
        blocks: answer.f_blocks as u64,
        free_blocks: answer.f_bavail as u64,
        inodes: answer.f_files as u64,
        free_inodes: answer.f_favail as u64,
    })
}

/// The attributes that chattr(1) sets and statx(2) shows: STATX_ATTR_IMMUTABLE, STATX_ATTR_APPEND.
pub(crate) fn file_attributes(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    let path = c"".as_ptr() as usize;
    let args = [fd.as_raw_fd() as usize, path, libc::AT_EMPTY_PATH as usize, 0, answer.as_mut_ptr() as usize, 0];
    // SAFETY: the path is a static empty string, and the kernel writes one struct statx into answer.
    unsafe { syscall(libc::SYS_statx, args) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statx.
    let answer = unsafe { answer.assume_init() };
    Ok(answer.stx_attributes)
}

/// Whether a seccomp filter stands before the thread's calls: prctl(2) PR_GET_SECCOMP.
pub(crate) fn is_filtered() -> bool {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_prctl, [libc::PR_GET_SECCOMP as usize, 0, 0, 0, 0, 0]) }.is_ok_and(|mode| mode != 0)
}
