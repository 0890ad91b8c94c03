//! A procfs that nobody can mount over.
//!
//! `/proc` by path is a promise that a hostile mount table breaks: `/proc/self/attr/exec` may be a file of somebody else,
//! `/proc/sys/...` a tmpfs. [`ProcFd`] is a procfs of our own, detached, so that no mount can be put on it; where the
//! caller may not make one (it needs CAP_SYS_ADMIN), it is `/proc` opened once, verified to be the root of a procfs, and
//! every lookup below it refuses to cross a mount or follow a link.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys::NSFS_MAGIC;
use crate::{Errno, Error, ErrorKind, HintRow, HintTable, Result, Subject, sys};

/// How much of procfs a [`ProcFd`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcView {
    /// Processes only (`subset=pid`): no `/proc/sys`, nothing a leaked handle could harm.
    Processes,
    /// All of it. `/proc/sys/net` then shows the network namespace of the calling thread.
    Whole,
}

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// The root directory of every procfs has this inode number.
const PROC_ROOT_INO: u64 = 1;

static HINTS: HintTable = HintTable(&[
    HintRow {
        operation: "openat2",
        errno: libc::EXDEV,
        hint: "something is mounted over this file of /proc, so it cannot be trusted: look with findmnt",
    },
    HintRow {
        operation: "openat2",
        errno: libc::ELOOP,
        hint: "a link stands where /proc has a file, so it cannot be trusted: look with findmnt",
    },
]);

/// A trusted handle on procfs.
///
/// * C call: fsopen(2) `"proc"`, fsmount(2); each open is openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_XDEV,
///   RESOLVE_NO_MAGICLINKS and RESOLVE_NO_SYMLINKS.
/// * Kernel: 5.8 for `subset=pid`. Without CAP_SYS_ADMIN, the machine's `/proc`, verified.
/// * Errors: [`ErrorKind::Invalid`] when `/proc` is not procfs; [`ErrorKind::Gone`] when a process has died.
///
/// ```
/// use cellkit_core::{ProcFd, ProcView};
///
/// let proc = ProcFd::open(ProcView::Processes)?;
/// let comm = proc.read("self/comm".as_ref());
/// // "self" is a symbolic link, and links are refused: name the process.
/// assert!(comm.is_err());
/// let comm = proc.read(format!("{}/comm", std::process::id()).as_ref())?;
/// assert!(comm.ends_with(b"\n"));
/// # Ok::<(), cellkit_core::Error>(())
/// ```
///
/// See proc(5), openat2(2): <https://man7.org/linux/man-pages/man2/openat2.2.html>.
#[derive(Debug)]
pub struct ProcFd {
    root: OwnedFd,
    private: bool,
}

impl ProcFd {
    /// Opens procfs for the calling process's own pid namespace.
    ///
    /// # Errors
    /// Invalid when the caller may not make its own procfs and `/proc` is not one either.
    pub fn open(view: ProcView) -> Result<Self> {
        match sys::private_proc(view == ProcView::Processes) {
            Ok(root) => Ok(Self { root, private: true }),
            // Not allowed, or a kernel or filter without the call: the machine's own, verified.
            Err(Errno(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL)) => Self::of_the_machine(),
            Err(errno) => Err(Error::from_errno("fsopen proc", errno.0)),
        }
    }

    /// The machine's own `/proc`, verified to be the root of a procfs, with every lookup in it verified.
    ///
    /// [`open`](Self::open) prefers a private one, which is safer and costs more: the kernel remembers nothing of it. Take
    /// this one to look at very many processes.
    ///
    /// # Errors
    /// Invalid when `/proc` is not the root of a procfs.
    pub fn of_the_machine() -> Result<Self> {
        let path = Path::new("/proc");
        let fail = |call: &'static str, errno: Errno| Error::from_errno(call, errno.0).on(path);
        let how = sys::OpenHow {
            flags: (libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64,
            mode: 0,
            resolve: libc::RESOLVE_NO_SYMLINKS,
        };
        let root = sys::open_in(sys::AT_FDCWD, c"/proc", &how).map_err(|errno| fail("openat2", errno))?;
        let magic = sys::fs_magic(root.as_raw_fd()).map_err(|errno| fail("fstatfs", errno))?;
        let (inode, _) = sys::inode(root.as_fd()).map_err(|errno| fail("fstat", errno))?;
        if (magic, inode) != (PROC_SUPER_MAGIC, PROC_ROOT_INO) {
            return Err(Error::invalid("fstatfs", "this is not the root of a procfs")
                .on(path)
                .with_hint("mount one: mount -t proc proc /proc"));
        }
        Ok(Self { root, private: false })
    }

    /// Whether this procfs is our own, which nobody can mount over, rather than the machine's, verified at each lookup.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Opens a file, refusing links and anything mounted over it. `flags` are those of open(2); O_CLOEXEC is added.
    ///
    /// # Errors
    /// The errno of openat2(2): ENOENT, EACCES, EXDEV for a file that something is mounted over.
    pub fn open_file(&self, path: &Path, flags: i32) -> Result<File> {
        open_strict(self.root.as_fd(), path, flags)
            .map(File::from)
            .map_err(|errno| fail("openat2", errno, Path::new("/proc"), path))
    }

    /// The whole content of a file, up to 16 MiB.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), or those of read(2).
    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        read_whole(self.open_file(path, libc::O_RDONLY)?, Path::new("/proc"), path)
    }

