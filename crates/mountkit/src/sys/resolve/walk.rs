//! What openat2 with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS answers, for kernels and filters without it.
//!
//! The walk goes down name by name with openat(O_PATH | O_NOFOLLOW), so no call of it follows a link. The body of a link is
//! read from the descriptor that was seen to be one, and put before the text that is left; an absolute one starts at the
//! root again.
//!
//! ```text
//!   root ── usr ── lib ── x86_64        done: "usr\0lib\0x86_64\0"
//!                         ▲ at          rest: "../../../etc/passwd"
//! ```
//!
//! `..` is the dangerous one: the directory may have been moved, and what is above it now may be outside. So `..` is never
//! opened. The names that led here are kept, and without the last of them the walk goes down from the root again, through
//! directories only. Whatever is renamed meanwhile, a walk that only goes down from the root cannot leave it. Then the
//! last name is looked up once more: it must still be the directory that the walk was in, or everything begins anew, as
//! openat2 answers EAGAIN when anything was renamed during a `..`.
//!
//! Where it differs from the kernel, which no honest tree shows: a walk is given up that opens [`MOST_OPENED`]
//! descriptors (ELOOP), gets to the end of 16 KiB of text when links had put more than that before it, or needs `..` more
//! than 4 KiB of names deep (ENAMETOOLONG); a last link that fs.protected_symlinks is meant to stop is not followed (EACCES) even where that is
//! off; all links of apparmor's own file system count as magic, and of procfs those with an absolute body.
//!
//! Child-safe: about 24 KiB of stack, no allocation, descriptors are closed by hand.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

use super::{LONGEST_PATH, Links};
use crate::name::LONGEST_NAME;
use crate::sys::fs::{openat, readlinkat};
use crate::sys::{Stat, shut, statx};

