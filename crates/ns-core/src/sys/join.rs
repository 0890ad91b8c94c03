//! Joins several namespaces in the order that works.
//!
//! Each setns(2) is judged by the capabilities that the thread has at that moment, and joining a user namespace swaps
//! them for others: all in that namespace, none above it. So neither order is right for everybody:
//!
//! * root that enters somebody's container has power over all of it as it is, and may need it for a network that root
//!   itself made: the user namespace comes last, or that network is out of reach;
//! * an ordinary user that enters its own container has no power over anything until it is in the user namespace: that
//!   one comes first.
//!
//! Both are one rule: join what can be joined, then the user namespace, then what is left, until nothing moves any more.
//! The mount namespace comes last among its like, since it takes root and working directory along.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// A namespace to join: a descriptor, and the CLONE_NEW* flag of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) fd: RawFd,
    pub(crate) flag: i32,
}

/// Which target was not joined, by its place in the list, and why.
///
/// What came before it may have been joined: there is no way back out of a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJoined {
    pub(crate) index: usize,
    pub(crate) errno: Errno,
    /// How many of the others were joined.
    pub(crate) joined: u32,
}

/// No list of ours is longer: there are eight kinds.
const MOST: usize = 64;

/// Joins all of them with the calling thread. Child-safe.
///
/// The caller leaves out its own user namespace, which the kernel refuses to join again (EINVAL).
///
/// # Errors
/// Of the targets that nothing helped to join, the user namespace, which the others may hang on, or else the first.
pub(crate) fn join_all(targets: &[Target]) -> Result<(), NotJoined> {
    if targets.len() > MOST {
        return Err(NotJoined { index: MOST, errno: Errno(libc::E2BIG), joined: 0 });
    }
    let mut joined = 0u64;
    loop {
        let before = joined;
        let mut failed: Option<(usize, Errno)> = None;
        for stage in [Stage::Others, Stage::Mount, Stage::User] {
            for (index, target) in targets.iter().enumerate() {
                let bit = 1u64 << index;
                if joined & bit != 0 || Stage::of(target.flag) != stage {
                    continue;
                }
                match setns(target.fd, target.flag) {
                    Ok(()) => joined |= bit,
                    Err(errno) if failed.is_none() || stage == Stage::User => failed = Some((index, errno)),
                    Err(_) => {}
                }
            }
        }
        match failed {
            None => return Ok(()),
            Some((index, errno)) if joined == before => {
                return Err(NotJoined { index, errno, joined: joined.count_ones() });
            }
            // Something moved: what failed may work now.
            Some(_) => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Others,
    Mount,
    User,
}

impl Stage {
    fn of(flag: i32) -> Self {
        match flag {
            libc::CLONE_NEWUSER => Self::User,
            libc::CLONE_NEWNS => Self::Mount,
            _ => Self::Others,
        }
    }
}

/// setns(2). Child-safe.
pub(crate) fn setns(fd: RawFd, flags: i32) -> Result<(), Errno> {
    // SAFETY: no pointers; what changes is the calling thread's own membership.
    unsafe { syscall(libc::SYS_setns, [fd as usize, flags as usize, 0, 0, 0, 0]) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_named_and_the_user_namespace_first() {
        let broken = |flag| Target { fd: -1, flag };
        let ebadf = |index| Err(NotJoined { index, errno: Errno(libc::EBADF), joined: 0 });
        assert_eq!(join_all(&[]), Ok(()));
        assert_eq!(join_all(&[broken(libc::CLONE_NEWNS), broken(libc::CLONE_NEWNET)]), ebadf(1));
        let targets = [broken(libc::CLONE_NEWUTS), broken(libc::CLONE_NEWUSER), broken(libc::CLONE_NEWNET)];
        assert_eq!(join_all(&targets), ebadf(1));
        let many = [broken(libc::CLONE_NEWUTS); MOST + 1];
        assert_eq!(join_all(&many), Err(NotJoined { index: MOST, errno: Errno(libc::E2BIG), joined: 0 }));
    }
}