    /// Writes `content` with a single write(2), as the files of procfs want it.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), or those of write(2); a partial write is EIO.
    pub fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        write_once(self.open_file(path, libc::O_WRONLY)?, Path::new("/proc"), path, content)
    }

    /// The directory of the process that `pidfd` refers to, safe against the reuse of its number.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when the process has been reaped, or lives in a pid namespace that is not visible from here.
    pub fn process(&self, pidfd: impl AsFd) -> Result<ProcessDir> {
        let pidfd = pidfd.as_fd();
        let pid = self.pid_of(pidfd)?;
        let path = PathBuf::from(pid.to_string());
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let dir = open_strict(self.root.as_fd(), &path, flags)
            .map_err(|errno| fail("openat2", errno, Path::new("/proc"), &path).or_gone())?;
        // The number may have been given to somebody else between the two lines above, but not while the process that
        // pidfd means has not been reaped: so it was still alive then, and the directory is its own.
        match sys::is_alive(pidfd) {
            Ok(()) => {}
            // It may not be ours to signal; fdinfo has no number for one that has been reaped either.
            Err(Errno(libc::EPERM)) => {
                self.pid_of(pidfd)?;
            }
            Err(errno) => {
                return Err(Error::from_errno("pidfd_send_signal", errno.0).on(Subject::Pid(pid)).or_gone());
            }
        }
        Ok(ProcessDir { dir, pid })
    }

    /// The directory of the calling thread: the one that procfs itself says it is in `thread-self`. So it is right also
    /// where this is the procfs of another pid namespace, which has other numbers.
    ///
    /// # Errors
    /// NotFound when this procfs is of a pid namespace that the thread is not in.
    pub fn this_thread(&self) -> Result<ProcessDir> {
        let link = Path::new("thread-self");
        let found = open_strict(self.root.as_fd(), link, libc::O_PATH | libc::O_NOFOLLOW)
            .map_err(|errno| fail("openat2", errno, Path::new("/proc"), link))?;
        let target = nix::fcntl::readlinkat(&found, "")
            .map_err(|errno| fail("readlinkat", Errno(errno as i32), Path::new("/proc"), link))?;
        let path = PathBuf::from(target);
        let thread = path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_else(sys::gettid);
        let dir = open_strict(self.root.as_fd(), &path, libc::O_PATH | libc::O_DIRECTORY)
            .map_err(|errno| fail("openat2", errno, Path::new("/proc"), &path))?;
        Ok(ProcessDir { dir, pid: thread })
    }

    /// The number of the process that `pidfd` refers to, as seen from this procfs.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when it has been reaped or is not visible here, Invalid when `pidfd` is not a pidfd.
    pub fn pid_of(&self, pidfd: BorrowedFd<'_>) -> Result<i32> {
        let path = PathBuf::from(format!("{}/fdinfo/{}", std::process::id(), pidfd.as_raw_fd()));
        let text = self.read(&path)?;
        match pid_in_fdinfo(&text) {
            Some(pid) if pid > 0 => Ok(pid),
            Some(_) => Err(Error::gone("read fdinfo", None).on(Subject::Thing("a pidfd".into()))),
            None => Err(Error::invalid("read fdinfo", "this descriptor is not a pidfd")
                .on(Subject::Thing(format!("fd {}", pidfd.as_raw_fd())))),
        }
    }
}

impl From<ProcFd> for OwnedFd {
    fn from(proc: ProcFd) -> Self {
        proc.root
    }
}

impl AsFd for ProcFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// The directory of one process in a [`ProcFd`]. Once the process has been reaped, every use is [`ErrorKind::Gone`].
#[derive(Debug)]
pub struct ProcessDir {
    dir: OwnedFd,
    pid: i32,
}

impl ProcessDir {
    /// The process's number in the namespace of the [`ProcFd`]: for messages, not for system calls.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    fn shown(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }

