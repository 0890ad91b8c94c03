//! clone3 onto a private stack, or clone where a filter hides clone3, and the child's main loop.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, Errno};

use super::legacy::{self, GroupMove};
use super::memory::{Mapping, Reached, StepTimes};
use super::{exit, message, now};
use crate::Backend;
use crate::plan::Body;
use crate::stdio::ENDS;

/// `struct clone_args` of linux/sched.h. The C library's crate has constants that overflow to 0: these are our own.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

pub(super) const CLONE_VM: u64 = 0x100;
pub(super) const CLONE_PIDFD: u64 = 0x1000;
pub(super) const CLONE_PARENT: u64 = 0x8000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Whether this machine has the few instructions that start a child on a stack of its own.
pub(crate) const CAN_SHARE_MEMORY: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// What one child is given: its plan, its tables of descriptors, its stack. The parent keeps it alive, and out of its own
/// hands, until the child has left this memory.
struct Given {
    body: Arc<Body>,
    fds: Vec<Vec<RawFd>>,
    times: Option<StepTimes>,
    reached: Reached,
    /// What clone3 would have done with a cgroup, where it could not be used.
    group: Option<GroupMove>,
    /// Only to be given back: the child runs on it.
    _stack: Option<Mapping>,
}

/// Owner of a [`Given`] that a child may be using.
pub(crate) struct Start(ptr::NonNull<Given>);

// SAFETY: the parent's threads reach it only to free it and to read `times`, which are atomics.
unsafe impl Send for Start {}
// SAFETY: as above.
unsafe impl Sync for Start {}

impl Start {
    pub(crate) fn times(&self) -> Option<&StepTimes> {
        // SAFETY: alive until drop; the child does not write this field, only the atomics behind it.
        let times = unsafe { &raw const (*self.0.as_ptr()).times };
        // SAFETY: as above, and a shared borrow of a field nobody writes.
        unsafe { &*times }.as_ref()
    }

    /// The number of the step that the child was in, once it has left this memory, and the errno if that failed.
    pub(crate) fn reached(&self) -> (usize, Option<Errno>) {
        // SAFETY: alive until drop; the child does not write this field, only the atomic in it or behind it.
        let reached = unsafe { &raw const (*self.0.as_ptr()).reached };
        // SAFETY: as above, and a shared borrow of what is only reached as an atomic.
        let word = unsafe { &*reached }.word().load(Ordering::Acquire);
        let errno = (word >> 32) as i32;
        (word as u32 as usize, (errno != 0).then_some(Errno(errno)))
    }
}

impl Drop for Start {
    /// Only after the child has executed its program or died: `PausedChild` sees to that.
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw in `start`, dropped once, and the child has left this memory.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What is wanted of a clone beside what the child then does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloneOptions<'a> {
    pub(crate) namespaces: u64,
    pub(crate) shares_memory: bool,
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The child's numbers, that of the innermost pid namespace first.
    pub(crate) set_tid: &'a [i32],
    /// A child of the caller's parent.
    pub(crate) sibling: bool,
}

/// What a successful clone gives the parent.
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) start: Start,
    pub(crate) backend: Backend,
}

/// Why there is no child.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotStarted {
    /// A call before that answered this.
    Before(&'static str, Errno),
    /// What the call that makes it answered.
    Clone(Backend, Errno),
    /// clone(2) cannot choose a number.
    NoSetTid,
    /// The group's `cgroup.procs` cannot be opened, where clone(2) needs it.
    Group(Errno),
}

