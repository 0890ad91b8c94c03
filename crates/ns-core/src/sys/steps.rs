//! Runs this crate's steps in the child: raw system calls on prepared data, and nothing else.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr;

use cellkit_core::sys::{self as raw, syscall};
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

mod confinement;
mod credentials;
mod descriptors;
mod enter;
mod launch;
mod resources;
mod terminal;

use crate::step::Step;
pub(super) use confinement::is_landlock_ruleset;
pub(super) use credentials::{capget, set_capabilities};
use descriptors::close_all_but;
pub(super) use descriptors::close_everything;
pub(super) use resources::prlimit;
pub(super) use terminal::{open_peer, set_window_size, unlock_peer};

type Done = Result<(), Errno>;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic (slices are reached by iterators and `get`).
unsafe impl ChildStep for Step {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Done {
        match self {
            Self::CloseInherited { ends, keep } => {
                // A slot of what was not asked for is empty, and so names no descriptor.
                let ends = ends.all().map(|slot| fds.get(slot).unwrap_or(ChildFds::EMPTY));
                close_all_but(3, keep, &ends)
            }
            Self::AwaitGo { sync } => await_go(fds.get(*sync)?),
            Self::Propagation { flag, .. } => set_propagation(*flag),
            Self::LoopbackUp => loopback_up(),
            Self::Hostname(name) => set_name(libc::SYS_sethostname, name),
            Self::Domainname(name) => set_name(libc::SYS_setdomainname, name),
            Self::NewSession => match numbers(libc::SYS_setsid, [0; 5]) {
                // Already a leader: there is nothing to leave.
                Err(Errno(libc::EPERM)) => Ok(()),
                answer => answer.map(drop),
            },
            Self::Chdir(path) => {
                // SAFETY: the path is a C string; the kernel only reads it.
                unsafe { syscall(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
            }
            Self::VerifyCwd => verify_cwd(),
            Self::ResetDispositions => reset_dispositions(),
            Self::UnblockSignals => {
                let none = 0u64;
                let args = [libc::SIG_SETMASK as usize, ptr::from_ref(&none) as usize, 0, 8, 0, 0];
                // SAFETY: the set is eight bytes, as said.
                unsafe { syscall(libc::SYS_rt_sigprocmask, args) }.map(drop)
            }
        }
    }
}

/// A system call whose arguments are all numbers: what it can reach is the calling process's own state.
fn numbers(number: libc::c_long, [a, b, c, d, e]: [usize; 5]) -> Result<usize, Errno> {
    // SAFETY: no pointers among the arguments; every caller here passes constants, ids and descriptors.
    unsafe { syscall(number, [a, b, c, d, e, 0]) }
}

pub(super) fn prctl(option: i32, value: usize) -> Done {
    numbers(libc::SYS_prctl, [option as usize, value, 0, 0, 0]).map(drop)
}

fn ioctl(fd: RawFd, request: libc::Ioctl, argument: usize) -> Result<usize, Errno> {
    // SAFETY: the terminal requests used here take a number, or read the int or the winsize that the argument points to.
    unsafe { syscall(libc::SYS_ioctl, [fd as usize, request as usize, argument, 0, 0, 0]) }
}

fn await_go(sync: RawFd) -> Done {
    let mut byte = [0u8; 1];
    loop {
        // SAFETY: the kernel writes at most one byte.
        match unsafe { syscall(libc::SYS_recvfrom, [sync as usize, byte.as_mut_ptr() as usize, 1, 0, 0, 0]) } {
            Ok(0) => return Err(Errno(libc::ECANCELED)),
            Err(Errno(libc::EINTR)) => {}
            answer => return answer.map(drop),
        }
    }
}

fn set_propagation(flag: libc::c_ulong) -> Done {
    let flags = libc::MS_REC | flag;
    let args = [0, c"/".as_ptr() as usize, 0, flags as usize, 0, 0];
    // SAFETY: the target is a C string; source, type and data are not read for a change of propagation.
    unsafe { syscall(libc::SYS_mount, args) }.map(drop)
}

fn loopback_up() -> Done {
    let socket =
        numbers(libc::SYS_socket, [libc::AF_INET as usize, (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize, 0, 0, 0])?;
    // struct ifreq: a name of 16 bytes, then a union that begins with the flags.
    let mut request = [0u16; 20];
    for (place, letters) in request.iter_mut().zip(b"lo".chunks(2)) {
        *place = letters.iter().rev().fold(0, |word, &letter| word << 8 | u16::from(letter)).to_le();
    }
    if let Some(flags) = request.get_mut(8) {
        *flags = libc::IFF_UP as u16;
    }
    let args = [socket, libc::SIOCSIFFLAGS as usize, request.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads one struct ifreq, which is as large as the array.
    let answer = unsafe { syscall(libc::SYS_ioctl, args) };
    // SAFETY: opened above, used by nobody else.
    unsafe { raw::close(socket as RawFd) };
    answer.map(drop)
}

fn set_name(number: libc::c_long, name: &CStr) -> Done {
    // SAFETY: the kernel reads as many bytes of the name as said.
    unsafe { syscall(number, [name.as_ptr() as usize, name.to_bytes().len(), 0, 0, 0, 0]) }.map(drop)
}

fn verify_cwd() -> Done {
    let mut path = [0u8; 4096];
    // SAFETY: the kernel writes at most path.len() bytes.
    unsafe { syscall(libc::SYS_getcwd, [path.as_mut_ptr() as usize, path.len(), 0, 0, 0, 0]) }?;
    // Outside of the root, the kernel answers "(unreachable)/...".
    if path[0] == b'/' { Ok(()) } else { Err(Errno(libc::ENOENT)) }
}

fn reset_dispositions() -> Done {
    // struct sigaction of the kernel: SIG_DFL, no flags, no restorer, an empty mask, on every machine all zero.
    let default = [0usize; 8];
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: the kernel reads one struct sigaction, which is shorter than eight words.
        unsafe { syscall(libc::SYS_rt_sigaction, [signal as usize, default.as_ptr() as usize, 0, 8, 0, 0]) }?;
    }
    Ok(())
}
