//! A child that tries what may be forbidden, and ends.
//!
//! # Theory of operation
//!
//! ```text
//! caller --clone--> child --clone3 CLONE_NEWUSER--------------------> first:  power, maps, levels
//!                     |---clone3 CLONE_NEWUSER|CLONE_NEWNS|CLONE_NEWPID--> second: a procfs of its own
//! ```
//!
//! The child between is there because a seccomp filter may answer with death instead of an errno: then it dies, and not
//! the caller. Answers are words in a page that all of them share, so that what was found out before a death is known.
//! Each has memory of its own (no CLONE_VM), makes raw system calls on its own stack, and ends; none of their ends is
//! signalled to the caller (exit signal 0), whose handlers and whose wait(2) do not hear of them.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use cellkit_core::Errno;
use cellkit_core::sys::{close, fsconfig, fsmount, fsopen, own, syscall, write};

use super::signals::BlockedSignals;

/// What is tried, in this order. The number is the place of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Try {
    /// clone(2) with flags that no kernel takes together (CLONE_NEWUSER, CLONE_FS), so that EINVAL is the kernel's own
    /// answer and any other a seccomp filter's.
    CloneFiltered,
    /// clone3(2) with no arguments at all, to the same end.
    Clone3Filtered,
    /// clone3(2) CLONE_NEWUSER, or clone(2) where that is filtered.
    UserNamespace,
    /// unshare(2) with CLONE_NEWUTS and a flag that it does not take, as the first.
    UnshareFiltered,
    /// unshare(2) CLONE_NEWUTS in the namespace, which needs CAP_SYS_ADMIN there.
    Power,
    /// "deny" into its setgroups.
    Setgroups,
    /// The caller's own uid into its uid_map.
    UidMap,
    /// The caller's own gid into its gid_map.
    GidMap,
    /// unshare(2) CLONE_NEWUSER in it, until it fails.
    Nested,
    /// A second user namespace, with a mount and a pid namespace.
    Container,
    /// fsopen(2), fsconfig(2): a procfs there.
    FreshProc,
    /// fsmount(2) of it.
    MountedProc,
}

const TRIES: usize = Try::MountedProc as usize + 1;
/// The place of the number of levels.
const LEVELS: usize = TRIES;
/// Not tried, or not come back from.
const NO_ANSWER: i32 = -1;

/// What came of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    answers: [i32; TRIES + 1],
}

impl Answers {
    /// `None` when it was not tried, or the one who tried it was killed at it.
    pub(crate) fn of(&self, what: Try) -> Option<Result<(), Errno>> {
        match self.answers.get(what as usize).copied() {
            None | Some(NO_ANSWER) => None,
            Some(0) => Some(Ok(())),
            Some(errno) => Some(Err(Errno(errno))),
        }
    }

    /// How many user namespaces fitted into each other below the caller's, the first among them.
    pub(crate) fn levels(&self) -> u32 {
        self.answers.get(LEVELS).copied().and_then(|levels| levels.try_into().ok()).unwrap_or(0)
    }

    /// Answers that nobody gave, for tests of what is made of them.
    #[cfg(test)]
    pub(crate) fn invented(given: &[(Try, i32)]) -> Self {
        let mut answers = [NO_ANSWER; TRIES + 1];
        for (what, errno) in given {
            answers[*what as usize] = *errno;
        }
        Self { answers }
    }
}

/// What the children are given.
struct Given<'a> {
    page: &'a Page,
    proc: RawFd,
    /// `0 UID 1` and `0 GID 1`, in the caller's numbers.
    maps: [&'a [u8]; 2],
}

/// Tries everything. `proc` is a procfs of the caller's pid namespace.
///
/// # Errors
/// The call that a plain child needs, and what it answered: then nothing was tried.
pub(crate) fn run(proc: BorrowedFd<'_>, maps: [&[u8]; 2]) -> Result<Answers, (&'static str, Errno)> {
    let page = Page::new().map_err(|errno| ("mmap", errno))?;
    let given = Given { page: &page, proc: proc.as_raw_fd(), maps };
    let mut pidfd: RawFd = -1;
    let child = {
        // The children must not run the caller's handlers.
        let _signals = BlockedSignals::new().map_err(|errno| ("rt_sigprocmask", errno))?;
        // SAFETY: memory of its own, so the child returns here on its own copy of the stack, and goes into `between`.
        let child = unsafe { clone(libc::CLONE_PIDFD as usize, &raw mut pidfd) };
        if child == Ok(0) {
            between(&given);
        }
        child
    };
    child.map_err(|errno| ("clone", errno))?;
    // SAFETY: just returned by clone.
    let pidfd = unsafe { own(pidfd) };
    wait(&pidfd).map_err(|errno| ("waitid", errno))?;
    Ok(page.read())
}

