//! Runs the steps that make the payload's terminal.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::ptr;

use cellkit_core::sys::{self as raw, OpenHow, syscall};
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::{Done, ioctl, numbers};
use crate::step::TerminalStep;
use crate::sys::message::{MESSAGE_TERMINAL, send_with};
use crate::sys::mounts;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else.
unsafe impl ChildStep for TerminalStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Done {
        match self {
            Self::NewGroup => numbers(libc::SYS_setpgid, [0; 5]).map(drop),
            Self::OpenMaster { out } => open_master().and_then(|fd| fds.set(*out, fd)),
            Self::UnlockPeer { master } => unlock_peer(fds.get(*master)?),
            Self::WindowSize { master, rows, columns } => set_window_size(fds.get(*master)?, *rows, *columns),
            Self::OpenPeer { master, out } => {
                let peer = open_peer(fds.get(*master)?)?;
                fds.set(*out, peer)
            }
            Self::SendTerminal { master, sync } => {
                send_with(fds.get(*sync)?, &[MESSAGE_TERMINAL], Some(fds.get(*master)?))
            }
            Self::ControllingTerminal { peer } => ioctl(fds.get(*peer)?, libc::TIOCSCTTY, 0).map(drop),
            Self::CloneConsole { peer, out } => {
                let mount = mounts::clone_raw(fds.get(*peer)?)?;
                fds.set(*out, mount)
            }
            Self::AttachConsole { console } => {
                let args = [
                    fds.get(*console)? as usize,
                    c"".as_ptr() as usize,
                    libc::AT_FDCWD as usize,
                    c"/dev/console".as_ptr() as usize,
                    libc::MOVE_MOUNT_F_EMPTY_PATH as usize,
                    0,
                ];
                // SAFETY: both paths are C strings; the kernel only reads them.
                unsafe { syscall(libc::SYS_move_mount, args) }.map(drop)
            }
        }
    }
}

/// ioctl(2) TIOCSPTLCK. Child-safe, as the next two.
pub(in crate::sys) fn unlock_peer(master: RawFd) -> Done {
    let locked = 0i32;
    ioctl(master, libc::TIOCSPTLCK, ptr::from_ref(&locked) as usize).map(drop)
}

/// ioctl(2) TIOCSWINSZ.
pub(in crate::sys) fn set_window_size(master: RawFd, rows: u16, columns: u16) -> Done {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    ioctl(master, libc::TIOCSWINSZ, ptr::from_ref(&size) as usize).map(drop)
}

/// ioctl(2) TIOCGPTPEER.
pub(in crate::sys) fn open_peer(master: RawFd) -> Result<RawFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    ioctl(master, libc::TIOCGPTPEER, flags as usize).map(|fd| fd as RawFd)
}

fn open_master() -> Result<RawFd, Errno> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let how = OpenHow {
        flags: (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
    };
    let fd = raw::openat2(libc::AT_FDCWD, c"/dev/pts/ptmx", &how)?;
    match raw::fs_magic(fd) {
        Ok(DEVPTS_SUPER_MAGIC) => Ok(fd),
        Ok(_) => Err(Errno(libc::ENODEV)),
        Err(errno) => Err(errno),
    }
}
