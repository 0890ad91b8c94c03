//! newuidmap(1) and newgidmap(1), the two programs that write what an ordinary user may not.
//!
//! # Theory of operation
//!
//! With getsubids(1) they are the only programs that a cellkit library runs, so they are run as if everything around them
//! were hostile: by absolute path, with an empty environment, in `/`, with the three descriptors below (and those that the
//! caller's program left open without close-on-exec, as any program it runs), for at most ten seconds; and nothing they
//! say is believed: the map is read back afterwards. They are started by posix_spawn(3), whose cost does not grow with the
//! caller's memory; closing what the caller left open would need code between fork and exec, and so a real fork.
//!
//! * standard input: the child's directory in `/proc`. Since shadow 4.14 the first argument may be `fd:N`, a descriptor
//!   of that directory, so that a recycled process number cannot be hit; as `fd:0` it needs no descriptor to be leaked
//!   through exec. The directory must be of the same procfs that the program sees, so a private one is of no use here.
//! * standard output: `/dev/null`.
//! * standard error: a pipe, of which the first 4 KiB go into the error.
//!
//! An older program knows numbers only. Which one it is shows before it is run, by the words `fd:` of its usage in its
//! file, so that nothing is run in vain; and once more when it answers with a usage that lacks them. One that has the
//! words is never given a number: its usage is also what it says of a directory whose process has gone, and then the
//! number may be somebody else's already. For an older one the child must be the caller's own: its number is not given
//! away while nobody has waited for it, which only its parent does.
//!
//! A program that outlives its caller (SIGKILL) goes on alone: it has what it needs, writes its map or fails, and ends. It
//! cannot be made to die with the caller: the kernel forgets that wish (PR_SET_PDEATHSIG) when a program gains privilege.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cellkit_core::{Error, ProcessDir, Result, Subject, sys as core_sys};

use crate::hint::{HINTS, of_program};
use crate::id_kind::IdKind;
use crate::running::{Ended, Failed, Running};
use crate::{IdMap, sys};

/// Where and how the two programs are looked for and run. Only tests have another than the default.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) limit: Duration,
    /// Whether a program without privilege is refused before it is run.
    pub(crate) privileged: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self { dirs: vec!["/usr/bin".into(), "/bin".into()], limit: Duration::from_secs(10), privileged: true }
    }
}

/// One of the two programs, found and fit for use.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    kind: IdKind,
    path: PathBuf,
    limit: Duration,
    /// Whether it may know a process by a descriptor: its file has the words, or could not be read.
    knows_fd: bool,
}