/// The child between. It must not allocate, lock, panic or return.
fn between(given: &Given<'_>) -> ! {
    let page = given.page;
    // SAFETY: should a kernel take these flags all the same, then its child comes back here and ends.
    let filtered = unsafe { clone((libc::CLONE_NEWUSER | libc::CLONE_FS) as usize, ptr::null_mut()) };
    page.say(Try::CloneFiltered, end_if_born(filtered));
    // SAFETY: no arguments of size zero: the kernel reads nothing and makes nothing.
    let filtered = unsafe { syscall(libc::SYS_clone3, [0; 6]) };
    page.say(Try::Clone3Filtered, filtered);
    in_new(libc::CLONE_NEWUSER, Try::UserNamespace, given, first);
    in_new(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID, Try::Container, given, second);
    exit()
}

/// A grandchild in new namespaces, and its end.
fn in_new(flags: i32, what: Try, given: &Given<'_>, body: fn(&Given<'_>)) {
    let mut child = clone_or_legacy(flags);
    // The kernel counts namespaces that are gone for a moment longer: those of the grandchild before this one.
    for _ in 0..50 {
        if what == Try::UserNamespace || child != Err(Errno(libc::ENOSPC)) {
            break;
        }
        nap();
        child = clone_or_legacy(flags);
    }
    match child {
        Ok(0) => {
            given.page.say(what, Ok(0));
            body(given);
            exit()
        }
        Ok(pid) => {
            let args = [pid, 0, libc::__WALL as usize, 0, 0, 0];
            // SAFETY: no status and no usage are asked for.
            while unsafe { syscall(libc::SYS_wait4, args) } == Err(Errno(libc::EINTR)) {}
        }
        Err(_) => given.page.say(what, child),
    }
}

fn clone_or_legacy(flags: i32) -> Result<usize, Errno> {
    // SAFETY: the child comes back here with its own copy of the stack, and its caller ends it.
    match unsafe { clone3(flags) } {
        // Filters hide clone3, whose arguments they cannot see, so that clone is used.
        // SAFETY: as above.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => unsafe { clone(flags as usize, ptr::null_mut()) },
        answer => answer,
    }
}

/// nanosleep(2) of two milliseconds.
fn nap() {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    // SAFETY: the kernel reads one timespec; what would be left is not asked for.
    let _ = unsafe { syscall(libc::SYS_nanosleep, [ptr::from_ref(&time) as usize, 0, 0, 0, 0, 0]) };
}

/// In a user namespace without maps.
fn first(given: &Given<'_>) {
    let page = given.page;
    page.say(Try::UnshareFiltered, unshare(libc::CLONE_NEWUTS | 1));
    page.say(Try::Power, unshare(libc::CLONE_NEWUTS));
    let [uid, gid] = given.maps;
    let mut answer = Ok(0);
    for (what, path, text) in [
        (Try::Setgroups, c"self/setgroups", &b"deny"[..]),
        (Try::UidMap, c"self/uid_map", uid),
        (Try::GidMap, c"self/gid_map", gid),
    ] {
        if answer.is_ok() {
            answer = write_proc(given.proc, path, text);
            page.say(what, answer);
        }
    }
    let mut levels = 1;
    page.set(LEVELS, levels);
    // Bounded: more than any kernel allows. Whoever has no number inside may not make the next one.
    while answer.is_ok() && levels < 99 {
        answer = unshare(libc::CLONE_NEWUSER);
        page.say(Try::Nested, answer);
        if answer.is_ok() {
            levels += 1;
            page.set(LEVELS, levels);
            answer = write_proc(given.proc, c"self/setgroups", b"deny")
                .and_then(|_| write_proc(given.proc, c"self/uid_map", b"0 0 1"))
                .and_then(|_| write_proc(given.proc, c"self/gid_map", b"0 0 1"));
        }
    }
}

/// The first process of a container.
fn second(given: &Given<'_>) {
    const CREATE: u32 = libc::FSCONFIG_CMD_CREATE;
    let opened = fsopen(c"proc", libc::FSOPEN_CLOEXEC);
    let made = opened.and_then(|fs| fsconfig(fs, CREATE, None, None, 0).map(|()| fs));
    given.page.say(Try::FreshProc, made.map(|_| 0));
    if let Ok(fs) = made {
        given.page.say(Try::MountedProc, fsmount(fs, libc::FSMOUNT_CLOEXEC, 0).map(|_| 0));
    }
}

