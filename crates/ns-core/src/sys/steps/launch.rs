//! Makes a child the payload: who watches over it, and the program itself.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::{Done, prctl};
use crate::step::LaunchStep;
use crate::sys::reaper;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic.
unsafe impl ChildStep for LaunchStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Done {
        match self {
            Self::DieWithParent { sync } => {
                prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize)?;
                parent_lives(fds.get(*sync)?)
            }
            Self::Reaper(front) => reaper::split(*front),
            Self::ExecFd { program, pointers, .. } => {
                let args = [
                    fds.get(*program)? as usize,
                    c"".as_ptr() as usize,
                    pointers.argv.as_ptr() as usize,
                    pointers.envp.as_ptr() as usize,
                    libc::AT_EMPTY_PATH as usize,
                    0,
                ];
                // SAFETY: an empty C string; argv and envp are arrays of pointers to C strings of the same step, ending in
                // NULL.
                unsafe { syscall(libc::SYS_execveat, args) }.map(drop)
            }
            Self::Exec { paths, pointers, .. } => {
                exec(paths.iter().map(|path| &**path), &pointers.argv, &pointers.envp)
            }
        }
    }
}

/// After PR_SET_PDEATHSIG: a parent that died before it would go unnoticed, but for its end of the socket.
fn parent_lives(sync: RawFd) -> Done {
    let mut byte = [0u8; 1];
    let flags = (libc::MSG_DONTWAIT | libc::MSG_PEEK) as usize;
    // SAFETY: the kernel writes at most one byte.
    match unsafe { syscall(libc::SYS_recvfrom, [sync as usize, byte.as_mut_ptr() as usize, 1, flags, 0, 0]) } {
        Ok(0) => Err(Errno(libc::ECANCELED)),
        _ => Ok(()),
    }
}

/// Tries each path as execvp does; comes back only to say why none could be run.
fn exec<'a>(paths: impl Iterator<Item = &'a CStr>, argv: &[usize], envp: &[usize]) -> Done {
    let mut answer = Errno(libc::ENOENT);
    for path in paths {
        let args = [path.as_ptr() as usize, argv.as_ptr() as usize, envp.as_ptr() as usize, 0, 0, 0];
        // SAFETY: path is a C string; argv and envp are arrays of pointers to C strings of the same step, ending in NULL.
        let Err(errno) = (unsafe { syscall(libc::SYS_execve, args) }) else { return Ok(()) };
        match errno {
            // Look further, but remember that there was one that could not be run.
            Errno(libc::EACCES) => answer = errno,
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            errno => return Err(errno),
        }
    }
    Err(answer)
}
