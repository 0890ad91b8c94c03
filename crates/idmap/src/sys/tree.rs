//! The system calls of changing who owns a tree. None follows a link, but for those through `/proc/PID/fd`, where the
//! link leads to the very file that a descriptor is open on.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// What statx(2) says of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    /// The type and the permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// How many names it has.
    pub(crate) links: u32,
    pub(crate) inode: Inode,
    /// The number of the mount.
    pub(crate) mount: u64,
    /// Whether the file may not be changed (chattr +i, +a).
    pub(crate) frozen: bool,
}

/// Which file it is. The time at which it was made tells it from a later one with the same number; where the file
/// system keeps none, it is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    pub(crate) device: (u32, u32),
    pub(crate) number: u64,
    pub(crate) born: (i64, u32),
}

impl Stat {
    fn is(&self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.is(libc::S_IFDIR)
    }

    pub(crate) fn is_link(&self) -> bool {
        self.is(libc::S_IFLNK)
    }

    /// The bits that chmod(2) sets.
    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Those of them that a change of owner clears, unless it is a directory.
    pub(crate) fn set_id_bits(&self) -> u32 {
        self.mode & (libc::S_ISUID | libc::S_ISGID)
    }
}

/// statx(2) of one name in a directory, or of the descriptor itself when the name is empty.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Errno> {
    const MASK: u32 = libc::STATX_TYPE
        | libc::STATX_MODE
        | libc::STATX_NLINK
        | libc::STATX_UID
        | libc::STATX_GID
        | libc::STATX_INO
        | libc::STATX_BTIME
        | libc::STATX_MNT_ID;
    const FROZEN: u64 = (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND) as u64;
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    let answer_at = answer.as_mut_ptr() as usize;
    let args = [dir.as_raw_fd() as usize, name.as_ptr() as usize, flags as usize, MASK as usize, answer_at, 0];
    // SAFETY: name ends in NUL; the kernel writes one struct statx.
    unsafe { syscall(libc::SYS_statx, args) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statx.
    let answer = unsafe { answer.assume_init() };
    Ok(Stat {
        mode: u32::from(answer.stx_mode),
        uid: answer.stx_uid,
        gid: answer.stx_gid,
        links: answer.stx_nlink,
        inode: Inode {
            device: (answer.stx_dev_major, answer.stx_dev_minor),
            number: answer.stx_ino,
            born: (answer.stx_btime.tv_sec, answer.stx_btime.tv_nsec),
        },
        mount: answer.stx_mnt_id,
        frozen: answer.stx_attributes & FROZEN != 0,
    })
}

fn open(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let args = [dir.as_raw_fd() as usize, name.as_ptr() as usize, flags as usize, 0, 0, 0];
    // SAFETY: name ends in NUL; the kernel only reads it.
    let fd = unsafe { syscall(libc::SYS_openat, args) }?;
    // SAFETY: just returned by openat.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// openat(2) with O_PATH: whatever it is, link and device too, without any effect.
pub(crate) fn open_any(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    open(dir, name, libc::O_PATH)
}

/// openat(2) of a directory, for reading it. ELOOP and ENOTDIR when it is something else.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    open(dir, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK)
}

/// fchownat(2) of one name in a directory, or of the descriptor itself when the name is empty. `None` stays as it is.
pub(crate) fn chown(dir: BorrowedFd<'_>, name: &CStr, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    let id = |id: Option<u32>| id.unwrap_or(u32::MAX) as usize;
    let args = [dir.as_raw_fd() as usize, name.as_ptr() as usize, id(uid), id(gid), flags as usize, 0];
    // SAFETY: name ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_fchownat, args) }.map(drop)
}

/// fchmodat(2), which follows a link: for the magic links of `/proc/PID/fd`.
pub(crate) fn chmod(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Errno> {
    let args = [dir.as_raw_fd() as usize, name.as_ptr() as usize, mode as usize, 0, 0, 0];
    // SAFETY: name ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_fchmodat, args) }.map(drop)
}

/// getdents64(2): as many records as fit into the buffer, none at the end.
pub(crate) fn read_dir(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [dir.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(libc::SYS_getdents64, args) }
}

/// unshare(2) CLONE_FS: from now on the calling thread has a working directory of its own.
pub(crate) fn own_working_directory() -> Result<(), Errno> {
    // SAFETY: no pointers; the thread shares its file system information with nobody afterwards.
    unsafe { syscall(libc::SYS_unshare, [libc::CLONE_FS as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// fchdir(2). Only for threads that called [`own_working_directory`].
pub(crate) fn change_directory(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_fchdir, [dir.as_raw_fd() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Whose extended attributes are meant. Names are in the working directory of the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'a> {
    /// Of what has this name, a link itself.
    Name(&'a CStr),
    /// Of what the link of this name leads to: for the magic links of `/proc/PID/fd`.
    Target(&'a CStr),
    /// Of what the descriptor is open on, which is not O_PATH.
    Open(BorrowedFd<'a>),
}

impl Of<'_> {
    fn argument(self) -> usize {
        match self {
            Self::Name(name) | Self::Target(name) => name.as_ptr() as usize,
            Self::Open(fd) => fd.as_raw_fd() as usize,
        }
    }

    fn pick(self, name: libc::c_long, target: libc::c_long, open: libc::c_long) -> libc::c_long {
        match self {
            Self::Name(_) => name,
            Self::Target(_) => target,
            Self::Open(_) => open,
        }
    }
}

/// llistxattr(2) and its like: the names, each with its NUL. ERANGE when they do not fit.
pub(crate) fn list_attributes(of: Of<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let call = of.pick(libc::SYS_llistxattr, libc::SYS_listxattr, libc::SYS_flistxattr);
    // SAFETY: a name ends in NUL, and the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(call, [of.argument(), buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

/// lgetxattr(2) and its like. ERANGE when it does not fit.
pub(crate) fn get_attribute(of: Of<'_>, key: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let call = of.pick(libc::SYS_lgetxattr, libc::SYS_getxattr, libc::SYS_fgetxattr);
    let args = [of.argument(), key.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
    // SAFETY: the names end in NUL, and the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(call, args) }
}

/// lsetxattr(2) and its like.
pub(crate) fn set_attribute(of: Of<'_>, key: &CStr, value: &[u8]) -> Result<(), Errno> {
    let call = of.pick(libc::SYS_lsetxattr, libc::SYS_setxattr, libc::SYS_fsetxattr);
    let args = [of.argument(), key.as_ptr() as usize, value.as_ptr() as usize, value.len(), 0, 0];
    // SAFETY: the names end in NUL and value is as long as said; the kernel only reads them.
    unsafe { syscall(call, args) }.map(drop)
}

/// flock(2): for this process only, or EWOULDBLOCK.
pub(crate) fn lock(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let args = [file.as_raw_fd() as usize, (libc::LOCK_EX | libc::LOCK_NB) as usize, 0, 0, 0, 0];
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_flock, args) }.map(drop)
}

/// flock(2) LOCK_UN.
pub(crate) fn unlock(file: BorrowedFd<'_>) {
    // SAFETY: no pointers. It cannot fail for a file that is locked.
    let _ = unsafe { syscall(libc::SYS_flock, [file.as_raw_fd() as usize, libc::LOCK_UN as usize, 0, 0, 0, 0]) };
}
