//! Programs that cannot be changed while they run.
//!
//! Whoever is root in a container can reach the program of any process it can see, by `/proc/PID/exe`, and so the file on
//! the host: that of a program that joins the container, or starts it and is executed in it because an image says
//! `#!/proc/self/exe`. Where that file may be written, the next run of it on the host is the container's (CVE-2019-5736).
//!
//! So what enters containers runs from something that looks the same and cannot be written: a mount of the one file,
//! read-only and in no namespace, which costs nothing; or, without the privilege to make one, a copy in memory that is
//! sealed against every change. An ordinary user needs neither where the file is root's, as it is when a package installed
//! it: whoever is root in a container of theirs is not root outside, and no capability that they have in there counts for a
//! file whose owner has no number in there.
#![forbid(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use cellkit_core::{Errno, Error, ProcFd, ProcView, Result, Subject};

use crate::enter::need_one_thread;
use crate::hint::HINTS;
use crate::program::c_string;
use crate::sys;

/// Why a program cannot be changed.
///
/// ```
/// use std::fs::File;
///
/// use ns_core::{Seal, SealedProgram};
///
/// let shell = File::open("/bin/sh").unwrap();
/// match SealedProgram::of(&shell)?.seal() {
///     Seal::ReadOnlyMount => println!("it costs no memory"),
///     seal => println!("{seal}, of {} bytes", shell.metadata().unwrap().len()),
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See memfd_create(2), mount_setattr(2): <https://man7.org/linux/man-pages/man2/memfd_create.2.html>.
#[doc(alias = "F_SEAL_SEAL")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Seal {
    /// It is a copy in memory with the seals F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL.
    Memfd,
    /// It is reached through a mount that is read-only.
    ReadOnlyMount,
    /// It belongs to root, nobody else may write it, and the caller is an ordinary user without capabilities: whatever
    /// that user's containers are made of, none of it may.
    AnothersFile,
}

impl Seal {
    /// How the program behind a descriptor is sealed; `None` when it is not.
    ///
    /// * C calls: fcntl(2) F_GET_SEALS; fstatfs(2).
    ///
    /// ```
    /// use ns_core::{Seal, SealedProgram};
    ///
    /// let file = std::fs::File::open("/bin/sh").unwrap();
    /// let copy = SealedProgram::copy(&file)?;
    /// assert_eq!(Seal::of(&copy)?, Some(Seal::Memfd));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of fstatfs(2), which only a broken file system has.
    ///
    /// See F_GET_SEALS(2const): <https://man7.org/linux/man-pages/man2/F_GET_SEALS.2const.html>.
    pub fn of(program: impl AsFd) -> Result<Option<Self>> {
        let program = program.as_fd();
        if sys::sealed::seals(program).is_ok_and(|seals| seals & sys::sealed::ALL == sys::sealed::ALL) {
            return Ok(Some(Self::Memfd));
        }
        match sys::mounts::is_on_read_only_mount(program) {
            Ok(read_only) => Ok(read_only.then_some(Self::ReadOnlyMount)),
            Err(errno) => Err(Error::from_errno("fstatfs", errno.0)),
        }
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memfd => "a sealed copy in memory",
            Self::ReadOnlyMount => "a read-only mount",
            Self::AnothersFile => "root's own file",
        })
    }
}

/// A program that nobody can change, to be run with [`Command::from_fd`](crate::Command::from_fd).
///
/// ```no_run
/// use ns_core::{Command, SealedProgram};
///
/// let agent = SealedProgram::of(std::fs::File::open("/usr/libexec/agent").unwrap())?;
/// println!("runs from {}", agent.seal());
/// Command::from_fd(agent, "agent").spawn()?.wait()?;
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See mount_setattr(2), memfd_create(2): <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>.
#[doc(alias("memfd_create", "open_tree", "fexecve"))]
#[derive(Debug)]
pub struct SealedProgram {
    fd: OwnedFd,
    seal: Seal,
}