/// clone3 and, in the child, the plan. `sync` is the child's end of the socket pair, `fresh` are those of what this start
/// made, all still open in the parent.
pub(crate) fn start(
    body: &Arc<Body>,
    options: CloneOptions<'_>,
    sync: BorrowedFd<'_>,
    fresh: [RawFd; ENDS - 1],
) -> Result<Started, NotStarted> {
    let clone3_failed = |errno| NotStarted::Clone(Backend::Clone3, errno);
    let mut fds: Vec<Vec<RawFd>> = body.lists.iter().map(|list| vec![ChildFds::EMPTY; list.steps.slots()]).collect();
    for (table, list) in fds.iter_mut().zip(&body.lists) {
        if let (true, Some(first)) = (list.own, table.first_mut()) {
            *first = sync.as_raw_fd();
        }
    }
    // The first list closes what is not among them, the last puts them in place.
    for index in [0, fds.len().saturating_sub(1)] {
        for (place, fd) in fds.get_mut(index).into_iter().flatten().skip(1).zip(fresh) {
            *place = fd;
        }
    }
    let before = |(call, errno)| NotStarted::Before(call, errno);
    let times = if body.timed { Some(StepTimes::new(body.count()).map_err(before)?) } else { None };
    let (stack, reached) = if options.shares_memory {
        (Some(Mapping::stack().map_err(before)?), Reached::here())
    } else {
        (None, Reached::shared().map_err(before)?)
    };
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | CLONE_CLEAR_SIGHAND | options.namespaces,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(stack) = &stack {
        args.flags |= CLONE_VM;
        (args.stack, args.stack_size) = stack.usable();
    }
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    if options.sibling {
        args.flags |= CLONE_PARENT;
        // The kernel takes the caller's own, and wants none here.
        args.exit_signal = 0;
    }
    if !options.set_tid.is_empty() {
        args.set_tid = options.set_tid.as_ptr() as u64;
        args.set_tid_size = options.set_tid.len() as u64;
    }
    let given =
        Box::into_raw(Box::new(Given { body: Arc::clone(body), fds, times, reached, group: None, _stack: stack }));
    // SAFETY: Box::into_raw is never null.
    let start = Start(unsafe { ptr::NonNull::new_unchecked(given) });

    // The child must not run a handler of ours, and must be born with every signal blocked.
    let signals = BlockedSignals::new().map_err(|errno| NotStarted::Before("rt_sigprocmask", errno))?;
    let call = [ptr::from_ref(&args) as usize, size_of::<CloneArgs>(), 0, 0, 0];
    // SAFETY: args is a valid clone_args whose stack, if any, is a fresh mapping that `start` keeps alive; the child runs
    // `child_main`, which never returns, on that stack or on its own copy of this one.
    let mut answer = unsafe { clone_to(libc::SYS_clone3, call, child_main, given.cast()) }.map_err(clone3_failed);
    let mut backend = Backend::Clone3;
    if let Err(NotStarted::Clone(_, errno)) = answer {
        if legacy::is_hidden(errno) {
            backend = Backend::Clone;
            if !options.set_tid.is_empty() {
                return Err(NotStarted::NoSetTid);
            }
            let mut flags = args.flags;
            if let Some(cgroup) = options.cgroup {
                let group = GroupMove::new(cgroup, &mut flags, sync).map_err(NotStarted::Group)?;
                // SAFETY: there is no child yet: the Given is this thread's alone.
                unsafe { (*given).group = Some(group) };
            }
            // From the top downwards, where clone3 is told both ends.
            let stack = args.stack as usize + args.stack_size as usize;
            let call = legacy::arguments(flags, stack, &mut pidfd);
            // SAFETY: as above.
            let second = unsafe { clone_to(libc::SYS_clone, call, child_main, given.cast()) };
            answer = second.map_err(|errno| NotStarted::Clone(Backend::Clone, errno));
        }
    }
    drop(signals);
    // When the kernel refused, no child exists, and dropping `start` frees everything.
    let pid = answer? as i32;
    // SAFETY: the kernel has just put a new pidfd there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Started { pid, pidfd, start, backend })
}

