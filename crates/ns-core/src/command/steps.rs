//! What a command becomes: the child's steps, in their order.
//!
//! ```text
//!   before the root   close, wait for "go", what needs the caller's privileges, join, clocks, ids of a new user
//!                     namespace, keyring, loopback, names
//!   the root          the lists of other crates
//!   after the root    reaper, session, terminal, landlock, descriptors, limits and scheduling, credentials, umask, signals,
//!                     directory, seccomp filter, execve
//! ```
//!
//! The order matters: ids inside a new user namespace come before the first file is made, since a file of an unmapped
//! owner cannot be; capabilities go after everything that needs them; the death of the parent is watched after the last
//! change of ids, which would clear the watch; and the working directory is looked up as the payload, not as root.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use cellkit_core::{ChildStep, ChildSteps, Error, ProcFd, ProcView, Result, Slot, Subject};

use super::Command;
use crate::ns_fd::AnyNamespace;
use crate::plan::{Body, List, Origin};
use crate::program::{Unshown, c_string, candidates, is_a_name};
use crate::stdio::EndSlots;
use crate::step::{CredentialStep, EnterStep, Front, LaunchStep, Pointers, ResourceStep, Step};
use crate::{Capability, CapabilitySet, Namespaces, Plan, sys};

/// What a command joins.
pub(super) struct Joining {
    joined: Vec<Arc<dyn AnyNamespace>>,
    /// Whether the first child only makes the one that becomes the payload.
    needs_successor: bool,
    /// Whether the payload comes into a user namespace.
    pub(super) new_user: bool,
}

impl Command {
    /// The lists of steps, in order, and what the clone itself needs.
    pub(super) fn into_plan(self) -> Result<Plan> {
        let joining = self.joining()?;
        let dumps_alone = sys::kernel_release().is_some_and(|release| release >= (5, 16));
        let stays_behind = self.reaper.is_some() || joining.needs_successor;
        let alone =
            joining.joined.is_empty() && !stays_behind && self.pre_exec.is_empty() && !self.resources.need_own_memory();
        let shares_memory = sys::CAN_SHARE_MEMORY && dumps_alone && !self.copies_memory && alone;
        let changes_ids = joining.new_user || self.credentials.changes_ids();
        // A time namespace is the child's own to make: clone3 would put it in at once, and then its clocks cannot be set.
        let namespaces = self.namespaces.difference(Namespaces::TIME);
        let (timed, fresh) = (self.timed, self.fresh());

        let (after, filtered) = self.payload_steps(joining.new_user)?;
        let before = self.namespace_steps(&joining)?;
        let namespaces_joined = joining.joined.iter().map(|namespace| Some(namespace.as_fd()));
        let entering = before.iter().map(ChildStep::inherits).chain(namespaces_joined);
        let foreign = self.roots.iter().flat_map(|list| list.iter().map(ChildStep::inherits));
        let later = after.iter().map(ChildStep::inherits);
        let mut keep: Vec<RawFd> =
            entering.chain(foreign).chain(later).flatten().map(|fd| fd.as_raw_fd()).filter(|fd| *fd > 2).collect();
        keep.sort_unstable();
        keep.dedup();
        let mut first = ChildSteps::new();
        let ends = EndSlots::first_of(&mut first);
        first.push(Step::CloseInherited { ends, keep });
        first.push(Step::AwaitGo { sync: ends.sync });

        let foreign = self.roots.into_iter().map(|steps| List { steps, own: false });
        let lists = [List { steps: first, own: true }, List { steps: before, own: true }]
            .into_iter()
            .chain(foreign)
            .chain([List { steps: after, own: true }])
            .collect();
        let cgroup = self.cgroup.transpose().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        let origin = Origin { set_tid: self.set_tid, sibling: self.sibling, watched: self.die_with_parent };
        Ok(Plan {
            body: Arc::new(Body {
                lists,
                shares_memory,
                changes_ids,
                timed,
                succeeds: joining.needs_successor,
                joins: !joining.joined.is_empty(),
                fresh,
                filtered,
            }),
            namespaces,
            cgroup,
            origin,
        })
    }

    /// What there is to join, and what that means for the child.
    pub(super) fn joining(&self) -> Result<Joining> {
        let joined = self.joined()?;
        let kinds = joined.iter().fold(Namespaces::empty(), |kinds, namespace| kinds | namespace.kind());
        let needs_successor = self.needs_successor(kinds);
        if needs_successor {
            self.check_successor()?;
        }
        // Whoever comes into a user namespace, new or not, has every capability there and should be its root.
        let new_user = (self.namespaces | kinds).contains(Namespaces::USER);
        Ok(Joining { joined, needs_successor, new_user })
    }

