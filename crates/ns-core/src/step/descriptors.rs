//! The steps that make the payload's table of descriptors. Running them is `sys/steps/descriptors.rs`.
//!
//! Each source is first moved above all numbers that are wanted, then put in its place, so that no order of sources and
//! targets can overwrite one that is still needed.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use cellkit_core::{Slot, StepText};

use super::step;

/// Where a descriptor of the payload comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A descriptor of the parent that the plan keeps open.
    Owned(Arc<OwnedFd>),
    /// What an earlier step opened.
    Slot(Slot),
}

/// How many descriptors later steps may need: they are gathered on the child's stack.
pub(crate) const MOST_LIFTED: usize = 7;

/// One step of the child about its descriptors.
#[derive(Debug)]
pub(crate) enum DescriptorStep {
    Lift {
        source: Source,
        above: RawFd,
        out: Slot,
    },
    Place {
        from: Slot,
        target: RawFd,
    },
    /// A terminal or a pipe.
    Grant {
        fd: Slot,
        uid: u32,
    },
    LiftSync {
        sync: Slot,
        above: RawFd,
    },
    /// `lifted` are the slots of what later steps need: at most [`MOST_LIFTED`].
    CloseOthers {
        sync: Slot,
        keep: Vec<RawFd>,
        lifted: Vec<Slot>,
    },
}

impl DescriptorStep {
    pub(crate) fn inherited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Lift { source: Source::Owned(fd), .. } => Some(fd.as_fd()),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Lift { source, above, out } => {
                let shown = match source {
                    Source::Owned(fd) => format!("fd {}", fd.as_raw_fd()),
                    Source::Slot(slot) => slot.to_string(),
                };
                let arguments = format!("{shown}, F_DUPFD_CLOEXEC, {above} → {out}");
                step("fcntl", arguments, "out of the way of the numbers below")
            }
            Self::Place { from, target } => {
                step("dup3", format!("{from}, {target}, 0"), "the payload's descriptor of this number")
            }
            Self::Grant { fd, uid } => {
                let reason = "it is its user's, who may want to open it by a name, where it can be given away";
                step("fchown", format!("{fd}, {uid}, -1"), reason)
            }
            Self::LiftSync { above, .. } => {
                let arguments = format!("sync, F_DUPFD_CLOEXEC, {above}");
                step("fcntl", arguments, "out of the way of the payload's numbers")
            }
            Self::CloseOthers { keep, .. } => {
                let kept = keep.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let arguments = format!("0, ~0, 0; but for {kept}");
                step("close_range", arguments, "the payload has these descriptors and no others")
            }
        }
    }
}
