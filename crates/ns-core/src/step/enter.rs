//! The steps that enter namespaces which the clone did not make.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use cellkit_core::{ProcFd, Slot, StepText, Subject};

use crate::enter::target;
use crate::ns_fd::AnyNamespace;
use crate::sys::join::Target;

/// See [`Step`](super::Step). Running them is `sys/steps/enter.rs`.
#[derive(Debug)]
pub(crate) enum EnterStep {
    /// Out of sight of whoever is in the namespaces that are joined next.
    Hide,
    /// `failed` is for the place in the list of the one that could not be joined.
    Join {
        targets: Vec<Target>,
        shown: Vec<String>,
        failed: Slot,
        _kept: Vec<Arc<dyn AnyNamespace>>,
    },
    /// Closes the handles on what has been joined.
    LetGo(Vec<Arc<dyn AnyNamespace>>),
    UnshareTime,
    TimeOffsets {
        proc: Arc<ProcFd>,
        text: String,
    },
    /// Goes on as a process that is a child in what has been entered, and as such in it: pid namespaces, and before Linux
    /// 6.3 new time namespaces.
    Succeed {
        sync: Slot,
    },
}

impl EnterStep {
    pub(crate) fn join(namespaces: &[Arc<dyn AnyNamespace>], failed: Slot) -> Self {
        Self::Join {
            targets: namespaces.iter().map(|namespace| target(&**namespace)).collect(),
            shown: namespaces.iter().map(ToString::to_string).collect(),
            failed,
            _kept: namespaces.to_vec(),
        }
    }

    pub(crate) fn inherited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::TimeOffsets { proc, .. } => Some(proc.as_fd()),
            // Of namespaces there are several, which the plan keeps open.
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Hide => StepText::new(
                "prctl",
                "PR_SET_DUMPABLE, 0",
                "nobody in the namespaces joined may trace this process before it runs its program",
            ),
            Self::Join { shown, .. } => {
                let shown = shown.join(", ");
                let reason = "share these namespaces instead of new ones (one call for each)";
                StepText::new("setns", shown.clone(), reason).on(Subject::Namespace(shown))
            }
            Self::LetGo(namespaces) => {
                let fds = namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                StepText::new("close", fds, "inside, nothing of the outside is held")
            }
            Self::UnshareTime => {
                let reason = "a time namespace, entered at execve (Linux 6.3)";
                StepText::new("unshare", "CLONE_NEWTIME", reason).on(Subject::Namespace("a new time namespace".into()))
            }
            Self::TimeOffsets { text, .. } => {
                let reason = "the clocks' offsets, before anybody reads them";
                StepText::new("write timens_offsets", format!("{text:?}"), reason)
                    .on(Subject::Value(text.trim_end().replace('\n', ", ")))
            }
            Self::Succeed { .. } => StepText::new(
                "clone",
                "CLONE_PARENT|CLONE_PIDFD",
                "only a child is in what was entered: a sibling goes on, the parent is told, this one ends",
            ),
        }
    }
}
