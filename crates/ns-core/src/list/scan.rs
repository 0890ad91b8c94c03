//! The pass over all processes: which namespaces there are, and who is in each.
//!
//! It is the part that costs: eight links for each process. So each process's `ns` directory is opened once, verified, and
//! its links are read from there, without opening what they lead to; the work is split among a few threads; paths are
//! put together on the stack; and what the neighbour was in is looked up first.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use cellkit_core::sys::{OpenHow, open_in};
use cellkit_core::{Errno, Error, ProcFd, Result};

use super::info::{OpenFd, ThreadIn};
use super::text;
use super::{ListOptions, NAMES};
use crate::namespaces::KINDS;
use crate::{Namespaces, sys};

/// A system call that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) call: &'static str,
    pub(super) errno: Errno,
}

impl Failed {
    pub(super) fn at(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { call, errno }
    }

    /// The caller lacks something itself: what is not seen for that may be there all the same, and the list would be wrong.
    pub(super) fn is_want(self) -> bool {
        matches!(self.errno.0, libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    }

    pub(super) fn is_gone(self) -> bool {
        matches!(self.errno.0, libc::ENOENT | libc::ESRCH)
    }

    /// What failed for want of something fails as a whole; anything else is nothing to see.
    pub(super) fn or_nothing<T>(answer: Result<T, Self>) -> Result<Option<T>, Self> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(failed) if failed.is_want() => Err(failed),
            Err(_) => Ok(None),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::from_errno(failed.call, failed.errno.0).on(PathBuf::from("/proc"))
    }
}

/// One namespace, as far as procfs shows it in words.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) kind: Namespaces,
    pub(super) inode: u64,
    pub(super) processes: Vec<i32>,
    pub(super) threads: Vec<ThreadIn>,
    pub(super) fds: Vec<OpenFd>,
    pub(super) pins: Vec<Pin>,
}

/// A mount of nsfs in the mount namespace of this number, of which `pid` is a process.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) mount_namespace: u64,
    pub(super) pid: i32,
    pub(super) path: PathBuf,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) sightings: Vec<Sighting>,
    by_inode: HashMap<u64, usize>,
    pub(super) unreadable: Vec<i32>,
    want: Option<Failed>,
}

impl Seen {
    pub(super) fn has(&self, inode: u64) -> bool {
        self.by_inode.contains_key(&inode)
    }

    /// The entry of a namespace, made if it is new. Inode numbers of nsfs are unique over all kinds.
    pub(super) fn entry(&mut self, kind: Namespaces, inode: u64) -> Option<&mut Sighting> {
        let next = self.sightings.len();
        let at = *self.by_inode.entry(inode).or_insert(next);
        if at == next {
            let (processes, threads, fds, pins) = Default::default();
            self.sightings.push(Sighting { kind, inode, processes, threads, fds, pins });
        }
        self.sightings.get_mut(at)
    }

    fn absorb(&mut self, other: Self) {
        for sighting in other.sightings {
            if let Some(own) = self.entry(sighting.kind, sighting.inode) {
                own.processes.extend(sighting.processes);
                own.threads.extend(sighting.threads);
                own.fds.extend(sighting.fds);
            }
        }
        self.unreadable.extend(other.unreadable);
        self.want = self.want.or(other.want);
    }
}

/// Looks at every process.
pub(super) fn scan(proc: &ProcFd, options: &ListOptions) -> Result<Seen> {
    let pids = all_pids(proc)?;
    let workers = sys::look::processors().min(MOST_WORKERS).min(pids.len() / WORTH_A_THREAD).max(1);
    let (first, others) = pids.split_at(pids.len().div_ceil(workers));
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        let mut parts = Vec::new();
        for part in others.chunks(first.len().max(1)) {
            let started = std::thread::Builder::new()
                .name("ns-core list".into())
                .spawn_scoped(scope, move || Worker::new(proc, options).look_at(part));
            match started {
                Ok(worker) => parts.push(worker),
                // No thread to be had: the work is done all the same.
                Err(_) => seen.absorb(Worker::new(proc, options).look_at(part)),
            }
        }
        seen.absorb(Worker::new(proc, options).look_at(first));
        for part in parts {
            // A worker does not panic.
            seen.absorb(part.join().unwrap_or_default());
        }
    });
    if let Some(failed) = seen.want {
        return Err(failed.into());
    }
    for sighting in &mut seen.sightings {
        sighting.processes.sort_unstable();
        sighting.threads.sort_unstable();
        sighting.fds.sort_unstable();
    }
    seen.unreadable.sort_unstable();
    seen.unreadable.dedup();
    Ok(seen)
}

