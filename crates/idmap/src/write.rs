//! Writing the maps of a paused child.
//!
//! # Theory of operation
//!
//! One list of steps, made from the plan alone (`write/steps.rs`), is both what [`MapPlan::describe`] prints and what
//! [`MapPlan::write`] performs:
//!
//! ```text
//!            write setgroups      "deny", when the namespace shall not have setgroups(2): the kernel takes it only
//!                 |               before the gid map, and an ordinary user's gid map only after it
//!            write uid_map        or newuidmap
//!            write gid_map        or newgidmap
//!            write projid_map     when there is a map of project ids
//!                 |
//!            read uid_map         what the kernel holds is compared with what was asked for, whoever wrote it
//!            read gid_map
//!            read projid_map
//!            read setgroups       when newgidmap ran, which denies it on its own judgement
//! ```
//!
//! The child is named by its pidfd alone, and its files are opened below its directory in the caller's `ProcFd`: neither a
//! recycled number nor something mounted over `/proc` can make these writes land elsewhere.
#![forbid(unsafe_code)]

mod steps;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellkit_core::{Error, ErrorKind, Observer, ProcFd, ProcessDir, Result, StepText, Subject};

use crate::hint::HINTS;
use crate::newidmap::Target;
use crate::{IdMap, MapPlan, sys};
use steps::{MapFile, Step};

impl MapPlan {
    /// The steps of [`write`](Self::write) in words, in their order. `CHILD` stands for the process.
    ///
    /// ```
    /// use idmap::{Caller, MapPlan, SubIds};
    ///
    /// let caller = Caller::current()?;
    /// # if caller.uid() == 0 { return Ok(()); }
    /// let plan = MapPlan::auto(&caller, &SubIds::of(&caller)?)?.deny_setgroups();
    /// assert_eq!(plan.describe().first().map(|step| step.to_string()), Some(r#"write setgroups("deny")"#.into()));
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn describe(&self) -> Vec<StepText> {
        steps::of(self).into_iter().map(|step| steps::text(self, step)).collect()
    }

    /// Writes `/proc/PID/setgroups`, `/proc/PID/uid_map` and `/proc/PID/gid_map` of the process of `child`, or has
    /// newuidmap(1) and newgidmap(1) write the maps, writes `/proc/PID/projid_map` where the plan has one, and reads all
    /// of them back.
    ///
    /// `child` is a pidfd. `proc` shows the caller's pid namespace. Each step is told to `observer` when it has been made.
    /// On an error some steps may have been made, and a map is written once in the life of a namespace: end the child.
    ///
    /// What the kernel asks of `child`, whoever made it:
    ///
    /// * it is the first process of a new user namespace (CLONE_NEWUSER), or any other in it while no map has been
    ///   written, made by the caller's effective uid, and the namespace that the caller is in is the one above;
    /// * it has neither changed its ids nor executed anything that the caller may not read: its files in `/proc` would
    ///   belong to root.
    ///
    /// It need not be the caller's own child, with one exception. A newuidmap before shadow 4.14 (Debian 12 has 4.13)
    /// knows processes by number only, and a number is safe only for a child that the caller has not waited for: for any
    /// other process that is an error, before the program is run. A newer one is given the process as a descriptor. A
    /// caller that ignores SIGCHLD, or waits for any child on another thread, gives that safety away with an older one.
    ///
    /// Blocks; at most ten seconds for each program that is run.
    ///
    /// * Privileges: those of the plan, see [`Way`](crate::Way). A map of project ids needs none: whoever may open the
    ///   file may map every project id that exists in the namespace above.
    /// * Kernel: 3.19 for setgroups, 5.12 asks for CAP_SETFCAP to map uid 0 outside. CLONE_PIDFD and pidfds 5.3.
    ///
    /// # Errors
    /// * [`ErrorKind::Invalid`]: the kernel does not take a map in one write, and nothing was done; or newuidmap is too
    ///   old for a process that is not the caller's child.
    /// * [`ErrorKind::Gone`]: the child has died.
    /// * Permission: the kernel refused a map (not the caller's ids; written before; AppArmor).
    /// * TimedOut: a program did not end, and was killed.
    /// * Other: a program refused, and what it said is in [`Error::kernel_text`]; or the kernel holds another map than
    ///   the one that was asked for.
    ///
    /// [`Error::operation`] is the step, as [`describe`](Self::describe) names it, or a system call on the way to it; then
    /// the step is the error's context.
    ///
    /// ```no_run
    /// use cellkit_core::{ProcFd, ProcView};
    /// use idmap::{Caller, ErrorKind, MapPlan, SubIds};
    ///
    /// # fn paused_child() -> std::os::fd::OwnedFd { unimplemented!() }
    /// let caller = Caller::current()?;
    /// let plan = MapPlan::auto(&caller, &SubIds::of(&caller)?)?;
    /// let pidfd = paused_child();
    /// match plan.write(&pidfd, &ProcFd::open(ProcView::Processes)?, &mut ()) {
    ///     Ok(()) => println!("the child may go on"),
    ///     Err(error) if error.kind() == ErrorKind::Gone => println!("the child has died"),
    ///     Err(error) => eprintln!("{error:#}"),
    /// }
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>, and newuidmap(1):
    /// <https://man7.org/linux/man-pages/man1/newuidmap.1.html>.
    #[doc(alias = "uid_map")]
    #[doc(alias = "gid_map")]
    #[doc(alias = "projid_map")]
    #[doc(alias = "setgroups")]
    #[doc(alias = "newuidmap")]
    #[doc(alias = "newgidmap")]
    pub fn write(&self, child: impl AsFd, proc: &ProcFd, observer: &mut dyn Observer) -> Result<()> {
        let child = child.as_fd();
        self.maps().check_writable()?;
        let dir = proc.process(child)?;
        // A program that takes a descriptor wants one of the procfs it sees itself.
        let mut target = Target { pidfd: child, dir: &dir, by_fd: !proc.is_private() };
        for step in steps::of(self) {
            let begun = Instant::now();
            make(step, &mut target).map_err(|error| named(gone_if_ended(error, child, &dir), step.operation()))?;
            if observer.listens() {
                observer.made(steps::text(self, step), begun.elapsed());
            }
        }
        Ok(())
    }
}

