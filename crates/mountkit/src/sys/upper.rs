//! What is read of a directory by whoever makes a layer of it: by one name below a descriptor, and no link is followed.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

use super::xattr::{self, Action};

/// struct statx, as far as a layer is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FullStat {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) inode: u64,
    pub(crate) device: (u32, u32),
    /// Of a device node.
    pub(crate) rdev: (u32, u32),
    pub(crate) size: u64,
    /// Of 512 bytes each, whatever the file system's own are.
    pub(crate) blocks: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    pub(crate) mount: u64,
}

impl FullStat {
    pub(crate) fn file_type(&self) -> libc::mode_t {
        self.mode & libc::S_IFMT
    }
}

/// statx(2) of `name` in `dir`, or of `dir` itself for an empty name.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<FullStat, Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
    let args = [
        dir.as_raw_fd() as usize,
        name.as_ptr() as usize,
        flags as usize,
        (libc::STATX_BASIC_STATS | libc::STATX_MNT_ID) as usize,
        answer.as_mut_ptr() as usize,
        0,
    ];
    // SAFETY: name ends in NUL, and the kernel writes one struct statx into answer.
    unsafe { syscall(libc::SYS_statx, args) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statx.
    let answer = unsafe { answer.assume_init() };
    Ok(FullStat {
        mode: u32::from(answer.stx_mode),
        uid: answer.stx_uid,
        gid: answer.stx_gid,
        links: answer.stx_nlink,
        inode: answer.stx_ino,
        device: (answer.stx_dev_major, answer.stx_dev_minor),
        rdev: (answer.stx_rdev_major, answer.stx_rdev_minor),
        size: answer.stx_size,
        blocks: answer.stx_blocks,
        mtime: (answer.stx_mtime.tv_sec, answer.stx_mtime.tv_nsec),
        ctime: (answer.stx_ctime.tv_sec, answer.stx_ctime.tv_nsec),
        mount: answer.stx_mnt_id,
    })
}

/// openat(2) of `name` in `dir` for reading, which follows no last link, waits for nobody and takes no terminal.
pub(crate) fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let flags = flags | libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let args = [dir.as_raw_fd() as usize, name.as_ptr() as usize, flags as usize, 0, 0, 0];
    // SAFETY: name ends in NUL; the kernel only reads it.
    let fd = unsafe { syscall(libc::SYS_openat, args) }?;
    // SAFETY: just returned by openat.
    Ok(unsafe { own(fd as i32) })
}

/// getdents64(2) until the end: all names in `dir` but `.` and `..`, as they come. More than `limit` are E2BIG.
pub(crate) fn names_in(dir: BorrowedFd<'_>, limit: usize) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let mut buffer = vec![0_u8; 32 << 10];
    loop {
        let args = [dir.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
        // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
        let length = unsafe { syscall(libc::SYS_getdents64, args) }?;
        if length == 0 {
            return Ok(names);
        }
        let mut rest = buffer.get(..length).unwrap_or_default();
        // struct linux_dirent64: inode 8, offset 8, length 2, type 1, then the name with a NUL after it.
        while let Some([low, high]) = rest.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([*low, *high]));
            let name = rest.get(19..length).and_then(|name| CStr::from_bytes_until_nul(name).ok());
            if let Some(name) = name.filter(|name| ![c".", c".."].contains(name)) {
                names.push(name.to_owned());
            }
            rest = rest.get(length.max(19)..).unwrap_or_default();
        }
        if names.len() > limit {
            return Err(Errno(libc::E2BIG));
        }
    }
}

/// readlinkat(2): where the symbolic link `name` in `dir` leads.
pub(crate) fn link_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    // The kernel has no longer ones, and cuts to the length of the buffer without a word.
    let mut target = vec![0_u8; libc::PATH_MAX as usize + 1];
    let args = [dir.as_raw_fd() as usize, name.as_ptr() as usize, target.as_mut_ptr() as usize, target.len(), 0, 0];
    // SAFETY: name ends in NUL, and the kernel writes at most target.len() bytes.
    let length = unsafe { syscall(libc::SYS_readlinkat, args) }?;
    target.truncate(length);
    Ok(target)
}

/// lseek(2) with SEEK_DATA or SEEK_HOLE; `None` past the last of them (ENXIO).
pub(crate) fn seek(file: &File, from: u64, whence: i32) -> Result<Option<u64>, Errno> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::lseek(file.as_raw_fd(), from as libc::off_t, whence) };
    if answer >= 0 {
        return Ok(Some(answer as u64));
    }
    match Errno::last() {
        Errno(libc::ENXIO) => Ok(None),
        errno => Err(errno),
    }
}

/// An extended attribute's name and value.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// All extended attributes that the caller may see of an open file, sorted. None where the file system has none.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> Result<Vec<Attribute>, Errno> {
    collect(|action| xattr::of_file(fd.as_raw_fd(), action))
}

/// The same of `name` in `dir`, which may be a link or a device, and is not opened.
pub(crate) fn attributes_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Vec<Attribute>, Errno> {
    let fd = dir.as_raw_fd();
    match collect(|action| xattr::at(fd, name, action)) {
        // Linux 6.13 has the calls.
        Err(Errno(libc::ENOSYS)) => collect(|action| xattr::from_own_dir(fd, name, action)),
        found => found,
    }
}

/// The kernel has neither longer names, all together, nor longer values.
const LONGEST: usize = 64 << 10;

fn collect(ask: impl Fn(&mut Action<'_>) -> Result<usize, Errno>) -> Result<Vec<Attribute>, Errno> {
    let names = match filled(|buffer| ask(&mut Action::List(buffer))) {
        Err(Errno(libc::EOPNOTSUPP)) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(key) = CStr::from_bytes_with_nul(name) else { continue };
        match filled(|buffer| ask(&mut Action::Get(key, buffer))) {
            Ok(value) => found.push((key.to_bytes().to_owned(), value)),
            // Removed meanwhile, or one that only its own module may read.
            Err(Errno(libc::ENODATA | libc::EOPNOTSUPP)) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

/// What `fill` puts into a buffer, which is small as long as it will do.
fn filled(fill: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    let length = match fill(&mut buffer) {
        Err(Errno(libc::ERANGE)) => {
            buffer.resize(LONGEST, 0);
            fill(&mut buffer)?
        }
        length => length?,
    };
    buffer.truncate(length);
    Ok(buffer)
}