/// More than these would wait for each other in the kernel.
const MOST_WORKERS: usize = 4;
/// A thread costs about as much as it takes to look at so many processes.
const WORTH_A_THREAD: usize = 64;

fn all_pids(proc: &ProcFd) -> Result<Vec<i32>> {
    let dir = proc.open_file(".".as_ref(), libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut pids = Vec::new();
    each_name(dir.as_fd(), &mut vec![0; 64 << 10], |name| pids.extend(text::pid(name)))?;
    Ok(pids)
}

fn each_name(dir: BorrowedFd<'_>, buffer: &mut [u8], mut each: impl FnMut(&[u8])) -> Result<(), Failed> {
    loop {
        match sys::look::directory_records(dir, buffer).map_err(Failed::at("getdents64"))? {
            [] => return Ok(()),
            records => text::names(records).for_each(&mut each),
        }
    }
}

/// Opens below procfs, refusing links and anything that is mounted there, as `ProcFd` does.
pub(super) fn open_below(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Failed> {
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: libc::RESOLVE_BENEATH
            | libc::RESOLVE_NO_XDEV
            | libc::RESOLVE_NO_MAGICLINKS
            | libc::RESOLVE_NO_SYMLINKS,
    };
    open_in(dir, path, &how).map_err(Failed::at("openat2"))
}

pub(super) const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// The namespaces of one task, a place for each kind; 0 is none.
type Inodes = [u64; KINDS.len()];

struct Worker<'a> {
    proc: &'a ProcFd,
    options: &'a ListOptions,
    seen: Seen,
    /// For each kind, what the last process was in, and where that is in `seen`.
    last: [(u64, usize); KINDS.len()],
    records: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(proc: &'a ProcFd, options: &'a ListOptions) -> Self {
        Self { proc, options, seen: Seen::default(), last: Default::default(), records: vec![0; 16 << 10] }
    }

    fn look_at(mut self, pids: &[i32]) -> Seen {
        for &pid in pids {
            match self.process(pid) {
                Ok(()) => {}
                Err(failed) if failed.is_want() => {
                    self.seen.want = Some(failed);
                    break;
                }
                // It has died meanwhile, or such a file is not here: there is nothing to see.
                Err(failed) if failed.is_gone() => {}
                Err(_) => self.seen.unreadable.push(pid),
            }
        }
        self.seen
    }

    fn process(&mut self, pid: i32) -> Result<(), Failed> {
        let mut path = Path::default();
        let inodes = self.task(path.set(&[b"", digits(pid, &mut [0; 12]), b"/ns"]))?;
        for (place, (&inode, (kind, _))) in inodes.iter().zip(KINDS).enumerate() {
            if inode != 0 {
                self.add_process(place, kind, inode, pid);
            }
        }
        if self.options.threads {
            self.threads(pid, &inodes)?;
        }
        if self.options.fds {
            self.fds(pid)?;
        }
        Ok(())
    }

    fn add_process(&mut self, place: usize, kind: Namespaces, inode: u64, pid: i32) {
        let Some(last) = self.last.get_mut(place) else { return };
        if last.0 != inode {
            if self.seen.entry(kind, inode).is_none() {
                return;
            }
            *last = (inode, self.seen.by_inode.get(&inode).copied().unwrap_or_default());
        }
        if let Some(sighting) = self.seen.sightings.get_mut(last.1) {
            sighting.processes.push(pid);
        }
    }

    /// The namespaces of the task whose `ns` directory this is.
    fn task(&self, ns: &CStr) -> Result<Inodes, Failed> {
        let dir = open_below(self.proc.as_fd(), ns, DIRECTORY)?;
        let mut inodes = Inodes::default();
        for ((place, name), (kind, _)) in inodes.iter_mut().zip(NAMES).zip(KINDS) {
            if !self.options.kinds.contains(kind) {
                continue;
            }
            match sys::look::read_link(dir.as_fd(), name, &mut [0; 64]) {
                Ok(link) => {
                    *place = text::link(link).filter(|(shown, _)| *shown == kind).map_or(0, |(_, inode)| inode);
                }
                // A zombie has given most of its namespaces back; an older kernel lacks a kind.
                Err(Errno(libc::ENOENT)) => {}
                Err(errno) => return Err(Failed::at("readlinkat")(errno)),
            }
        }
        Ok(inodes)
    }

    fn threads(&mut self, pid: i32, of_process: &Inodes) -> Result<(), Failed> {
        let (mut path, mut pid_digits, mut tid_digits) = (Path::default(), [0; 12], [0; 12]);
        let pid_digits = digits(pid, &mut pid_digits);
        let task = open_below(self.proc.as_fd(), path.set(&[pid_digits, b"/task"]), libc::O_DIRECTORY)?;
        let mut tids = Vec::new();
        each_name(task.as_fd(), &mut self.records, |name| tids.extend(text::pid(name).filter(|tid| *tid != pid)))?;
        for tid in tids {
            let ns = path.set(&[pid_digits, b"/task/", digits(tid, &mut tid_digits), b"/ns"]);
            let inodes = match self.task(ns) {
                Ok(inodes) => inodes,
                Err(failed) if failed.is_gone() => continue,
                Err(failed) => return Err(failed),
            };
            for ((&inode, &its_process), (kind, _)) in inodes.iter().zip(of_process).zip(KINDS) {
                if inode != 0 && inode != its_process {
                    if let Some(sighting) = self.seen.entry(kind, inode) {
                        sighting.threads.push(ThreadIn { pid, tid });
                    }
                }
            }
        }
        Ok(())
    }

    fn fds(&mut self, pid: i32) -> Result<(), Failed> {
        let mut path = Path::default();
        let dir = open_below(self.proc.as_fd(), path.set(&[digits(pid, &mut [0; 12]), b"/fd"]), libc::O_DIRECTORY)?;
        let (kinds, seen, mut name_path) = (self.options.kinds, &mut self.seen, Path::default());
        let mut want = None;
        each_name(dir.as_fd(), &mut self.records, |name| {
            let Some(fd) = text::decimal(name).and_then(|number| i32::try_from(number).ok()) else { return };
            let mut buffer = [0; 64];
            // What was closed meanwhile is not there any more.
            let link = match sys::look::read_link(dir.as_fd(), name_path.set(&[name]), &mut buffer) {
                Ok(link) => link,
                Err(errno) => {
                    let failed = Failed::at("readlinkat")(errno);
                    want = want.or(failed.is_want().then_some(failed));
                    return;
                }
            };
            let Some((kind, inode)) = text::link(link).filter(|(kind, _)| kinds.contains(*kind)) else { return };
            if let Some(sighting) = seen.entry(kind, inode) {
                sighting.fds.push(OpenFd { pid, fd });
            }
        })?;
        want.map_or(Ok(()), Err)
    }
}

