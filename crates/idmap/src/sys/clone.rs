//! A child that waits in a new user namespace, and does nothing else.
//!
//! It is made by clone(2) of the C library, which puts it on a stack of its own. clone3(2) could do nothing more for it,
//! and is hidden by the filters of many a container. See `userns.rs` for the theory of operation.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::{close, own, pidfd_send_signal, read, syscall};

use super::signals::BlockedSignals;

/// Enough for the two frames of a debug build, many times over. Only touched pages cost memory.
const STACK_SIZE: usize = 64 << 10;
const GUARD_SIZE: usize = 64 << 10;

/// Where `cellkit_core::sys::syscall` makes its calls itself. Elsewhere the C library makes them and writes its `errno`, so
/// that the child has to have a copy of this memory.
const SHARES_MEMORY: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// What the child uses of this memory, which stays where it is until the child has ended.
struct Given {
    stack: Stack,
    /// The pipe that it waits for the end of: to read from and to write to.
    pipe: [RawFd; 2],
}

/// A waiting child in a new user namespace. Dropped, it is killed and reaped.
pub(crate) struct Parked {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    /// The end of this is the child's end.
    gate: Option<OwnedFd>,
    given: ManuallyDrop<Box<Given>>,
}

impl Parked {
    /// clone(2) with CLONE_NEWUSER. The error names the call.
    pub(crate) fn new() -> Result<Self, (&'static str, Errno)> {
        let (read, write) = pipe().map_err(|errno| ("pipe2", errno))?;
        let stack = Stack::new()?;
        let given = Box::new(Given { stack, pipe: [read.as_raw_fd(), write.as_raw_fd()] });
        let mut flags = libc::CLONE_NEWUSER | libc::CLONE_PIDFD;
        if SHARES_MEMORY {
            flags |= libc::CLONE_VM;
        }
        let top = given.stack.top();
        let argument = ptr::from_ref::<Given>(&given).cast_mut().cast::<libc::c_void>();
        let mut pidfd: RawFd = -1;
        let signals = BlockedSignals::new().map_err(|errno| ("rt_sigprocmask", errno))?;
        // SAFETY: the stack is a mapping of the child's own and `given` is on the heap: both are given back only when the
        // child has ended. `park` makes system calls only. The pidfd is written where the fifth argument says, and no
        // flag asks for the others.
        let pid = unsafe { libc::clone(park, top, flags, argument, &raw mut pidfd) };
        let errno = Errno::last();
        drop(signals);
        if pid == -1 {
            return Err(("clone", errno));
        }
        // SAFETY: the kernel has just put a new pidfd there.
        let pidfd = unsafe { own(pidfd) };
        Ok(Self { pid, pidfd, gate: Some(write), given: ManuallyDrop::new(given) })
    }

    /// Waits for the end of the child; nobody else does, unless with __WALL or __WCLONE. Says whether it has ended.
    fn reap(&self) -> bool {
        let options = libc::WEXITED | libc::__WALL;
        let by_pidfd = [libc::P_PIDFD as usize, self.pidfd.as_raw_fd() as usize, 0, options as usize, 0, 0];
        // A number that has not been waited for is still this child's.
        let by_number = [self.pid as usize, 0, libc::__WALL as usize, 0, 0, 0];
        // SAFETY: nothing is to be written about it.
        let waitid = || unsafe { syscall(libc::SYS_waitid, by_pidfd) };
        // SAFETY: as above.
        let wait4 = || unsafe { syscall(libc::SYS_wait4, by_number) };
        has_ended(waitid) || has_ended(wait4)
    }
}

/// Whether a call that waits for the child says that it has ended.
fn has_ended(wait: impl Fn() -> Result<usize, Errno>) -> bool {
    loop {
        match wait() {
            Ok(_) | Err(Errno(libc::ECHILD)) => return true,
            Err(Errno(libc::EINTR)) => {}
            Err(_) => return false,
        }
    }
}

impl AsFd for Parked {
    /// The pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // Either will do. Another thread's fork may still hold the pipe open, and nothing hinders the signal.
        self.gate = None;
        let _ = pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        if self.reap() {
            // SAFETY: dropped once, here, and the child that used it has ended.
            unsafe { ManuallyDrop::drop(&mut self.given) };
        }
    }
}

/// All that the child does: it waits for the end of its parent, or of the pipe, whichever comes first.
///
/// Every signal is blocked, and it makes system calls only, none of which touches `errno`.
extern "C" fn park(given: *mut libc::c_void) -> libc::c_int {
    let given = given.cast::<Given>();
    // SAFETY: `Parked::new` passed a Given that is not given back before the end of this function.
    let [gate, other] = unsafe { (*given).pipe };
    let ask = [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0, 0, 0];
    // SAFETY: no pointers. Should it fail, there is still the pipe.
    let _ = unsafe { syscall(libc::SYS_prctl, ask) };
    // The copies of the parent's descriptors, one of which would keep the pipe open.
    let below = if gate == 0 { Ok(0) } else { close_range(0, gate as usize - 1) };
    let above = close_range(gate as usize + 1, u32::MAX as usize);
    if below.is_err() || above.is_err() {
        // SAFETY: a copy of the parent's, in a table of this child's own, and not used again.
        unsafe { close(other) };
    }
    let mut byte = [0];
    while matches!(read(gate, &mut byte), Ok(1..) | Err(Errno(libc::EINTR))) {}
    loop {
        // SAFETY: no pointers; it does not come back, and runs nothing that belongs to the parent.
        let _ = unsafe { syscall(libc::SYS_exit_group, [0; 6]) };
    }
}

/// close_range(2), Linux 5.9.
fn close_range(first: usize, last: usize) -> Result<usize, Errno> {
    // SAFETY: no pointers; called by the child only, whose table of descriptors nobody shares.
    unsafe { syscall(libc::SYS_close_range, [first, last, 0, 0, 0, 0]) }
}

/// pipe2(2) with O_CLOEXEC: the end to read from and the end to write to.
fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == -1 {
        return Err(Errno::last());
    }
    let [read, write] = ends;
    // SAFETY: just returned by pipe2.
    let read = unsafe { own(read) };
    // SAFETY: as above.
    Ok((read, unsafe { own(write) }))
}

/// Memory from mmap, the lowest part of which cannot be touched, so that running off its end is a fault.
struct Stack(*mut libc::c_void);

// SAFETY: an address, which only its drop uses.
unsafe impl Send for Stack {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

impl Stack {
    fn new() -> Result<Self, (&'static str, Errno)> {
        let (protection, size) = (libc::PROT_READ | libc::PROT_WRITE, GUARD_SIZE + STACK_SIZE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let address = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(("mmap", Errno::last()));
        }
        let stack = Self(address);
        // SAFETY: the range is the lower part of our own fresh mapping.
        if unsafe { libc::mprotect(stack.0, GUARD_SIZE, libc::PROT_NONE) } == -1 {
            return Err(("mprotect", Errno::last()));
        }
        Ok(stack)
    }

    /// Its upper end, where stacks begin on every machine that Rust runs Linux on.
    fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(GUARD_SIZE + STACK_SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which no child uses any more.
        unsafe { libc::munmap(self.0, GUARD_SIZE + STACK_SIZE) };
    }
}
