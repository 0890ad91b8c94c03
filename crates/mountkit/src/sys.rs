//! The system calls of this crate, raw: they leave the C library's `errno` alone, so that a cloned child may make them.
#![allow(unsafe_code)]

mod copy_up;
pub(crate) mod enter;
#[cfg(feature = "layers")]
pub(crate) mod flock;
pub(crate) mod fs;
pub(crate) mod look;
pub(crate) mod mount;
pub(crate) mod overlay;
mod own_dir;
pub(crate) mod pass;
#[cfg(test)]
mod race;
pub(crate) mod resolve;
mod run;
pub(crate) mod statmount;
pub(crate) mod unmount;
#[cfg(feature = "layers")]
pub(crate) mod upper;
pub(crate) mod xattr;

use std::ffi::CStr;
use std::os::fd::RawFd;

use cellkit_core::sys::{close, syscall};
use cellkit_core::{ChildFds, Errno};

pub(crate) use resolve::{LONGEST_PATH, Links, Root, ensure_dir, ensure_file, has_openat2, open_in_root, owned};

/// struct mount_attr of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawMountAttr {
    pub(crate) attr_set: u64,
    pub(crate) attr_clr: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// The part of struct statx that anybody here looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) inode: u64,
    pub(crate) device: (u32, u32),
    /// Of a device node.
    pub(crate) rdev: (u32, u32),
    pub(crate) is_mount_root: bool,
    /// Linux 5.8.
    pub(crate) mount_id: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) size: u64,
    /// Of 512 bytes.
    pub(crate) blocks: u64,
    /// Seconds and nanoseconds.
    pub(crate) accessed: (i64, u32),
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
}

impl Stat {
    pub(crate) fn file_type(self) -> libc::mode_t {
        self.mode & libc::S_IFMT
    }

    pub(crate) fn is(self, file_type: libc::mode_t) -> bool {
        self.file_type() == file_type
    }
}

/// statx(2) of a descriptor. Child-safe.
pub(crate) fn statx(fd: RawFd) -> Result<Stat, Errno> {
    statx_with(fd, c"", libc::AT_EMPTY_PATH)
}

/// statx(2) of a path, which follows no last link and triggers no automount. Child-safe.
pub(crate) fn statx_path(path: &CStr) -> Result<Stat, Errno> {
    statx_with(libc::AT_FDCWD, path, libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT)
}

/// statx(2) of a name below `dir`, likewise. Child-safe.
pub(crate) fn statx_at(dir: RawFd, name: &CStr) -> Result<Stat, Errno> {
    statx_with(dir, name, libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT)
}

fn statx_with(dir: RawFd, path: &CStr, flags: i32) -> Result<Stat, Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let args = [
        dir as usize,
        path.as_ptr() as usize,
        flags as usize,
        (libc::STATX_BASIC_STATS | libc::STATX_MNT_ID) as usize,
        answer.as_mut_ptr() as usize,
        0,
    ];
    // SAFETY: path ends in NUL, and the kernel writes one struct statx into answer.
    unsafe { syscall(libc::SYS_statx, args) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statx.
    let answer = unsafe { answer.assume_init() };
    Ok(Stat {
        mode: u32::from(answer.stx_mode),
        inode: answer.stx_ino,
        device: (answer.stx_dev_major, answer.stx_dev_minor),
        rdev: (answer.stx_rdev_major, answer.stx_rdev_minor),
        is_mount_root: answer.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0,
        mount_id: answer.stx_mnt_id,
        uid: answer.stx_uid,
        gid: answer.stx_gid,
        links: answer.stx_nlink,
        size: answer.stx_size,
        blocks: answer.stx_blocks,
        accessed: (answer.stx_atime.tv_sec, answer.stx_atime.tv_nsec),
        modified: (answer.stx_mtime.tv_sec, answer.stx_mtime.tv_nsec),
        changed: (answer.stx_ctime.tv_sec, answer.stx_ctime.tv_nsec),
    })
}