/// A short path for one system call, put together without allocating.
pub(super) struct Path([u8; 48]);

impl Default for Path {
    fn default() -> Self {
        Self([0; 48])
    }
}

impl Path {
    /// The parts one after the other. What does not fit is the empty path, which is ENOENT.
    pub(super) fn set(&mut self, parts: &[&[u8]]) -> &CStr {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length < self.0.len() {
            for (place, byte) in self.0.iter_mut().zip(parts.iter().flat_map(|part| *part).chain([&0])) {
                *place = *byte;
            }
            if let Some(Ok(path)) = self.0.get(..=length).map(CStr::from_bytes_with_nul) {
                return path;
            }
        }
        c""
    }
}

/// A process's number as text.
pub(super) fn digits(number: i32, buffer: &mut [u8; 12]) -> &[u8] {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    // Twelve places are enough for every number of 32 bits.
    let _ = write!(rest, "{number}");
    let left = rest.len();
    buffer.get(..12 - left).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_numbers() {
        let mut buffer = [0; 12];
        for number in [1, 42, i32::MAX, i32::MIN] {
            assert_eq!(digits(number, &mut buffer), number.to_string().as_bytes());
        }
        let mut path = Path::default();
        assert_eq!(path.set(&[b"12345", b"/task/", b"6"]), c"12345/task/6");
        assert_eq!(path.set(&[b"1", b"/ns"]), c"1/ns", "nothing of the path before");
        assert_eq!((path.set(&[&[b'x'; 47]]).count_bytes(), path.set(&[&[b'x'; 48]])), (47, c""));
        assert_eq!(path.set(&[b"a\0b"]), c"");
    }
}