impl Program {
    /// Looks for the program of `kind` and at whether it has the privilege that it is for.
    pub(crate) fn find(kind: IdKind, search: &Search) -> Result<Self> {
        let name = kind.program();
        for dir in &search.dirs {
            let path = dir.join(name);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                // A file that may be run but not read: whether it has privilege shows when it is run.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Ok(Self { kind, path, limit: search.limit, knows_fd: true });
                }
                Err(error) => return Err(Error::from_io("openat", &error).on(path)),
            };
            if search.privileged {
                check_privilege(kind, &file, &path)?;
            }
            return Ok(Self { kind, path, limit: search.limit, knows_fd: speaks_of_fd(&file) });
        }
        let path = search.dirs.first().map_or_else(|| name.into(), |dir| dir.join(name));
        Err(Error::from_errno(kind.exec_operation(), libc::ENOENT).on(path).with_hints(&HINTS))
    }

    /// Of which ids it writes the map.
    pub(crate) fn kind(&self) -> IdKind {
        self.kind
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The arguments after the process: three numbers an extent.
    pub(crate) fn arguments(map: &IdMap) -> impl Iterator<Item = String> {
        map.extents()
            .iter()
            .flat_map(|extent| [extent.inside(), extent.outside(), extent.count()].map(|number| number.to_string()))
    }

    /// Has it write `map` for `target`.
    pub(crate) fn run(&self, target: &mut Target<'_>, map: &IdMap) -> Result<()> {
        if target.by_fd && self.knows_fd {
            let dir = target.dir.as_fd().try_clone_to_owned();
            let dir = dir.map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
            let ended = self.once("fd:0", Stdio::from(dir), map)?;
            if !is_usage_without_fd(&ended) {
                return self.judge(&ended);
            }
            target.by_fd = false;
        }
        self.may_have_number(target)?;
        let ended = self.once(&target.dir.pid().to_string(), Stdio::null(), map)?;
        self.judge(&ended)
    }

    /// A number is the process's own as long as the process has not been waited for, and that is the caller's to do for
    /// a child. Looked at as late as can be.
    fn may_have_number(&self, target: &Target<'_>) -> Result<()> {
        let fail = |errno: i32| Error::from_errno("waitid", errno).on(Subject::Pid(target.dir.pid()));
        match sys::is_own_child(target.pidfd) {
            Ok(true) => Ok(()),
            Ok(false) if core_sys::is_alive(target.pidfd).is_err_and(|errno| errno.0 == libc::ESRCH) => {
                Err(fail(libc::ESRCH).or_gone())
            }
            Ok(false) => Err(Error::invalid(
                self.kind.program(),
                "it knows processes by number only, and this one is not the caller's child, so that the number may \
                 become another's meanwhile",
            )
            .on(Subject::Pid(target.dir.pid()))
            .with_hint(
                "shadow 4.14 takes a descriptor in place of the number: have the parent write the map, or update",
            )),
            Err(errno) => Err(fail(errno.0)),
        }
    }

    fn once(&self, process: &str, stdin: Stdio, map: &IdMap) -> Result<Ended> {
        let child = Command::new(&self.path)
            .arg(process)
            .args(Self::arguments(map))
            .env_clear()
            .current_dir("/")
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::from_io(self.kind.exec_operation(), &error).on(self.path()).with_hints(&HINTS))?;
        Running::new(self.kind.program(), child)
            .and_then(|running| running.wait(self.limit, 0))
            .map_err(|Failed { said, error }| error.on(self.path()).with_kernel_text(said))
    }

    fn judge(&self, ended: &Ended) -> Result<()> {
        // When somebody else took the status (SIGCHLD is ignored, or a reaper was faster), the map will tell.
        let Some(why) = ended.failure() else { return Ok(()) };
        let error = Error::other(self.kind.program(), why).on(self.path()).with_kernel_text(ended.said.clone());
        Err(match of_program(&ended.said) {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}

/// The process whose maps are wanted.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// Its handle.
    pub(crate) pidfd: BorrowedFd<'a>,
    /// Its directory in procfs.
    pub(crate) dir: &'a ProcessDir,
    /// Whether the directory is one of the procfs that the programs see, and so may be given to one that knows how to
    /// take it. Turned off by the first that turns out not to.
    pub(crate) by_fd: bool,
}

/// How a program's usage names a descriptor in place of a process number.
const FD: &str = "fd:";
/// More than either program has.
const TEXT_LIMIT: u64 = 1 << 20;

/// Whether the text of a program has the words. One that cannot be read may have them.
fn speaks_of_fd(file: &File) -> bool {
    let mut text = BufReader::with_capacity(1 << 16, file.take(TEXT_LIMIT));
    let mut word = Vec::new();
    loop {
        match text.read_until(b':', &mut word) {
            Ok(0) => return false,
            Ok(_) if word.ends_with(FD.as_bytes()) => return true,
            Ok(_) => word.clear(),
            Err(_) => return true,
        }
    }
}

fn check_privilege(kind: IdKind, file: &File, path: &Path) -> Result<()> {
    let metadata = file.metadata().map_err(|error| Error::from_io("fstat", &error).on(path))?;
    let refuse = |why: &'static str, hint: String| Err(Error::invalid(kind.program(), why).on(path).with_hint(hint));
    if metadata.mode() & 0o111 == 0 {
        return Err(Error::from_errno(kind.exec_operation(), libc::EACCES).on(path).with_hints(&HINTS));
    }
    let setuid_root = metadata.mode() & libc::S_ISUID != 0 && metadata.uid() == 0;
    if !setuid_root && !sys::has_xattr(file, c"security.capability") {
        return refuse(
            "it is neither setuid root nor has it file capabilities, so it can map nothing",
            format!("as root: chmod u+s {}", path.display()),
        );
    }
    if sys::on_nosuid_mount(file) {
        return refuse(
            "it is on a mount with the nosuid flag, which takes its privilege away",
            format!("look at the options: findmnt -T {}", path.display()),
        );
    }
    Ok(())
}

/// Whether the program did not understand a descriptor, and so did nothing. The usage of those that do has the words.
fn is_usage_without_fd(ended: &Ended) -> bool {
    let failed = ended.status.is_none_or(|status| !status.success());
    failed && ended.said.contains("usage:") && !ended.said.contains(FD)
}
