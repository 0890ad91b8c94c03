//! What a start is to be: the builder.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cellkit_core::{ChildSteps, Error, Result};

use crate::namespaces::TimeOffsets;
use crate::program::Unshown;
use crate::step::Front;
use crate::sys::PreExec;
use crate::{MountPropagation, Namespaces};

use confinement::Confinement;
use credentials::Credentials;
use resources::Resources;
use stdio::Descriptors;

/// A start to be: like [`std::process::Command`], with namespaces, and with nothing inherited by accident.
///
/// Setters collect and never fail; [`plan`](Self::plan) checks everything, and [`spawn`](Self::spawn) is `plan` and then
/// [`Plan::spawn`](crate::Plan::spawn).
///
/// Unless asked otherwise the payload has no capabilities, its own session keyring, umask 022, default signal dispositions,
/// all CPUs it may use, the caller's environment and standard descriptors, and no other descriptor.
///
/// * C calls: clone3(2), then in the child those that a [`Plan`](crate::Plan) prints, then execve(2). Linux 5.15 is the oldest
///   kernel that is tested; what is newer says so where it is asked for.
/// * Privileges: none, but for what says so.
///
/// ```
/// use ns_core::{Command, Resource, Rlimit};
///
/// let output = Command::new("sh")
///     .args(["-c", "echo $GREETING from a process with $(ulimit -n) descriptors"])
///     .env("GREETING", "hello")
///     .rlimit(Resource::Nofile, Rlimit::new(64, 64)?)
///     .output()?;
/// assert_eq!(output.stdout, b"hello from a process with 64 descriptors\n");
///
/// // What can be known to be wrong is refused before anything is done.
/// let error = Command::new("/bin/true").nice(99).spawn().unwrap_err();
/// assert!(error.to_string().contains("a nice value is -20 to 19"));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See clone(2), execve(2): <https://man7.org/linux/man-pages/man2/clone.2.html>.
#[doc(alias("clone3", "fork", "vfork", "posix_spawn"))]
#[must_use = "a command does nothing until it is started"]
#[derive(Debug)]
pub struct Command {
    program: OsString,
    program_fd: Option<Arc<OwnedFd>>,
    args: Vec<OsString>,
    arg0: Option<OsString>,
    environment: Unshown<BTreeMap<OsString, OsString>>,
    namespaces: Namespaces,
    propagation: MountPropagation,
    joins: Vec<join::Join>,
    time: Option<TimeOffsets>,
    loopback: bool,
    hostname: Option<OsString>,
    domainname: Option<OsString>,
    cgroup: Option<std::io::Result<OwnedFd>>,
    roots: Vec<ChildSteps>,
    dir: Option<PathBuf>,
    descriptors: Descriptors,
    credentials: Credentials,
    confinement: Confinement,
    resources: Resources,
    new_session: bool,
    new_group: bool,
    die_with_parent: bool,
    set_tid: Vec<i32>,
    sibling: bool,
    reaper: Option<Front>,
    pub(crate) pre_exec: Vec<PreExec>,
    copies_memory: bool,
    timed: bool,
}

impl Command {
    fn check_values(&self) -> Result<()> {
        self.check_descriptors()?;
        self.check_namespaces()?;
        self.check_joins()?;
        self.check_origin()?;
        if self.reaper == Some(Front::Pid1) && !self.namespaces.contains(Namespaces::PID) {
            return Err(Error::invalid("clone", "a reaper needs a pid namespace to be PID 1 of")
                .with_hint("add Namespaces::PID, or ask for Command::subreaper instead"));
        }
        self.credentials.check()?;
        self.resources.check()?;
        Ok(())
    }
}

// Where its methods are, in the order in which the documentation shows them.

mod program;

mod namespaces;

mod join;

mod stdio;

mod credentials;

mod confinement;

mod resources;

mod init;

mod origin;

mod run;

// What they come to.

mod steps;