fn end_if_born(child: Result<usize, Errno>) -> Result<usize, Errno> {
    if child == Ok(0) {
        exit()
    }
    child
}

fn unshare(flags: i32) -> Result<usize, Errno> {
    // SAFETY: no pointers; this process has one thread and memory of its own.
    unsafe { syscall(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0]) }
}

fn write_proc(proc: RawFd, path: &CStr, text: &[u8]) -> Result<usize, Errno> {
    let args = [proc as usize, path.as_ptr() as usize, (libc::O_WRONLY | libc::O_CLOEXEC) as usize, 0, 0, 0];
    // SAFETY: path ends in NUL; the kernel only reads it.
    let fd = unsafe { syscall(libc::SYS_openat, args) }? as RawFd;
    let written = write(fd, text);
    // SAFETY: just opened, used by nobody else.
    unsafe { close(fd) };
    written
}

fn exit() -> ! {
    loop {
        // SAFETY: ends the calling process without running what belongs to the caller.
        let _ = unsafe { syscall(libc::SYS_exit_group, [0; 6]) };
    }
}

/// clone(2) like fork(2), with no signal at its end.
///
/// # Safety
/// The child has one thread, on a copy of the caller's memory: it must keep to raw system calls, and end. `pidfd` is
/// null, or written with CLONE_PIDFD.
unsafe fn clone(flags: usize, pidfd: *mut RawFd) -> Result<usize, Errno> {
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: without a stack the child has a copy of this one; the rest is the caller's promise.
    unsafe { syscall(libc::SYS_clone, [first, second, pidfd as usize, 0, 0, 0]) }
}

/// `struct clone_args` of linux/sched.h, as of Linux 5.3.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// clone3(2) like fork(2), with no signal at its end.
///
/// # Safety
/// As [`clone`].
unsafe fn clone3(flags: i32) -> Result<usize, Errno> {
    let arguments = CloneArgs { flags: flags as u64, ..CloneArgs::default() };
    let args = [ptr::from_ref(&arguments) as usize, size_of::<CloneArgs>(), 0, 0, 0, 0];
    // SAFETY: a valid clone_args without a stack; the rest is the caller's promise.
    unsafe { syscall(libc::SYS_clone3, args) }
}

/// waitid(2) for a child without an exit signal.
fn wait(pidfd: &OwnedFd) -> Result<(), Errno> {
    let options = libc::WEXITED | libc::__WALL;
    let args = [libc::P_PIDFD as usize, pidfd.as_raw_fd() as usize, 0, options as usize, 0, 0];
    loop {
        // SAFETY: neither information nor usage is asked for.
        match unsafe { syscall(libc::SYS_waitid, args) } {
            Err(Errno(libc::EINTR)) => {}
            // Somebody else, who waits for everything, was faster.
            Ok(_) | Err(Errno(libc::ECHILD)) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// Words that the caller and its children see alike.
struct Page(ptr::NonNull<[AtomicI32; TRIES + 1]>);

impl Page {
    fn new() -> Result<Self, Errno> {
        const SIZE: usize = size_of::<[AtomicI32; TRIES + 1]>();
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let args = [0, SIZE, access as usize, flags as usize, usize::MAX, 0];
        // SAFETY: a new mapping, where the kernel wants it.
        let address = unsafe { syscall(libc::SYS_mmap, args) }?;
        let page = ptr::NonNull::new(address as *mut _).map(Self).ok_or(Errno(libc::ENOMEM))?;
        for word in page.words() {
            word.store(NO_ANSWER, Ordering::Relaxed);
        }
        Ok(page)
    }

    fn words(&self) -> &[AtomicI32; TRIES + 1] {
        // SAFETY: mapped with this size until drop, aligned to a page, zeroed by the kernel, and only used as atomics.
        unsafe { self.0.as_ref() }
    }

    fn set(&self, place: usize, value: i32) {
        if let Some(word) = self.words().get(place) {
            word.store(value, Ordering::Release);
        }
    }

    fn say(&self, what: Try, answer: Result<usize, Errno>) {
        self.set(what as usize, answer.map_or_else(|errno| errno.0, |_| 0));
    }

    fn read(&self) -> Answers {
        Answers { answers: self.words().each_ref().map(|word| word.load(Ordering::Acquire)) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let args = [self.0.as_ptr() as usize, size_of::<[AtomicI32; TRIES + 1]>(), 0, 0, 0, 0];
        // SAFETY: the mapping of `new`, which nothing borrows any more.
        let _ = unsafe { syscall(libc::SYS_munmap, args) };
    }
}
