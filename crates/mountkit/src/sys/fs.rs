//! The system calls on what a directory holds: on one name below one descriptor, which no call here follows.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

/// fchmodat2(2), Linux 6.6. Since 5.1 a new call has the same number on every machine we know.
const SYS_FCHMODAT2: libc::c_long = 452;

/// openat(2) with O_CLOEXEC and O_NOFOLLOW. Child-safe.
pub(crate) fn openat(dir: RawFd, name: &CStr, flags: i32, mode: u32) -> Result<RawFd, Errno> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let args = [dir as usize, name.as_ptr() as usize, flags as usize, mode as usize, 0, 0];
    loop {
        // SAFETY: name ends in NUL; the kernel only reads it.
        match unsafe { syscall(libc::SYS_openat, args) } {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer.map(|fd| fd as RawFd),
        }
    }
}

/// [`openat`] for the parent, which owns what it gets.
pub(crate) fn open_name(dir: RawFd, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    let fd = openat(dir, name, flags, mode)?;
    // SAFETY: just returned by openat.
    Ok(unsafe { own(fd) })
}

/// unlinkat(2); `flags` is 0 or AT_REMOVEDIR.
pub(crate) fn unlinkat(dir: RawFd, name: &CStr, flags: i32) -> Result<(), Errno> {
    // SAFETY: name ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_unlinkat, [dir as usize, name.as_ptr() as usize, flags as usize, 0, 0, 0]) }.map(drop)
}

/// linkat(2), which links a symbolic link itself.
pub(crate) fn linkat(from: RawFd, old: &CStr, to: RawFd, new: &CStr) -> Result<(), Errno> {
    let args = [from as usize, old.as_ptr() as usize, to as usize, new.as_ptr() as usize, 0, 0];
    // SAFETY: both names end in NUL; the kernel only reads them.
    unsafe { syscall(libc::SYS_linkat, args) }.map(drop)
}

/// renameat2(2).
pub(crate) fn renameat2(from: RawFd, old: &CStr, to: RawFd, new: &CStr, flags: u32) -> Result<(), Errno> {
    let args = [from as usize, old.as_ptr() as usize, to as usize, new.as_ptr() as usize, flags as usize, 0];
    // SAFETY: both names end in NUL; the kernel only reads them.
    unsafe { syscall(libc::SYS_renameat2, args) }.map(drop)
}

/// fchmodat2(2) with AT_SYMLINK_NOFOLLOW.
pub(crate) fn fchmodat2(dir: RawFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW as usize;
    // SAFETY: name ends in NUL; the kernel only reads it.
    unsafe { syscall(SYS_FCHMODAT2, [dir as usize, name.as_ptr() as usize, mode as usize, flags, 0, 0]) }.map(drop)
}

/// fchmodat(2), which follows a last link: for the magic links of a trusted procfs only.
pub(crate) fn fchmodat_following(dir: RawFd, path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_fchmodat, [dir as usize, path.as_ptr() as usize, mode as usize, 0, 0, 0]) }.map(drop)
}

/// utimensat(2) with AT_SYMLINK_NOFOLLOW. The nanoseconds may be UTIME_NOW or UTIME_OMIT.
pub(crate) fn utimensat(dir: RawFd, name: &CStr, times: [(i64, i64); 2]) -> Result<(), Errno> {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between machines")]
    let times = times.map(|(seconds, nanoseconds)| libc::timespec {
        tv_sec: seconds as libc::time_t,
        tv_nsec: nanoseconds as libc::c_long,
    });
    // SAFETY: name ends in NUL and times is two timespecs, all of which the C library only reads.
    let answer = unsafe { libc::utimensat(dir, name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// readlinkat(2): how many bytes of `buffer` the body of the link fills. Child-safe.
pub(crate) fn readlinkat(dir: RawFd, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [dir as usize, name.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
    // SAFETY: name ends in NUL, and the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(libc::SYS_readlinkat, args) }
}

/// [`readlinkat`] for the parent: all of the body.
pub(crate) fn read_link(dir: RawFd, name: &CStr) -> Result<Vec<u8>, Errno> {
    // The kernel has no longer ones, and cuts to the length of the buffer without a word.
    let mut body = vec![0; libc::PATH_MAX as usize + 1];
    let length = readlinkat(dir, name, &mut body)?;
    body.truncate(length);
    Ok(body)
}

/// getdents64(2): how many bytes of `buffer` are records. None are left when it is 0.
pub(crate) fn getdents(dir: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [dir as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(libc::SYS_getdents64, args) }
}

/// struct linux_dirent64: one name, as [`getdents`] writes it.
pub(crate) struct Record<'a> {
    pub(crate) inode: u64,
    /// The position behind it, for lseek(2).
    pub(crate) next: i64,
    pub(crate) d_type: u8,
    pub(crate) name: &'a CStr,
    pub(crate) length: usize,
}

impl<'a> Record<'a> {
    /// The first of `records`. `None` at the end, and for what the kernel does not write.
    pub(crate) fn first(records: &'a [u8]) -> Option<Self> {
        let (inode, rest) = records.split_first_chunk::<8>()?;
        let (next, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (d_type, _) = rest.split_first()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let name = CStr::from_bytes_until_nul(records.get(19..length)?).ok()?;
        let (inode, next) = (u64::from_ne_bytes(*inode), i64::from_ne_bytes(*next));
        Some(Self { inode, next, d_type: *d_type, name, length })
    }

    /// Whether it is `.` or `..`.
    pub(crate) fn is_dot(&self) -> bool {
        matches!(self.name.to_bytes(), b"." | b"..")
    }
}

/// The names in `records`, but for `.` and `..`.
pub(crate) fn names(mut records: &[u8]) -> impl Iterator<Item = &CStr> {
    let next = move || {
        let record = Record::first(records)?;
        records = records.get(record.length..)?;
        Some(record)
    };
    std::iter::from_fn(next).filter(|record| !record.is_dot()).map(|record| record.name)
}

/// lseek(2) of a directory to a position that [`getdents`] told.
pub(crate) fn seek_dir(dir: RawFd, position: i64) -> Result<(), Errno> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::lseek64(dir, position, libc::SEEK_SET) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_records_and_in_nonsense() {
        let mut records = Vec::new();
        for name in [&b"12\0\0\0"[..], b"..\0", b"self\0", b".\0\0"] {
            records.extend([0; 16]);
            records.extend(((19 + name.len()) as u16).to_ne_bytes());
            records.push(4);
            records.extend(name);
        }
        assert_eq!(names(&records).collect::<Vec<_>>(), [c"12", c"self"]);
        for cut in 0..records.len() {
            let _ = names(&records[..cut]).count();
        }
        // Records that would not end, and those that are longer than there is.
        for length in [0, 1, 18, 19, 24, 64] {
            assert_eq!(names(&vec![0; length]).count(), 0);
            assert_eq!(names(&vec![0xff; length]).count(), 0);
        }
    }
}
