//! System calls that are to fail, as errors of this crate, and what it takes to make them fail.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mountkit::{Error, HINTS};

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

fn answer(operation: &'static str, path: &Path, value: i64) -> Result<i32, Error> {
    if value >= 0 {
        return Ok(value as i32);
    }
    let errno = std::io::Error::last_os_error().raw_os_error().expect("an errno");
    Err(Error::from_errno(operation, errno).on(path).with_hints(&HINTS))
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: every caller passes what a call has just returned.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// open_tree(2) with OPEN_TREE_CLONE.
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    // SAFETY: the path ends in NUL.
    let value = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c(path).as_ptr(), flags) };
    answer("open_tree", path, value).map(owned)
}

/// move_mount(2) of a detached mount.
pub(crate) fn attach(mount: &OwnedFd, path: &Path) -> Result<(), Error> {
    let (flags, empty) = (libc::MOVE_MOUNT_F_EMPTY_PATH, c"".as_ptr());
    let fd = mount.as_raw_fd();
    // SAFETY: both paths end in NUL.
    let value = unsafe { libc::syscall(libc::SYS_move_mount, fd, empty, libc::AT_FDCWD, c(path).as_ptr(), flags) };
    answer("move_mount", path, value).map(drop)
}

/// move_mount(2) from a path to another. The error is about `from`.
pub(crate) fn move_mount(from: &Path, to: &Path) -> Result<(), Error> {
    let (source, target, cwd) = (c(from), c(to), libc::AT_FDCWD);
    // SAFETY: both paths end in NUL.
    let value = unsafe { libc::syscall(libc::SYS_move_mount, cwd, source.as_ptr(), cwd, target.as_ptr(), 0) };
    answer("move_mount", from, value).map(drop)
}

/// mount_setattr(2).
pub(crate) fn set_attributes(path: &Path, set: u64, clear: u64) -> Result<(), Error> {
    let attr: [u64; 4] = [set, clear, 0, 0];
    let size = size_of_val(&attr);
    let (cwd, c_path) = (libc::AT_FDCWD, c(path));
    // SAFETY: the path ends in NUL, and attr is a struct mount_attr of the size that is said.
    let value = unsafe { libc::syscall(libc::SYS_mount_setattr, cwd, c_path.as_ptr(), 0, attr.as_ptr(), size) };
    answer("mount_setattr", path, value).map(drop)
}

/// fsopen(2), an fsconfig(2) for each option (a flag where there is no value), and fsmount(2). Errors of an overlay are
/// about `subject`, others about the type.
pub(crate) fn make(fs: &str, options: &[(&str, Option<&Path>)], subject: Option<&Path>) -> Result<OwnedFd, Error> {
    let name = CString::new(fs).expect("no NUL");
    let about = |operation: &'static str, value: i64, context: Option<&OwnedFd>| {
        answer(operation, Path::new(""), value).map_err(|error| {
            let error = match subject {
                Some(path) => error.on(path),
                None => error.on(cellkit_core::Subject::Thing(fs.to_owned())),
            };
            let mut log = String::new();
            if let Some(context) = context {
                let mut file = std::fs::File::from(context.try_clone().expect("dup"));
                let mut message = [0; 512];
                while let Ok(length @ 1..) = file.read(&mut message) {
                    log = String::from_utf8_lossy(&message[..length]).trim_start_matches("e ").to_owned();
                }
            }
            error.with_kernel_text(log)
        })
    };
    // SAFETY: the name ends in NUL.
    let value = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) };
    let context = owned(about("fsopen", value, None)?);
    let fd = context.as_raw_fd();
    let set = |command: u32, key: Option<&CStr>, value: Option<&CStr>| {
        let [key, value] = [key, value].map(|text| text.map_or(std::ptr::null(), CStr::as_ptr));
        // SAFETY: key and value are null or end in NUL.
        let value = unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0) };
        about("fsconfig", value, Some(&context))
    };
    for (key, value) in options {
        let key = CString::new(*key).expect("no NUL");
        match value {
            Some(value) => set(libc::FSCONFIG_SET_STRING, Some(&key), Some(&c(value)))?,
            None => set(libc::FSCONFIG_SET_FLAG, Some(&key), None)?,
        };
    }
    set(libc::FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: no pointers.
    let value = unsafe { libc::syscall(libc::SYS_fsmount, fd, libc::FSMOUNT_CLOEXEC, 0) };
    about("fsmount", value, Some(&context)).map(owned)
}

/// pivot_root(2) with new_root as put_old.
pub(crate) fn pivot_root(path: &Path) -> Result<(), Error> {
    let new = c(path);
    // SAFETY: the path ends in NUL.
    let value = unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), new.as_ptr()) };
    answer("pivot_root", path, value).map(drop)
}

