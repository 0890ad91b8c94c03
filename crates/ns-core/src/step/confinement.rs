//! The steps that confine the payload: landlock and seccomp. Running them is `sys/steps/confinement.rs`.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use cellkit_core::{Slot, StepText, Subject};

use super::step;
use crate::Seccomp;

/// See [`Step`](super::Step).
#[derive(Debug)]
pub(crate) enum ConfinementStep {
    Landlock {
        ruleset: Arc<OwnedFd>,
    },
    /// From here on the child makes only the calls that the filter was asked about.
    Seccomp {
        filter: Seccomp,
        listener: Slot,
    },
    SendListener {
        listener: Slot,
        sync: Slot,
    },
}

impl ConfinementStep {
    pub(crate) fn inherited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Landlock { ruleset } => Some(ruleset.as_fd()),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Landlock { ruleset } => {
                let reason = "what the rules do not allow is denied from here on";
                step("landlock_restrict_self", format!("fd {}, 0", ruleset.as_raw_fd()), reason)
                    .on(Subject::Thing("the landlock ruleset".into()))
            }
            Self::Seccomp { filter, listener } => {
                let length = filter.program().len();
                let out = if filter.has_listener() { format!(" → {listener}") } else { String::new() };
                let arguments = format!("SECCOMP_SET_MODE_FILTER, {}, {length} instructions{out}", filter.flag_names());
                step("seccomp", arguments, "which system calls the payload may make")
                    .on(Subject::Thing(format!("a filter of {length} instructions")))
            }
            Self::SendListener { listener, .. } => {
                step("sendmsg", format!("sync, SCM_RIGHTS {listener}"), "the parent is asked about the payload's calls")
            }
        }
    }
}
