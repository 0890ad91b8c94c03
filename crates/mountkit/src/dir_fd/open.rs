//! How a file in a hostile directory is opened: looked at before and after, so that nothing else is opened in its place.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use cellkit_core::{Errno, Error, Result};

use super::DirFd;
use crate::metadata::{FileKind, Metadata};
use crate::name::Name;
use crate::sys::{self, fs};

/// How often a file is opened again that was exchanged for another between the two looks at it.
const ATTEMPTS: u32 = 128;

/// How a file is opened by [`DirFd::open_with`] and [`RootFd::open_with`](crate::RootFd::open_with). See
/// [open(2)](https://man7.org/linux/man-pages/man2/open.2.html), <https://man7.org/linux/man-pages/man2/open.2.html>.
///
/// It is a regular file or the call fails. Opening anything else can act or wait: a FIFO waits for its other end, a tape
/// rewinds, a terminal becomes one's own. What is wanted all the same is named with [`expect`](Self::expect).
///
/// ```no_run
/// use mountkit::{OpenOptions, RootFd};
/// use std::io::Write;
///
/// let root = RootFd::open("/run/c1/root")?;
/// let mut log = root.open_with("var/log/start", OpenOptions::new().append().create(0o640))?;
/// writeln!(log, "started").map_err(|e| mountkit::Error::from_io("write", &e))?;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it opens nothing until it is given to `open_with`"]
#[doc(alias = "O_CREAT")]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    made: Made,
    kind: FileKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    No,
    IfMissing(u32),
    Always(u32),
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// A regular file that exists, neither to be read nor to be written yet: one of the two has to be asked for.
    pub fn new() -> Self {
        let kind = FileKind::Regular;
        Self { read: false, write: false, append: false, truncate: false, made: Made::No, kind }
    }

    /// O_RDONLY, or O_RDWR with [`write`](Self::write) or [`append`](Self::append).
    #[doc(alias = "O_RDONLY")]
    pub fn read(mut self) -> Self {
        self.read = true;
        self
    }

    /// O_WRONLY, or O_RDWR with [`read`](Self::read).
    #[doc(alias = "O_WRONLY")]
    pub fn write(mut self) -> Self {
        self.write = true;
        self
    }

    /// O_APPEND: every write goes to the end.
    #[doc(alias = "O_APPEND")]
    pub fn append(mut self) -> Self {
        self.append = true;
        self
    }

    /// O_TRUNC: what the file held is gone. It has to be opened for writing.
    #[doc(alias = "O_TRUNC")]
    pub fn truncate(mut self) -> Self {
        self.truncate = true;
        self
    }

    /// The file is made with `mode`, less the umask, where it is missing. A symbolic link of the name is an error (ELOOP),
    /// wherever it leads: nothing is made through a link.
    #[doc(alias = "O_CREAT")]
    pub fn create(mut self, mode: u32) -> Self {
        self.made = Made::IfMissing(mode);
        self
    }

    /// The file is made with `mode`, less the umask, and what exists is an error (EEXIST).
    #[doc(alias = "O_EXCL")]
    pub fn create_new(mut self, mode: u32) -> Self {
        self.made = Made::Always(mode);
        self
    }

    /// What it has to be in place of a regular file. Of a directory reading is all there is; a symbolic link cannot be opened.
    pub fn expect(mut self, kind: FileKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn makes(self) -> bool {
        self.made != Made::No
    }

    /// The open flags, without those of creation.
    pub(crate) fn flags(self) -> Result<i32, &'static str> {
        let writes = self.write || self.append;
        let access = match (self.read, writes) {
            (true, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
            (false, false) => return Err("neither reading nor writing is asked for"),
        };
        if self.truncate && !writes {
            return Err("a file that is cut off has to be opened for writing");
        }
        if self.makes() && !writes {
            return Err("a file that is made has to be opened for writing");
        }
        if self.makes() && self.kind != FileKind::Regular {
            return Err("only a regular file is made by opening it");
        }
        if self.kind == FileKind::Symlink {
            return Err("a symbolic link cannot be opened: read_link reads it");
        }
        let append = if self.append { libc::O_APPEND } else { 0 };
        Ok(access | append | libc::O_NONBLOCK | libc::O_NOCTTY)
    }

    /// Looks whether what was found is what is wanted.
    pub(crate) fn check(self, found: &Metadata) -> Result<(), String> {
        if found.kind() == self.kind {
            return Ok(());
        }
        Err(match self.kind {
            FileKind::Regular => "it is not a regular file".to_owned(),
            wanted => format!("it is {}, and {} is wanted", found.kind().words(), wanted.words()),
        })
    }

    /// Opens by `open`, which takes flags, what `look` sees without opening it, until both mean the same file.
    ///
    /// The file is cut off only when it is known to be the one.
    pub(crate) fn open_checked(
        self,
        flags: i32,
        mut look: impl FnMut() -> Result<Metadata>,
        mut open: impl FnMut(i32) -> Result<OwnedFd, Errno>,
        fail: impl Fn(&'static str, Errno) -> Error,
        refuse: impl Fn(String) -> Error,
    ) -> Result<File> {
        for _ in 0..ATTEMPTS {
            let expected = look()?;
            self.check(&expected).map_err(&refuse)?;
            let fd = match open(flags) {
                Ok(fd) => fd,
                // It was exchanged for a link, or for a device without a driver, or is gone: the next look tells.
                Err(Errno(libc::ELOOP | libc::ENXIO)) if expected.kind() == FileKind::Regular => continue,
                Err(errno) => return Err(fail("openat", errno)),
            };
            let found = sys::statx(fd.as_raw_fd()).map_err(|errno| fail("statx", errno))?;
            let found = Metadata::new(found)?;
            if (found.device(), found.inode(), found.kind()) != (expected.device(), expected.inode(), expected.kind()) {
                continue;
            }
            let file = File::from(fd);
            if self.truncate {
                file.set_len(0).map_err(|error| fail("ftruncate", Errno(error.raw_os_error().unwrap_or(libc::EIO))))?;
            }
            return Ok(file);
        }
        Err(fail("openat", Errno(libc::EAGAIN)))
    }
}

impl DirFd {
    /// `openat(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)`: a regular file, or what [`OpenOptions::expect`] names.
    ///
    /// What it is, is looked at before it is opened and again after. So nothing else is opened, but by somebody who may
    /// make device nodes in the directory and does so between the two looks: then the node is opened, which for some
    /// devices is an act, and closed again. A mount with nodev stops that.
    ///
    /// # Errors
    /// NotFound (ENOENT); Invalid for what is not of that kind, (ELOOP) for a link where one may be made; AlreadyExists
    /// (EEXIST) with [`OpenOptions::create_new`]; Permission (EACCES, EPERM, EROFS); Busy (ETXTBSY); Limit (ENOSPC, EMFILE;
    /// EAGAIN when somebody exchanged the file again and again).
    #[doc(alias = "openat")]
    pub fn open_with(&self, name: impl AsRef<OsStr>, options: OpenOptions) -> Result<File> {
        let name = match options.makes() {
            true => Name::new("openat", name.as_ref())?,
            false => Name::or_the_dir("openat", name.as_ref())?,
        };
        let flags = options.flags().map_err(|why| self.refuse("openat", why, &name))?;
        match options.made {
            Made::No => self.open_existing(&name, options, flags),
            Made::Always(mode) => self.make(&name, flags, mode),
            Made::IfMissing(mode) => {
                for _ in 0..ATTEMPTS {
                    match self.make(&name, flags, mode) {
                        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                        answer => return answer,
                    }
                    match self.open_existing(&name, options, flags) {
                        // Removed meanwhile.
                        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                        answer => return answer,
                    }
                }
                Err(self.fail("openat", Errno(libc::EAGAIN), &name))
            }
        }
    }

    fn make(&self, name: &Name, flags: i32, mode: u32) -> Result<File> {
        let mode = self.permissions("openat", mode, name)?;
        fs::open_name(self.raw(), name.as_c_str(), flags | libc::O_CREAT | libc::O_EXCL, mode)
            .map(File::from)
            .map_err(|errno| self.fail("openat", errno, name))
    }

    pub(super) fn open_existing(&self, name: &Name, options: OpenOptions, flags: i32) -> Result<File> {
        let look = || {
            let found = self.stat(name.as_os_str())?;
            if options.makes() && found.kind() == FileKind::Symlink {
                return Err(self.fail("openat", Errno(libc::ELOOP), name));
            }
            Ok(found)
        };
        options.open_checked(
            flags,
            look,
            |flags| fs::open_name(self.raw(), name.as_c_str(), flags, 0),
            |operation, errno| self.fail(operation, errno, name),
            |why| self.refuse("openat", why, name),
        )
    }
}