    /// Opens a file, refusing links and anything mounted over it. `flags` are those of open(2); O_CLOEXEC is added.
    ///
    /// # Errors
    /// As [`ProcFd::open_file`]; [`ErrorKind::Gone`] when the process has died.
    pub fn open_file(&self, name: &Path, flags: i32) -> Result<File> {
        open_strict(self.dir.as_fd(), name, flags)
            .map(File::from)
            .map_err(|errno| self.or_gone(fail("openat2", errno, &self.shown(), name)))
    }

    /// The whole content of a file, up to 16 MiB.
    ///
    /// # Errors
    /// As [`ProcFd::read`]; [`ErrorKind::Gone`] when the process has died.
    pub fn read(&self, name: &Path) -> Result<Vec<u8>> {
        read_whole(self.open_file(name, libc::O_RDONLY)?, &self.shown(), name).map_err(|error| self.or_gone(error))
    }

    /// Writes `content` with a single write(2), as the files of procfs want it.
    ///
    /// # Errors
    /// As [`ProcFd::write`]; [`ErrorKind::Gone`] when the process has died.
    pub fn write(&self, name: &Path, content: &[u8]) -> Result<()> {
        let file = open_strict(self.dir.as_fd(), name, libc::O_WRONLY)
            .map_err(|errno| self.or_gone(fail("openat2", errno, &self.shown(), name)))?;
        write_once(File::from(file), &self.shown(), name, content).map_err(|error| self.or_gone(error))
    }

    /// A handle on one of the process's namespaces, by its name in `/proc/PID/ns`: `net`, `user`, `pid_for_children`.
    ///
    /// # Errors
    /// Permission without ptrace access to the process; [`ErrorKind::Gone`] when it has died.
    pub fn namespace(&self, name: &str) -> Result<OwnedFd> {
        let path = Path::new("ns").join(name);
        let shown = |call, errno| self.or_gone(fail(call, errno, &self.shown(), &path));
        let dir = open_strict(self.dir.as_fd(), Path::new("ns"), libc::O_PATH | libc::O_DIRECTORY)
            .map_err(|errno| shown("openat2", errno))?;
        let name = CString::new(name).map_err(|_| shown("openat2", Errno(libc::EINVAL)))?;
        // The one magic link that has to be followed; what it leads to is verified.
        let how = sys::OpenHow { flags: (libc::O_RDONLY | libc::O_CLOEXEC) as u64, mode: 0, resolve: 0 };
        let fd = sys::open_in(dir.as_fd(), &name, &how).map_err(|errno| shown("openat2", errno))?;
        match sys::fs_magic(fd.as_raw_fd()) {
            Ok(NSFS_MAGIC) => Ok(fd),
            Ok(_) => Err(Error::invalid("fstatfs", "this is not a namespace").on(self.shown().join(path))),
            Err(errno) => Err(shown("fstatfs", errno)),
        }
    }

    /// The program that the process runs, open for reading.
    ///
    /// # Errors
    /// Permission without ptrace access to the process, or for a program that may be run but not read;
    /// [`ErrorKind::Gone`] when it has died.
    pub fn executable(&self) -> Result<OwnedFd> {
        let path = Path::new("exe");
        let shown = |call, errno| self.or_gone(fail(call, errno, &self.shown(), path));
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // A link of procfs' own, with nothing mounted over it …
        let how = sys::OpenHow { flags: flags as u64, mode: 0, resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV };
        let link = sys::open_in(self.dir.as_fd(), c"exe", &how).map_err(|errno| shown("openat2", errno))?;
        match sys::fs_magic(link.as_raw_fd()) {
            Ok(PROC_SUPER_MAGIC) => {}
            Ok(_) => return Err(Error::invalid("fstatfs", "this is not procfs").on(self.shown().join(path))),
            Err(errno) => return Err(shown("fstatfs", errno)),
        }
        // … which leads out of procfs, as it has to.
        let how = sys::OpenHow { flags: (libc::O_RDONLY | libc::O_CLOEXEC) as u64, mode: 0, resolve: 0 };
        sys::open_in(self.dir.as_fd(), c"exe", &how).map_err(|errno| shown("openat2", errno))
    }

    /// A file that vanished means that its process did, if the process is really gone.
    fn or_gone(&self, error: Error) -> Error {
        let dead = error.raw_os_error() == Some(libc::ESRCH)
            || (error.kind() == ErrorKind::NotFound
                && open_strict(self.dir.as_fd(), Path::new("stat"), libc::O_PATH).is_err());
        if dead { error.or_gone() } else { error }
    }
}

impl From<ProcessDir> for OwnedFd {
    fn from(process: ProcessDir) -> Self {
        process.dir
    }
}

