//! What this crate's part of the child does, step by step. Running them is `sys/steps.rs`.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use cellkit_core::{Slot, StepText, Subject};

mod credentials;
mod enter;
mod launch;
mod resources;

pub(crate) use credentials::CredentialStep;
pub(crate) use enter::EnterStep;
pub(crate) use launch::{LaunchStep, Pointers};
pub(crate) use resources::ResourceStep;

/// [`StepText::new`], short enough for the tables of texts.
fn step(call: &'static str, arguments: impl Into<String>, reason: &'static str) -> StepText {
    StepText::new(call, arguments, reason)
}

/// Where a descriptor of the payload comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A descriptor of the parent that the plan keeps open.
    Owned(Arc<OwnedFd>),
    /// What an earlier step opened.
    Slot(Slot),
}

/// One step of the child: mostly one system call, on data made before the clone.
///
/// Slot 0 of this crate's lists holds the child's end of the socket pair.
#[derive(Debug)]
pub(crate) enum Step {
    CloseInherited { sync: Slot, keep: Vec<RawFd> },
    AwaitGo { sync: Slot },
    LoopbackUp,
    Hostname(CString),
    Domainname(CString),
    NewSession,
    OpenMaster { out: Slot },
    UnlockPeer { master: Slot },
    WindowSize { master: Slot, rows: u16, columns: u16 },
    OpenPeer { master: Slot, out: Slot },
    SendTerminal { master: Slot, sync: Slot },
    ControllingTerminal { peer: Slot },
    CloneConsole { peer: Slot, out: Slot },
    AttachConsole { console: Slot },
    Chdir(CString),
    VerifyCwd,
    Lift { source: Source, above: RawFd, out: Slot },
    Place { from: Slot, target: RawFd },
    LiftSync { sync: Slot, above: RawFd },
    CloseOthers { sync: Slot, keep: Vec<RawFd> },
    ResetDispositions,
    UnblockSignals,
}

impl Step {
    pub(crate) fn inherited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Lift { source: Source::Owned(fd), .. } => Some(fd.as_fd()),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::CloseInherited { keep, .. } => {
                let kept = keep.iter().map(|fd| format!(" {fd}")).collect::<String>();
                let arguments = format!("3, ~0, 0; but for the socket{kept}");
                step("close_range", arguments, "no descriptor of the caller reaches the container")
            }
            Self::AwaitGo { .. } => step("recvfrom", "sync, 1", "the parent writes id maps and attaches the network"),
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
            Self::OpenMaster { out } => step(
                "openat2",
                format!("AT_FDCWD, \"/dev/pts/ptmx\", O_RDWR|O_NOCTTY, NO_SYMLINKS → {out}"),
                "a pseudo-terminal of the container's own devpts",
            )
            .on(Subject::Path("/dev/pts/ptmx".into())),
            Self::UnlockPeer { master } => step("ioctl", format!("{master}, TIOCSPTLCK, 0"), "let its peer be opened"),
            Self::WindowSize { master, rows, columns } => {
                let arguments = format!("{master}, TIOCSWINSZ, {rows} rows {columns} columns");
                step("ioctl", arguments, "the size is there before anybody asks for it")
            }
            Self::OpenPeer { master, out } => {
                let arguments = format!("{master}, TIOCGPTPEER, O_RDWR|O_NOCTTY → {out}");
                step("ioctl", arguments, "the peer, by descriptor and not by a path that could be swapped")
            }
            Self::SendTerminal { master, .. } => {
                step("sendmsg", format!("sync, SCM_RIGHTS {master}"), "the parent gets the terminal's other end")
            }
            Self::ControllingTerminal { peer } => {
                step("ioctl", format!("{peer}, TIOCSCTTY, 0"), "job control and Ctrl-C for the payload")
            }
            Self::CloneConsole { peer, out } => step(
                "open_tree",
                format!("{peer}, \"\", OPEN_TREE_CLONE|AT_EMPTY_PATH → {out}"),
                "a mount of the terminal",
            ),
            Self::AttachConsole { console } => {
                step("move_mount", format!("{console}, \"\", AT_FDCWD, \"/dev/console\""), "… as the console")
                    .on(Subject::Path("/dev/console".into()))
            }
            Self::Chdir(path) => step("chdir", format!("{path:?}"), "the payload's working directory")
                .on(Subject::Path(path.to_string_lossy().into_owned().into())),
            Self::VerifyCwd => step("getcwd", "", "it is inside the root"),
            Self::Lift { source, above, out } => {
                let shown = match source {
                    Source::Owned(fd) => format!("fd {}", fd.as_raw_fd()),
                    Source::Slot(slot) => slot.to_string(),
                };
                step(
                    "fcntl",
                    format!("{shown}, F_DUPFD_CLOEXEC, {above} → {out}"),
                    "out of the way of the numbers below",
                )
            }
            Self::Place { from, target } => {
                step("dup3", format!("{from}, {target}, 0"), "the payload's descriptor of this number")
            }
            Self::LiftSync { above, .. } => {
                step("fcntl", format!("sync, F_DUPFD_CLOEXEC, {above}"), "out of the way of the payload's numbers")
            }
            Self::CloseOthers { keep, .. } => {
                let kept = keep.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                step(
                    "close_range",
                    format!("0, ~0, 0; but for {kept}"),
                    "the payload has these descriptors and no others",
                )
            }
            Self::ResetDispositions => step(
                "rt_sigaction",
                "1..64, SIG_DFL",
                "signals that the caller ignores are not ignored by the payload (one call for each)",
            ),
            Self::UnblockSignals => step("rt_sigprocmask", "SIG_SETMASK, []", "nor those it blocks blocked"),
        }
    }
}