/// MAXSYMLINKS.
const MOST_LINKS: u32 = 40;
/// A path in a tree that somebody made for this can take as many as the square of its length.
const MOST_OPENED: u32 = 100_000;
/// Text that is left to be walked: the path and the bodies of links.
const REST: usize = 4 * LONGEST_PATH;
/// The names from the root.
const DONE: usize = LONGEST_PATH;

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const AAFS_MAGIC: i64 = 0x5a3c_69f0;
const SECURITYFS_MAGIC: i64 = 0x7363_6673;
/// A mount on which no link is followed, as statfs(2) shows it (Linux 5.10).
const ST_NOSYMFOLLOW: i64 = 0x2000;

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// Opens `path` below `root` as openat2 would. EAGAIN: somebody renamed something on the way; the caller tries again.
pub(super) fn open(root: RawFd, path: &CStr, flags: i32, links: Links) -> Result<RawFd, Errno> {
    let path = path.to_bytes();
    if path.is_empty() {
        return Err(Errno(libc::ENOENT));
    }
    if path.len() >= LONGEST_PATH {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    let mut walk = Walk {
        root,
        at: root,
        flags,
        links,
        rest: [0; REST],
        start: REST,
        cut: false,
        done: [0; DONE],
        depth: Some(0),
        followed: 0,
        opened: 0,
    };
    walk.put_before(path);
    let answer = walk.run();
    walk.go(root);
    answer
}

struct Walk {
    root: RawFd,
    /// The directory that the walk is in: `root`, or one that it has opened.
    at: RawFd,
    flags: i32,
    links: Links,
    /// What is left to be walked, from `start` to the end.
    rest: [u8; REST],
    start: usize,
    /// There was more than `rest` holds, and its end is missing.
    cut: bool,
    /// The names that lead from the root to `at`, with a NUL behind each.
    done: [u8; DONE],
    /// How much of `done` that is. `None`: more than it holds.
    depth: Option<usize>,
    followed: u32,
    opened: u32,
}

/// One name as the system calls want it.
type Name = [u8; LONGEST_NAME + 1];

fn c_name(name: &Name) -> &CStr {
    // There is a NUL: names are shorter.
    CStr::from_bytes_until_nul(name).unwrap_or_default()
}

impl Walk {
    fn run(&mut self) -> Result<RawFd, Errno> {
        loop {
            let mut name: Name = [0; LONGEST_NAME + 1];
            match self.next(&mut name)? {
                None => return self.itself(),
                Some(Part { slash, last }) => match c_name(&name).to_bytes() {
                    b"." => self.may_pass()?,
                    b".." => self.up()?,
                    _ => {
                        if let Some(fd) = self.step(c_name(&name), slash, last)? {
                            return Ok(fd);
                        }
                    }
                },
            }
        }
    }

    /// Takes the next name off the text that is left.
    fn next(&mut self, name: &mut Name) -> Result<Option<Part>, Errno> {
        let rest = self.rest.get(self.start..).unwrap_or_default();
        let skipped = rest.iter().take_while(|&&byte| byte == b'/').count();
        let rest = rest.get(skipped..).unwrap_or_default();
        let length = rest.iter().take_while(|&&byte| byte != b'/').count();
        if self.cut && skipped + length >= REST.saturating_sub(self.start) {
            // Where the missing text would be. Most links that put so much before them are loops, and never get here.
            return Err(Errno(libc::ENAMETOOLONG));
        }
        if length == 0 {
            return Ok(None);
        }
        let (given, behind) = rest.split_at_checked(length).unwrap_or_default();
        let part = Part { slash: !behind.is_empty(), last: behind.iter().all(|&byte| byte == b'/') };
        let (Some(room), true) = (name.get_mut(..length), length <= LONGEST_NAME) else {
            // The kernel looks first whether there is a directory to look the name up in.
            self.may_pass()?;
            return Err(Errno(libc::ENAMETOOLONG));
        };
        room.copy_from_slice(given);
        self.start += skipped + length;
        Ok(Some(part))
    }

    /// Puts `text`, which is shorter than `rest`, before what is left.
    fn put_before(&mut self, text: &[u8]) {
        if text.len() > self.start {
            let lost = text.len() - self.start;
            self.rest.copy_within(self.start..REST - lost, text.len());
            self.start = text.len();
            self.cut = true;
        }
        let start = self.start - text.len();
        if let Some(room) = self.rest.get_mut(start..self.start) {
            room.copy_from_slice(text);
        }
        self.start = start;
    }

    fn open(&mut self, dir: RawFd, name: &CStr, flags: i32) -> Result<RawFd, Errno> {
        self.opened += 1;
        if self.opened > MOST_OPENED {
            return Err(Errno(libc::ELOOP));
        }
        openat(dir, name, flags, 0)
    }

    /// Is in `dir` from now on.
    fn go(&mut self, dir: RawFd) {
        if self.at != self.root {
            shut(self.at);
        }
        self.at = dir;
    }

    /// What the kernel asks before it looks anything up in a directory, `.` and `..` too.
    fn may_pass(&mut self) -> Result<(), Errno> {
        self.open(self.at, c".", DIRECTORY).map(shut)
    }

    /// Goes on to `name`. Answers the descriptor that was asked for, when it was the last one.
    fn step(&mut self, name: &CStr, slash: bool, last: bool) -> Result<Option<RawFd>, Errno> {
        let is_path = self.flags & libc::O_PATH != 0;
        let wants_dir = !last || slash || self.flags & libc::O_DIRECTORY != 0;
        if wants_dir {
            match self.open(self.at, name, DIRECTORY) {
                Ok(fd) if !last => {
                    self.remember(name);
                    self.go(fd);
                    return Ok(None);
                }
                Ok(fd) if is_path => return Ok(Some(fd)),
                Ok(fd) => {
                    shut(fd);
                    return self.open_last(name).map(Some);
                }
                // Not a directory, but maybe a link to one.
                Err(Errno(libc::ENOTDIR | libc::ELOOP)) => {}
                Err(errno) => return Err(errno),
            }
        }
        let fd = self.open(self.at, name, libc::O_PATH)?;
        let found = statx(fd);
        let follows = !last || slash || self.flags & libc::O_NOFOLLOW == 0;
        let answer = match found {
            Err(errno) => Err(errno),
            Ok(link) if link.is(libc::S_IFLNK) && follows => self.follow(fd, link, last).map(|()| None),
            Ok(dir) if wants_dir && dir.is(libc::S_IFDIR) => Err(Errno(libc::EAGAIN)),
            Ok(_) if wants_dir => Err(Errno(libc::ENOTDIR)),
            Ok(_) if is_path => return Ok(Some(fd)),
            Ok(link) if link.is(libc::S_IFLNK) => Err(Errno(libc::ELOOP)),
            Ok(_) => self.open_last(name).map(Some),
        };
        shut(fd);
        answer
    }

    /// Opens what was seen not to be a link with the flags that were asked for.
    fn open_last(&mut self, name: &CStr) -> Result<RawFd, Errno> {
        match self.open(self.at, name, self.flags) {
            // It is one now.
            Err(Errno(libc::ELOOP)) => Err(Errno(libc::EAGAIN)),
            answer => answer,
        }
    }

    /// The directory that the walk is in is what was asked for.
    fn itself(&mut self) -> Result<RawFd, Errno> {
        let is_path = self.flags & libc::O_PATH != 0;
        if is_path && self.at != self.root {
            return Ok(std::mem::replace(&mut self.at, self.root));
        }
        match self.open(self.at, c".", self.flags) {
            // The kernel asks for nothing to open the root as a path.
            Err(Errno(libc::EACCES)) if is_path => duplicate(self.at),
            answer => answer,
        }
    }

    fn remember(&mut self, name: &CStr) {
        let name = name.to_bytes_with_nul();
        self.depth = self.depth.and_then(|depth| {
            let end = depth + name.len();
            self.done.get_mut(depth..end)?.copy_from_slice(name);
            Some(end)
        });
    }

    /// `..`: see the top of this file.
    fn up(&mut self) -> Result<(), Errno> {
        self.may_pass()?;
        let depth = self.depth.ok_or(Errno(libc::ENAMETOOLONG))?;
        if depth == 0 {
            return Ok(());
        }
        let mut here = self.root;
        let mut at = 0;
        let answer = loop {
            let Some(name) = self.done.get(at..depth).and_then(|rest| CStr::from_bytes_until_nul(rest).ok()) else {
                break Err(Errno(libc::EAGAIN));
            };
            let next = at + name.count_bytes() + 1;
            self.opened += 1;
            let found = match openat(here, name, DIRECTORY, 0) {
                Ok(fd) => fd,
                Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => break Err(Errno(libc::EAGAIN)),
                Err(errno) => break Err(errno),
            };
            if next >= depth {
                // `here` is the directory above, if this is still the one below it.
                let same = is_same(found, self.at);
                shut(found);
                break match same {
                    Ok(true) => Ok(at),
                    Ok(false) => Err(Errno(libc::EAGAIN)),
                    Err(errno) => Err(errno),
                };
            }
            if here != self.root {
                shut(here);
            }
            (here, at) = (found, next);
        };
        match answer {
            Ok(above) => {
                self.go(here);
                self.depth = Some(above);
                if self.opened > MOST_OPENED { Err(Errno(libc::ELOOP)) } else { Ok(()) }
            }
            Err(errno) => {
                if here != self.root {
                    shut(here);
                }
                Err(errno)
            }
        }
    }

    /// Puts the body of the link `fd` before the text that is left.
    fn follow(&mut self, fd: RawFd, link: Stat, last: bool) -> Result<(), Errno> {
        self.followed += 1;
        if self.followed > MOST_LINKS {
            return Err(Errno(libc::ELOOP));
        }
        if last && is_a_trap(self.at, link)? {
            return Err(Errno(libc::EACCES));
        }
        let (magic, mount_flags) = file_system(fd)?;
        if self.links == Links::Refused || mount_flags & ST_NOSYMFOLLOW != 0 {
            return Err(Errno(libc::ELOOP));
        }
        let mut body = [0; LONGEST_PATH];
        let length = readlinkat(fd, c"", &mut body)?;
        let body = match body.get(..length) {
            Some([]) | None => return Err(Errno(libc::ENOENT)),
            Some(_) if length >= LONGEST_PATH => return Err(Errno(libc::ENAMETOOLONG)),
            Some(body) => body,
        };
        if is_magic(magic, link.size, body) {
            return Err(Errno(libc::ELOOP));
        }
        if body.first() == Some(&b'/') {
            self.go(self.root);
            self.depth = Some(0);
        }
        self.put_before(body);
        Ok(())
    }
}

/// What comes after a name.
#[derive(Clone, Copy)]
struct Part {
    /// Slashes, or more of the path.
    slash: bool,
    /// Slashes at most.
    last: bool,
}

/// Whether a link jumps, and does not only stand for its body. Those of processes in procfs do; their bodies are absolute
/// (`/bin/sh`, `(unreachable)/x`) or no paths (`pipe:[7]`). The others there say how long they are, or are `self` and
/// `thread-self`. A wrong answer here is a wrong errno and no more: nothing in this file makes the jump.
fn is_magic(file_system: i64, size: u64, body: &[u8]) -> bool {
    let of_a_process = || body.iter().all(|byte| byte.is_ascii_digit() || b"/task".contains(byte));
    match file_system {
        PROC_SUPER_MAGIC => body.first() == Some(&b'/') || (size != body.len() as u64 && !of_a_process()),
        AAFS_MAGIC => true,
        SECURITYFS_MAGIC => body.starts_with(b"apparmorfs:["),
        _ => false,
    }
}

/// Whether fs.protected_symlinks would stop it: a link in a directory that everybody may write to, as /tmp, that is neither
/// the caller's nor the directory's owner's.
fn is_a_trap(dir: RawFd, link: Stat) -> Result<bool, Errno> {
    let dir = statx(dir)?;
    let everybodys = libc::S_ISVTX | libc::S_IWOTH;
    Ok(dir.mode & everybodys == everybodys && dir.uid != link.uid && fsuid()? != link.uid)
}

fn is_same(one: RawFd, other: RawFd) -> Result<bool, Errno> {
    let (one, other) = (statx(one)?, statx(other)?);
    Ok((one.device, one.inode, one.mount_id) == (other.device, other.inode, other.mount_id))
}

/// setfsuid(2) with an id that is none, which changes nothing and answers the one that counts.
fn fsuid() -> Result<u32, Errno> {
    // SAFETY: no pointers, and no change.
    unsafe { syscall(libc::SYS_setfsuid, [u32::MAX as usize, 0, 0, 0, 0, 0]) }.map(|uid| uid as u32)
}

/// fcntl(2) F_DUPFD_CLOEXEC.
fn duplicate(fd: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_fcntl, [fd as usize, libc::F_DUPFD_CLOEXEC as usize, 0, 0, 0, 0]) }.map(|fd| fd as RawFd)
}

