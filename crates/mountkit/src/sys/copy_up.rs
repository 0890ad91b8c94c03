//! What a directory holds, copied into a new file system before that covers it: `tmpcopyup`.
//!
//! # Theory of operation
//!
//! It runs in the cloned child, where nothing may be allocated, so the tree is walked with a fixed number of descriptors:
//! one pair a level, of the directory and of its copy. Where a directory stands in its list of entries is the kernel's to
//! know (the offset of its descriptor), so one small buffer serves all levels: an entry is read, the descriptor is set to
//! the one after it, and whatever is below that entry is copied before the next is read.
//!
//! Everything is done by one name below a descriptor, and no link is followed: the content is as hostile as the root. A
//! file is opened only after it was seen to be a regular one, and without blocking. What is new belongs to nobody else
//! until the new file system is mounted, so nobody races with the copy; whoever changes the original meanwhile changes
//! what is copied, and no more.
//!
//! Kept are kind, owner, mode, times and extended attributes, holes in files, links as they are, FIFOs and sockets. A device
//! node is left out, since the mount is nodev; hard links become files of their own; an attribute that the new file
//! system does not take (`user.*` on tmpfs before Linux 6.6), or the child may not set, is left out.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

use super::{Stat, fchownat, mkdirat, mknodat, shut, statx, symlinkat};

/// Directories within directories. Each takes two descriptors while it is copied.
const MOST_LEVELS: usize = 64;
/// PATH_MAX: what a link may hold, with a NUL.
const LONGEST_LINK: usize = 4096;
/// The longest value of an attribute that is kept, and of all names of a file together; lists of capabilities and of
/// access control are shorter.
const LONGEST_VALUE: usize = 4096;
/// A directory entry: its header, a name of 255 bytes with a NUL, and what fills it up to whole words.
const ENTRY: usize = 280;

/// Copies the content of the directory `from` into the empty directory `to`, and what `from` itself is. Child-safe.
pub(super) fn copy_up(from: RawFd, to: RawFd) -> Result<(), Errno> {
    let mut levels = [(-1, -1); MOST_LEVELS];
    let mut depth = 0;
    let begun = begin(from, to, &mut levels, &mut depth);
    let outcome = begun.and_then(|()| walk(&mut levels, &mut depth));
    for (from, to) in levels.into_iter().take(depth) {
        shut(from);
        shut(to);
    }
    outcome
}

fn begin(from: RawFd, to: RawFd, levels: &mut [(RawFd, RawFd)], depth: &mut usize) -> Result<(), Errno> {
    // Descriptors of its own: those given are places only.
    push(open(from, c".", DIRECTORY)?, open(to, c".", DIRECTORY), levels, depth)
}

fn push(from: RawFd, to: Result<RawFd, Errno>, levels: &mut [(RawFd, RawFd)], depth: &mut usize) -> Result<(), Errno> {
    let to = match to {
        Ok(to) => to,
        Err(errno) => {
            shut(from);
            return Err(errno);
        }
    };
    match levels.get_mut(*depth) {
        Some(level) => {
            *level = (from, to);
            *depth += 1;
            Ok(())
        }
        None => {
            shut(from);
            shut(to);
            Err(Errno(libc::ELOOP))
        }
    }
}

fn walk(levels: &mut [(RawFd, RawFd)], depth: &mut usize) -> Result<(), Errno> {
    while let Some(&(from, to)) = depth.checked_sub(1).and_then(|last| levels.get(last)) {
        let mut buffer = [0_u8; ENTRY];
        let Some(name) = next_name(from, &mut buffer)? else {
            // Its content is there: now its own times can be.
            let described = statx(from).and_then(|stat| describe(from, to, &stat));
            *depth -= 1;
            shut(from);
            shut(to);
            described?;
            continue;
        };
        if name == c"." || name == c".." {
            continue;
        }
        if let Some((below, copy)) = copy_entry(from, to, name)? {
            push(below, Ok(copy), levels, depth)?;
        }
    }
    Ok(())
}

