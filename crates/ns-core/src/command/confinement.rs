//! What the payload is kept from: landlock and seccomp.
//!
//! A landlock ruleset is applied when the payload's root is there and before any privilege is given up; the seccomp filter is
//! the last step but execve. From then on the child makes few calls, and all of them are put to the filter beforehand: one
//! that would kill it, deny it or ask somebody about it is refused when the plan is made, since the start could not succeed
//! and might never end. A failure after the filter needs no call to be told: the child leaves it in memory.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cellkit_core::{ChildSteps, Error, Result, Slot, Subject};

use super::Command;
use crate::seccomp::{Outcomes, words_of};
use crate::step::{ConfinementStep, LaunchStep};
use crate::{Seccomp, SeccompAction, SeccompCall, sys};

/// What a [`Command`] was told about the payload's confinement.
#[derive(Debug, Default)]
pub(super) struct Confinement {
    seccomp: Option<Seccomp>,
    landlock: Option<std::io::Result<OwnedFd>>,
}

/// What is known of a call's six arguments.
type Arguments = [Option<u64>; 6];

/// # Confinement
impl Command {
    /// Installs a filter of system calls, as the last thing before execve. Asked for twice, the last one holds.
    ///
    /// The filter has to let through, with the arguments that the child will use:
    ///
    /// * execve (execveat for a program that is given by descriptor), since the payload begins with it;
    /// * exit_group, unless it kills: a child whose execve failed could not end;
    /// * sendmsg, with a [`listener`](Seccomp::listener), whose descriptor is sent to the caller by it;
    /// * clock_gettime, with [`timed`](Self::timed).
    ///
    /// [`plan`](Self::plan) asks the filter and refuses it otherwise: the start would fail or, with a listener that nobody
    /// answers yet, wait for ever.
    ///
    /// ```
    /// use ns_core::{BpfInstruction, Command, Seccomp};
    ///
    /// let op = |code, jt, jf, k| BpfInstruction { code, jt, jf, k };
    /// let nothing = Seccomp::new([op(0x06, 0, 0, 0x0005_0001)])?; // return SECCOMP_RET_ERRNO | EPERM
    /// let error = Command::new("/bin/true").no_new_privs().seccomp(nothing).plan().unwrap_err();
    /// assert!(error.to_string().contains("execve"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// * C call: seccomp(2) SECCOMP_SET_MODE_FILTER, Linux 3.17; flags as [`Seccomp`] says.
    /// * Needs [`no_new_privs`](Self::no_new_privs), or CAP_SYS_ADMIN among the payload's effective
    ///   [`capabilities`](Self::capabilities).
    /// * Errors: Invalid as said above; Busy when the caller is under a filter that has a listener.
    ///
    /// See <https://man7.org/linux/man-pages/man2/seccomp.2.html>.
    #[doc(alias("SECCOMP_SET_MODE_FILTER", "PR_SET_SECCOMP"))]
    pub fn seccomp(mut self, filter: Seccomp) -> Self {
        self.confinement.seccomp = Some(filter);
        self
    }

    /// Restricts the payload by the landlock ruleset of this descriptor, which landlock_create_ruleset(2) or the crate
    /// `landlock` made. The ruleset is that of the moment when the child runs; its rules are about what their descriptors
    /// meant then, in the caller's mounts, and do not know the files of a root that the child makes.
    ///
    /// The execve of the payload is subject to it too.
    ///
    /// * C call: landlock_restrict_self(2), Linux 5.13.
    /// * Needs [`no_new_privs`](Self::no_new_privs), or CAP_SYS_ADMIN in the child, which one in a new user namespace has,
    ///   whatever the payload's capabilities are.
    /// * Errors, when the plan is made: Invalid for a descriptor that is no ruleset;
    ///   [`Unsupported`](crate::ErrorKind::Unsupported) on older kernels and where landlock is switched off.
    ///
    /// ```
    /// use std::fs::File;
    ///
    /// use ns_core::Command;
    ///
    /// let error = Command::new("/bin/true").no_new_privs().landlock(File::open("/dev/null").unwrap()).plan().unwrap_err();
    /// assert_eq!(error.operation(), "landlock_restrict_self");
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/landlock_restrict_self.2.html>.
    #[doc(alias = "landlock_restrict_self")]
    pub fn landlock(mut self, ruleset: impl AsFd) -> Self {
        self.confinement.landlock = Some(ruleset.as_fd().try_clone_to_owned());
        self
    }
}

impl Confinement {
    pub(super) fn wants_landlock(&self) -> bool {
        self.landlock.is_some()
    }

