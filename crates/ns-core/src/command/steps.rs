//! What a command becomes: the child's steps, in their order.
//!
//! ```text
//!   before the root   close, wait for "go", what needs the caller's privileges, join, clocks, ids of a new user
//!                     namespace, keyring, loopback, names
//!   the root          the lists of other crates
//!   after the root    reaper, session, terminal, descriptors, limits and scheduling, credentials, umask, signals,
//!                     directory, execve
//! ```
//!
//! The order matters: ids inside a new user namespace come before the first file is made, since a file of an unmapped
//! owner cannot be; capabilities go after everything that needs them; the death of the parent is watched after the last
//! change of ids, which would clear the watch; and the working directory is looked up as the payload, not as root.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use cellkit_core::{ChildStep, ChildSteps, Error, ProcFd, ProcView, Result, Slot, Subject};

use super::{Command, Stdio};
use crate::ns_fd::AnyNamespace;
use crate::plan::{Body, List, Origin};
use crate::program::{c_string, candidates};
use crate::step::{
    CredentialStep, DescriptorStep, EnterStep, LaunchStep, Pointers, ResourceStep, Source, Step, TerminalStep,
};
use crate::{Capability, CapabilitySet, Namespaces, Plan, sys};

impl Command {
    /// The lists of steps, in order, and what the clone itself needs.
    pub(super) fn into_plan(self) -> Result<Plan> {
        let mut after = ChildSteps::new();
        let sync = after.slot();
        let joined = self.joined()?;
        let kinds = joined.iter().fold(Namespaces::empty(), |kinds, namespace| kinds | namespace.kind());
        let needs_successor = self.needs_successor(kinds);
        if needs_successor {
            self.check_successor()?;
        }
        let dumps_alone = sys::kernel_release().is_some_and(|release| release >= (5, 16));
        let stays_behind = self.init || needs_successor;
        let alone = joined.is_empty() && !stays_behind && !self.resources.need_own_memory();
        let shares_memory = sys::CAN_SHARE_MEMORY && dumps_alone && !self.copies_memory && alone;
        // Whoever comes into a user namespace, new or not, has every capability there and should be its root.
        let new_user = (self.namespaces | kinds).contains(Namespaces::USER);
        let changes_ids = new_user || self.credentials.changes_ids();
        // A time namespace is the child's own to make: clone3 would put it in at once, and then its clocks cannot be set.
        let namespaces = self.namespaces.difference(Namespaces::TIME);
        let timed = self.timed;

        // What comes after the root, in order.
        if self.init {
            if self.die_with_parent {
                after.push(LaunchStep::DieWithParent { sync });
            }
            if self.new_session || self.terminal {
                // PID 1 too leaves the caller's terminal; the payload gets a session of its own below.
                after.push(Step::NewSession);
            }
            after.push(LaunchStep::Reaper);
        }
        let terminal = self.terminal_steps(&mut after, sync);
        self.descriptor_steps(&mut after, sync, terminal)?;
        self.resources.steps(&mut after);
        self.credentials.steps(&mut after, namespaces)?;
        if self.die_with_parent && !self.init {
            after.push(LaunchStep::DieWithParent { sync });
        }
        if self.credentials.no_new_privs {
            after.push(CredentialStep::NoNewPrivileges);
        }
        after.push(self.resources.umask_step());
        after.push(Step::ResetDispositions);
        if let Some(dir) = &self.dir {
            after.push(Step::Chdir(c_string(dir, "chdir")?));
        }
        after.push(Step::VerifyCwd);
        after.push(Step::UnblockSignals);
        after.push(self.exec_step()?);

        let before = self.namespace_steps(new_user, &joined, needs_successor)?;
        let namespaces_joined = joined.iter().map(|namespace| Some(namespace.as_fd()));
        let entering = before.iter().map(ChildStep::inherits).chain(namespaces_joined);
        let foreign = self.roots.iter().flat_map(|list| list.iter().map(ChildStep::inherits));
        let later = after.iter().map(ChildStep::inherits);
        let mut keep: Vec<RawFd> =
            entering.chain(foreign).chain(later).flatten().map(|fd| fd.as_raw_fd()).filter(|fd| *fd > 2).collect();
        keep.sort_unstable();
        keep.dedup();
        let mut first = ChildSteps::new();
        let sync = first.slot();
        first.push(Step::CloseInherited { sync, keep });
        first.push(Step::AwaitGo { sync });

        let foreign = self.roots.into_iter().map(|steps| List { steps, own: false });
        let lists = [List { steps: first, own: true }, List { steps: before, own: true }]
            .into_iter()
            .chain(foreign)
            .chain([List { steps: after, own: true }])
            .collect();
        let cgroup = self.cgroup.transpose().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        let origin = Origin { set_tid: self.set_tid, sibling: self.sibling, watched: self.die_with_parent };
        Ok(Plan { body: Arc::new(Body { lists, shares_memory, changes_ids, timed }), namespaces, cgroup, origin })
    }

