//! clone3 onto a private stack, and the child's main loop.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, Errno};

use super::message::{FAULT_HEAD, FAULT_SIZE, MESSAGE_FAULT};
use super::{exit, now, steps};
use crate::plan::Body;

/// `struct clone_args` of linux/sched.h. The C library's crate has constants that overflow to 0: these are our own.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Whether this machine has the few instructions that start a child on a stack of its own.
pub(crate) const CAN_SHARE_MEMORY: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// Enough for the deepest step in a debug build, many times over. Only touched pages cost memory.
const STACK_SIZE: usize = 256 << 10;
const GUARD_SIZE: usize = 64 << 10;

/// Memory from mmap, gone when dropped.
struct Mapping {
    address: *mut libc::c_void,
    size: usize,
}

impl Mapping {
    fn new(size: usize, flags: i32) -> Result<Self, Errno> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let address = unsafe { libc::mmap(ptr::null_mut(), size, protection, libc::MAP_ANONYMOUS | flags, -1, 0) };
        if address == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Self { address, size }) }
    }

    /// A stack whose lowest part cannot be touched, so that running off its end is a fault and not a corruption.
    fn stack() -> Result<Self, Errno> {
        let stack = Self::new(GUARD_SIZE + STACK_SIZE, libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_STACK)?;
        // SAFETY: the range is the lower part of our own fresh mapping.
        if unsafe { libc::mprotect(stack.address, GUARD_SIZE, libc::PROT_NONE) } == -1 {
            return Err(Errno::last());
        }
        Ok(stack)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping; who drops a Start has seen to it that no child uses it any more.
        unsafe { libc::munmap(self.address, self.size) };
    }
}

/// When each step began, in nanoseconds of CLOCK_MONOTONIC, written by the child and read by the parent.
pub(crate) struct StepTimes {
    memory: Mapping,
    count: usize,
}

// SAFETY: the memory is only reached as atomics.
unsafe impl Send for StepTimes {}
// SAFETY: as above.
unsafe impl Sync for StepTimes {}

impl StepTimes {
    fn new(count: usize) -> Result<Self, Errno> {
        // Shared, so that a child with a copy of the memory writes here too.
        Ok(Self { memory: Mapping::new((count * size_of::<AtomicU64>()).max(1), libc::MAP_SHARED)?, count })
    }

    pub(crate) fn get(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, zeroed, `count` atomics long, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.memory.address.cast::<AtomicU64>(), self.count) }
    }
}

/// What one child is given: its plan, its tables of descriptors, its stack. The parent keeps it alive, and out of its own
/// hands, until the child has left this memory.
struct Given {
    body: Arc<Body>,
    fds: Vec<Vec<RawFd>>,
    times: Option<StepTimes>,
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
}

impl Drop for Start {
    /// Only after the child has executed its program or died: `PausedChild` sees to that.
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw in `start`, dropped once, and the child has left this memory.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What a successful clone3 gives the parent.
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) start: Start,
}

