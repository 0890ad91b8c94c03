//! Opening each namespace once, to learn who owns it and what is above it.
//!
//! What is opened here was named by words, some time ago, in files that others have a hand in. So nothing is used before
//! it was seen to be of nsfs and of the inode number that the words said; and nothing that could be a device or a pipe is
//! opened for reading before that.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use cellkit_core::sys::{NSFS_MAGIC, OpenHow, fs_magic, open_in};
use cellkit_core::{Errno, Error, ProcFd};

use super::info::{FirstProcess, NamespaceInfo, NamespaceList, PinnedTo, ThreadIn};
use super::scan::{DIRECTORY, Failed, Path, Pin, Seen, Sighting, digits, open_below};
use super::text;
use super::{ListOptions, NAMES};
use crate::namespaces::KINDS;
use crate::{Namespaces, NsId, sys};

/// More of a command line than anybody wants to see in a list.
const COMMAND_LIMIT: u64 = 4096;
/// Bounds what an absurd mount table can make us hold.
const MOUNTINFO_LIMIT: u64 = 16 << 20;

/// Turns what was seen into what the caller gets.
pub(super) fn relate(proc: &ProcFd, options: &ListOptions, mut seen: Seen) -> Result<NamespaceList, Failed> {
    if options.pins {
        find_mounts(proc, options, &mut seen)?;
    }
    let mut relations = Relations { seen, facts: HashMap::new(), dev: 0 };
    let mut opener = Opener { proc, process: None };
    // What is found meanwhile has been asked when it was found.
    for at in 0..relations.seen.sightings.len() {
        let Some(sighting) = relations.seen.sightings.get(at) else { break };
        let (kind, inode) = (sighting.kind, sighting.inode);
        let (fd, first) = match opener.open(sighting)? {
            Opened::Now(fd, first) => (Some(fd), first),
            Opened::Refused => (None, None),
            // All that kept it is gone, and so is it.
            Opened::Gone => continue,
        };
        let facts = match fd {
            Some(fd) => relations.ask(kind, fd.as_fd())?,
            None => Facts::default(),
        };
        relations.facts.insert(inode, Facts { first, ..facts });
    }
    Ok(relations.finish())
}

/// Adds the mounts of nsfs in every mount namespace that a task is in.
fn find_mounts(proc: &ProcFd, options: &ListOptions, seen: &mut Seen) -> Result<(), Failed> {
    let mut pins = Vec::new();
    for sighting in seen.sightings.iter().filter(|sighting| sighting.kind == Namespaces::MOUNT) {
        let tasks = sighting.processes.iter().copied().chain(sighting.threads.iter().map(|thread| thread.tid));
        for pid in tasks {
            let Some(process) = Failed::or_nothing(Process::open(proc, pid))? else { continue };
            // It may have moved to another mount namespace since it was seen.
            let Some(table) = Failed::or_nothing(process.read(c"mountinfo", MOUNTINFO_LIMIT))? else { continue };
            if Failed::or_nothing(process.inode(Namespaces::MOUNT))?.flatten() != Some(sighting.inode) {
                continue;
            }
            pins.extend(text::nsfs_mounts(&table).map(|mount| (sighting.inode, pid, mount)));
            break;
        }
    }
    for (mount_namespace, pid, mount) in pins {
        if !options.kinds.contains(mount.kind) {
            continue;
        }
        if let Some(sighting) = seen.entry(mount.kind, mount.inode) {
            sighting.pins.push(Pin { mount_namespace, pid, path: mount.path });
        }
    }
    Ok(())
}

/// What opening a namespace told.
#[derive(Debug, Default)]
struct Facts {
    owner: Option<u64>,
    parent: Option<u64>,
    owner_uid: Option<u32>,
    first: Option<FirstProcess>,
}

struct Relations {
    seen: Seen,
    facts: HashMap<u64, Facts>,
    /// The device of nsfs, the same for all.
    dev: u64,
}

impl Relations {
    fn ask(&mut self, kind: Namespaces, fd: BorrowedFd<'_>) -> Result<Facts, Failed> {
        let may = |call, answer: Result<OwnedFd, Errno>| Failed::or_nothing(answer.map_err(Failed::at(call)));
        let owner = may("ioctl NS_GET_USERNS", sys::nsfs::owner(fd))?;
        let owner = owner.map(|owner| self.meet(Namespaces::USER, owner)).transpose()?;
        let parent = match kind {
            Namespaces::PID => {
                let parent = may("ioctl NS_GET_PARENT", sys::nsfs::parent(fd))?;
                parent.map(|parent| self.meet(kind, parent)).transpose()?
            }
            Namespaces::USER => owner,
            _ => None,
        };
        let owner_uid = match kind {
            Namespaces::USER => {
                Failed::or_nothing(sys::nsfs::owner_uid(fd).map_err(Failed::at("ioctl NS_GET_OWNER_UID")))?
            }
            _ => None,
        };
        Ok(Facts { owner, parent, owner_uid, first: None })
    }