/// Copies one entry; a directory is made, and its content left to the walk.
fn copy_entry(from: RawFd, to: RawFd, name: &CStr) -> Result<Option<(RawFd, RawFd)>, Errno> {
    let place = match open(from, name, libc::O_PATH | libc::O_NOFOLLOW) {
        Ok(place) => place,
        // Gone meanwhile.
        Err(Errno(libc::ENOENT)) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let stat = statx(place);
    shut(place);
    let stat = stat?;
    match stat.mode & libc::S_IFMT {
        libc::S_IFDIR => {
            mkdirat(to, name, 0o700)?;
            let below = open(from, name, DIRECTORY)?;
            match open(to, name, DIRECTORY) {
                Ok(copy) => Ok(Some((below, copy))),
                Err(errno) => {
                    shut(below);
                    Err(errno)
                }
            }
        }
        libc::S_IFREG => copy_file(from, to, name).map(|()| None),
        libc::S_IFLNK => {
            let mut target = [0_u8; LONGEST_LINK];
            symlinkat(read_link(from, name, &mut target)?, to, name)?;
            fchownat(to, name, stat.uid, stat.gid)?;
            set_times(to, name, &stat).map(|()| None)
        }
        libc::S_IFIFO | libc::S_IFSOCK => {
            mknodat(to, name, stat.mode & (libc::S_IFMT | 0o777), (0, 0))?;
            fchownat(to, name, stat.uid, stat.gid)?;
            set_times(to, name, &stat).map(|()| None)
        }
        _ => Ok(None),
    }
}

const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

fn copy_file(from: RawFd, to: RawFd, name: &CStr) -> Result<(), Errno> {
    let source = open(from, name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    let copy = match open(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW) {
        Ok(copy) => copy,
        Err(errno) => {
            shut(source);
            return Err(errno);
        }
    };
    let stat = statx(source);
    let done = stat.and_then(|stat| {
        // Exchanged for something else since it was looked at.
        if !stat.is(libc::S_IFREG) {
            return Err(Errno(libc::EAGAIN));
        }
        copy_data(source, copy, stat.size)?;
        describe(source, copy, &stat)
    });
    shut(source);
    shut(copy);
    done
}

/// What is data, at its place; what is a hole stays one.
fn copy_data(from: RawFd, to: RawFd, size: u64) -> Result<(), Errno> {
    call(libc::SYS_ftruncate, [to as usize, size as usize, 0, 0, 0, 0])?;
    let mut at = 0;
    while at < size {
        let data = match seek(from, at, libc::SEEK_DATA) {
            Ok(data) => data,
            // Nothing but a hole from here on.
            Err(Errno(libc::ENXIO)) => return Ok(()),
            // A file system that does not know holes.
            Err(Errno(libc::EINVAL)) => at,
            Err(errno) => return Err(errno),
        };
        let end = seek(from, data, libc::SEEK_HOLE).unwrap_or(size).min(size);
        seek(to, data, libc::SEEK_SET)?;
        let mut offset = data as i64;
        while (offset as u64) < end {
            let left = (end - offset as u64).min(1 << 30) as usize;
            // The kernel moves the offset as it copies.
            let args = [to as usize, from as usize, std::ptr::from_mut(&mut offset) as usize, left, 0, 0];
            match call(libc::SYS_sendfile, args) {
                // It was made shorter meanwhile.
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        }
        at = end.max(at + 1);
    }
    Ok(())
}

/// Owner, attributes, mode and times: a change of owner clears set-user-id bits and capabilities, so it comes first.
fn describe(from: RawFd, to: RawFd, stat: &Stat) -> Result<(), Errno> {
    call(libc::SYS_fchown, [to as usize, stat.uid as usize, stat.gid as usize, 0, 0, 0])?;
    copy_attributes(from, to)?;
    call(libc::SYS_fchmod, [to as usize, (stat.mode & 0o7777) as usize, 0, 0, 0, 0])?;
    set_times(to, c"", stat)
}

fn copy_attributes(from: RawFd, to: RawFd) -> Result<(), Errno> {
    let mut names = [0_u8; LONGEST_VALUE];
    let listed = call(libc::SYS_flistxattr, [from as usize, names.as_mut_ptr() as usize, names.len(), 0, 0, 0]);
    let length = match listed {
        Ok(length) => length,
        Err(Errno(libc::EOPNOTSUPP)) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut rest = names.get(..length).unwrap_or_default();
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        rest = rest.get(name.count_bytes() + 1..).unwrap_or_default();
        let mut value = [0_u8; LONGEST_VALUE];
        let args = [from as usize, name.as_ptr() as usize, value.as_mut_ptr() as usize, value.len(), 0, 0];
        let size = match call(libc::SYS_fgetxattr, args) {
            Ok(size) => size,
            // Gone meanwhile, or not for the child to see.
            Err(Errno(libc::ENODATA | libc::EPERM | libc::EOPNOTSUPP)) => continue,
            Err(errno) => return Err(errno),
        };
        let args = [to as usize, name.as_ptr() as usize, value.as_ptr() as usize, size, 0, 0];
        match call(libc::SYS_fsetxattr, args) {
            Ok(_) | Err(Errno(libc::EOPNOTSUPP | libc::EPERM)) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The name after the one that was read last, or none.
fn next_name(dir: RawFd, buffer: &mut [u8; ENTRY]) -> Result<Option<&CStr>, Errno> {
    // Room for one entry with the longest name; of several short ones the first is taken, and the rest read again.
    let args = [dir as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    let length = call(libc::SYS_getdents64, args)?;
    if length == 0 {
        return Ok(None);
    }
    // struct linux_dirent64: inode, offset of the next entry, length, kind, name.
    let offset = buffer.get(8..16).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_ne_bytes);
    call(libc::SYS_lseek, [dir as usize, offset as usize, libc::SEEK_SET as usize, 0, 0, 0])?;
    let name = buffer.get(19..length).unwrap_or_default();
    CStr::from_bytes_until_nul(name).map(Some).map_err(|_| Errno(libc::EIO))
}

fn read_link<'a>(dir: RawFd, name: &CStr, buffer: &'a mut [u8; LONGEST_LINK]) -> Result<&'a CStr, Errno> {
    let room = buffer.len() - 1;
    let args = [dir as usize, name.as_ptr() as usize, buffer.as_mut_ptr() as usize, room, 0, 0];
    let length = call(libc::SYS_readlinkat, args)?;
    // The array began as zeros, and the last byte of it still is one.
    let text = buffer.get(..length + 1).unwrap_or_default();
    CStr::from_bytes_until_nul(text).map_err(|_| Errno(libc::ENAMETOOLONG))
}

fn set_times(at: RawFd, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let times = [stat.accessed, stat.modified]
        .map(|(seconds, nanoseconds)| libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() });
    let flags = libc::AT_SYMLINK_NOFOLLOW as usize;
    // Without a name, a null pointer: the descriptor itself.
    let path = if name.is_empty() { 0 } else { name.as_ptr() as usize };
    let flags = if name.is_empty() { 0 } else { flags };
    call(libc::SYS_utimensat, [at as usize, path, times.as_ptr() as usize, flags, 0, 0]).map(drop)
}

fn open(dir: RawFd, name: &CStr, flags: i32) -> Result<RawFd, Errno> {
    let flags = (flags | libc::O_CLOEXEC) as usize;
    call(libc::SYS_openat, [dir as usize, name.as_ptr() as usize, flags, 0o600, 0, 0]).map(|fd| fd as RawFd)
}

fn seek(fd: RawFd, offset: u64, whence: i32) -> Result<u64, Errno> {
    call(libc::SYS_lseek, [fd as usize, offset as usize, whence as usize, 0, 0, 0]).map(|at| at as u64)
}

fn call(number: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: every caller in this file passes descriptors, numbers, C strings, and arrays of its own with their lengths.
    unsafe { syscall(number, args) }
}
