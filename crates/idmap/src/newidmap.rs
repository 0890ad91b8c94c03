//! newuidmap(1) and newgidmap(1), the two programs that write what an ordinary user may not.
//!
//! # Theory of operation
//!
//! They are the only programs that a cellkit library runs, so they are run as if everything around them were hostile:
//! by absolute path, with an empty environment, in `/`, with the three descriptors below (and those that the caller's
//! program left open without close-on-exec, as any program it runs), for at most ten seconds; and nothing they say is
//! believed: the map is read back afterwards. They are started by posix_spawn(3), whose cost does not grow with the
//! caller's memory; closing what the caller left open would need code between fork and exec, and so a real fork.
//!
//! * standard input: the child's directory in `/proc`. Since shadow 4.14 the first argument may be `fd:N`, a descriptor
//!   of that directory, so that a recycled process number cannot be hit; as `fd:0` it needs no descriptor to be leaked
//!   through exec. An older program answers with its usage and has written nothing; it is then run again with the
//!   number. That number cannot be recycled while the child has not been reaped, and only its parent, the caller, can
//!   do that. The directory must be of the same procfs that the program sees, so a private one goes by number at once.
//! * standard output: `/dev/null`.
//! * standard error: a pipe, of which the first 4 KiB go into the error.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cellkit_core::{Error, Result, sys as core_sys};

use crate::hint::{HINTS, of_program};
use crate::id_kind::IdKind;
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
                    return Ok(Self { kind, path, limit: search.limit });
                }
                Err(error) => return Err(Error::from_io("openat", &error).on(path)),
            };
            if search.privileged {
                check_privilege(kind, &file, &path)?;
            }
            return Ok(Self { kind, path, limit: search.limit });
        }
        let path = search.dirs.first().map_or_else(|| name.into(), |dir| dir.join(name));
        Err(Error::from_errno(kind.exec_operation(), libc::ENOENT).on(path).with_hints(&HINTS))
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
        if target.by_fd {
            let dir = target.dir.as_fd().try_clone_to_owned();
            let dir = dir.map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
            let ended = self.once("fd:0", Stdio::from(dir), map)?;
            if !ended.is_usage() {
                return self.judge(&ended);
            }
            target.by_fd = false;
        }
        let ended = self.once(&target.pid.to_string(), Stdio::null(), map)?;
        self.judge(&ended)
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
            .and_then(|running| running.wait(self.limit))
            .map_err(|Failed { said, error }| error.on(self.path()).with_kernel_text(said))
    }

    fn judge(&self, ended: &Ended) -> Result<()> {
        let why = match ended.status {
            // Somebody else took the status (SIGCHLD is ignored, or a reaper was faster): the map will tell.
            None => return Ok(()),
            Some(status) if status.success() => return Ok(()),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("it refused, with exit status {code}"),
                (None, Some(signal)) => format!("it was killed by signal {signal}"),
                (None, None) => status.to_string(),
            },
        };
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
    /// Its directory in procfs.
    pub(crate) dir: &'a cellkit_core::ProcessDir,
    /// Its number.
    pub(crate) pid: i32,
    /// Whether to name it by the directory's descriptor. Turned off by the first program that does not know how.
    pub(crate) by_fd: bool,
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

/// How a program ended.
#[derive(Debug)]
struct Ended {
    /// `None` when somebody else took the status.
    status: Option<ExitStatus>,
    /// What it wrote to standard error.
    said: String,
}

impl Ended {
    /// Whether it did not understand its arguments, and so did nothing.
    fn is_usage(&self) -> bool {
        self.status.is_none_or(|status| !status.success()) && self.said.contains("usage:")
    }
}

/// Why the end of a program was not seen, and what it had said.
#[derive(Debug)]
struct Failed {
    said: String,
    error: Error,
}

/// A running program: killed and reaped when it is dropped before its end.
#[derive(Debug)]
struct Running {
    program: &'static str,
    child: Child,
    /// `None` when the program had ended, and been reaped by somebody else, before it could be opened.
    pidfd: Option<OwnedFd>,
    ended: bool,
}

/// Kept of what a program says.
const SAID_LIMIT: usize = 4096;
/// Given to a killed program to go.
const KILL_LIMIT: Duration = Duration::from_secs(1);

impl Running {
    fn new(program: &'static str, mut child: Child) -> Result<Self, Failed> {
        let pidfd = match core_sys::pidfd_open(child.id() as i32) {
            Ok(pidfd) => Some(pidfd),
            Err(errno) if errno.0 == libc::ESRCH => None,
            Err(errno) => {
                // It has not been waited for, so the number is its own; there is nothing to do about a second error.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(Failed { said: String::new(), error: Error::from_errno("pidfd_open", errno.0) });
            }
        };
        Ok(Self { program, child, pidfd, ended: false })
    }

    fn wait(mut self, limit: Duration) -> Result<Ended, Failed> {
        let mut said = Vec::new();
        let result = self.wait_listening(limit, &mut said);
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        match result {
            Ok(status) => Ok(Ended { status, said }),
            Err(error) => Err(Failed { said, error }),
        }
    }

    fn wait_listening(&mut self, limit: Duration, said: &mut Vec<u8>) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        let mut stderr = self.child.stderr.take();
        if let Some(pipe) = &stderr {
            sys::set_nonblocking(pipe.as_fd()).map_err(|errno| Error::from_errno("fcntl F_SETFL", errno.0))?;
        }
        loop {
            let Some(pidfd) = &self.pidfd else { return self.status() };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::timed_out(self.program, limit)
                    .with_hint("it asks the account database: a directory service that does not answer?"));
            }
            let pipe = stderr.as_ref().map(ChildStderr::as_fd);
            // Rounded up: poll must not come back early and spin.
            let [ended, talks] = sys::wait_readable([Some(pidfd.as_fd()), pipe], left + Duration::from_millis(1))
                .map_err(|errno| Error::from_errno("poll", errno.0))?;
            if talks && !listen(&mut stderr, said) {
                stderr = None;
            }
            if ended {
                listen(&mut stderr, said);
                return self.status();
            }
        }
    }

    /// Reaps the program, which has ended.
    fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.ended = true;
        match self.child.wait() {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            Err(error) => Err(Error::from_io("waitid", &error)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        if self.ended || sys::kill(pidfd.as_fd()).is_err() {
            return;
        }
        // A killed program may be stuck in the kernel; then it is better left than waited for.
        if matches!(sys::wait_readable([Some(pidfd.as_fd()), None], KILL_LIMIT), Ok([true, _])) {
            // Nothing is left to do about an error: somebody else reaped it.
            let _ = self.child.wait();
        }
    }
}

/// Reads what is there without waiting. False when there will be no more.
fn listen(stderr: &mut Option<ChildStderr>, said: &mut Vec<u8>) -> bool {
    let Some(pipe) = stderr else { return false };
    let mut buffer = [0; 1024];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(read) => {
                let room = SAID_LIMIT.saturating_sub(said.len());
                said.extend(buffer.iter().take(read.min(room)));
                if room == 0 {
                    // Enough is kept; what follows is read no further than this, so that nobody can keep us here.
                    return true;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}