/// The mount flags (ST_NOSUID, ...) that fstatvfs(3) shows of where `fd` is. For the parent.
pub(crate) fn mount_flags(fd: RawFd) -> Result<u64, Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the C library writes one struct statvfs into answer.
    if unsafe { libc::fstatvfs(fd, answer.as_mut_ptr()) } == -1 {
        return Err(Errno::last());
    }
    // SAFETY: zeroed, then filled; every bit pattern is a struct statvfs.
    let answer = unsafe { answer.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the type differs between machines")]
    Ok(answer.f_flag as u64)
}

/// Whether nothing can be written through the mount that `fd` is on, or to its file system: fstatfs(2). Child-safe.
fn is_read_only(fd: RawFd) -> Result<bool, Errno> {
    const ST_RDONLY: u64 = 1;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    let flags = {
        // struct statfs of these machines is 15 words, and f_flags, which the libc crate hides, is the eleventh.
        let mut answer = [0_u64; 15];
        // SAFETY: the kernel writes one struct statfs, which is as large, into answer.
        unsafe { syscall(libc::SYS_fstatfs, [fd as usize, answer.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
        let [.., flags, _, _, _, _] = answer;
        flags
    };
    // There the child never shares memory, and the C library's errno is its own.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    let flags = mount_flags(fd)?;
    Ok(flags & ST_RDONLY != 0)
}

/// Whether the caller's effective ids may do `mode` (R_OK, ...) to what `fd` names: faccessat2(2), Linux 5.8.
pub(crate) fn may(fd: RawFd, mode: i32) -> bool {
    let flags = (libc::AT_EACCESS | libc::AT_EMPTY_PATH) as usize;
    // SAFETY: the path is a static empty string, which the kernel only reads.
    unsafe { syscall(libc::SYS_faccessat2, [fd as usize, c"".as_ptr() as usize, mode as usize, flags, 0, 0]) }.is_ok()
}

/// geteuid(2).
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: no arguments; it cannot fail.
    unsafe { libc::geteuid() }
}

/// mount_setattr(2). Child-safe.
pub(crate) fn mount_setattr(dir: RawFd, path: &CStr, flags: u32, attr: &RawMountAttr) -> Result<(), Errno> {
    let args = [
        dir as usize,
        path.as_ptr() as usize,
        flags as usize,
        std::ptr::from_ref(attr) as usize,
        size_of::<RawMountAttr>(),
        0,
    ];
    // SAFETY: path ends in NUL and attr is as large as said; the kernel only reads them.
    unsafe { syscall(libc::SYS_mount_setattr, args) }.map(drop)
}

/// open_tree(2). Child-safe.
pub(crate) fn open_tree(dir: RawFd, path: &CStr, flags: u32) -> Result<RawFd, Errno> {
    let args = [dir as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0];
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_open_tree, args) }.map(|fd| fd as RawFd)
}

/// move_mount(2) of the mount that `from` is the root of, to `path` under `dir`, or to `dir` itself when `path` is empty.
/// Child-safe.
pub(crate) fn move_mount(from: RawFd, dir: RawFd, path: &CStr) -> Result<(), Errno> {
    let to_itself = if path.is_empty() { libc::MOVE_MOUNT_T_EMPTY_PATH } else { 0 };
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | to_itself;
    let args = [from as usize, c"".as_ptr() as usize, dir as usize, path.as_ptr() as usize, flags as usize, 0];
    // SAFETY: both paths end in NUL; the kernel only reads them.
    unsafe { syscall(libc::SYS_move_mount, args) }.map(drop)
}

/// fchdir(2). Child-safe.
pub(crate) fn fchdir(dir: RawFd) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_fchdir, [dir as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// chdir(2). Child-safe.
pub(crate) fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// mkdirat(2). Child-safe.
pub(crate) fn mkdirat(dir: RawFd, path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_mkdirat, [dir as usize, path.as_ptr() as usize, mode as usize, 0, 0, 0]) }.map(drop)
}

/// mknodat(2). Child-safe.
pub(crate) fn mknodat(dir: RawFd, path: &CStr, mode: u32, (major, minor): (u32, u32)) -> Result<(), Errno> {
    let device = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    let args = [dir as usize, path.as_ptr() as usize, mode as usize, device as usize, 0, 0];
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_mknodat, args) }.map(drop)
}