impl SealedProgram {
    /// The cheaper one of [`mount`](Self::mount) and [`copy`](Self::copy) that the caller may make; see
    /// [`seal`](Self::seal) for which it was.
    ///
    /// ```
    /// use std::fs::File;
    ///
    /// use ns_core::{Command, SealedProgram};
    ///
    /// let program = SealedProgram::of(File::open("/bin/true").unwrap())?;
    /// assert!(Command::from_fd(program, "true").spawn()?.wait()?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn of(program: impl AsFd) -> Result<Self> {
        let program = program.as_fd();
        Self::mount(program).or_else(|_| Self::copy(program))
    }

    /// A mount of this one file, read-only and in no namespace. It costs no memory and goes with the last process that
    /// runs it.
    ///
    /// * C calls: open_tree(2) with OPEN_TREE_CLONE, mount_setattr(2). Linux 5.12.
    /// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace, in which the file is.
    ///
    /// # Errors
    /// Permission; Invalid for a file that is in no mount of the caller's namespace, such as a memfd.
    ///
    /// See mount_setattr(2): <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>.
    #[doc(alias("open_tree", "mount_setattr"))]
    pub fn mount(program: impl AsFd) -> Result<Self> {
        let fail = |call: &'static str| {
            move |errno: Errno| {
                let error = Error::from_errno(call, errno.0).on(Subject::Thing("the program".into()));
                match errno.0 {
                    libc::EPERM => error.with_hint("it needs CAP_SYS_ADMIN: a sealed copy in memory needs nothing"),
                    libc::EINVAL => error.with_hint("the program is in no mount of this mount namespace: copy it"),
                    _ => error,
                }
            }
        };
        let fd = sys::mounts::clone_mount(program.as_fd()).map_err(fail("open_tree"))?;
        sys::mounts::make_read_only(fd.as_fd()).map_err(fail("mount_setattr"))?;
        Ok(Self { fd, seal: Seal::ReadOnlyMount })
    }

    /// A copy in memory, sealed: as large as the file, which must be open for reading.
    ///
    /// * C calls: memfd_create(2) with MFD_EXEC (Linux 6.3; without it before), fcntl(2) F_ADD_SEALS, also F_SEAL_EXEC where
    ///   the kernel has it.
    ///
    /// ```
    /// use std::fs::File;
    /// use std::io::Write;
    /// use std::os::fd::OwnedFd;
    ///
    /// use ns_core::SealedProgram;
    ///
    /// let copy = OwnedFd::from(SealedProgram::copy(File::open("/bin/true").unwrap())?);
    /// assert!(File::from(copy).write_all(b"#!/bin/sh").is_err());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Permission (EACCES) where `vm.memfd_noexec` is 2, and what reading the file gives. Each with a hint.
    ///
    /// See memfd_create(2): <https://man7.org/linux/man-pages/man2/memfd_create.2.html>.
    #[doc(alias("memfd_create", "F_ADD_SEALS", "fexecve"))]
    pub fn copy(program: impl AsFd) -> Result<Self> {
        let on_program = |error: Error| error.on(Subject::Thing("the program".into())).with_hints(&HINTS);
        let fail = |call: &'static str| move |errno: Errno| on_program(Error::from_errno(call, errno.0));
        let io = |call: &'static str| move |error: std::io::Error| on_program(Error::from_io(call, &error));
        let source = program.as_fd().try_clone_to_owned().map(File::from).map_err(io("fcntl F_DUPFD_CLOEXEC"))?;
        let mut copy = File::from(sys::sealed::memfd().map_err(fail("memfd_create"))?);
        let mut buffer = vec![0; 256 << 10];
        let mut offset = 0;
        loop {
            // By offset: the position belongs to whoever opened the file.
            let length = match source.read_at(&mut buffer, offset) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                answer => answer.map_err(io("pread64"))?,
            };
            let Some(bytes @ [_, ..]) = buffer.get(..length) else { break };
            copy.write_all(bytes).map_err(io("write"))?;
            offset += length as u64;
        }
        sys::sealed::add_seals(copy.as_fd()).map_err(fail("fcntl F_ADD_SEALS"))?;
        Ok(Self { fd: copy.into(), seal: Seal::Memfd })
    }

    /// What keeps it from being changed.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.seal
    }
}

impl AsFd for SealedProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<SealedProgram> for OwnedFd {
    fn from(program: SealedProgram) -> Self {
        program.fd
    }
}

