//! The steps that enter namespaces which the clone did not make.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use cellkit_core::{ProcFd, StepText, Subject};

/// See [`Step`](super::Step). Running them is `sys/steps/enter.rs`.
#[derive(Debug)]
pub(crate) enum EnterStep {
    Join { fd: Arc<OwnedFd>, flag: i32, flag_name: &'static str, shown: String },
    UnshareTime,
    TimeOffsets { proc: Arc<ProcFd>, text: String },
}

impl EnterStep {
    pub(crate) fn inherited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Join { fd, .. } => Some(fd.as_fd()),
            Self::TimeOffsets { proc, .. } => Some(proc.as_fd()),
            Self::UnshareTime => None,
        }
    }

    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Join { flag_name, shown, .. } => {
                let reason = "share this namespace instead of a new one";
                StepText::new("setns", format!("{shown}, {flag_name}"), reason).on(Subject::Namespace(shown.clone()))
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
        }
    }
}