/// symlinkat(2). Child-safe.
pub(crate) fn symlinkat(target: &CStr, dir: RawFd, path: &CStr) -> Result<(), Errno> {
    let args = [target.as_ptr() as usize, dir as usize, path.as_ptr() as usize, 0, 0, 0];
    // SAFETY: target and path end in NUL; the kernel only reads them.
    unsafe { syscall(libc::SYS_symlinkat, args) }.map(drop)
}

/// fchownat(2), which follows no link. Child-safe.
pub(crate) fn fchownat(dir: RawFd, path: &CStr, uid: u32, gid: u32) -> Result<(), Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW as usize;
    let args = [dir as usize, path.as_ptr() as usize, uid as usize, gid as usize, flags, 0];
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_fchownat, args) }.map(drop)
}

/// pivot_root(2) with the working directory as both new_root and put_old. Child-safe.
pub(crate) fn pivot_root_here() -> Result<(), Errno> {
    let here = c".".as_ptr() as usize;
    // SAFETY: both paths are the same static string, which the kernel only reads.
    unsafe { syscall(libc::SYS_pivot_root, [here, here, 0, 0, 0, 0]) }.map(drop)
}

/// chroot(2) to the working directory. Child-safe.
pub(crate) fn chroot_here() -> Result<(), Errno> {
    // SAFETY: the path is a static string, which the kernel only reads.
    unsafe { syscall(libc::SYS_chroot, [c".".as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// umount2(2) of what is mounted at a path of the host, with MNT_DETACH. Child-safe.
pub(crate) fn detach_at(path: &CStr) -> Result<(), Errno> {
    let flags = (libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) as usize;
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_umount2, [path.as_ptr() as usize, flags, 0, 0, 0, 0]) }.map(drop)
}

/// umount2(2) of the topmost mount on the working directory, with MNT_DETACH. Child-safe.
pub(crate) fn detach_here() -> Result<(), Errno> {
    let args = [c".".as_ptr() as usize, libc::MNT_DETACH as usize, 0, 0, 0, 0];
    // SAFETY: the path is a static string, which the kernel only reads.
    unsafe { syscall(libc::SYS_umount2, args) }.map(drop)
}

/// Closes a descriptor that the same step opened.
fn shut(fd: RawFd) {
    // SAFETY: every caller passes what it has just opened and put nowhere.
    unsafe { close(fd) }
}

/// Copies the messages of a file system context into `buffer`, `; ` between them. Child-safe.
fn context_log(fs: RawFd, buffer: &mut [u8]) -> usize {
    let mut length = 0_usize;
    // The kernel keeps the last eight.
    for _ in 0..8 {
        let mut message = [0_u8; 256];
        let Ok(read) = cellkit_core::sys::read(fs, &mut message) else { break };
        let text = message.get(..read).unwrap_or_default().trim_ascii();
        // "e ", "w " or "i " says how grave it is; only what explains a failure is kept.
        let text = match text.strip_prefix(b"e ") {
            Some(text) => text,
            None => match text.strip_prefix(b"w ") {
                Some(text) => text,
                None => continue,
            },
        };
        let separator: &[u8] = if length == 0 { b"" } else { b"; " };
        for part in [separator, text] {
            let Some(place) = buffer.get_mut(length..length.saturating_add(part.len())) else { return length };
            place.copy_from_slice(part);
            length += part.len();
        }
    }
    length
}

/// The descriptor that `at` stands for in the child.
fn at(fds: &ChildFds<'_>, at: crate::step::At) -> Result<RawFd, Errno> {
    match at {
        crate::step::At::Cwd => Ok(libc::AT_FDCWD),
        crate::step::At::Fd(slot) => fds.get(slot),
    }
}

/// renameat2(2) with RENAME_EXCHANGE, for a test's racer.
#[cfg(test)]
pub(crate) fn exchange(a: &std::path::Path, b: &std::path::Path) {
    use std::os::unix::ffi::OsStrExt;
    let [a, b] = [a, b].map(|path| std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap_or_default());
    // SAFETY: both paths end in NUL; the kernel only reads them.
    let answer =
        unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
    assert_eq!(answer, 0, "renameat2: {}", Errno::last());
}