impl AsFd for ProcessDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

fn open_strict(dir: BorrowedFd<'_>, path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
    let how = sys::OpenHow {
        // openat2 refuses O_NOCTTY beside O_PATH.
        flags: (flags | libc::O_CLOEXEC | if flags & libc::O_PATH == 0 { libc::O_NOCTTY } else { 0 }) as u64,
        mode: 0,
        resolve: libc::RESOLVE_BENEATH
            | libc::RESOLVE_NO_XDEV
            | libc::RESOLVE_NO_MAGICLINKS
            | libc::RESOLVE_NO_SYMLINKS,
    };
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    sys::open_in(dir, &path, &how)
}

fn fail(call: &'static str, errno: Errno, root: &Path, path: &Path) -> Error {
    Error::from_errno(call, errno.0).on(root.join(path)).with_hints(&HINTS)
}

/// The number in the `fdinfo` of a pidfd: 0 or less for a process that is gone, or not to be seen from here.
pub(crate) fn pid_in_fdinfo(fdinfo: &[u8]) -> Option<i32> {
    let value = fdinfo.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Pid:"))?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// Bounds what a hostile or absurd file can make us hold.
const READ_LIMIT: u64 = 16 << 20;

fn read_whole(file: File, root: &Path, path: &Path) -> Result<Vec<u8>> {
    // Most files of /proc fit, so that one read and the one that finds the end do.
    let mut content = Vec::with_capacity(4096);
    file.take(READ_LIMIT)
        .read_to_end(&mut content)
        .map_err(|error| Error::from_io("read", &error).on(root.join(path)))?;
    Ok(content)
}

fn write_once(mut file: File, root: &Path, path: &Path, content: &[u8]) -> Result<()> {
    let shown = || root.join(path);
    match file.write(content) {
        Ok(written) if written == content.len() => Ok(()),
        Ok(_) => Err(Error::from_errno("write", libc::EIO).on(shown())),
        Err(error) => Err(Error::from_io("write", &error).on(shown())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(name: &str) -> PathBuf {
        PathBuf::from(format!("{}/{name}", std::process::id()))
    }

    #[test]
    fn the_machines_own_is_verified_and_read() {
        let proc = ProcFd::of_the_machine().expect("/proc");
        assert!(!proc.is_private());
        let theirs = std::fs::read("/proc/self/comm").expect("comm");
        assert_eq!(proc.read(&me("comm")).expect("comm"), theirs);
    }

    #[test]
    fn numbers_in_fdinfo() {
        assert_eq!(pid_in_fdinfo(b"pos:\t0\nflags:\t02\nPid:\t42\nNSpid:\t42\t1\n"), Some(42));
        assert_eq!(pid_in_fdinfo(b"Pid:\t-1\n"), Some(-1));
        for other in [&b""[..], b"pos:\t0\n", b"Pid:\tx\n", b"NSpid:\t1\n", b"Pid:\t99999999999\n", b"Pid:\xff\n"] {
            assert_eq!(pid_in_fdinfo(other), None);
        }
    }

    #[test]
    fn links_are_refused() {
        let proc = ProcFd::open(ProcView::Processes).expect("proc");
        for link in ["self/comm".into(), me("exe"), me("cwd/etc/passwd"), me("root/etc/passwd")] {
            let error = proc.read(&link).expect_err("a link");
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error}");
        }
    }

    #[test]
    fn a_dead_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("sleep");
        let pidfd = sys::pidfd_open(child.id() as i32).expect("pidfd_open");
        let proc = ProcFd::open(ProcView::Processes).expect("proc");
        let dir = proc.process(&pidfd).expect("alive");
        assert_eq!(dir.pid(), child.id() as i32);
        let mine = std::fs::read_link("/proc/self/ns/uts").expect("link");
        let theirs = dir.namespace("uts").expect("uts");
        let link = std::fs::read_link(format!("/proc/self/fd/{}", theirs.as_raw_fd())).expect("link");
        assert_eq!(link, mine);
        let program = File::from(dir.executable().expect("exe"));
        let same = |data: std::fs::Metadata| std::os::unix::fs::MetadataExt::ino(&data);
        let path = std::fs::read_link(format!("/proc/{}/exe", child.id())).expect("link");
        assert_eq!(same(program.metadata().expect("fstat")), same(std::fs::metadata(path).expect("stat")));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(dir.executable().expect_err("dead").kind(), ErrorKind::Gone);
        assert_eq!(dir.read("comm".as_ref()).expect_err("dead").kind(), ErrorKind::Gone);
        assert_eq!(proc.process(&pidfd).expect_err("dead").kind(), ErrorKind::Gone);
    }
}
