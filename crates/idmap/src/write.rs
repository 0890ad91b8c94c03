//! Writing the maps of a paused child.
//!
//! # Theory of operation
//!
//! One list of steps, made from the plan alone, is both what [`MapPlan::describe`] prints and what
//! [`MapPlan::write`] performs:
//!
//! ```text
//!            write setgroups      "deny", when the namespace shall not have setgroups(2): the kernel takes it only
//!                 |               before the gid map, and an ordinary user's gid map only after it
//!            write uid_map        or newuidmap
//!            write gid_map        or newgidmap
//!                 |
//!            read uid_map         what the kernel holds is compared with what was asked for, whoever wrote it
//!            read gid_map
//! ```
//!
//! The child is named by its pidfd alone, and its files are opened through the caller's `ProcFd`: neither a recycled
//! number nor something mounted over `/proc` can make these writes land elsewhere.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellkit_core::{Error, ErrorKind, Observer, ProcFd, ProcessDir, Result, StepText, Subject};

use crate::hint::HINTS;
use crate::id_kind::IdKind;
use crate::newidmap::{Program, Target};
use crate::plan::Method;
use crate::{IdMap, MapPlan, Setgroups, Way, sys};

/// One step, with all that it needs.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    DenySetgroups,
    Write(IdKind, &'a IdMap),
    Run(IdKind, &'a Program, &'a IdMap),
    Read(IdKind, &'a IdMap),
}

impl MapPlan {
    fn steps(&self) -> Vec<Step<'_>> {
        let maps = self.maps();
        let mut steps = Vec::with_capacity(5);
        if self.setgroups() == Setgroups::Deny {
            steps.push(Step::DenySetgroups);
        }
        for kind in IdKind::BOTH {
            let map = kind.of(maps);
            steps.push(match (&self.method, kind) {
                (Method::Helper { newuidmap, .. }, IdKind::Uid) => Step::Run(kind, newuidmap, map),
                (Method::Helper { newgidmap, .. }, IdKind::Gid) => Step::Run(kind, newgidmap, map),
                (Method::Direct | Method::SingleId, _) => Step::Write(kind, map),
            });
        }
        steps.extend(IdKind::BOTH.map(|kind| Step::Read(kind, kind.of(maps))));
        steps
    }

    /// The steps of [`write`](Self::write) in words, in their order. `CHILD` stands for the process.
    #[must_use]
    pub fn describe(&self) -> Vec<StepText> {
        self.steps().into_iter().map(|step| self.text(step)).collect()
    }

    fn text(&self, step: Step<'_>) -> StepText {
        let child = |file: &str| Subject::Thing(format!("/proc/CHILD/{file}"));
        match step {
            Step::DenySetgroups => {
                let reason = if self.way() == Way::SingleId {
                    "an ordinary user's gid map needs it: dropping a group must not open a file"
                } else {
                    "no process of the namespace shall drop a group"
                };
                StepText::new("write setgroups", "\"deny\"", reason).on(child("setgroups"))
            }
            Step::Write(kind, map) => {
                let reason = match self.why_single_id() {
                    Some(_) if kind == IdKind::Gid => "one id only, as of the uids".into(),
                    Some(why) => format!("one id only: {why}"),
                    None => "the caller has CAP_SETUID and CAP_SETGID".into(),
                };
                StepText::new(kind.write_operation(), format!("{:?}", map.to_string()), reason)
                    .on(child(kind.map_file()))
            }
            Step::Run(kind, program, map) => {
                let mut arguments = String::from("CHILD");
                for argument in Program::arguments(map) {
                    arguments.push(' ');
                    arguments.push_str(&argument);
                }
                let reason = format!("more than the own id, and {} allows it", kind.subid_file());
                StepText::new(kind.program(), arguments, reason).on(program.path())
            }
            Step::Read(kind, _) => {
                StepText::new(kind.read_operation(), "", "what the kernel holds must be what was asked for")
                    .on(child(kind.map_file()))
            }
        }
    }

    /// Writes `/proc/PID/setgroups`, `/proc/PID/uid_map` and `/proc/PID/gid_map` of the process of `child`, or has
    /// newuidmap(1) and newgidmap(1) write them, and reads them back.
    ///
    /// `child` is the pidfd of a child of the caller, cloned with CLONE_NEWUSER by the caller's effective uid, that has
    /// neither changed its ids nor executed anything since. `proc` shows the caller's pid namespace. Each step is told
    /// to `observer` when it has been made. On an error some steps may have been made, and a map is written once in the
    /// life of a namespace: end the child.
    ///
    /// Blocks; at most ten seconds for each program that is run. A program of shadow 4.14 or newer is given the child
    /// as a descriptor, an older one (Debian 12 has 4.13) as its number: that cannot be recycled as long as nobody
    /// reaps the caller's children behind its back, and what lands elsewhere all the same is noticed when the map is
    /// read.
    ///
    /// * Privileges: those of the plan, see [`Way`].
    /// * Kernel: 3.19 for setgroups, 5.12 asks for CAP_SETFCAP to map uid 0 outside.
    ///
    /// # Errors
    /// * [`ErrorKind::Invalid`]: the kernel does not take a map in one write; nothing was done.
    /// * [`ErrorKind::Gone`]: the child has died.
    /// * Permission: the kernel refused a map (not the caller's ids; written before; AppArmor).
    /// * TimedOut: a program did not end, and was killed.
    /// * Other: a program refused, and what it said is in [`Error::kernel_text`]; or the kernel holds another map than
    ///   the one that was asked for.
    ///
    /// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    #[doc(alias = "uid_map")]
    #[doc(alias = "gid_map")]
    #[doc(alias = "newuidmap")]
    pub fn write(&self, child: impl AsFd, proc: &ProcFd, observer: &mut dyn Observer) -> Result<()> {
        let child = child.as_fd();
        self.maps().check_writable()?;
        let dir = proc.process(child)?;
        // A program that takes a descriptor wants one of the procfs it sees itself.
        let mut target = Target { dir: &dir, pid: dir.pid(), by_fd: !proc.is_private() };
        for step in self.steps() {
            let begun = Instant::now();
            let made = match step {
                Step::DenySetgroups => write_file(&dir, "setgroups", "write setgroups", b"deny"),
                Step::Write(kind, map) => {
                    write_file(&dir, kind.map_file(), kind.write_operation(), map.to_string().as_bytes())
                        .map_err(|error| written_before(error, kind, &dir))
                }
                // Looked at as late as can be: a number means this process only while it has not been reaped.
                Step::Run(kind, program, map) => proc
                    .process(child)
                    .and_then(|_| program.run(&mut target, map))
                    .map_err(|error| written_before(error, kind, &dir)),
                Step::Read(kind, map) => read_back(&dir, kind, map),
            };
            made.map_err(|error| gone_if_ended(error, child, &dir))?;
            if observer.listens() {
                observer.made(self.text(step), begun.elapsed());
            }
        }
        Ok(())
    }
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
fn written_before(error: Error, kind: IdKind, dir: &ProcessDir) -> Error {
    match current(dir, kind) {
        Ok(Some(map)) if error.kind() != ErrorKind::Gone => error.with_hint(format!(
            "the process has the map {} already: a map is written once, and only CLONE_NEWUSER gives a namespace without",
            map.colons()
        )),
        _ => error,
    }
}

fn current(dir: &ProcessDir, kind: IdKind) -> Result<Option<IdMap>> {
    IdMap::from_proc(&dir.read(Path::new(kind.map_file()))?)
}

fn read_back(dir: &ProcessDir, kind: IdKind, wanted: &IdMap) -> Result<()> {
    let held = current(dir, kind)?;
    if held.as_ref() == Some(wanted) {
        return Ok(());
    }
    let held = held.map_or_else(|| "none".to_owned(), |map| map.colons());
    let why = format!("the kernel holds {held}, not {}", wanted.colons());
    Err(Error::other(kind.read_operation(), why).on(shown(dir, kind.map_file())).with_hint(format!(
        "somebody else wrote the map, or {} does not do what it is for: is it the one from the shadow package?",
        kind.program()
    )))
}
