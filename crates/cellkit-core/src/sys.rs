//! Raw system calls that leave the C library's `errno` alone, and the typed ones that several crates need.
//!
//! Hidden from the documentation: it is shared by the cellkit crates and promises nothing to others.
#![allow(unsafe_code, missing_docs)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::Errno;

/// The kernel answers errors as -4095..=-1.
fn check(value: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&value) { Err(Errno(-value as i32)) } else { Ok(value as usize) }
}

/// Makes system call `number` with up to six arguments, without touching the C library's `errno`.
///
/// # Safety
/// The call must be sound with these arguments: pointers valid for what the kernel reads and writes, descriptors that
/// are the caller's to use.
#[inline]
pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = args;
    let value: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the x86-64 system call convention; rcx and r11 are what the instruction itself overwrites. What the call
    // does with the arguments is the caller's promise.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => value,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the arm64 system call convention. What the call does with the arguments is the caller's promise.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") a as isize => value,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the RISC-V system call convention. What the call does with the arguments is the caller's promise.
    unsafe {
        std::arch::asm!("ecall", in("a7") number, inlateout("a0") a as isize => value,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f, options(nostack));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    {
        // On other machines the child never shares memory (ns-core sees to it), so the C library's errno is its own.
        // SAFETY: the caller's promise, passed on.
        let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
        value = if answer == -1 { -(Errno::last().0 as isize) } else { answer as isize };
    }
    check(value)
}

/// `how` of openat2(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

/// openat2(2). Child-safe. Not retried: EAGAIN and EINTR are the caller's to judge.
pub fn openat2(dir: RawFd, path: &CStr, how: &OpenHow) -> Result<RawFd, Errno> {
    let args = [dir as usize, path.as_ptr() as usize, std::ptr::from_ref(how) as usize, size_of::<OpenHow>(), 0, 0];
    // SAFETY: path ends in NUL and how is as large as said; the kernel only reads them.
    unsafe { syscall(libc::SYS_openat2, args) }.map(|fd| fd as RawFd)
}

/// fsopen(2). Child-safe.
pub fn fsopen(fs: &CStr, flags: u32) -> Result<RawFd, Errno> {
    // SAFETY: fs ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_fsopen, [fs.as_ptr() as usize, flags as usize, 0, 0, 0, 0]) }.map(|fd| fd as RawFd)
}

/// fsconfig(2). Child-safe.
pub fn fsconfig(fs: RawFd, cmd: u32, key: Option<&CStr>, value: Option<&CStr>, aux: i32) -> Result<(), Errno> {
    let pointer = |text: Option<&CStr>| text.map_or(0, |text| text.as_ptr() as usize);
    let args = [fs as usize, cmd as usize, pointer(key), pointer(value), aux as usize, 0];
    // SAFETY: key and value are null or end in NUL; the kernel only reads them.
    unsafe { syscall(libc::SYS_fsconfig, args) }.map(drop)
}

/// fsmount(2). Child-safe.
pub fn fsmount(fs: RawFd, flags: u32, attributes: u32) -> Result<RawFd, Errno> {
    let args = [fs as usize, flags as usize, attributes as usize, 0, 0, 0];
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_fsmount, args) }.map(|fd| fd as RawFd)
}

/// close(2). Child-safe. An error of close is not an event: the descriptor is gone either way.
///
/// # Safety
/// The descriptor is the caller's, and nobody uses the number afterwards.
pub unsafe fn close(fd: RawFd) {
    // SAFETY: no pointers; the caller owns the number.
    let _ = unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// read(2). Child-safe.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(libc::SYS_read, args) }
}

/// write(2). Child-safe.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    let args = [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
    // SAFETY: the kernel reads at most bytes.len() bytes.
    unsafe { syscall(libc::SYS_write, args) }
}

/// The magic number of nsfs, where the files of namespaces are.
pub const NSFS_MAGIC: i64 = 0x6e73_6673;

/// fstatfs(2), of which only the file system's magic number is wanted. Child-safe.
pub fn fs_magic(fd: RawFd) -> Result<i64, Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel writes one struct statfs.
    unsafe { syscall(libc::SYS_fstatfs, [fd as usize, answer.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statfs.
    let answer = unsafe { answer.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the type differs between machines")]
    Ok(answer.f_type as i64)
}

/// fstat(2): inode number and mode. For the parent.
pub fn inode(fd: BorrowedFd<'_>) -> Result<(u64, u32), Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fstat writes one struct stat.
    if unsafe { libc::fstat(fd.as_raw_fd(), answer.as_mut_ptr()) } == -1 {
        return Err(Errno::last());
    }
    // SAFETY: zeroed, then filled; every bit pattern is a struct stat.
    let answer = unsafe { answer.assume_init() };
    Ok((answer.st_ino, answer.st_mode))
}

/// Takes a descriptor that the kernel has just returned.
///
/// # Safety
/// `fd` is the fresh result of a system call of this process, so that nobody else owns it.
pub unsafe fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// openat2(2) for the parent: interrupted calls are made again, and so is, a bounded number of times, a lookup that a
/// concurrent rename or mount made the kernel give up on (EAGAIN).
pub fn open_in(dir: BorrowedFd<'_>, path: &CStr, how: &OpenHow) -> Result<OwnedFd, Errno> {
    let mut attempts = 128;
    loop {
        match openat2(dir.as_raw_fd(), path, how) {
            // SAFETY: just returned by openat2.
            Ok(fd) => return Ok(unsafe { own(fd) }),
            Err(Errno(libc::EINTR)) => {}
            Err(Errno(libc::EAGAIN)) if attempts > 0 => attempts -= 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// A new, detached procfs that only this process can reach.
pub fn private_proc(only_processes: bool) -> Result<OwnedFd, Errno> {
    // SAFETY: just returned by fsopen.
    let fs = unsafe { own(fsopen(c"proc", libc::FSOPEN_CLOEXEC)?) };
    if only_processes {
        fsconfig(fs.as_raw_fd(), libc::FSCONFIG_SET_STRING, Some(c"subset"), Some(c"pid"), 0)?;
    }
    fsconfig(fs.as_raw_fd(), libc::FSCONFIG_CMD_CREATE, None, None, 0)?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(fs.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes as u32)?;
    // SAFETY: just returned by fsmount.
    Ok(unsafe { own(mount) })
}

/// Whether the process of `pidfd` has not been reaped (a zombie still counts).
pub fn is_alive(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    pidfd_send_signal(pidfd, 0)
}

/// pidfd_send_signal(2) without further information.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the signal information is null.
    unsafe { syscall(libc::SYS_pidfd_send_signal, [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0]) }.map(drop)
}

/// The calling process's working directory as a directory handle.
// SAFETY: AT_FDCWD is not a descriptor that could be closed; every *at() call takes it.
pub const AT_FDCWD: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };

/// gettid(2).
pub fn gettid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers.
    let fd = unsafe { syscall(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0]) }?;
    // SAFETY: just returned by pidfd_open.
    Ok(unsafe { own(fd as RawFd) })
}
