//! Runs the steps about what the child may use: raw system calls on prepared data, and nothing else.
#![allow(unsafe_code)]

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, ChildStep, HintTable, StepText};

use super::{Done, numbers};
use crate::step::ResourceStep;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic (slices are reached by iterators and `get`).
unsafe impl ChildStep for ResourceStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, _: &mut ChildFds<'_>) -> Done {
        match self {
            Self::Umask(mode) => numbers(libc::SYS_umask, [*mode as usize, 0, 0, 0, 0]).map(drop),
            Self::ResetAffinity => {
                let all = [u64::MAX; 128];
                let args = [0, size_of_val(&all), all.as_ptr() as usize, 0, 0, 0];
                // SAFETY: the kernel reads as many bytes of the mask as said, and intersects it with what may be used.
                unsafe { syscall(libc::SYS_sched_setaffinity, args) }.map(drop)
            }
        }
    }
}