/// clone3 and, in the child, the plan. `sync` is the child's end of the socket pair, still open in the parent.
pub(crate) fn start(
    body: &Arc<Body>,
    namespaces: u64,
    shares_memory: bool,
    cgroup: Option<BorrowedFd<'_>>,
    sync: BorrowedFd<'_>,
) -> Result<Started, Errno> {
    let mut fds: Vec<Vec<RawFd>> = body.lists.iter().map(|list| vec![ChildFds::EMPTY; list.steps.slots()]).collect();
    for (table, list) in fds.iter_mut().zip(&body.lists) {
        if let (true, Some(first)) = (list.own, table.first_mut()) {
            *first = sync.as_raw_fd();
        }
    }
    let times = if body.timed { Some(StepTimes::new(body.count())?) } else { None };
    let stack = if shares_memory { Some(Mapping::stack()?) } else { None };
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | CLONE_CLEAR_SIGHAND | namespaces,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(stack) = &stack {
        args.flags |= CLONE_VM;
        args.stack = stack.address as u64 + GUARD_SIZE as u64;
        args.stack_size = STACK_SIZE as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let given = Box::into_raw(Box::new(Given { body: Arc::clone(body), fds, times, _stack: stack }));
    // SAFETY: Box::into_raw is never null.
    let start = Start(unsafe { ptr::NonNull::new_unchecked(given) });

    // The child must not run a handler of ours, and must be born with every signal blocked.
    let old = block_all_signals();
    // SAFETY: args is a valid clone_args whose stack, if any, is a fresh mapping that `start` keeps alive; the child runs
    // `child_main`, which never returns, on that stack or on its own copy of this one.
    let answer = unsafe { clone3(&args, child_main, given.cast()) };
    restore_signals(old);
    // When the kernel refused, no child exists, and dropping `start` frees everything.
    let pid = answer? as i32;
    // SAFETY: clone3 has just put a new pidfd there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Started { pid, pidfd, start })
}

/// clone3(2) whose child calls `entry(argument)`.
///
/// # Safety
/// With CLONE_VM, `args` must name a stack of the child's own that outlives the child's use of it. `entry` must not return
/// and must keep to the contract of [`cellkit_core::ChildStep`].
unsafe fn clone3(
    args: &CloneArgs,
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    argument: *mut libc::c_void,
) -> Result<usize, Errno> {
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
            inlateout("rax") libc::SYS_clone3 as isize => answer,
            in("rdi") ptr::from_ref(args), in("rsi") size_of::<CloneArgs>(),
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
            in("x8") libc::SYS_clone3,
            inlateout("x0") ptr::from_ref(args) as isize => answer, in("x1") size_of::<CloneArgs>(),
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
            in("a7") libc::SYS_clone3,
            inlateout("a0") ptr::from_ref(args) as isize => answer, in("a1") size_of::<CloneArgs>(),
            in("s2") argument, in("s3") entry,
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    {
        // SAFETY: without CLONE_VM (see CAN_SHARE_MEMORY) this is a fork: the child goes on here with its own copy.
        let value = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_ref(args), size_of::<CloneArgs>()) };
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
    let mut number = 0;
    for (index, list) in body.lists.iter().enumerate() {
        for step in list.steps.iter() {
            if let Some(place) = given.times.as_ref().and_then(|times| times.get().get(number)) {
                place.store(now(), Ordering::Relaxed);
            }
            let Some(table) = given.fds.get_mut(index) else { exit(125) };
            let mut fds = ChildFds::new(table);
            if let Err(errno) = step.run(&mut fds) {
                let mut message = [0; FAULT_SIZE];
                let text = message.get_mut(FAULT_HEAD..).unwrap_or(&mut []);
                let length = FAULT_HEAD + step.kernel_text(&fds, text);
                let head =
                    [MESSAGE_FAULT].into_iter().chain((number as u32).to_ne_bytes()).chain(errno.0.to_ne_bytes());
                for (place, byte) in message.iter_mut().zip(head) {
                    *place = byte;
                }
                // The last list is our own, and its first slot follows the socket wherever it was moved.
                if let Some(&sync) = given.fds.last().and_then(|table| table.first()) {
                    steps::send(sync, message.get(..length).unwrap_or(&message));
                }
                exit(125);
            }
            number += 1;
        }
    }
    // A plan ends in execve, which does not come back.
    exit(125)
}

/// The kernel's own signal set has 64 signals, two of which the C library would hide.
fn block_all_signals() -> u64 {
    let (all, mut old) = (u64::MAX, 0u64);
    let args = [libc::SIG_SETMASK as usize, ptr::from_ref(&all) as usize, ptr::from_mut(&mut old) as usize, 8, 0, 0];
    // SAFETY: both sets are eight bytes, as said.
    let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, args) };
    old
}

fn restore_signals(old: u64) {
    let args = [libc::SIG_SETMASK as usize, ptr::from_ref(&old) as usize, 0, 8, 0, 0];
    // SAFETY: the set is eight bytes, as said; no old one is asked for.
    let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, args) };
}
