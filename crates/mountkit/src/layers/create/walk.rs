//! The way through a directory that is to become a layer.
//!
//! Each directory is a level with its names, sorted, and a descriptor by which the names are opened. However deep it goes,
//! only so many descriptors are open: those of the highest levels are closed first, and found again by `..` on the way
//! back. `..` of what was moved meanwhile leads elsewhere, so what is found must have the inode that it had.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cellkit_core::{Errno, Error, Result};

use super::attributes::{self, Marks};
use super::header::{Entry, Kind, Time, padding};
use super::output::Output;
use super::owner::Back;
use super::sparse::{self, Segment};
use super::{Create, Created, Holes, LeftOut};
use crate::RootFd;
use crate::hint::HINTS;
use crate::layers::whiteout::Marker;
use crate::sys::upper::{self, Attribute};
use crate::sys::{self, Stat};

/// How many directories within each other are one too many.
const DEEPEST: usize = 4096;
/// How many of their descriptors are open at once.
const OPEN: usize = 64;
/// How much of what is left out is told by name, and by no longer one.
const TOLD: usize = 1000;
const LONGEST_TOLD: usize = 4096;
/// How many bytes the paths may have that are kept of files with several names.
const MOST_OF_LINKS: usize = 256 << 20;
const OPAQUE: &[u8] = b".wh..wh..opq";

type Inode = ((u32, u32), u64);

fn inode(stat: &Stat) -> Inode {
    (stat.device, stat.inode)
}

/// A directory on the way from the root to where the walk is.
struct Level {
    fd: Option<Rc<OwnedFd>>,
    inode: Inode,
    /// Of the directory itself within the path, which its names are appended to.
    path_length: usize,
    names: std::vec::IntoIter<CString>,
    has_file_whiteouts: bool,
}