    /// From the root to execve, and how many of these steps are made under the payload's seccomp filter.
    pub(super) fn payload_steps(&self, new_user: bool) -> Result<(ChildSteps, Option<usize>)> {
        let mut steps = ChildSteps::new();
        let ends = EndSlots::first_of(&mut steps);
        let sync = ends.sync;
        if let Some(front) = self.reaper {
            if self.die_with_parent {
                steps.push(LaunchStep::DieWithParent { sync });
            }
            if self.new_session || self.wants_terminal() {
                // PID 1 too leaves the caller's terminal; the payload gets a session of its own below.
                steps.push(Step::NewSession);
            }
            // Before they part: a reaper that ignores SIGCHLD would not hear of its payload's end.
            steps.push(Step::ResetDispositions);
            steps.push(LaunchStep::Reaper(front));
        }
        let terminal = self.terminal_steps(&mut steps, &ends);
        let no_new_privs = self.credentials.no_new_privs;
        let may = |has: Result<bool>| has.map(|has| has || no_new_privs);
        let may_restrict = may(self.credentials.child_has(Capability::SYS_ADMIN, new_user))?;
        if let Some(step) = self.confinement.landlock_step(may_restrict)? {
            if no_new_privs {
                steps.push(CredentialStep::NoNewPrivileges);
            }
            steps.push(step);
        }
        let program = self.descriptor_steps(&mut steps, &ends, terminal, self.program_fd.as_slice())?;
        self.resources.steps(&mut steps);
        self.credentials.steps(&mut steps, new_user)?;
        // Whoever kills PID 1 kills its namespace; the kernel knows no such thing of a subreaper, which is the payload's parent.
        let orphaned = self.die_with_parent && self.reaper.is_none() || self.reaper == Some(Front::Subreaper);
        if orphaned {
            steps.push(LaunchStep::DieWithParent { sync });
        }
        if no_new_privs && !self.confinement.wants_landlock() {
            steps.push(CredentialStep::NoNewPrivileges);
        }
        steps.push(self.resources.umask_step());
        if self.reaper.is_none() {
            steps.push(Step::ResetDispositions);
        }
        if let Some(dir) = &self.dir {
            steps.push(Step::Chdir(c_string(dir, "chdir")?));
        }
        for closure in &self.pre_exec {
            steps.push(closure.clone());
        }
        steps.push(Step::VerifyCwd);
        steps.push(Step::UnblockSignals);
        let exec = self.exec_step(program.first().copied())?;
        let may_filter = may(self.credentials.payload_has(Capability::SYS_ADMIN, new_user))?;
        let filtered = self.confinement.seccomp_steps(&mut steps, sync, &exec, self.timed, may_filter)?;
        steps.push(exec);
        Ok((steps, filtered))
    }

    /// From the clone to the root: joins, clocks, ids inside a new user namespace, names.
    pub(super) fn namespace_steps(&self, joining: &Joining) -> Result<ChildSteps> {
        let Joining { joined, needs_successor, new_user } = joining;
        let mut steps = ChildSteps::new();
        // This crate's lists have the socket in their first slot.
        let sync = steps.slot();
        steps.push(ResourceStep::Umask(0));
        // A list of steps for a root begins with its own.
        if self.namespaces.contains(Namespaces::MOUNT) && self.roots.is_empty() {
            if let Some((flag, name)) = self.propagation.flag() {
                steps.push(Step::Propagation { flag, name });
            }
        }
        self.resources.early_steps(&mut steps)?;
        let into_another = joined.iter().any(|namespace| namespace.kind() == Namespaces::USER);
        let groups = (*new_user && !self.credentials.keep_groups).then_some(CredentialStep::Groups {
            ids: Vec::new(),
            reason: "the caller's groups are not the container's",
        });
        // In a user namespace that somebody else made, setgroups may be denied: whoever may drops them before.
        let may = || CapabilitySet::of_this_thread().is_ok_and(|set| set.contains(Capability::SETGID));
        let (early, late) = if into_another && may() { (groups, None) } else { (None, groups) };
        if let Some(groups) = early {
            steps.push(groups);
        }
        if !joined.is_empty() {
            let failed = steps.slot();
            steps.push(EnterStep::Hide);
            steps.push(EnterStep::join(joined, failed));
            steps.push(EnterStep::LetGo(joined.clone()));
        }
        if let Some(offsets) = self.new_time() {
            let proc = Arc::new(ProcFd::open(ProcView::Processes)?);
            steps.push(EnterStep::UnshareTime);
            steps.push(EnterStep::TimeOffsets { proc, text: offsets.text() });
        }
        if *needs_successor {
            // Joining a user namespace has set it to fs.suid_dumpable.
            steps.push(EnterStep::Hide);
            steps.push(EnterStep::Succeed { sync });
        }
        if *new_user {
            let reason = "files made for the container belong to its root";
            if let Some(groups) = late {
                steps.push(groups);
            }
            steps.push(CredentialStep::Gid { id: 0, reason });
            steps.push(CredentialStep::Uid { id: 0, reason });
        }
        if let Some(step) = self.credentials.keyring_step()? {
            steps.push(step);
        }
        if self.loopback {
            steps.push(Step::LoopbackUp);
        }
        if let Some(name) = &self.hostname {
            steps.push(Step::Hostname(c_string(name, "sethostname")?));
        }
        if let Some(name) = &self.domainname {
            steps.push(Step::Domainname(c_string(name, "setdomainname")?));
        }
        Ok(steps)
    }

    /// `program` is where its descriptor is, when it was given as one.
    fn exec_step(&self, program: Option<Slot>) -> Result<LaunchStep> {
        let arg0 = self.arg0.as_ref().unwrap_or(&self.program);
        let argv =
            std::iter::once(arg0).chain(&self.args).map(|arg| c_string(arg, "execve")).collect::<Result<Vec<_>>>()?;
        let mut envp = Vec::new();
        for (name, value) in &self.environment.0 {
            if !is_a_name(name) {
                let subject = Subject::Value(name.to_string_lossy().into_owned());
                return Err(Error::invalid("execve", "a variable's name is not empty and holds no =").on(subject));
            }
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            envp.push(c_string(entry, "execve")?);
        }
        let pointers = Pointers::to(&argv, &envp);
        let envp = Unshown(envp);
        if let Some(program) = program {
            return Ok(LaunchStep::ExecFd { program, argv, envp, pointers });
        }
        let path = self.environment.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let paths = candidates(&self.program, path)?;
        Ok(LaunchStep::Exec { paths, argv, envp, pointers })
    }
}