/// fstatfs(2): the magic number of the file system, and the flags of the mount.
fn file_system(fd: RawFd) -> Result<(i64, i64), Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel writes one struct statfs.
    unsafe { syscall(libc::SYS_fstatfs, [fd as usize, answer.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statfs.
    let answer = unsafe { answer.assume_init() };
    // Behind f_frsize and as wide; the libc crate has no name for it.
    let width = size_of_val(&answer.f_frsize);
    let at = std::mem::offset_of!(libc::statfs, f_frsize) + width;
    #[allow(clippy::unnecessary_cast, reason = "the type differs between machines")]
    let magic = answer.f_type as i64;
    // SAFETY: zeroed, then filled, padding included, so that all of it is bytes.
    let bytes: [u8; size_of::<libc::statfs>()] = unsafe { std::mem::transmute(answer) };
    let flags = bytes.get(at..at + width).unwrap_or_default();
    let flags = match (<[u8; 8]>::try_from(flags), <[u8; 4]>::try_from(flags)) {
        (Ok(wide), _) => i64::from_ne_bytes(wide),
        (_, Ok(narrow)) => i64::from(i32::from_ne_bytes(narrow)),
        _ => 0,
    };
    Ok((magic, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_links_by_their_look() {
        for (size, body) in
            [(64, "/dev/pts/0"), (64, "pipe:[7]"), (0, "/usr/bin/sh"), (0, "net:[1]"), (0, "(unreachable)/x")]
        {
            assert!(is_magic(PROC_SUPER_MAGIC, size, body.as_bytes()), "{body}");
            assert!(!is_magic(0xef53, size, body.as_bytes()), "{body}");
        }
        for (size, body) in [(0, "123"), (0, "123/task/124"), (8, "self/net"), (11, "self/mounts")] {
            assert!(!is_magic(PROC_SUPER_MAGIC, size, body.as_bytes()), "{body}");
        }
        assert!(is_magic(SECURITYFS_MAGIC, 0, b"apparmorfs:[5]") && !is_magic(SECURITYFS_MAGIC, 0, b"apparmor"));
    }

    /// A child that shares its parent's memory has 256 KiB of stack for everything.
    #[test]
    fn the_stack_is_bounded() {
        assert!(size_of::<Walk>() + LONGEST_PATH < 32 << 10);
    }
}
