//! What this crate's part of the child does, step by step. Running them is `sys/steps.rs`.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::fd::RawFd;

use cellkit_core::{Slot, StepText, Subject};

use crate::stdio::EndSlots;

mod confinement;
mod credentials;
mod descriptors;
mod enter;
mod launch;
mod resources;
mod terminal;

pub(crate) use confinement::ConfinementStep;
pub(crate) use credentials::CredentialStep;
pub(crate) use descriptors::{DescriptorStep, MOST_LIFTED, Source};
pub(crate) use enter::EnterStep;
pub(crate) use launch::{Front, LaunchStep, Pointers};
pub(crate) use resources::ResourceStep;
pub(crate) use terminal::TerminalStep;

/// [`StepText::new`], short enough for the tables of texts.
fn step(call: &'static str, arguments: impl Into<String>, reason: &'static str) -> StepText {
    StepText::new(call, arguments, reason)
}

/// One step of the child: mostly one system call, on data made before the clone.
///
/// Slot 0 of this crate's lists holds the child's end of the socket pair.
#[derive(Debug)]
pub(crate) enum Step {
    CloseInherited { ends: EndSlots, keep: Vec<RawFd> },
    AwaitGo { sync: Slot },
    Propagation { flag: libc::c_ulong, name: &'static str },
    LoopbackUp,
    Hostname(CString),
    Domainname(CString),
    NewSession,
    Chdir(CString),
    VerifyCwd,
    ResetDispositions,
    UnblockSignals,
}

impl Step {
    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::CloseInherited { keep, .. } => {
                let kept = keep.iter().map(|fd| format!(" {fd}")).collect::<String>();
                let arguments = format!("3, ~0, 0; but for the socket{kept}");
                step("close_range", arguments, "no descriptor of the caller reaches the container")
            }
            Self::AwaitGo { .. } => step("recvfrom", "sync, 1", "the parent writes id maps and attaches the network"),
            Self::Propagation { name, .. } => step(
                "mount",
                format!("NULL, \"/\", NULL, MS_REC|{name}, NULL"),
                "how the mounts of this namespace hang together with those they are copies of",
            )
            .on(Subject::Path("/".into())),
            Self::LoopbackUp => {
                step("ioctl SIOCSIFFLAGS", "\"lo\", IFF_UP", "programs talk to themselves on 127.0.0.1")
                    .on(Subject::Interface("lo".into()))
            }
            Self::Hostname(name) => {
                let arguments = format!("{name:?}, {}", name.as_bytes().len());
                step("sethostname", arguments, "the container's own name")
                    .on(Subject::Value(name.to_string_lossy().into_owned()))
            }
            Self::Domainname(name) => {
                let arguments = format!("{name:?}, {}", name.as_bytes().len());
                step("setdomainname", arguments, "the container's own NIS domain")
                    .on(Subject::Value(name.to_string_lossy().into_owned()))
            }
            Self::NewSession => step("setsid", "", "signals of the caller's terminal do not reach the container"),
            Self::Chdir(path) => step("chdir", format!("{path:?}"), "the payload's working directory")
                .on(Subject::Path(path.to_string_lossy().into_owned().into())),
            Self::VerifyCwd => step("getcwd", "", "it is inside the root"),
            Self::ResetDispositions => step(
                "rt_sigaction",
                "1..64, SIG_DFL",
                "signals that the caller ignores are not ignored by the payload (one call for each)",
            ),
            Self::UnblockSignals => step("rt_sigprocmask", "SIG_SETMASK, []", "nor those it blocks blocked"),
        }
    }
}