/// A system call that clones, whose child calls `entry(argument)`.
///
/// # Safety
/// `number` is clone or clone3, and `args` are sound for it. With CLONE_VM, they name a stack of the child's own that
/// outlives the child's use of it. `entry` must not return and must keep to the contract of [`cellkit_core::ChildStep`].
unsafe fn clone_to(
    number: libc::c_long,
    args: [usize; 5],
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    argument: *mut libc::c_void,
) -> Result<usize, Errno> {
    let [a, b, c, d, e] = args;
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the system call convention; the child continues after `syscall` with rax 0 and, under CLONE_VM, with rsp at
    // the top of the new stack. It clears the frame pointer, aligns the stack as the ABI wants and never comes back.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "and rsp, -16",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            in("r12") argument, in("r13") entry,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, for arm64, whose stack pointer is always aligned.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") number,
            inlateout("x0") a as isize => answer, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            in("x20") argument, in("x21") entry,
        );
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: as above, for RISC-V.
    unsafe {
        std::arch::asm!(
            "ecall",
            "bnez a0, 2f",
            "mv a0, s2",
            "jalr s3",
            "ebreak",
            "2:",
            in("a7") number,
            inlateout("a0") a as isize => answer, in("a1") b, in("a2") c, in("a3") d, in("a4") e,
            in("s2") argument, in("s3") entry,
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    {
        // SAFETY: without CLONE_VM (see CAN_SHARE_MEMORY) this is a fork: the child goes on here with its own copy.
        let value = unsafe { libc::syscall(number, a, b, c, d, e) };
        if value == 0 {
            // SAFETY: the caller's promise about entry and argument.
            unsafe { entry(argument) }
        }
        answer = if value == -1 { -(Errno::last().0 as isize) } else { value as isize };
    }
    if answer < 0 { Err(Errno(-answer as i32)) } else { Ok(answer as usize) }
}

/// Everything the child does before execve. It keeps to the contract of [`cellkit_core::ChildStep`].
unsafe extern "C" fn child_main(given: *mut libc::c_void) -> ! {
    // SAFETY: `start` passed a Given that the parent keeps alive and does not touch while this runs.
    let given = unsafe { &mut *given.cast::<Given>() };
    let body: &Body = &given.body;
    if let Some(group) = &given.group {
        group.run();
    }
    let mut number = 0;
    for (index, list) in body.lists.iter().enumerate() {
        for step in list.steps.iter() {
            given.reached.word().store(number as u64, Ordering::Release);
            if let Some(place) = given.times.as_ref().and_then(|times| times.get().get(number)) {
                place.store(now(), Ordering::Relaxed);
            }
            let Some(table) = given.fds.get_mut(index) else { exit(125) };
            let mut fds = ChildFds::new(table);
            if let Err(errno) = step.run(&mut fds) {
                given.reached.word().store(number as u64 | (errno.0 as u64) << 32, Ordering::Release);
                if body.is_filtered(number) {
                    exit(125);
                }
                // The last list is our own, and its first slot follows the socket wherever it was moved.
                let sync = given.fds.last().and_then(|table| table.first()).copied();
                let kernel_text = |text: &mut [u8]| {
                    let Some(table) = given.fds.get_mut(index) else { return 0 };
                    step.kernel_text(&ChildFds::new(table), text)
                };
                message::send_fault(sync.unwrap_or(ChildFds::EMPTY), number as u32, errno, kernel_text);
                exit(125);
            }
            number += 1;
        }
    }
    // A plan ends in execve, which does not come back.
    exit(125)
}

/// Every signal of the calling thread blocked, until it is dropped.
pub(crate) struct BlockedSignals(u64);

impl BlockedSignals {
    /// The kernel's own signal set has 64 signals, two of which the C library would hide.
    pub(crate) fn new() -> Result<Self, Errno> {
        let (all, mut old) = (u64::MAX, 0u64);
        let args =
            [libc::SIG_SETMASK as usize, ptr::from_ref(&all) as usize, ptr::from_mut(&mut old) as usize, 8, 0, 0];
        // SAFETY: both sets are eight bytes, as said.
        unsafe { syscall(libc::SYS_rt_sigprocmask, args) }.map(|_| Self(old))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        let args = [libc::SIG_SETMASK as usize, ptr::from_ref(&self.0) as usize, 0, 8, 0, 0];
        // SAFETY: the set is eight bytes, as said; no old one is asked for.
        let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, args) };
    }
}