/// Makes sure that this program runs sealed: the first line of a `main` that starts or joins containers.
///
/// When it does not yet, the process executes itself again, once, from a [`SealedProgram`], with the same arguments, the
/// same environment and the same descriptors but those that close at execve. Then this returns how it is sealed, which is
/// read from the running program itself: nothing in the environment can pretend it.
///
/// A program that is sealed so keeps its name in `ps`, but std::env::current_exe no longer says where it was installed.
///
/// * C calls: those of [`SealedProgram::of`], execveat(2).
/// * Privileges: none; with CAP_SYS_ADMIN it costs no memory. An ordinary user without capabilities, whose program is
///   root's and may be written by nobody else, as an installed one is, cannot change it, nor can that user's containers:
///   then nothing is done, and the answer is [`Seal::AnothersFile`].
///
/// ```no_run
/// fn main() -> ns_core::Result<()> {
///     ns_core::seal_this_program()?;
///     // … from here on, no container can change this program.
///     Ok(())
/// }
/// ```
///
/// # Errors
/// Invalid when there is more than one thread: the others would end; and when the program was given to a loader
/// (`ld.so PROGRAM`) or an emulator, which is what would be executed again. Those of [`SealedProgram::copy`], and of execveat.
///
/// See execveat(2): <https://man7.org/linux/man-pages/man2/execveat.2.html>.
#[doc(alias = "CVE-2019-5736")]
pub fn seal_this_program() -> Result<Seal> {
    let program = ProcFd::open(ProcView::Processes)?.this_thread()?.executable()?;
    let arguments = std::env::args_os().map(|argument| c_string(argument, "execveat")).collect::<Result<Vec<_>>>()?;
    if let Some(seal) = Seal::of(&program)? {
        keep_name(arguments.first());
        return Ok(seal);
    }
    if is_anothers(&program)? {
        return Ok(Seal::AnothersFile);
    }
    let mut header = [0; 64];
    let read = File::from(
        program.as_fd().try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?,
    )
    .read_exact_at(&mut header, 0);
    // What cannot be read cannot be compared: the mount needs no reading.
    if read.is_ok() && !sys::sealed::is_this_program(&header) {
        return Err(Error::invalid(
            "execveat",
            "what the kernel runs is not this program but a loader or an emulator of it",
        )
        .with_hint("execute the program itself: sealed, the loader would take its first argument for the program"));
    }
    need_one_thread("execveat", "the other threads would end", "seal it before the first thread is started")?;
    let sealed = SealedProgram::of(&program)?;
    // Or it would be executed again and again.
    if Seal::of(&sealed)?.is_none() {
        return Err(Error::other("execveat", "the sealed copy of this program does not look sealed"));
    }
    let errno = sys::sealed::execute(sealed.as_fd(), &arguments);
    Err(Error::from_errno("execveat", errno.0).on(Subject::Thing(sealed.seal.to_string())).with_hints(&HINTS))
}

/// Whether the caller, and so whoever the caller's containers run as, has no way to write the file.
fn is_anothers(program: &OwnedFd) -> Result<bool> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let file = program.as_fd().try_clone_to_owned().map(File::from);
    let metadata = file.and_then(|file| file.metadata()).map_err(|error| Error::from_io("fstat", &error))?;
    // With an access control list, the bits of the group are the most that anybody in it has.
    let is_roots = metadata.uid() == 0 && metadata.mode() & WRITABLE_BY_OTHERS == 0;
    // Whoever is root by another of its ids, or may become it by a capability that it has only permitted, is no ordinary user.
    let ids = sys::sealed::user_ids().map_err(|errno| Error::from_errno("getresuid", errno.0))?;
    let [effective, permitted, _] = sys::capget().map_err(|errno| Error::from_errno("capget", errno.0))?;
    Ok(is_roots && !ids.contains(&0) && effective | permitted == 0)
}

/// Kernels before 6.14 name a process that was executed from a descriptor by the number of that.
fn keep_name(argument: Option<&CString>) {
    let name = argument.and_then(|path| Path::new(OsStr::from_bytes(path.as_bytes())).file_name());
    let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) else { return };
    if sys::name_of_this_thread().iter().take_while(|&&byte| byte != 0).all(u8::is_ascii_digit) {
        sys::name_this_thread(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> File {
        File::open("/bin/sh").expect("/bin/sh")
    }

    #[test]
    fn a_copy_is_equal_and_cannot_be_changed() {
        assert_eq!(Seal::of(shell()).expect("seal"), None, "this test needs a writable /bin");
        let copy = SealedProgram::copy(shell()).expect("copy");
        assert_eq!((copy.seal(), Seal::of(&copy).expect("seal")), (Seal::Memfd, Some(Seal::Memfd)));
        let mut file = File::from(OwnedFd::from(copy));
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut { file.try_clone().expect("dup") }, &mut bytes).expect("read");
        assert!(bytes.is_empty(), "its position is its end");
        let length = file.metadata().expect("metadata").len();
        bytes.resize(length as usize, 0);
        file.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(bytes, std::fs::read("/bin/sh").expect("sh"));
        assert_eq!(file.write(b"x").expect_err("sealed").raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).expect_err("sealed").raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn what_is_not_open_for_reading_is_said_so() {
        let directory = File::open("/").expect("/");
        let error = SealedProgram::copy(directory).expect_err("a directory");
        assert_eq!((error.operation(), error.raw_os_error()), ("pread64", Some(libc::EISDIR)));
    }
}
