//! What making an overlay in the parent takes: a mount namespace of a thread's own, mount(2), a look at directories.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use cellkit_core::Errno;
use cellkit_core::sys::{OpenHow, open_in, syscall};

/// unshare(2) for the calling thread, which is to be one that ends soon.
pub(crate) fn unshare(flags: i32) -> Result<(), Errno> {
    // SAFETY: no pointers. Neither CLONE_FS nor CLONE_NEWNS changes memory or descriptors.
    unsafe { syscall(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// mount(2) of a new file system, with its options as one page of text.
pub(crate) fn mount_page(fs: &CStr, target: &CStr, flags: u64, options: &CStr) -> Result<(), Errno> {
    let fs = fs.as_ptr() as usize;
    let args = [fs, target.as_ptr() as usize, fs, flags as usize, options.as_ptr() as usize, 0];
    // SAFETY: all four strings end in NUL; the kernel reads them, and of options at most up to the end of a page.
    unsafe { syscall(libc::SYS_mount, args) }.map(drop)
}

/// The directory above `dir`, as a place.
pub(crate) fn parent(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open_at(dir, c"..", libc::O_PATH | libc::O_DIRECTORY)
}

/// The working directory of the calling thread, as a place.
pub(crate) fn here() -> Result<OwnedFd, Errno> {
    open_at(cellkit_core::sys::AT_FDCWD, c".", libc::O_PATH | libc::O_DIRECTORY)
}

/// openat(2) of what needs no care, such as `.` and `..`.
pub(crate) fn open_at(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    open_in(dir, path, &OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve: 0 })
}

/// openat2(2) of what is below `dir`, through no link and no mount.
pub(crate) fn open_below(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
    open_in(dir, path, &OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve })
}

/// fgetxattr(2): whether the file has the attribute, as far as the caller may see it.
pub(crate) fn has_xattr(file: BorrowedFd<'_>, name: &CStr) -> bool {
    // SAFETY: name ends in NUL, and nothing is written: the buffer has no bytes.
    unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// Whether the file system of `file` can hold an extended attribute of that name: fgetxattr(2).
pub(crate) fn can_hold_xattr(file: BorrowedFd<'_>, name: &CStr) -> bool {
    // SAFETY: name ends in NUL, and nothing is written: the buffer has no bytes.
    let answer = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) };
    answer >= 0 || Errno::last().0 != libc::EOPNOTSUPP
}

/// The names in the directory `dir`, which must be open for reading, in one piece of at most 32 KiB: getdents64(2).
pub(crate) fn some_names(dir: &impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut records = vec![0_u8; 32 << 10];
    let length = super::fs::getdents(dir.as_fd().as_raw_fd(), &mut records)?;
    let names = super::fs::names(records.get(..length).unwrap_or_default());
    Ok(names.map(|name| name.to_bytes().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_directory() {
        let dir = faultkit::TempDir::new();
        for name in ["one", "two three", "ü"] {
            std::fs::write(dir.join(name), "").expect("write");
        }
        let mut names = some_names(&std::fs::File::open(&*dir).expect("open")).expect("getdents64");
        names.sort();
        assert_eq!(names, [&b"one"[..], b"two three", "ü".as_bytes()]);
    }

    #[test]
    fn attributes_are_known_to_fit_or_not() {
        let dir = std::fs::File::open("/proc/self").expect("open");
        assert!(!can_hold_xattr(dir.as_fd(), c"user.overlay.opaque"));
    }
}
