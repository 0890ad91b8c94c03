//! clone(2), where a seccomp filter hides clone3: what it cannot do is done otherwise.
//!
//! Container engines of some years ago answer clone3 with ENOSYS, since their filters cannot look into its arguments, or,
//! older still, with EPERM. clone(2) can make the same namespaces and gives a pidfd too. What it lacks:
//!
//! * CLONE_CLEAR_SIGHAND: every signal is blocked from before the clone until the child has reset the dispositions;
//! * CLONE_INTO_CGROUP: the child moves itself, before anything else, and only then makes the cgroup namespace, whose root
//!   is the group its maker is in; the parent waits for that, so that nobody sees it elsewhere;
//! * set_tid: there is no other way, and the start is refused.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::{OpenHow, open_in, syscall, write};

use super::{exit, message};

/// Whether clone3, which answered `errno`, is not to be had at all, rather than unwilling to do what it was asked.
///
/// A filter gives the same answer to every clone3. The kernel says EINVAL to one without arguments.
pub(super) fn is_hidden(errno: Errno) -> bool {
    // SAFETY: the kernel refuses a size of zero before it reads anything.
    let probe = unsafe { syscall(libc::SYS_clone3, [0; 6]) };
    errno == Errno(libc::ENOSYS) || probe != Err(Errno(libc::EINVAL))
}

/// The arguments of clone(2) for a `stack` of which this is the upper end, 0 for a copy of the caller's.
pub(super) fn arguments(flags: u64, stack: usize, pidfd: &mut RawFd) -> [usize; 5] {
    // What is above 32 bits is clone3's own, and the lowest byte is the signal sent at the child's end.
    let flags = (flags & 0xffff_ff00) as usize | libc::SIGCHLD as usize;
    let pidfd = ptr::from_mut(pidfd) as usize;
    if cfg!(target_arch = "s390x") { [stack, flags, pidfd, 0, 0] } else { [flags, stack, pidfd, 0, 0] }
}

/// What the child does instead of being born in a group.
pub(super) struct GroupMove {
    procs: OwnedFd,
    makes_namespace: bool,
    sync: RawFd,
}

impl GroupMove {
    /// Opens the group's `cgroup.procs` as the caller, and takes the cgroup namespace out of `flags`.
    pub(super) fn new(cgroup: BorrowedFd<'_>, flags: &mut u64, sync: BorrowedFd<'_>) -> Result<Self, Errno> {
        let how = OpenHow {
            flags: (libc::O_WRONLY | libc::O_CLOEXEC) as u64,
            mode: 0,
            resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS,
        };
        let procs = open_in(cgroup, c"cgroup.procs", &how)?;
        let makes_namespace = *flags & libc::CLONE_NEWCGROUP as u64 != 0;
        *flags &= !(libc::CLONE_NEWCGROUP as u64);
        Ok(Self { procs, makes_namespace, sync: sync.as_raw_fd() })
    }

    /// In the child: comes back only when it is where it should be, and the parent has been told.
    pub(super) fn run(&self) {
        let moved = write(self.procs.as_raw_fd(), b"0");
        if let Err(errno) = moved {
            message::send_fault(self.sync, message::FAULT_IN_GROUP_MOVE, errno, |_| 0);
            exit(125);
        }
        if self.makes_namespace {
            let flag = libc::CLONE_NEWCGROUP as usize;
            // SAFETY: no pointers; what changes is this process's own membership.
            if let Err(errno) = unsafe { syscall(libc::SYS_unshare, [flag, 0, 0, 0, 0, 0]) } {
                message::send_fault(self.sync, message::FAULT_IN_GROUP_NAMESPACE, errno, |_| 0);
                exit(125);
            }
        }
        message::send_raw(self.sync, &[message::MESSAGE_IN_GROUP]);
    }
}