    /// Takes note of somebody's owner or parent, and asks it too if it was not seen before. The kernel nests no deeper than
    /// 32, and so does this.
    fn meet(&mut self, kind: Namespaces, fd: OwnedFd) -> Result<u64, Failed> {
        let (dev, inode) = sys::file_id(fd.as_fd()).map_err(Failed::at("fstat"))?;
        self.dev = dev;
        if !self.seen.has(inode) {
            self.seen.entry(kind, inode);
            let facts = self.ask(kind, fd.as_fd())?;
            self.facts.insert(inode, facts);
        }
        Ok(inode)
    }

    fn finish(self) -> NamespaceList {
        let Self { seen, mut facts, dev } = self;
        let id = |inode| NsId::new(dev, inode);
        let mut namespaces: Vec<NamespaceInfo> = seen
            .sightings
            .into_iter()
            .filter_map(|sighting| {
                let Facts { owner, parent, owner_uid, first } = facts.remove(&sighting.inode)?;
                let Sighting { kind, inode, processes, threads, fds, pins } = sighting;
                let pins = pins.into_iter().map(|Pin { mount_namespace, pid, path }| PinnedTo {
                    mount_namespace: id(mount_namespace),
                    pid,
                    path,
                });
                let mut pins: Vec<PinnedTo> = pins.collect();
                pins.sort_unstable();
                Some(NamespaceInfo {
                    kind,
                    id: id(inode),
                    owner: owner.map(id),
                    parent: parent.map(id),
                    owner_uid,
                    processes,
                    first,
                    threads,
                    fds,
                    pins,
                })
            })
            .collect();
        namespaces.sort_unstable_by_key(|namespace| namespace.id.inode());
        NamespaceList { namespaces, unreadable: seen.unreadable }
    }
}

enum Opened {
    Now(OwnedFd, Option<FirstProcess>),
    /// Something keeps it that the caller may not use.
    Refused,
    Gone,
}

struct Opener<'a> {
    proc: &'a ProcFd,
    /// The last one looked at: most often the next namespace is its too.
    process: Option<(Process, Option<FirstProcess>)>,
}

impl Opener<'_> {
    /// Opens the namespace by whatever keeps it.
    fn open(&mut self, sighting: &Sighting) -> Result<Opened, Failed> {
        // A mount that was seen keeps it, even where something else is mounted over that.
        let mut refused = !sighting.pins.is_empty();
        for &pid in &sighting.processes {
            match self.by_process(sighting, pid) {
                Ok((fd, first)) => return Ok(Opened::Now(fd, first)),
                Err(failed) if failed.is_want() => return Err(failed),
                Err(failed) => refused |= !failed.is_gone(),
            }
        }
        let by_thread = |thread: &ThreadIn| Process::open(self.proc, thread.tid)?.namespace(sighting);
        let attempts = (sighting.threads.iter().map(by_thread))
            .chain(sighting.fds.iter().map(|open| self.by_fd(sighting, open.pid, open.fd)))
            .chain(sighting.pins.iter().map(|pin| self.by_mount(sighting, pin)));
        for attempt in attempts {
            match attempt {
                Ok(fd) => return Ok(Opened::Now(fd, None)),
                Err(failed) if failed.is_want() => return Err(failed),
                Err(failed) => refused |= !failed.is_gone(),
            }
        }
        Ok(if refused { Opened::Refused } else { Opened::Gone })
    }

    fn by_process(&mut self, sighting: &Sighting, pid: i32) -> Result<(OwnedFd, Option<FirstProcess>), Failed> {
        if self.process.as_ref().is_none_or(|(process, _)| process.pid != pid) {
            let process = Process::open(self.proc, pid)?;
            let first = Failed::or_nothing(process.first())?;
            self.process = Some((process, first));
        }
        let (process, first) = self.process.as_ref().ok_or(Failed { call: "openat2", errno: Errno(libc::ESRCH) })?;
        Ok((process.namespace(sighting)?, first.clone()))
    }

    fn by_fd(&self, sighting: &Sighting, pid: i32, fd: i32) -> Result<OwnedFd, Failed> {
        let process = Process::open(self.proc, pid)?;
        let dir = open_below(process.dir.as_fd(), c"fd", DIRECTORY)?;
        // The magic link leads to whatever the process has opened.
        let how = OpenHow { flags: (libc::O_PATH | libc::O_CLOEXEC) as u64, mode: 0, resolve: 0 };
        let found = open(dir.as_fd(), Path::default().set(&[digits(fd, &mut [0; 12])]), &how)?;
        self.reopen(found, sighting.inode)
    }

    fn by_mount(&self, sighting: &Sighting, pin: &Pin) -> Result<OwnedFd, Failed> {
        let process = Process::open(self.proc, pin.pid)?;
        let how = OpenHow { flags: (DIRECTORY | libc::O_CLOEXEC) as u64, mode: 0, resolve: 0 };
        let root = open(process.dir.as_fd(), c"root", &how)?;
        let path = CString::new(pin.path.as_os_str().as_bytes())
            .map_err(|_| Failed { call: "openat2", errno: Errno(libc::ENOENT) })?;
        let how = OpenHow {
            flags: (libc::O_PATH | libc::O_CLOEXEC) as u64,
            mode: 0,
            resolve: libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
        };
        self.reopen(open(root.as_fd(), &path, &how)?, sighting.inode)
    }

    /// Opens for ioctl what was opened as a path, and seen to be the namespace.
    fn reopen(&self, path: OwnedFd, inode: u64) -> Result<OwnedFd, Failed> {
        verify(path.as_fd(), inode)?;
        let errno = |error: Error| Errno(error.raw_os_error().unwrap_or(libc::ENOENT));
        let own = self.proc.this_thread().map_err(errno).map_err(Failed::at("openat2"))?;
        let dir = open_below(own.as_fd(), c"fd", DIRECTORY)?;
        open(dir.as_fd(), Path::default().set(&[digits(path.as_raw_fd(), &mut [0; 12])]), &READ)
    }
}