/// umount2(2).
pub(crate) fn unmount(path: &Path, flags: i32) -> Result<(), Error> {
    // SAFETY: the path ends in NUL.
    let value = unsafe { libc::umount2(c(path).as_ptr(), flags) };
    answer("umount2", path, value.into()).map(drop)
}

/// mount(2) with MS_BIND and MS_REC. The error is about `from`.
pub(crate) fn bind(from: &Path, to: &Path) -> Result<(), Error> {
    let (source, target, flags) = (c(from), c(to), libc::MS_BIND | libc::MS_REC);
    let none = std::ptr::null();
    // SAFETY: both paths end in NUL.
    let value = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, flags, none.cast()) };
    answer("mount", from, value.into()).map(drop)
}

/// mkdirat(2).
pub(crate) fn mkdir(path: &Path) -> Result<(), Error> {
    // SAFETY: the path ends in NUL.
    let value = unsafe { libc::mkdirat(libc::AT_FDCWD, c(path).as_ptr(), 0o755) };
    answer("mkdirat", path, value.into()).map(drop)
}

/// mknodat(2) of /dev/null's device.
pub(crate) fn mknod(path: &Path) -> Result<(), Error> {
    let (mode, device) = (libc::S_IFCHR | 0o666, libc::makedev(1, 3));
    // SAFETY: the path ends in NUL.
    let value = unsafe { libc::mknodat(libc::AT_FDCWD, c(path).as_ptr(), mode, device) };
    answer("mknodat", path, value.into()).map(drop)
}

/// openat2(2) with `resolve`.
pub(crate) fn openat2(path: &Path, flags: i32, resolve: u64) -> Result<OwnedFd, Error> {
    let how: [u64; 3] = [(flags | libc::O_CLOEXEC) as u64, 0, resolve];
    let (cwd, c_path, size) = (libc::AT_FDCWD, c(path), size_of_val(&how));
    // SAFETY: the path ends in NUL, and how is a struct open_how of the size that is said.
    let value = unsafe { libc::syscall(libc::SYS_openat2, cwd, c_path.as_ptr(), how.as_ptr(), size) };
    answer("openat2", path, value).map(owned)
}

/// unshare(2).
pub(crate) fn unshare(flags: i32) -> Result<(), Error> {
    // SAFETY: no pointers; the test process has one thread.
    let value = unsafe { libc::unshare(flags) };
    answer("unshare", Path::new("/"), value.into()).map(drop)
}

/// chroot(2).
pub(crate) fn chroot(path: &Path) {
    // SAFETY: the path ends in NUL.
    let value = unsafe { libc::chroot(c(path).as_ptr()) };
    answer("chroot", path, value.into()).expect("chroot");
}

/// Becomes uid and gid 12345 without privileges, and stays dumpable.
pub(crate) fn become_ordinary() {
    // SAFETY: no pointers.
    unsafe { libc::setgid(12345) };
    // SAFETY: no pointers.
    let value = unsafe { libc::setuid(12345) };
    answer("setuid", Path::new("/"), value.into()).expect("setuid");
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
}

/// Sets FS_IMMUTABLE_FL, or clears all flags.
pub(crate) fn set_immutable(file: &std::fs::File, immutable: bool) -> std::io::Result<()> {
    const FS_IMMUTABLE_FL: libc::c_int = 0x10;
    let flags: libc::c_int = if immutable { FS_IMMUTABLE_FL } else { 0 };
    // SAFETY: the request reads one int.
    let value = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS as _, &flags) };
    if value == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Installs a seccomp filter that answers ENOSYS to system call `number`.
pub(crate) fn hide(number: libc::c_long) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: number as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: filter names a program of the length that is said.
    let value = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
    answer("prctl", Path::new("/"), value.into()).expect("a filter");
}

/// Runs `body` in a fork of this process, which has one thread, and panics when it does.
#[track_caller]
pub(crate) fn in_fork(body: impl FnOnce()) {
    // SAFETY: this process has one thread, so nobody holds a lock that the child would wait for.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends this process.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    let mut status = 0;
    // SAFETY: status is a place for one int.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "the fork failed: its output is above");
}

/// A new user namespace, and with it those of `flags`, where the caller is root.
pub(crate) fn enter_user_namespace(flags: i32) {
    // SAFETY: no pointers; they cannot fail.
    let (uid, gid) = (unsafe { libc::getuid() }, unsafe { libc::getgid() });
    unshare(libc::CLONE_NEWUSER | flags).expect("a user namespace");
    std::fs::write("/proc/self/setgroups", "deny").expect("setgroups");
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")).expect("uid_map");
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")).expect("gid_map");
}
