//! Mounts with any bytes in their names, which mount(8) does not make.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn text(bytes: impl AsRef<[u8]>) -> CString {
    CString::new(bytes.as_ref()).expect("no NUL")
}

fn check(answer: i64) -> io::Result<i64> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// mount(2).
#[track_caller]
pub(crate) fn mount(source: impl AsRef<[u8]>, target: &Path, fs: &str, flags: u64, data: &str) {
    let (source, path, fs, data) = (text(source), text(target.as_os_str().as_bytes()), text(fs), text(data));
    // SAFETY: all end in NUL; the kernel only reads them.
    let answer = unsafe { libc::mount(source.as_ptr(), path.as_ptr(), fs.as_ptr(), flags, data.as_ptr().cast()) };
    check(answer.into()).unwrap_or_else(|error| panic!("mount {target:?}: {error}"));
}

/// umount2(2) with MNT_DETACH.
#[track_caller]
pub(crate) fn unmount(target: &Path) {
    let path = text(target.as_os_str().as_bytes());
    // SAFETY: it ends in NUL; the kernel only reads it.
    let answer = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    check(answer.into()).unwrap_or_else(|error| panic!("umount2 {target:?}: {error}"));
}

/// A bind of `source` on `target` whose ids are mapped as in the user namespace, if its file system can be (EINVAL).
#[track_caller]
pub(crate) fn bind_idmapped(source: &Path, target: &Path, userns: BorrowedFd<'_>) -> bool {
    let (from, to) = (text(source.as_os_str().as_bytes()), text(target.as_os_str().as_bytes()));
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path ends in NUL; the kernel only reads it.
    let tree = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags) });
    let tree = tree.expect("open_tree") as i32;
    let attr = [libc::MOUNT_ATTR_IDMAP, 0, 0, userns.as_raw_fd() as u64];
    let empty = c"".as_ptr();
    // SAFETY: attr is a struct mount_attr, as large as said; the kernel only reads it.
    let set = unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree, empty, libc::AT_EMPTY_PATH, attr.as_ptr(), size_of_val(&attr))
    };
    let made = match check(set) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        set => set.expect("mount_setattr") == 0,
    };
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths end in NUL; the kernel only reads them.
    let moved = unsafe { libc::syscall(libc::SYS_move_mount, tree, empty, libc::AT_FDCWD, to.as_ptr(), flags) };
    check(moved).expect("move_mount");
    // SAFETY: opened above and kept nowhere.
    unsafe { libc::close(tree) };
    made
}

/// Runs `work` on a thread that has another root directory.
pub(crate) fn in_chroot<T: Send>(root: &Path, work: impl FnOnce() -> T + Send) -> T {
    let root = text(root.as_os_str().as_bytes());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: no pointers; it changes this thread only.
            check(unsafe { libc::unshare(libc::CLONE_FS) }.into()).expect("unshare");
            // SAFETY: it ends in NUL; the kernel only reads it.
            check(unsafe { libc::chroot(root.as_ptr()) }.into()).expect("chroot");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How many mounts a namespace has, hidden ones and its own root included: ioctl NS_MNT_GET_INFO, Linux 6.12.
pub(crate) fn mounts_in(namespace: &std::fs::File) -> Option<usize> {
    // struct mnt_ns_info: its size, the count, and the namespace's number in two halves.
    let mut info = [16_u32, 0, 0, 0];
    // SAFETY: the kernel writes the sixteen bytes that the request's number says.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), 0x8010_b70a, info.as_mut_ptr()) };
    (answer == 0).then_some(info[1] as usize)
}

/// pidfd_open(2).
pub(crate) fn pidfd(pid: u32) -> std::os::fd::OwnedFd {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).expect("pidfd_open");
    // SAFETY: just returned by pidfd_open.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) }
}
