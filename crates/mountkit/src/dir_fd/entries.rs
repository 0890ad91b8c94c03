//! The names in a directory, one after the other.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use cellkit_core::{Errno, Result};

use super::DirFd;
use crate::metadata::FileKind;
use crate::name::Name;
use crate::sys::fs::{self, Record};

/// How much is read at once. A record is of 280 bytes at most.
const BUFFER: usize = 32 << 10;

/// One name in a directory. See [getdents64(2)](https://man7.org/linux/man-pages/man2/getdents.2.html),
/// <https://man7.org/linux/man-pages/man2/getdents.2.html>.
///
/// ```
/// use mountkit::{FileKind, RootFd};
///
/// let etc = RootFd::open("/")?.open_dir("etc")?;
/// let links = etc.entries()?.filter(|entry| entry.as_ref().is_ok_and(|e| e.kind() == Some(FileKind::Symlink)));
/// println!("{} symbolic links", links.count());
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "dirent")]
pub struct DirEntry {
    name: OsString,
    inode: u64,
    kind: Option<FileKind>,
}

impl DirEntry {
    /// The name, to be given to the methods of [`DirFd`].
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The inode number. Of a mount point, that of the directory below the mount.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// What it was when the directory was read. `None` where the file system does not say: [`DirFd::stat`] does.
    #[must_use]
    pub fn kind(&self) -> Option<FileKind> {
        self.kind
    }
}

impl From<DirEntry> for OsString {
    fn from(entry: DirEntry) -> Self {
        entry.name
    }
}

/// The names in a directory, in the file system's order, without `.` and `..`: what [`DirFd::entries`] answers. See
/// [getdents64(2)](https://man7.org/linux/man-pages/man2/getdents.2.html),
/// <https://man7.org/linux/man-pages/man2/getdents.2.html>.
///
/// It holds 32 KiB at a time, however many names there are. What is made or removed meanwhile may be among them or not. After
/// an error it ends.
///
/// ```
/// let dir = mountkit::RootFd::open("/")?.open_dir("etc")?;
/// for entry in dir.entries()? {
///     println!("{:?}", entry?.name());
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "an iterator reads nothing until it is asked"]
#[doc(alias = "getdents64")]
pub struct Entries<'a> {
    dir: &'a DirFd,
    fd: OwnedFd,
    records: Vec<u8>,
    at: usize,
    end: usize,
    ended: bool,
}

impl DirFd {
    /// `getdents64`: the names in it.
    ///
    /// # Errors
    /// Permission (EACCES) where it may be passed but not read; Limit (EMFILE).
    #[doc(alias = "getdents64")]
    #[doc(alias = "readdir")]
    pub fn entries(&self) -> Result<Entries<'_>> {
        let itself = Name::of_the_dir();
        let fd = fs::open_name(self.raw(), c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .map_err(|errno| self.fail("openat", errno, &itself))?;
        Ok(Entries { dir: self, fd, records: vec![0; BUFFER], at: 0, end: 0, ended: false })
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            while let Some(record) = self.records.get(self.at..self.end).and_then(Record::first) {
                self.at += record.length;
                if !record.is_dot() {
                    let name = OsStr::from_bytes(record.name.to_bytes()).to_owned();
                    return Some(Ok(DirEntry { name, inode: record.inode, kind: FileKind::of_entry(record.d_type) }));
                }
            }
            (self.at, self.end) = (0, 0);
            match fs::getdents(self.fd.as_raw_fd(), &mut self.records) {
                Ok(0) => self.ended = true,
                // The directory was removed meanwhile: it has no names.
                Err(Errno(libc::ENOENT)) => self.ended = true,
                Ok(read) => self.end = read,
                Err(errno) => {
                    self.ended = true;
                    return Some(Err(self.dir.fail("getdents64", errno, &Name::of_the_dir())));
                }
            }
        }
        None
    }
}