    /// From the clone to the root: joins, clocks, ids inside a new user namespace, names.
    fn namespace_steps(
        &self,
        new_user: bool,
        joined: &[Arc<dyn AnyNamespace>],
        needs_successor: bool,
    ) -> Result<ChildSteps> {
        let mut steps = ChildSteps::new();
        // This crate's lists have the socket in their first slot.
        let sync = steps.slot();
        steps.push(ResourceStep::Umask(0));
        self.resources.early_steps(&mut steps)?;
        let into_another = joined.iter().any(|namespace| namespace.kind() == Namespaces::USER);
        let groups = (new_user && !self.credentials.keep_groups).then_some(CredentialStep::Groups {
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
            steps.push(EnterStep::LetGo(joined.to_vec()));
        }
        if let Some(offsets) = self.new_time() {
            let proc = Arc::new(ProcFd::open(ProcView::Processes)?);
            steps.push(EnterStep::UnshareTime);
            steps.push(EnterStep::TimeOffsets { proc, text: offsets.text() });
        }
        if needs_successor {
            // Joining a user namespace has set it to fs.suid_dumpable.
            steps.push(EnterStep::Hide);
            steps.push(EnterStep::Succeed { sync });
        }
        if new_user {
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

    /// The session and the terminal; where there is one, the slot of the payload's end.
    fn terminal_steps(&self, steps: &mut ChildSteps, sync: Slot) -> Option<Slot> {
        if self.new_session || self.terminal {
            steps.push(Step::NewSession);
        }
        if !self.terminal {
            return None;
        }
        let (master, peer, console) = (steps.slot(), steps.slot(), steps.slot());
        steps.push(TerminalStep::OpenMaster { out: master });
        steps.push(TerminalStep::UnlockPeer { master });
        if let Some((rows, columns)) = self.terminal_size {
            steps.push(TerminalStep::WindowSize { master, rows, columns });
        }
        steps.push(TerminalStep::OpenPeer { master, out: peer });
        steps.push(TerminalStep::SendTerminal { master, sync });
        steps.push(TerminalStep::ControllingTerminal { peer });
        steps.push(TerminalStep::CloneConsole { peer, out: console });
        steps.push(TerminalStep::AttachConsole { console });
        Some(peer)
    }

    /// The payload's table of descriptors: each source is first moved above the numbers wanted, then put in its place.
    fn descriptor_steps(&self, steps: &mut ChildSteps, sync: Slot, terminal: Option<Slot>) -> Result<()> {
        let keep: Vec<RawFd> = vec![0, 1, 2];
        let above = 3;
        let mut places = Vec::new();
        for (target, stdio) in (0..).zip(&self.stdio) {
            let source = match (terminal, stdio) {
                (Some(peer), _) => Source::Slot(peer),
                // Its own place already.
                (None, Stdio::Inherit) if sys::is_open(target) => {
                    let subject = || Subject::Thing(format!("standard descriptor {target}"));
                    if sys::is_directory(target).map_err(|errno| Error::from_errno("fstat", errno.0).on(subject()))? {
                        let why = "a directory here would be a way out of the container's root";
                        return Err(Error::invalid("fstat", why)
                            .on(subject())
                            .with_hint("give it a file, a pipe, or /dev/null"));
                    }
                    continue;
                }
                (None, Stdio::Inherit | Stdio::Null) => Source::Owned(Arc::new(null()?)),
                (None, Stdio::Fd(fd)) => Source::Owned(Arc::new(
                    fd.try_clone().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?,
                )),
            };
            let out = steps.slot();
            steps.push(DescriptorStep::Lift { source, above, out });
            places.push(DescriptorStep::Place { from: out, target });
        }
        for place in places {
            steps.push(place);
        }
        steps.push(DescriptorStep::LiftSync { sync, above });
        steps.push(DescriptorStep::CloseOthers { sync, keep });
        Ok(())
    }

    fn exec_step(&self) -> Result<LaunchStep> {
        let path = self.environment.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let paths = candidates(&self.program, path)?;
        let arg0 = self.arg0.as_ref().unwrap_or(&self.program);
        let argv =
            std::iter::once(arg0).chain(&self.args).map(|arg| c_string(arg, "execve")).collect::<Result<Vec<_>>>()?;
        let mut envp = Vec::new();
        for (name, value) in &self.environment {
            if name.is_empty() || name.as_encoded_bytes().contains(&b'=') {
                let subject = Subject::Value(name.to_string_lossy().into_owned());
                return Err(Error::invalid("execve", "a variable's name is not empty and holds no =").on(subject));
            }
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            envp.push(c_string(entry, "execve")?);
        }
        let pointers = Pointers::to(&argv, &envp);
        Ok(LaunchStep::Exec { paths, argv, envp, pointers })
    }
}

/// `/dev/null` of the caller's machine.
fn null() -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let file = std::fs::File::options().read(true).write(true).open(path);
    file.map(OwnedFd::from).map_err(|error| Error::from_io("openat", &error).on(path))
}
