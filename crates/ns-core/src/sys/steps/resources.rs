//! Runs the steps about what the child may use: raw system calls on prepared data, and nothing else.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::ptr;

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::enter::write_to_proc;
use super::{Done, numbers, prctl};
use crate::scheduling::SchedAttr;
use crate::step::ResourceStep;
use crate::{IoPriority, NodeSet};

/// `which` of ioprio_set(2): one thread.
const IOPRIO_WHO_PROCESS: usize = 1;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic (slices are reached by iterators and `get`).
unsafe impl ChildStep for ResourceStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        self.inherited()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, _: &mut ChildFds<'_>) -> Done {
        match self {
            Self::Umask(mode) => numbers(libc::SYS_umask, [*mode as usize, 0, 0, 0, 0]).map(drop),
            Self::OomScoreAdj { proc, text } => write_to_proc(proc, c"self/oom_score_adj", text.as_bytes()),
            Self::RaiseLimit(resource, rlimit) => {
                let [soft, hard] = prlimit(resource.number(), None)?;
                let wanted = rlimit.hard().bits();
                if hard >= wanted { Ok(()) } else { prlimit(resource.number(), Some([soft, wanted])).map(drop) }
            }
            Self::Limit(resource, rlimit) => {
                prlimit(resource.number(), Some([rlimit.soft().bits(), rlimit.hard().bits()])).map(drop)
            }
            Self::Affinity(None) => set_affinity(&[u64::MAX; 128]),
            Self::Affinity(Some(set)) => set_affinity(set.words()),
            Self::LowerPriority { keep_nice } => lower_priority(*keep_nice),
            Self::Scheduler(scheduler) => sched_setattr(&scheduler.attr(sched_getattr()?.nice)),
            Self::Nice(nice) => set_nice(*nice),
            Self::IoPriority(None) => match numbers(libc::SYS_ioprio_get, [IOPRIO_WHO_PROCESS, 0, 0, 0, 0]) {
                Ok(bits) if IoPriority::class_of(bits) == IoPriority::REAL_TIME => {
                    numbers(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, 0, 0, 0]).map(drop)
                }
                // A kernel without disks has no such priority.
                Ok(_) | Err(Errno(libc::ENOSYS)) => Ok(()),
                Err(errno) => Err(errno),
            },
            Self::IoPriority(Some(priority)) => {
                numbers(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, priority.bits().into(), 0, 0]).map(drop)
            }
            Self::MemoryPolicy(policy) => {
                let (mode, nodes) = policy.parts();
                set_memory_policy(mode, nodes)
            }
            Self::TimerSlack(slack) => prctl(libc::PR_SET_TIMERSLACK, slack.as_nanos() as usize),
            Self::Personality(personality) => {
                numbers(libc::SYS_personality, [personality.bits() as usize, 0, 0, 0, 0]).map(drop)
            }
        }
    }
}

/// prlimit64(2) on this process: the old soft and hard limit, and new ones if given.
pub(in crate::sys) fn prlimit(resource: u32, new: Option<[u64; 2]>) -> Result<[u64; 2], Errno> {
    let mut old = [0u64; 2];
    let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
    let args = [0, resource as usize, new as usize, ptr::from_mut(&mut old) as usize, 0, 0];
    // SAFETY: the new limits are null or two words, which the kernel reads; it writes two words of old ones.
    unsafe { syscall(libc::SYS_prlimit64, args) }?;
    Ok(old)
}

fn set_affinity(words: &[u64]) -> Done {
    let args = [0, size_of_val(words), words.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads as many bytes of the mask as said, and intersects it with what may be used.
    unsafe { syscall(libc::SYS_sched_setaffinity, args) }.map(drop)
}

fn sched_getattr() -> Result<SchedAttr, Errno> {
    let mut attr = SchedAttr::default();
    let args = [0, ptr::from_mut(&mut attr) as usize, SchedAttr::SIZE as usize, 0, 0, 0];
    // SAFETY: the kernel writes at most as many bytes as said.
    unsafe { syscall(libc::SYS_sched_getattr, args) }?;
    Ok(attr)
}

fn sched_setattr(attr: &SchedAttr) -> Done {
    // SAFETY: the kernel reads one sched_attr of the size in its first field.
    unsafe { syscall(libc::SYS_sched_setattr, [0, ptr::from_ref(attr) as usize, 0, 0, 0, 0]) }.map(drop)
}

fn set_nice(nice: i32) -> Done {
    numbers(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, nice as usize, 0, 0]).map(drop)
}

fn lower_priority(keep_nice: bool) -> Done {
    let old = sched_getattr()?;
    let nice = if keep_nice { old.nice } else { old.nice.max(0) };
    if old.is_real_time() {
        let policy = libc::SCHED_OTHER as u32;
        return sched_setattr(&SchedAttr { size: SchedAttr::SIZE, policy, nice, ..SchedAttr::default() });
    }
    if nice == old.nice { Ok(()) } else { set_nice(nice) }
}

fn set_memory_policy(mode: u32, nodes: Option<&NodeSet>) -> Done {
    let words = nodes.map_or(&[][..], NodeSet::words);
    // The kernel takes one bit less than it is told.
    let bits = if words.is_empty() { 0 } else { words.len() * 64 + 1 };
    let pointer = if words.is_empty() { ptr::null() } else { words.as_ptr() };
    // SAFETY: the kernel reads as many bits of the mask as said, less one.
    unsafe { syscall(libc::SYS_set_mempolicy, [mode as usize, pointer as usize, bits, 0, 0, 0]) }.map(drop)
}