fn make(step: Step<'_>, target: &mut Target<'_>) -> Result<()> {
    let dir = target.dir;
    match step {
        Step::DenySetgroups => write_file(dir, "setgroups", "write setgroups", b"deny"),
        Step::Write(file, map) => write_file(dir, file.name(), file.write_operation(), map.to_string().as_bytes())
            .map_err(|error| written_before(error, file, dir)),
        Step::Run(file, program, map) => program.run(target, map).map_err(|error| written_before(error, file, dir)),
        Step::Read(file, map) => read_back(dir, file, map),
        Step::ReadSetgroups => read_setgroups(dir),
    }
}

/// Says which step it was, where the operation does not.
fn named(error: Error, step: &'static str) -> Error {
    if error.operation() == step { error } else { error.context(step) }
}

/// Whatever went wrong with a child that has ended went wrong because it has ended.
fn gone_if_ended(error: Error, child: BorrowedFd<'_>, dir: &ProcessDir) -> Error {
    let ended = matches!(sys::wait_readable([Some(child)], Duration::ZERO), Ok([true]));
    if !ended || error.kind() == ErrorKind::Gone {
        return error;
    }
    let said = error.to_string();
    Error::gone(error.operation().to_owned(), error.raw_os_error()).on(Subject::Pid(dir.pid())).context(said)
}

fn shown(dir: &ProcessDir, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{file}", dir.pid()))
}

fn write_file(dir: &ProcessDir, file: &str, operation: &'static str, content: &[u8]) -> Result<()> {
    dir.write(Path::new(file), content).map_err(|error| match (error.kind(), error.raw_os_error()) {
        (ErrorKind::Gone, errno) => Error::gone(operation, errno).on(shown(dir, file)),
        (_, Some(errno)) if error.operation() == "write" => {
            Error::from_errno(operation, errno).on(shown(dir, file)).with_hints(&HINTS)
        }
        _ => error.with_hints(&HINTS),
    })
}

/// The commonest mistake has the least telling errno: the process is in no new namespace, or its map has been written.
fn written_before(error: Error, file: MapFile, dir: &ProcessDir) -> Error {
    match current(dir, file) {
        Ok(Some(map)) if error.kind() != ErrorKind::Gone => error.with_hint(format!(
            "the process has the map {} already: a map is written once, and only CLONE_NEWUSER gives a namespace without",
            map.colons()
        )),
        _ => error,
    }
}

fn current(dir: &ProcessDir, file: MapFile) -> Result<Option<IdMap>> {
    IdMap::from_proc(&dir.read(Path::new(file.name()))?)
}

fn read_back(dir: &ProcessDir, file: MapFile, wanted: &IdMap) -> Result<()> {
    let held = current(dir, file)?;
    if held.as_ref() == Some(wanted) {
        return Ok(());
    }
    let held = held.map_or_else(|| "none".to_owned(), |map| map.colons());
    let why = format!("the kernel holds {held}, not {}", wanted.colons());
    let error = Error::other(file.read_operation(), why).on(shown(dir, file.name()));
    Err(match file.kind() {
        None => error.with_hint("somebody else wrote the map"),
        Some(kind) => error.with_hint(format!(
            "somebody else wrote the map, or {} does not do what it is for: is it the one from the shadow package?",
            kind.program()
        )),
    })
}

fn read_setgroups(dir: &ProcessDir) -> Result<()> {
    if dir.read(Path::new("setgroups"))?.starts_with(b"allow") {
        return Ok(());
    }
    Err(Error::other("read setgroups", "setgroups(2) is denied, and the plan allows it")
        .on(shown(dir, "setgroups"))
        .with_hint("newgidmap denies it for a map of the own gid alone: ask for that with deny_setgroups, or look at /etc/subgid"))
}