const READ: OpenHow = OpenHow {
    flags: (libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC) as u64,
    mode: 0,
    resolve: 0,
};

fn open(dir: BorrowedFd<'_>, path: &CStr, how: &OpenHow) -> Result<OwnedFd, Failed> {
    open_in(dir, path, how).map_err(Failed::at("openat2"))
}

/// ENOENT when it is something else than the namespace of this inode number.
fn verify(fd: BorrowedFd<'_>, inode: u64) -> Result<(), Failed> {
    let magic = fs_magic(fd.as_raw_fd()).map_err(Failed::at("fstatfs"))?;
    let (_, found) = sys::file_id(fd).map_err(Failed::at("fstat"))?;
    let is_it = (magic, found) == (NSFS_MAGIC, inode);
    if is_it { Ok(()) } else { Err(Failed { call: "fstatfs", errno: Errno(libc::ENOENT) }) }
}

/// Two handles on one process, which never mean another one that got its number.
struct Process {
    pid: i32,
    dir: OwnedFd,
    ns: OwnedFd,
}

impl Process {
    fn open(proc: &ProcFd, pid: i32) -> Result<Self, Failed> {
        let dir = open_below(proc.as_fd(), Path::default().set(&[digits(pid, &mut [0; 12])]), DIRECTORY)?;
        let ns = open_below(dir.as_fd(), c"ns", DIRECTORY)?;
        Ok(Self { pid, dir, ns })
    }

    /// The namespace, if this process is still in it.
    fn namespace(&self, sighting: &Sighting) -> Result<OwnedFd, Failed> {
        let fd = open(self.ns.as_fd(), name(sighting.kind), &READ)?;
        verify(fd.as_fd(), sighting.inode)?;
        Ok(fd)
    }

    fn inode(&self, kind: Namespaces) -> Result<Option<u64>, Failed> {
        let mut buffer = [0; 64];
        let link = sys::look::read_link(self.ns.as_fd(), name(kind), &mut buffer).map_err(Failed::at("readlinkat"))?;
        Ok(text::link(link).map(|(_, inode)| inode))
    }

    fn first(&self) -> Result<FirstProcess, Failed> {
        let uid = sys::owner(self.dir.as_fd()).map_err(Failed::at("fstat"))?;
        let command = match text::command_line(&self.read(c"cmdline", COMMAND_LIMIT)?) {
            Some(command) => command,
            None => text::bracketed(&self.read(c"comm", COMMAND_LIMIT)?),
        };
        Ok(FirstProcess { pid: self.pid, uid, command })
    }

    fn read(&self, file: &CStr, limit: u64) -> Result<Vec<u8>, Failed> {
        let file = File::from(open_below(self.dir.as_fd(), file, libc::O_RDONLY | libc::O_NOCTTY)?);
        let mut content = Vec::with_capacity(limit.min(4096) as usize);
        let read = file.take(limit).read_to_end(&mut content);
        let errno = |error: std::io::Error| Errno(error.raw_os_error().unwrap_or(libc::EIO));
        read.map_err(errno).map_err(Failed::at("read"))?;
        Ok(content)
    }
}

/// The link of this kind in a directory `ns`.
fn name(kind: Namespaces) -> &'static CStr {
    KINDS.iter().zip(NAMES).find(|((known, _), _)| *known == kind).map_or(c"", |(_, name)| name)
}