    /// The ruleset; `may` says whether the child is allowed to apply it.
    pub(super) fn landlock_step(&self, may: bool) -> Result<Option<ConfinementStep>> {
        let Some(ruleset) = &self.landlock else { return Ok(None) };
        let call = "landlock_restrict_self";
        let on_ruleset = |error: Error| error.on(Subject::Thing("the landlock ruleset".into()));
        let ruleset = ruleset.as_ref().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", error));
        let ruleset =
            ruleset.and_then(|fd| fd.try_clone().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error)))?;
        match sys::is_landlock_ruleset(ruleset.as_fd()) {
            Ok(true) => {}
            Ok(false) => return Err(on_ruleset(Error::invalid(call, "this descriptor is no landlock ruleset"))),
            Err(errno) => {
                let hint = "landlock is not in the kernel, or switched off: see /sys/kernel/security/lsm and lsm= of its \
                            command line, or the seccomp profile of the container this runs in";
                let error = Error::from_errno(call, errno.0).or_unsupported("landlock", "5.13");
                return Err(on_ruleset(error.with_hint(hint)));
            }
        }
        if !may {
            let why = "this needs no_new_privs, or CAP_SYS_ADMIN in the child";
            return Err(on_ruleset(Error::invalid(call, why)).with_hint("add Command::no_new_privs"));
        }
        Ok(Some(ConfinementStep::Landlock { ruleset: Arc::new(ruleset) }))
    }

    /// The filter, right before `exec`; `may` says whether the payload is allowed to install it. Answers how many steps come
    /// after it.
    pub(super) fn seccomp_steps(
        &self,
        steps: &mut ChildSteps,
        sync: Slot,
        exec: &LaunchStep,
        timed: bool,
        may: bool,
    ) -> Result<Option<usize>> {
        let Some(filter) = &self.seccomp else { return Ok(None) };
        filter.check()?;
        if !may {
            let why = "a filter needs no_new_privs, or CAP_SYS_ADMIN among the payload's effective capabilities";
            return Err(Error::invalid("seccomp", why).with_hint("add Command::no_new_privs"));
        }
        for (name, number, arguments) in calls_of(exec, filter.has_listener(), timed) {
            ask(filter, name, number, arguments)?;
        }
        let listener = steps.slot();
        steps.push(ConfinementStep::Seccomp { filter: filter.clone(), listener });
        if filter.has_listener() {
            steps.push(ConfinementStep::SendListener { listener, sync });
            return Ok(Some(2));
        }
        Ok(Some(1))
    }
}

/// The calls that the child makes when its filter is installed.
fn calls_of(exec: &LaunchStep, listener: bool, timed: bool) -> Vec<(&'static str, i64, Arguments)> {
    let none = Some(0);
    let mut calls = Vec::new();
    let address = |array: &[usize]| Some(array.as_ptr() as u64);
    match exec {
        LaunchStep::Exec { paths, pointers, .. } => {
            let (argv, envp) = (address(&pointers.argv), address(&pointers.envp));
            for path in paths {
                let path = Some(path.as_ptr() as u64);
                calls.push(("execve", libc::SYS_execve, [path, argv, envp, none, none, none]));
            }
        }
        LaunchStep::ExecFd { pointers, .. } => {
            let (argv, envp) = (address(&pointers.argv), address(&pointers.envp));
            let flags = Some(libc::AT_EMPTY_PATH as u64);
            calls.push(("execveat", libc::SYS_execveat, [None, None, argv, envp, flags, none]));
        }
        LaunchStep::DieWithParent { .. } | LaunchStep::Reaper(_) => {}
    }
    calls.push(("exit_group", libc::SYS_exit_group, [Some(125), none, none, none, none, none]));
    if listener {
        let flags = Some(libc::MSG_NOSIGNAL as u64);
        calls.push(("sendmsg", libc::SYS_sendmsg, [None, None, flags, none, none, none]));
    }
    if timed {
        let clock = Some(libc::CLOCK_MONOTONIC as u64);
        calls.push(("clock_gettime", libc::SYS_clock_gettime, [clock, None, none, none, none, none]));
    }
    #[allow(clippy::useless_conversion, reason = "the type differs between machines")]
    calls.into_iter().map(|(name, number, arguments)| (name, i64::from(number), arguments)).collect()
}

/// Refuses a filter under which this call would not be made.
fn ask(filter: &Seccomp, name: &'static str, number: i64, arguments: Arguments) -> Result<()> {
    let arch = SeccompCall::NATIVE_ARCH;
    if arch == 0 {
        // A processor that has no name here: what such a filter compares with is not known.
        return Ok(());
    }
    let ends = |action: &SeccompAction| {
        use SeccompAction::{KillProcess, KillThread, Trap};
        name == "exit_group" && matches!(action, KillProcess | KillThread | Trap(_))
    };
    let answer = match filter.outcomes(&words_of(number as i32, arch, None, arguments)) {
        Outcomes::All(actions) => actions.into_iter().find(|action| !action.lets_through() && !ends(action)),
        Outcomes::Undetermined => {
            let why = format!("what the filter answers to {name} depends on what is not known beforehand");
            return Err(refused(filter, why, name));
        }
    };
    match answer {
        None => Ok(()),
        Some(action) => Err(refused(filter, format!("the filter answers {action} to {name}"), name)),
    }
}

fn refused(filter: &Seccomp, why: String, name: &'static str) -> Error {
    let hint = match name {
        "execve" | "execveat" => "the payload begins with this call, under its filter: allow it",
        "sendmsg" => "the listener's descriptor is sent to the caller by this call, under the filter: allow it",
        "clock_gettime" => {
            "the beginning of each step is noted by this call, under the filter: allow it, or leave out timed"
        }
        _ => "a child that failed ends by this call, under the filter: allow it",
    };
    let subject = Subject::Thing(format!("a filter of {} instructions", filter.program().len()));
    Error::invalid("seccomp", why).on(subject).with_hint(hint)
}
