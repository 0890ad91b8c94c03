//! The system calls of this crate that have no safe wrapper, or one that is too small for large machines.
#![allow(unsafe_code)]

pub(crate) mod bpf;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use cellkit_core::Errno;

use crate::CpuList;

/// pidfd_send_signal(2): SIGKILL to the process, safe against the reuse of its number.
pub(crate) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let args = [pidfd.as_raw_fd() as usize, libc::SIGKILL as usize, 0, 0, 0, 0];
    // SAFETY: the descriptor is borrowed for the call, and the pointer to signal information is null.
    unsafe { cellkit_core::sys::syscall(libc::SYS_pidfd_send_signal, args) }.map(drop)
}

/// sched_getaffinity(2): the processors that the calling thread may run on.
pub(crate) fn affinity() -> Result<CpuList, Errno> {
    // The kernel refuses a mask that is shorter than its own, whose length it does not tell.
    let mut words = vec![0usize; 1024 / usize::BITS as usize];
    loop {
        let args = [0, size_of_val(words.as_slice()), words.as_mut_ptr() as usize, 0, 0, 0];
        // SAFETY: the kernel writes no more bytes than the mask has, and the mask is borrowed for the call.
        match unsafe { cellkit_core::sys::syscall(libc::SYS_sched_getaffinity, args) } {
            Err(Errno(libc::EINVAL)) if words.len() < (1 << 16) => words.resize(words.len() * 2, 0),
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    let numbers = (0u32..).zip(words).flat_map(|(index, word)| {
        (0..usize::BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * usize::BITS + bit)
    });
    Ok(numbers.collect())
}

/// `struct pidfd_info` of linux/pidfd.h, in its first size; what is not looked at here is left in one piece.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    thread: i32,
    process: i32,
    rest: [u32; 10],
}

/// ioctl(2) PIDFD_GET_INFO (Linux 6.13): the numbers of thread and process, as the calling process sees them.
pub(crate) fn pidfd_numbers(pidfd: BorrowedFd<'_>) -> Result<(i32, i32), Errno> {
    const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11);
    let mut info = PidfdInfo { mask: 1, ..PidfdInfo::default() };
    let args = [pidfd.as_raw_fd() as usize, PIDFD_GET_INFO as usize, std::ptr::from_mut(&mut info) as usize, 0, 0, 0];
    // SAFETY: the number of the request tells the kernel the size of the struct, which it reads and writes.
    unsafe { cellkit_core::sys::syscall(libc::SYS_ioctl, args) }?;
    match (info.thread, info.process) {
        (thread, process) if thread > 0 && process > 0 => Ok((thread, process)),
        _ => Err(Errno(libc::ESRCH)),
    }
}

/// `struct file_handle` of kernfs: FILEID_KERNFS, and the id of the node.
#[repr(C)]
struct KernfsHandle {
    bytes: u32,
    kind: i32,
    id: u64,
}

const FILEID_KERNFS: i32 = 0xfe;

/// name_to_handle_at(2) of the directory itself: its kernfs id, which is the id of the group.
pub(crate) fn kernfs_id(dir: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut handle = KernfsHandle { bytes: 8, kind: 0, id: 0 };
    let mut mount = 0i32;
    let (handle_at, mount_at) = (std::ptr::from_mut(&mut handle) as usize, std::ptr::from_mut(&mut mount) as usize);
    let flags = libc::AT_EMPTY_PATH as usize;
    let args = [dir.as_raw_fd() as usize, c"".as_ptr() as usize, handle_at, mount_at, flags, 0];
    // SAFETY: the path ends in NUL; the kernel writes at most the 8 bytes of handle that `bytes` announces, and one int.
    unsafe { cellkit_core::sys::syscall(libc::SYS_name_to_handle_at, args) }?;
    if (handle.bytes, handle.kind) == (8, FILEID_KERNFS) { Ok(handle.id) } else { Err(Errno(libc::EOPNOTSUPP)) }
}

/// open_by_handle_at(2) of the directory with this kernfs id, on the mount that `root` is on.
pub(crate) fn open_kernfs_id(root: BorrowedFd<'_>, id: u64) -> Result<OwnedFd, Errno> {
    let handle = KernfsHandle { bytes: 8, kind: FILEID_KERNFS, id };
    let flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as usize;
    // The call wants a descriptor of the mount that is not O_PATH.
    let mount = crate::open::beneath(root, std::path::Path::new("."), libc::O_RDONLY | libc::O_DIRECTORY)?;
    let args = [mount.as_raw_fd() as usize, std::ptr::from_ref(&handle) as usize, flags, 0, 0, 0];
    // SAFETY: the kernel reads the handle, which is as large as it says.
    let fd = unsafe { cellkit_core::sys::syscall(libc::SYS_open_by_handle_at, args) }?;
    // SAFETY: just returned by open_by_handle_at.
    Ok(unsafe { cellkit_core::sys::own(fd as i32) })
}

/// getdents64(2): as many records of the directory as fit; 0 at its end.
pub(crate) fn getdents(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [dir.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
    unsafe { cellkit_core::sys::syscall(libc::SYS_getdents64, args) }
}
