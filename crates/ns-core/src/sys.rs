//! The unsafe part: clone3 onto a private stack, the child's main loop, and the parent's raw calls.
//!
//! `sys/steps.rs` runs this crate's steps in the child, `sys/reaper.rs` is PID 1 when one was asked for.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cellkit_core::sys::{own, syscall};
use cellkit_core::{ChildFds, Errno};

use crate::plan::Body;

mod reaper;
mod steps;

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

pub(crate) const CLONE_VM: u64 = 0x100;
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
    cgroup: Option<BorrowedFd<'_>>,
    sync: BorrowedFd<'_>,
) -> Result<Started, Errno> {
    let shares_memory = body.shares_memory;
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

/// The first byte of each message on the socket pair.
pub(crate) const MESSAGE_FAULT: u8 = b'F';
pub(crate) const MESSAGE_TERMINAL: u8 = b'T';
/// A fault is its first byte, the step's number, the errno, and what the kernel said.
pub(crate) const FAULT_HEAD: usize = 9;
pub(crate) const FAULT_SIZE: usize = 512;

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
                let (head, text) = message.split_at_mut(FAULT_HEAD);
                let length = step.kernel_text(&fds, text).min(FAULT_SIZE - FAULT_HEAD);
                head[0] = MESSAGE_FAULT;
                head[1..5].copy_from_slice(&(number as u32).to_ne_bytes());
                head[5..9].copy_from_slice(&errno.0.to_ne_bytes());
                // The last list is our own, and its first slot follows the socket wherever it was moved.
                if let Some(&sync) = given.fds.last().and_then(|table| table.first()) {
                    steps::send(sync, &message[..FAULT_HEAD + length]);
                }
                exit(125);
            }
            number += 1;
        }
    }
    // A plan ends in execve, which does not come back.
    exit(125)
}

fn exit(status: i32) -> ! {
    loop {
        // SAFETY: ends this process; no pointers.
        let _ = unsafe { syscall(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// CLOCK_MONOTONIC in nanoseconds. Child-safe.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let args = [libc::CLOCK_MONOTONIC as usize, ptr::from_mut(&mut time) as usize, 0, 0, 0, 0];
    // SAFETY: the kernel writes one timespec.
    let _ = unsafe { syscall(libc::SYS_clock_gettime, args) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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

/// A connected pair of SEQPACKET sockets, close-on-exec, neither of them one of the three standard descriptors.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut pair = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) } == -1 {
        return Err(Errno::last());
    }
    // SAFETY: just made.
    let parent = unsafe { own(pair[0]) };
    // SAFETY: just made.
    let child = unsafe { own(pair[1]) };
    if child.as_raw_fd() > 2 {
        return Ok((parent, child));
    }
    // SAFETY: no pointers.
    let lifted = unsafe { libc::fcntl(child.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if lifted == -1 {
        return Err(Errno::last());
    }
    // SAFETY: just made.
    Ok((parent, unsafe { own(lifted) }))
}

/// Sends one message, without SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    loop {
        // SAFETY: the kernel reads message.len() bytes.
        let sent =
            unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
        match (sent, Errno::last()) {
            (-1, Errno(libc::EINTR)) => {}
            (-1, errno) => return Err(errno),
            _ => return Ok(()),
        }
    }
}

/// Receives one message and the descriptor it may carry; an empty message is end of file.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    #[repr(C)]
    struct Control {
        head: libc::cmsghdr,
        fd: RawFd,
        padding: i32,
    }
    loop {
        // SAFETY: every field of a cmsghdr may be zero.
        let head = unsafe { std::mem::zeroed() };
        let mut control = Control { head, fd: -1, padding: 0 };
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: every field of a msghdr may be zero.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        // SAFETY: the kernel writes within buffer and control, whose sizes are given.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if length == -1 {
            match Errno::last() {
                Errno(libc::EINTR) => continue,
                errno => return Err(errno),
            }
        }
        let carries = message.msg_controllen as usize >= size_of::<libc::cmsghdr>() + size_of::<RawFd>()
            && (control.head.cmsg_level, control.head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
            && control.fd >= 0;
        // SAFETY: the kernel has just installed it for us.
        let fd = carries.then(|| unsafe { own(control.fd) });
        return Ok((length as usize, fd));
    }
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the signal information is null.
    unsafe { syscall(libc::SYS_pidfd_send_signal, [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0]) }.map(drop)
}

/// waitid(2) on a pidfd: `None` when WNOHANG was given and the child still runs, else `(si_code, si_status)`.
pub(crate) fn wait(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<(i32, i32)>, Errno> {
    loop {
        // SAFETY: every field of a siginfo_t may be zero.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = pidfd.as_raw_fd() as libc::id_t;
        // SAFETY: the kernel writes one siginfo_t.
        let failed = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options | libc::WEXITED) } == -1;
        if failed {
            match Errno::last() {
                Errno(libc::EINTR) => continue,
                errno => return Err(errno),
            }
        }
        // SAFETY: waitid filled the variant that holds a pid, or left it zero.
        if unsafe { info.si_pid() } == 0 {
            return Ok(None);
        }
        // SAFETY: waitid filled the variant that holds a status.
        return Ok(Some((info.si_code, unsafe { info.si_status() })));
    }
}

/// ioctl(2) PIDFD_GET_*_NAMESPACE.
pub(crate) fn pidfd_namespace(pidfd: BorrowedFd<'_>, request: u8) -> Result<OwnedFd, Errno> {
    const PIDFS_IOCTL_MAGIC: usize = 0xff00;
    let args = [pidfd.as_raw_fd() as usize, PIDFS_IOCTL_MAGIC | usize::from(request), 0, 0, 0, 0];
    // SAFETY: these requests take no argument.
    let fd = unsafe { syscall(libc::SYS_ioctl, args) }?;
    // SAFETY: just returned by the ioctl.
    Ok(unsafe { own(fd as RawFd) })
}

/// ioctl(2) NS_GET_NSTYPE: the CLONE_NEW* flag of a namespace.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    const NS_GET_NSTYPE: usize = 0xb703;
    // SAFETY: this request takes no argument.
    unsafe { syscall(libc::SYS_ioctl, [fd.as_raw_fd() as usize, NS_GET_NSTYPE, 0, 0, 0, 0]) }.map(|flag| flag as i32)
}

/// Whether the calling process has a descriptor of this number.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// prctl(2) PR_GET_DUMPABLE.
pub(crate) fn dumpable() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}

/// prctl(2) PR_SET_DUMPABLE.
pub(crate) fn set_dumpable(value: i32) {
    // SAFETY: no pointers. Only fails for values that PR_GET_DUMPABLE does not give but 2, which is not ours to set.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, value) };
}

/// The calling thread's effective capabilities.
pub(crate) fn effective_capabilities() -> Result<u64, Errno> {
    let mut data = [0u32; 6];
    let header = [steps::CAPABILITY_VERSION_3, 0];
    let args = [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: version 3 reads a header of two words and writes two structs of three words.
    unsafe { syscall(libc::SYS_capget, args) }?;
    Ok(u64::from(data[0]) | u64::from(data[3]) << 32)
}

/// The release of the running kernel, such as 6.18: from uname(2).
pub(crate) fn kernel_release() -> Option<(u32, u32)> {
    // SAFETY: every field of a utsname may be zero.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one utsname.
    if unsafe { libc::uname(&raw mut name) } == -1 {
        return None;
    }
    let text: Vec<u8> = name.release.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    let mut numbers =
        text.split(|byte| !byte.is_ascii_digit()).map(|part| std::str::from_utf8(part).ok()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