pub(super) struct Walk<'a, W: Write> {
    settings: &'a Create,
    owner: Back,
    out: Output<W>,
    /// Of the current entry, relative to the root.
    path: Vec<u8>,
    levels: Vec<Level>,
    mount: u64,
    /// The first path of each file that has several.
    links: BTreeMap<Inode, Vec<u8>>,
    linked: usize,
    entries: u64,
    bytes: u64,
    left_out: Vec<LeftOut>,
    left_out_count: u64,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Walk<'a, W> {
    pub(super) fn new(settings: &'a Create, owner: Back, out: Output<W>) -> Self {
        Self {
            settings,
            owner,
            out,
            path: Vec::new(),
            levels: Vec::new(),
            mount: 0,
            links: BTreeMap::new(),
            linked: 0,
            entries: 0,
            bytes: 0,
            left_out: Vec::new(),
            left_out_count: 0,
            buffer: vec![0; 256 << 10],
        }
    }

    pub(super) fn all_of(mut self, upper: &RootFd) -> Result<Created> {
        // A root is a place only (O_PATH), which cannot be listed.
        let root =
            upper::open_at(upper.as_fd(), c".", libc::O_DIRECTORY).map_err(|errno| self.fail("openat", errno))?;
        let stat = sys::statx(root.as_raw_fd()).map_err(|errno| self.fail("statx", errno))?;
        self.mount = stat.mount_id;
        self.enter(root, &stat)?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            match level.names.next() {
                Some(name) => self.entry(&name)?,
                None => self.leave()?,
            }
        }
        let sums = self.out.finish().map_err(|error| Error::from_io("write layer", &error))?;
        Ok(Created {
            digest: sums.digest,
            diff_id: sums.diff_id,
            size: sums.size,
            unpacked_size: sums.unpacked_size,
            entries: self.entries,
            left_out: self.left_out,
            left_out_count: self.left_out_count,
        })
    }

    /// The directory at the current path: its entry, and a level for what is in it.
    fn enter(&mut self, dir: OwnedFd, stat: &Stat) -> Result<()> {
        if self.levels.len() > DEEPEST {
            return Err(self.too_much(format!("more than {DEEPEST} directories within each other")));
        }
        let found = upper::attributes(dir.as_fd()).map_err(|errno| self.fail("fgetxattr", errno))?;
        let (attributes, marks) = self.sorted(found)?;
        let name = match self.path.is_empty() {
            true => b"./".to_vec(),
            false => [&self.path, b"/".as_slice()].concat(),
        };
        let entry = self.described(&name, Kind::Directory, stat, &attributes)?;
        self.put(&entry)?;
        if marks.opaque {
            let name = self.child(OPAQUE);
            self.put(&Entry::empty(&name))?;
        }
        let room = usize::try_from(self.settings.most_entries.saturating_sub(self.entries)).unwrap_or(usize::MAX);
        let mut names = upper::names_in(dir.as_fd(), room).map_err(|errno| match errno {
            Errno(libc::E2BIG) => self.too_many_entries(),
            errno => self.fail("getdents64", errno),
        })?;
        names.sort_unstable();
        let far = self.levels.len().checked_sub(OPEN);
        if let Some(level) = far.and_then(|index| self.levels.get_mut(index)) {
            level.fd = None;
        }
        self.levels.push(Level {
            fd: Some(Rc::new(dir)),
            inode: inode(stat),
            path_length: self.path.len(),
            names: names.into_iter(),
            has_file_whiteouts: marks.has_file_whiteouts,
        });
        Ok(())
    }

    /// Back to the directory above, whose descriptor may have been closed.
    fn leave(&mut self) -> Result<()> {
        let Some(left) = self.levels.pop() else { return Ok(()) };
        let Some(above) = self.levels.last_mut().filter(|level| level.fd.is_none()) else { return Ok(()) };
        let (expected, Some(left)) = (above.inode, left.fd) else { return Ok(()) };
        let found = upper::open_at(left.as_fd(), c"..", libc::O_DIRECTORY);
        let found = found.and_then(|fd| sys::statx(fd.as_raw_fd()).map(|stat| (fd, stat)));
        let (fd, stat) = found.map_err(|errno| self.fail("openat", errno))?;
        if inode(&stat) != expected {
            return Err(self.changed("openat"));
        }
        if let Some(above) = self.levels.last_mut() {
            above.fd = Some(Rc::new(fd));
        }
        Ok(())
    }

    /// What `name` in the lowest directory is, into the archive.
    fn entry(&mut self, name: &CStr) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let Some(dir) = level.fd.clone() else { return Ok(()) };
        let whiteouts_are_files = level.has_file_whiteouts;
        self.path = self.child(name.to_bytes());
        if name.to_bytes().starts_with(Marker::PREFIX) {
            let why = "a name that begins with `.wh.` means in a layer that something else is gone";
            return Err(Error::invalid("create layer", why).on(self.shown()));
        }
        let stat = sys::statx_at(dir.as_raw_fd(), name).map_err(|errno| self.fail("statx", errno))?;
        if stat.mount_id != self.mount {
            return Err(Error::invalid("create layer", "another file system is mounted here").on(self.shown()));
        }
        let kind = match stat.file_type() {
            libc::S_IFDIR => {
                let fd = self.open(dir.as_fd(), name, libc::O_DIRECTORY, &stat)?;
                return self.enter(fd, &stat);
            }
            libc::S_IFREG => {
                let file = File::from(self.open(dir.as_fd(), name, 0, &stat)?);
                return self.file(&file, &stat, whiteouts_are_files);
            }
            libc::S_IFCHR if stat.rdev == (0, 0) => return self.whiteout(),
            libc::S_IFLNK => Kind::Symlink,
            libc::S_IFCHR => Kind::CharDevice,
            libc::S_IFBLK => Kind::BlockDevice,
            libc::S_IFIFO => Kind::Fifo,
            libc::S_IFSOCK => {
                self.leave_out(LeftOut::Socket);
                return Ok(());
            }
            _ => return Err(Error::unsupported("statx", "this kind of file", None).on(self.shown())),
        };
        if self.is_linked(&stat)? {
            return Ok(());
        }
        let found = upper::attributes_at(dir.as_fd(), name).map_err(|errno| self.fail("getxattrat", errno))?;
        let (attributes, _) = self.sorted(found)?;
        let link = match kind {
            Kind::Symlink => {
                sys::fs::read_link(dir.as_raw_fd(), name).map_err(|errno| self.fail("readlinkat", errno))?
            }
            _ => Vec::new(),
        };
        let path = self.path.clone();
        let mut entry = self.described(&path, kind, &stat, &attributes)?;
        (entry.link, entry.device) = (&link, stat.rdev);
        self.put(&entry)
    }

    /// Opens what `stat` was told of, and nothing that is in its place now.
    fn open(&self, dir: BorrowedFd<'_>, name: &CStr, flags: i32, stat: &Stat) -> Result<OwnedFd> {
        let fd = upper::open_at(dir, name, flags).map_err(|errno| match errno {
            Errno(libc::ELOOP | libc::ENOTDIR | libc::ENXIO) => self.changed("openat"),
            errno => self.fail("openat", errno),
        })?;
        let found = sys::statx(fd.as_raw_fd()).map_err(|errno| self.fail("statx", errno))?;
        match (inode(&found), found.file_type()) == (inode(stat), stat.file_type()) {
            true => Ok(fd),
            false => Err(self.changed("openat")),
        }
    }

    fn file(&mut self, file: &File, stat: &Stat, whiteouts_are_files: bool) -> Result<()> {
        let found = upper::attributes(file.as_fd()).map_err(|errno| self.fail("fgetxattr", errno))?;
        if whiteouts_are_files && self.marks(&found).whiteout {
            return self.whiteout();
        }
        if self.is_linked(stat)? {
            return Ok(());
        }
        let (attributes, _) = self.sorted(found)?;
        // As large as all of it: there is no need to ask where the holes are.
        let all = stat.blocks.saturating_mul(512) >= stat.size;
        let segments = match (all, stat.size) {
            (_, 0) => Vec::new(),
            (true, length) => vec![Segment { offset: 0, length }],
            (false, size) => sparse::segments(file, size).map_err(|errno| self.fail("lseek", errno))?,
        };
        let has_holes = segments.iter().map(|part| part.length).sum::<u64>() < stat.size;
        let keeps_holes = has_holes && self.settings.holes == Holes::Kept;
        let path = self.path.clone();
        let mut entry = self.described(&path, Kind::File, stat, &attributes)?;
        entry.size = stat.size;
        entry.segments = keeps_holes.then_some(segments.as_slice());
        self.put(&entry)?;

        let mut written = 0;
        for part in &segments {
            if !keeps_holes {
                self.zeros(part.offset - written)?;
            }
            self.content(file, *part)?;
            written = part.offset + part.length;
        }
        let stored = match keeps_holes {
            true => segments.iter().map(|part| part.length).sum(),
            false => {
                self.zeros(stat.size - written)?;
                stat.size
            }
        };
        self.zeros(padding(stored) as u64)?;
        let now = sys::statx(file.as_raw_fd()).map_err(|errno| self.fail("statx", errno))?;
        let seen = |stat: &Stat| (stat.size, stat.modified, stat.changed);
        if seen(&now) == seen(stat) { Ok(()) } else { Err(self.changed("read")) }
    }

    fn content(&mut self, file: &File, part: Segment) -> Result<()> {
        let (mut at, end) = (part.offset, part.offset + part.length);
        while at < end {
            let want = (end - at).min(self.buffer.len() as u64) as usize;
            let place = self.buffer.get_mut(..want).unwrap_or_default();
            let read = match file.read_at(place, at) {
                Ok(0) => return Err(self.changed("read")),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::from_io("read", &error).on(self.shown()).with_hints(&HINTS)),
            };
            let bytes = self.buffer.get(..read).unwrap_or_default();
            self.out.write(bytes).map_err(|error| Error::from_io("write layer", &error))?;
            at += read as u64;
        }
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        self.out.zeros(count).map_err(|error| Error::from_io("write layer", &error))
    }

    /// The current name is gone from what is below.
    fn whiteout(&mut self) -> Result<()> {
        let at = self.path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (dir, name) = self.path.split_at(at);
        let path = [dir, Marker::PREFIX, name].concat();
        self.put(&Entry::empty(&path))
    }

    /// Whether the file is in the archive under another name already, and now under this one too.
    fn is_linked(&mut self, stat: &Stat) -> Result<bool> {
        if stat.links < 2 {
            return Ok(false);
        }
        let Some(first) = self.links.get(&inode(stat)).cloned() else {
            self.linked += self.path.len();
            if self.linked > MOST_OF_LINKS {
                return Err(
                    self.too_much(format!("more than {MOST_OF_LINKS} bytes of paths of files with several names"))
                );
            }
            self.links.insert(inode(stat), self.path.clone());
            return Ok(false);
        };
        let path = self.path.clone();
        let mut entry = self.described(&path, Kind::HardLink, stat, &[])?;
        entry.link = &first;
        self.put(&entry).map(|()| true)
    }

    fn marks(&self, found: &[Attribute]) -> Marks {
        attributes::sort(found.to_vec(), self.settings.whiteouts).1
    }

    /// What goes into the layer of `found`; an error where overlay has noted that the entry is not whole.
    fn sorted(&mut self, found: Vec<Attribute>) -> Result<(Vec<Attribute>, Marks)> {
        let (mut attributes, marks, left) = attributes::sort(found, self.settings.whiteouts);
        for (key, value) in &mut attributes {
            let there = std::mem::take(value);
            *value = self.owner.attribute(key, there).map_err(|error| error.on(self.shown()))?;
        }
        if let Some(mark) = marks.continues_below {
            let feature = format!("an entry that continues in a lower layer ({mark})");
            let hint = "mount overlays whose changes are to become layers with redirect_dir=nofollow and metacopy=off";
            return Err(Error::unsupported("create layer", feature, None).on(self.shown()).with_hint(hint));
        }
        for key in left {
            self.leave_out(|path| LeftOut::Attribute(path, key));
        }
        Ok((attributes, marks))
    }

    /// Tells of what is left out. How much there is, and how long its paths are, is the container's to choose.
    fn leave_out(&mut self, what: impl FnOnce(PathBuf) -> LeftOut) {
        self.left_out_count += 1;
        if self.left_out.len() < TOLD && self.path.len() <= LONGEST_TOLD {
            self.left_out.push(what(self.shown()));
        }
    }

    fn described<'e>(&self, path: &'e [u8], kind: Kind, stat: &Stat, attributes: &'e [Attribute]) -> Result<Entry<'e>> {
        let mtime = Time { seconds: stat.modified.0, nanoseconds: stat.modified.1 };
        let mtime = self.settings.latest.map_or(mtime, |latest| mtime.min(latest));
        let (uid, gid) = self.owner.ids(stat.uid, stat.gid).map_err(|error| error.on(self.shown()))?;
        Ok(Entry { kind, mode: stat.mode, uid, gid, mtime, attributes, ..Entry::empty(path) })
    }

    fn put(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.entries += 1;
        if self.entries > self.settings.most_entries {
            return Err(self.too_many_entries());
        }
        let headers = entry.encode();
        // Holes that are kept cost nothing here, and fill no disk.
        let content = entry.segments.map_or(entry.size, |parts| parts.iter().map(|part| part.length).sum());
        self.bytes = self.bytes.saturating_add(headers.len() as u64).saturating_add(content);
        if self.bytes > self.settings.most_bytes {
            return Err(self.too_much(format!("more than {} bytes", self.settings.most_bytes)));
        }
        self.out.write(&headers).map_err(|error| Error::from_io("write layer", &error))
    }

    /// The path of `name` in the directory where the walk is.
    fn child(&self, name: &[u8]) -> Vec<u8> {
        let dir = self.path.as_slice();
        if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
    }

    fn shown(&self) -> PathBuf {
        match self.path.is_empty() {
            true => PathBuf::from("."),
            false => Path::new(OsStr::from_bytes(&self.path)).to_owned(),
        }
    }

    /// What was listed and is not there any more has gone.
    fn fail(&self, operation: &'static str, errno: Errno) -> Error {
        Error::from_errno(operation, errno.0).on(self.shown()).with_hints(&HINTS).or_gone()
    }

    fn changed(&self, operation: &'static str) -> Error {
        Error::from_errno(operation, libc::EBUSY)
            .on(self.shown())
            .with_hint("it changed while it was read: unmount the overlay first, or freeze what runs in it")
    }

    fn too_many_entries(&self) -> Error {
        self.too_much(format!("more than {} entries", self.settings.most_entries))
    }

    fn too_much(&self, of_what: String) -> Error {
        Error::limit("create layer", of_what).on(self.shown())
    }
}
