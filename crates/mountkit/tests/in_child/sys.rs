//! The child that runs the steps. The test process has one thread, so that after fork everything may be done.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cellkit_core::{ChildFds, ChildSteps};

/// What the child reports: the number of the step, the errno, and what the kernel said.
pub(crate) const FAULT_HEADER: usize = 8;

/// Makes `command` run in new namespaces, in the root that `steps` make, as PID 1. A step that fails is written to
/// `fault`, and the child ends with 125.
pub(crate) fn in_new_root(command: &mut Command, steps: ChildSteps, new_user_namespace: bool, fault: RawFd) {
    let body = move || {
        if new_user_namespace {
            own_user_namespace()?;
        }
        let rest = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        // SAFETY: no pointers; this process has one thread.
        check(unsafe { libc::unshare(rest) })?;
        // SAFETY: this process has one thread, so nobody holds a lock that the child would wait for.
        let child = unsafe { libc::fork() };
        check(child)?;
        if child != 0 {
            wait_and_end(child);
        }
        // SAFETY: no pointers; it cannot fail.
        unsafe { libc::umask(0) };
        run(&steps, fault);
        // SAFETY: as above.
        unsafe { libc::umask(0o022) };
        Ok(())
    };
    // SAFETY: the test process has one thread (see faultkit::isolated), so the forked child may do what it likes.
    unsafe { command.pre_exec(body) };
}

fn check(answer: i32) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn own_user_namespace() -> io::Result<()> {
    // SAFETY: no pointers; they cannot fail.
    let (uid, gid) = (unsafe { libc::getuid() }, unsafe { libc::getgid() });
    // SAFETY: no pointers. The change of uid cleared the flag, and /proc/self belongs to root without it.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })?;
    // SAFETY: no pointers; this process has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))
}

fn wait_and_end(child: libc::pid_t) -> ! {
    let mut status = 0;
    // SAFETY: status is a place for one int.
    unsafe { libc::waitpid(child, &mut status, 0) };
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 124 };
    // SAFETY: ends this process, which is a fork that owns nothing.
    unsafe { libc::_exit(code) }
}

fn run(steps: &ChildSteps, fault: RawFd) {
    let mut table = vec![ChildFds::EMPTY; steps.slots()];
    let mut fds = ChildFds::new(&mut table);
    for (number, step) in steps.iter().enumerate() {
        let Err(errno) = step.run(&mut fds) else { continue };
        let mut text = [0; 512];
        let length = step.kernel_text(&fds, &mut text);
        let mut message = Vec::new();
        message.extend((number as u32).to_ne_bytes());
        message.extend(errno.0.to_ne_bytes());
        message.extend(&text[..length]);
        // SAFETY: the parent keeps the pipe open until this process has ended.
        let pipe = unsafe { BorrowedFd::borrow_raw(fault) };
        let _ = write(pipe, &message);
        // SAFETY: ends this process, which is a fork that owns nothing.
        unsafe { libc::_exit(125) };
    }
}

fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads bytes.len() bytes of bytes.
    let answer = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// setxattr(2).
#[track_caller]
pub(crate) fn set_attribute(path: &Path, name: &CStr, value: &[u8]) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: path and name end in NUL, value is as long as said; the kernel only reads them.
    let answer = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(answer).unwrap_or_else(|error| panic!("setxattr {path:?} {name:?}: {error}"));
}

/// The end of a pseudo terminal that a payload gets, and its name, of the unlocked `master`.
pub(crate) fn terminal(master: std::fs::File) -> (std::fs::File, std::fs::File, std::path::PathBuf) {
    // SAFETY: no pointers.
    check(unsafe { libc::unlockpt(master.as_raw_fd()) }).expect("unlockpt");
    let mut name = [0_u8; 64];
    // SAFETY: the C library writes at most 64 bytes, with a NUL.
    check(unsafe { libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) }).expect("ptsname");
    let name = CStr::from_bytes_until_nul(&name).expect("a NUL").to_str().expect("ASCII");
    let open = std::fs::OpenOptions::new().read(true).write(true).open(name);
    (master, open.expect("the terminal"), name.into())
}

/// umount2(2) with MNT_DETACH.
#[track_caller]
pub(crate) fn unmount(path: &CStr) {
    // SAFETY: a C string; the kernel only reads it.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }).expect("umount2");
}

/// Runs `body` in a fork with a mount namespace of its own; a panic in it fails the test.
#[track_caller]
pub(crate) fn in_fork(body: impl FnOnce()) {
    // SAFETY: the test process has one thread, so nobody holds a lock that the child would wait for.
    let child = unsafe { libc::fork() };
    check(child).expect("fork");
    if child == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // SAFETY: no pointers; this process has one thread.
            check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).expect("unshare");
            body();
        }));
        // SAFETY: ends this process, which is a fork that owns nothing.
        unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: status is a place for one int.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "the fork failed; its words are above");
}

/// Where the machine's first mount is the root: the initramfs that every kernel boots with, below all that was mounted
/// on it. The caller is in a mount namespace of its own, which keeps only that mount.
pub(crate) fn go_to_the_initramfs(mounts_above: usize) {
    let namespace = std::fs::File::open("/proc/self/ns/mnt").expect("open");
    for _ in 0..mounts_above {
        // SAFETY: a C string; the kernel only reads it.
        check(unsafe { libc::umount2(c"/".as_ptr(), libc::MNT_DETACH) }).expect("umount2");
        // Joining a mount namespace sets the root to what is on top of its first mount.
        // SAFETY: no pointers; this process has one thread.
        check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }).expect("setns");
    }
}
