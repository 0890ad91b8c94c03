//! The reaper in front of a payload: it reaps every orphan, passes signals on to the payload and ends as it ends.
//!
//! It is PID 1 of a new pid namespace, or else a subreaper, whom the kernel gives the orphans among its descendants. It is
//! a process of its own with a copy of its parent's memory, never sharing it (the plan sees to that): it lives as long as
//! the payload. No program is run for it, nothing is allocated: it is one loop, asleep in rt_sigtimedwait(2) between
//! signals.
//!
//! * All signals are blocked, and are taken one by one. SIGCHLD is not ignored, whatever the caller does with it (a step before
//!   this one sees to that): the kernel would reap the payload itself, and its status would be lost.
//! * What a process sends is passed on, to the payload alone: a payload that wants its children to hear it has means of its
//!   own. What the kernel sends, such as a terminal's Ctrl-C, has gone to the payload's process group already.
//! * A payload that stops (Ctrl-Z) stops a subreaper too, so that the shell that started it sees a stopped job; the SIGCONT
//!   that wakes it is passed on. PID 1 cannot be stopped from inside of its namespace, and stays awake.
//! * Several children may end behind one SIGCHLD: all that have are reaped.
#![allow(unsafe_code)]

use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::{close, read, syscall};

use super::{exit, steps};
use crate::step::Front;
use crate::{Capabilities, Capability, CapabilitySet};

/// Forks: the new process returns and becomes the payload, this one becomes the reaper and never returns.
///
/// The payload goes on when the reaper has sealed itself, and not before: it waits for the end of a pipe whose other end
/// the reaper closes last.
pub(super) fn split(front: Front) -> Result<(), Errno> {
    // The payload's own memory is another one from execve on; until then neither is anybody's business.
    steps::prctl(libc::PR_SET_DUMPABLE, 0)?;
    let mut pipe = [-1; 2];
    let args = [pipe.as_mut_ptr() as usize, libc::O_CLOEXEC as usize, 0, 0, 0, 0];
    // SAFETY: the kernel writes two descriptors.
    unsafe { syscall(libc::SYS_pipe2, args) }?;
    let [reader, writer] = pipe;
    // SAFETY: a plain fork (all arguments but the exit signal are zero): the child goes on with a copy of everything.
    #[cfg(not(target_arch = "s390x"))]
    let answer = unsafe { syscall(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0, 0, 0]) }?;
    // SAFETY: as above; s390x has the first two arguments the other way round.
    #[cfg(target_arch = "s390x")]
    let answer = unsafe { syscall(libc::SYS_clone, [0, libc::SIGCHLD as usize, 0, 0, 0, 0]) }?;
    if answer != 0 {
        // What fails here is reported as any other step, and the end of PID 1 is the end of the payload.
        if front == Front::Subreaper {
            steps::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
        }
        seal()?;
        reap(answer as i32, front)
    }
    // SAFETY: made above, used by nobody else in this process.
    unsafe { close(writer) };
    let sealed = read(reader, &mut [0]);
    // SAFETY: as above.
    unsafe { close(reader) };
    sealed.map(drop)
}

/// The part of the kernel's siginfo that is the same on every machine, padded to its full size.
#[repr(C, align(8))]
struct SignalInfo {
    number: i32,
    errno: i32,
    code: i32,
    rest: [i32; 29],
}

/// Whoever gets at this process inside the container finds nothing worth having: no descriptor, no power but to signal the
/// payload, and memory that cannot be traced or dumped.
fn seal() -> Result<(), Errno> {
    steps::set_capabilities(CapabilitySet::EMPTY.with(Capability::KILL).into())
        .or_else(|_| steps::set_capabilities(Capabilities::NONE))?;
    steps::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    steps::close_everything()
}

fn reap(payload: i32, front: Front) -> ! {
    // Every signal is blocked since before clone3, and is taken here one by one.
    let all = u64::MAX;
    loop {
        let mut info = SignalInfo { number: 0, errno: 0, code: 0, rest: [0; 29] };
        let args = [ptr::from_ref(&all) as usize, ptr::from_mut(&mut info) as usize, 0, 8, 0, 0];
        // SAFETY: the set is eight bytes, as said, and the kernel writes one siginfo of 128 bytes.
        match unsafe { syscall(libc::SYS_rt_sigtimedwait, args) } {
            Ok(signal) if signal as i32 == libc::SIGCHLD => {}
            // The kernel's own signals (a terminal's, say) went to whom they were meant for; a person's are passed on.
            Ok(signal) if info.code <= 0 => {
                // SAFETY: no pointers. The payload has not been reaped, so the number is its own.
                let _ = unsafe { syscall(libc::SYS_kill, [payload as usize, signal, 0, 0, 0, 0]) };
            }
            _ => {}
        }
        // Behind any signal: the lowest number comes first, and a flood of those would keep SIGCHLD waiting.
        reap_all(payload, front);
    }
}

/// Reaps whatever has died; ends when the payload has, as it did.
fn reap_all(payload: i32, front: Front) {
    const STOPPED: i32 = 0x7f;
    // Who looks for stops takes each of them once.
    let options = libc::WNOHANG | if front == Front::Subreaper { libc::WUNTRACED } else { 0 };
    loop {
        let mut status = 0i32;
        let args = [usize::MAX, ptr::from_mut(&mut status) as usize, options as usize, 0, 0, 0];
        // SAFETY: the kernel writes one int; no resource usage is asked for.
        match unsafe { syscall(libc::SYS_wait4, args) } {
            Ok(pid) if status & 0xff == STOPPED => {
                if pid as i32 == payload {
                    stop();
                }
            }
            Ok(pid) if pid as i32 == payload => {
                // Death by signal becomes 128 + signal: PID 1 cannot kill itself.
                let signal = status & 0x7f;
                exit(if signal == 0 { status >> 8 & 0xff } else { 128 + signal })
            }
            Ok(1..) | Err(Errno(libc::EINTR)) => {}
            Ok(_) | Err(Errno(libc::ECHILD)) => return,
            // One that cannot wait would stay for ever.
            Err(_) => exit(125),
        }
    }
}

/// Stops this process, until somebody wakes it.
fn stop() {
    // SAFETY: no arguments.
    if let Ok(own) = unsafe { syscall(libc::SYS_getpid, [0; 6]) } {
        // SAFETY: no pointers.
        let _ = unsafe { syscall(libc::SYS_kill, [own, libc::SIGSTOP as usize, 0, 0, 0, 0]) };
    }
}
