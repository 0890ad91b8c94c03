//! Runs this crate's steps in the child: raw system calls on prepared data, and nothing else.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use cellkit_core::sys::{self as raw, OpenHow, syscall};
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

mod credentials;
mod enter;
mod launch;
mod resources;

use crate::step::{Source, Step};
pub(super) use credentials::{CAPABILITY_VERSION_3, set_capabilities};

type Done = Result<(), Errno>;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic (slices are reached by iterators and `get`).
unsafe impl ChildStep for Step {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        self.inherited()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Done {
        match self {
            Self::CloseInherited { sync, keep } => close_all_but(3, keep, fds.get(*sync)?),
            Self::AwaitGo { sync } => await_go(fds.get(*sync)?),
            Self::LoopbackUp => loopback_up(),
            Self::Hostname(name) => set_name(libc::SYS_sethostname, name),
            Self::Domainname(name) => set_name(libc::SYS_setdomainname, name),
            Self::NewSession => match numbers(libc::SYS_setsid, [0; 5]) {
                // Already a leader: there is nothing to leave.
                Err(Errno(libc::EPERM)) => Ok(()),
                answer => answer.map(drop),
            },
            Self::OpenMaster { out } => open_master().and_then(|fd| fds.set(*out, fd)),
            Self::UnlockPeer { master } => {
                let locked = 0i32;
                ioctl(fds.get(*master)?, libc::TIOCSPTLCK, ptr::from_ref(&locked) as usize).map(drop)
            }
            Self::WindowSize { master, rows, columns } => {
                let size = libc::winsize { ws_row: *rows, ws_col: *columns, ws_xpixel: 0, ws_ypixel: 0 };
                ioctl(fds.get(*master)?, libc::TIOCSWINSZ, ptr::from_ref(&size) as usize).map(drop)
            }
            Self::OpenPeer { master, out } => {
                let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
                let fd = ioctl(fds.get(*master)?, libc::TIOCGPTPEER, flags as usize)?;
                fds.set(*out, fd as RawFd)
            }
            Self::SendTerminal { master, sync } => send_fd(fds.get(*sync)?, fds.get(*master)?),
            Self::ControllingTerminal { peer } => ioctl(fds.get(*peer)?, libc::TIOCSCTTY, 0).map(drop),
            Self::CloneConsole { peer, out } => {
                let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
                let args = [fds.get(*peer)? as usize, c"".as_ptr() as usize, flags as usize, 0, 0, 0];
                // SAFETY: the path is an empty C string; the kernel only reads it.
                let fd = unsafe { syscall(libc::SYS_open_tree, args) }?;
                fds.set(*out, fd as RawFd)
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
            Self::Chdir(path) => {
                // SAFETY: the path is a C string; the kernel only reads it.
                unsafe { syscall(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
            }
            Self::VerifyCwd => verify_cwd(),
            Self::Lift { source, above, out } => {
                let fd = match source {
                    Source::Owned(fd) => fd.as_raw_fd(),
                    Source::Slot(slot) => fds.get(*slot)?,
                };
                fds.set(*out, lift(fd, *above)?)
            }
            Self::Place { from, target } => {
                let args = [fds.get(*from)? as usize, *target as usize, 0, 0, 0];
                numbers(libc::SYS_dup3, args).map(drop)
            }
            Self::LiftSync { sync, above } => {
                let lifted = lift(fds.get(*sync)?, *above)?;
                fds.set(*sync, lifted)
            }
            Self::CloseOthers { sync, keep } => close_all_but(0, keep, fds.get(*sync)?),
            Self::ResetDispositions => {
                reset_dispositions();
                Ok(())
            }
            Self::UnblockSignals => {
                let none = 0u64;
                let args = [libc::SIG_SETMASK as usize, ptr::from_ref(&none) as usize, 0, 8, 0, 0];
                // SAFETY: the set is eight bytes, as said.
                unsafe { syscall(libc::SYS_rt_sigprocmask, args) }.map(drop)
            }
        }
    }
}

/// A system call whose arguments are all numbers: what it can reach is the calling process's own state.
fn numbers(number: libc::c_long, [a, b, c, d, e]: [usize; 5]) -> Result<usize, Errno> {
    // SAFETY: no pointers among the arguments; every caller here passes constants, ids and descriptors.
    unsafe { syscall(number, [a, b, c, d, e, 0]) }
}

pub(super) fn prctl(option: i32, value: usize) -> Done {
    numbers(libc::SYS_prctl, [option as usize, value, 0, 0, 0]).map(drop)
}

fn ioctl(fd: RawFd, request: libc::Ioctl, argument: usize) -> Result<usize, Errno> {
    // SAFETY: the terminal requests used here take a number, or read the int or the winsize that the argument points to.
    unsafe { syscall(libc::SYS_ioctl, [fd as usize, request as usize, argument, 0, 0, 0]) }
}

fn close_range(first: RawFd, last: RawFd) -> Done {
    if first > last {
        return Ok(());
    }
    numbers(libc::SYS_close_range, [first as usize, last as u32 as usize, 0, 0, 0]).map(drop)
}

/// Closes every descriptor from `first` on, but for those in `keep` (ascending) and `sync`.
fn close_all_but(first: RawFd, keep: &[RawFd], sync: RawFd) -> Done {
    let mut next = first;
    let mut close_up_to = |kept: RawFd| {
        if kept < next {
            return Ok(());
        }
        let start = next;
        next = kept + 1;
        close_range(start, kept - 1)
    };
    let mut sync_pending = true;
    for &kept in keep {
        if sync_pending && sync < kept {
            sync_pending = false;
            close_up_to(sync)?;
        }
        close_up_to(kept)?;
    }
    if sync_pending {
        close_up_to(sync)?;
    }
    close_range(next, RawFd::MAX)
}

/// Sends one message to the parent; if it has died, nobody needs it.
pub(super) fn send(sync: RawFd, message: &[u8]) {
    let flags = libc::MSG_NOSIGNAL as usize;
    let args = [sync as usize, message.as_ptr() as usize, message.len(), flags, 0, 0];
    // SAFETY: the kernel reads message.len() bytes.
    let _ = unsafe { syscall(libc::SYS_sendto, args) };
}

fn await_go(sync: RawFd) -> Done {
    let mut byte = [0u8; 1];
    // SAFETY: the kernel writes at most one byte.
    match unsafe { syscall(libc::SYS_recvfrom, [sync as usize, byte.as_mut_ptr() as usize, 1, 0, 0, 0]) } {
        Ok(0) => Err(Errno(libc::ECANCELED)),
        answer => answer.map(drop),
    }
}

fn loopback_up() -> Done {
    let socket =
        numbers(libc::SYS_socket, [libc::AF_INET as usize, (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize, 0, 0, 0])?;
    // struct ifreq: a name of 16 bytes, then a union that begins with the flags.
    let mut request = [0u16; 20];
    for (place, letters) in request.iter_mut().zip(b"lo".chunks(2)) {
        *place = letters.iter().rev().fold(0, |word, &letter| word << 8 | u16::from(letter)).to_le();
    }
    if let Some(flags) = request.get_mut(8) {
        *flags = libc::IFF_UP as u16;
    }
    let args = [socket, libc::SIOCSIFFLAGS as usize, request.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads one struct ifreq, which is as large as the array.
    let answer = unsafe { syscall(libc::SYS_ioctl, args) };
    // SAFETY: opened above, used by nobody else.
    unsafe { raw::close(socket as RawFd) };
    answer.map(drop)
}

fn set_name(number: libc::c_long, name: &CStr) -> Done {
    // SAFETY: the kernel reads as many bytes of the name as said.
    unsafe { syscall(number, [name.as_ptr() as usize, name.to_bytes().len(), 0, 0, 0, 0]) }.map(drop)
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

fn send_fd(sync: RawFd, fd: RawFd) -> Done {
    #[repr(C)]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        fd: RawFd,
        padding: i32,
    }
    let control = Control {
        length: size_of::<usize>() + 3 * size_of::<i32>(),
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        fd,
        padding: 0,
    };
    let byte = [super::message::MESSAGE_TERMINAL];
    let mut part = libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 };
    // SAFETY: every field of a msghdr may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_ref(&control).cast_mut().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let args = [sync as usize, ptr::from_ref(&message) as usize, libc::MSG_NOSIGNAL as usize, 0, 0, 0];
    // SAFETY: the message, its one part and its control data live on this stack; the kernel only reads them.
    unsafe { syscall(libc::SYS_sendmsg, args) }.map(drop)
}

fn verify_cwd() -> Done {
    let mut path = [0u8; 4096];
    // SAFETY: the kernel writes at most path.len() bytes.
    unsafe { syscall(libc::SYS_getcwd, [path.as_mut_ptr() as usize, path.len(), 0, 0, 0, 0]) }?;
    // Outside of the root, the kernel answers "(unreachable)/...".
    if path[0] == b'/' { Ok(()) } else { Err(Errno(libc::ENOENT)) }
}

fn lift(fd: RawFd, above: RawFd) -> Result<RawFd, Errno> {
    let args = [fd as usize, libc::F_DUPFD_CLOEXEC as usize, above as usize, 0, 0];
    numbers(libc::SYS_fcntl, args).map(|fd| fd as RawFd)
}

fn reset_dispositions() {
    // struct sigaction of the kernel: SIG_DFL, no flags, no restorer, an empty mask, on every machine all zero.
    let default = [0usize; 8];
    for signal in 1..=64usize {
        // SAFETY: the kernel reads one struct sigaction, which is shorter than eight words. SIGKILL and SIGSTOP are refused.
        let _ = unsafe { syscall(libc::SYS_rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0, 0]) };
    }
}

/// What the reaper in `reaper.rs` needs too.
pub(super) fn close_everything() {
    let _ = close_range(0, RawFd::MAX);
}
