//! The steps that make the payload's terminal. Running them is `sys/steps/terminal.rs`.
#![forbid(unsafe_code)]

use cellkit_core::{Slot, StepText, Subject};

use super::step;

/// One step of the child about its terminal, or its process group.
#[derive(Debug)]
pub(crate) enum TerminalStep {
    NewGroup,
    OpenMaster { out: Slot },
    UnlockPeer { master: Slot },
    WindowSize { master: Slot, rows: u16, columns: u16 },
    OpenPeer { master: Slot, out: Slot },
    SendTerminal { master: Slot, sync: Slot },
    ControllingTerminal { peer: Slot },
    CloneConsole { peer: Slot, out: Slot },
    AttachConsole { console: Slot },
}

impl TerminalStep {
    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::NewGroup => step("setpgid", "0, 0", "signals to the caller's process group are not for the payload"),
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
                let arguments = format!("sync, SCM_RIGHTS {master}");
                step("sendmsg", arguments, "the parent gets the terminal's other end")
            }
            Self::ControllingTerminal { peer } => {
                step("ioctl", format!("{peer}, TIOCSCTTY, 0"), "job control and Ctrl-C for the payload")
            }
            Self::CloneConsole { peer, out } => {
                let arguments = format!("{peer}, \"\", OPEN_TREE_CLONE|AT_EMPTY_PATH → {out}");
                step("open_tree", arguments, "a mount of the terminal")
            }
            Self::AttachConsole { console } => {
                let arguments = format!("{console}, \"\", AT_FDCWD, \"/dev/console\"");
                step("move_mount", arguments, "… as the console").on(Subject::Path("/dev/console".into()))
            }
        }
    }
}
