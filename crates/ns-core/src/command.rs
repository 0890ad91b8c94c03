//! What a start is to be: the builder.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellkit_core::{ChildSteps, Error, ProcFd, ProcView, Result, Slot, Subject};

use crate::namespaces::{Kind, NsFd, TimeOffsets};
use crate::plan::{Body, List};
use crate::program::{c_string, candidates};
use crate::step::{Pointers, Source, Step};
use crate::{Capability, CapabilitySet, Child, Namespaces, PausedChild, Plan, sys};

/// Where one of the payload's three standard descriptors comes from.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// The caller's own, or `/dev/null` when the caller has none.
    #[default]
    Inherit,
    /// `/dev/null` of the caller's machine.
    Null,
    /// This descriptor.
    Fd(OwnedFd),
}

/// A start to be: like [`std::process::Command`], with namespaces, and with nothing inherited by accident.
///
/// Setters collect and never fail; [`plan`](Self::plan) checks everything, and [`spawn`](Self::spawn) is `plan` and then
/// [`Plan::spawn`].
///
/// Unless asked otherwise the payload has no capabilities, its own session keyring, umask 022, default signal dispositions,
/// all CPUs it may use, the caller's environment and standard descriptors, and no other descriptor.
#[must_use = "a command does nothing until it is started"]
#[derive(Debug)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    arg0: Option<OsString>,
    environment: BTreeMap<OsString, OsString>,
    namespaces: Namespaces,
    joins: Vec<Step>,
    time: Option<TimeOffsets>,
    loopback: bool,
    hostname: Option<OsString>,
    domainname: Option<OsString>,
    cgroup: Option<std::io::Result<OwnedFd>>,
    roots: Vec<ChildSteps>,
    dir: Option<PathBuf>,
    stdio: [Stdio; 3],
    terminal: bool,
    user: Option<(u32, u32)>,
    groups: Option<Vec<u32>>,
    keep_groups: bool,
    capabilities: CapabilitySet,
    no_new_privs: bool,
    new_session: bool,
    die_with_parent: bool,
    init: bool,
    timed: bool,
}

impl Command {
    /// A command that runs `program`: a path, or a name to be looked for in the payload's PATH inside its root.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            arg0: None,
            environment: std::env::vars_os().collect(),
            namespaces: Namespaces::empty(),
            joins: Vec::new(),
            time: None,
            loopback: false,
            hostname: None,
            domainname: None,
            cgroup: None,
            roots: Vec::new(),
            dir: None,
            stdio: Default::default(),
            terminal: false,
            user: None,
            groups: None,
            keep_groups: false,
            capabilities: CapabilitySet::EMPTY,
            no_new_privs: false,
            new_session: false,
            die_with_parent: false,
            init: false,
            timed: false,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What the payload sees as `argv[0]`, instead of the program as given.
    pub fn arg0(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.arg0 = Some(arg.as_ref().to_owned());
        self
    }

    /// Sets a variable of the payload's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Starts from an empty environment instead of the caller's.
    pub fn env_clear(mut self) -> Self {
        self.environment.clear();
        self
    }

    /// The kinds of namespace that the payload gets new ones of.
    #[doc(alias("unshare", "CLONE_NEWNS", "CLONE_NEWUSER", "CLONE_NEWPID"))]
    pub fn namespaces(mut self, kinds: Namespaces) -> Self {
        self.namespaces |= kinds;
        self
    }

    /// Joins an existing namespace, as setns(2) does, after the new ones were made.
    ///
    /// The child then gets a copy of the caller's memory instead of sharing it: see [`Plan::shares_memory`].
    ///
    /// Privileges: CAP_SYS_ADMIN in the user namespace that owns it, held by the child.
    #[doc(alias = "setns")]
    pub fn join<K: Kind>(mut self, namespace: NsFd<K>) -> Self {
        let shown = namespace.to_string();
        let flag_name = NsFd::<K>::clone_flag_name();
        self.joins.push(Step::Join { fd: Arc::new(namespace.into()), flag: NsFd::<K>::CLONE_FLAG, flag_name, shown });
        self
    }

    /// Gives the payload a time namespace with these offsets. Linux 6.3: older kernels do not enter it at execve, and
    /// [`plan`](Self::plan) answers [`Unsupported`](crate::ErrorKind::Unsupported).
    #[doc(alias("CLONE_NEWTIME", "timens_offsets"))]
    pub fn time_offsets(mut self, offsets: TimeOffsets) -> Self {
        self.time = Some(offsets);
        self
    }

    /// Brings the loopback interface of a new network namespace up: `ip link set lo up`.
    #[doc(alias = "SIOCSIFFLAGS")]
    pub fn loopback_up(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Sets the host name: with [`Namespaces::UTS`], or it would be the machine's. At most 64 bytes.
    #[doc(alias = "sethostname")]
    pub fn hostname(mut self, name: impl AsRef<OsStr>) -> Self {
        self.hostname = Some(name.as_ref().to_owned());
        self
    }

    /// Sets the NIS domain name: with [`Namespaces::UTS`]. At most 64 bytes.
    #[doc(alias = "setdomainname")]
    pub fn domainname(mut self, name: impl AsRef<OsStr>) -> Self {
        self.domainname = Some(name.as_ref().to_owned());
        self
    }

    /// Starts the child in the cgroup of this directory: born there, not moved (Linux 5.7).
    #[doc(alias = "CLONE_INTO_CGROUP")]
    pub fn into_cgroup(mut self, cgroup: impl AsFd) -> Self {
        self.cgroup = Some(cgroup.as_fd().try_clone_to_owned());
        self
    }

    /// Adds steps of another crate that the child runs once it is in its namespaces: `mountkit`'s root file system.
    ///
    /// The umask is 0 while they run. Several lists run in the order in which they were added.
    pub fn steps(mut self, steps: ChildSteps) -> Self {
        self.roots.push(steps);
        self
    }

    /// The payload's working directory, inside its root.
    #[doc(alias = "chdir")]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// The payload's standard input.
    pub fn stdin(mut self, stdio: Stdio) -> Self {
        self.stdio[0] = stdio;
        self
    }

    /// The payload's standard output.
    pub fn stdout(mut self, stdio: Stdio) -> Self {
        self.stdio[1] = stdio;
        self
    }

    /// The payload's standard error.
    pub fn stderr(mut self, stdio: Stdio) -> Self {
        self.stdio[2] = stdio;
        self
    }

    /// Gives the payload a pseudo-terminal of its own devpts, on all three standard descriptors, as its controlling terminal
    /// and as `/dev/console`; the caller's end is [`Child::take_terminal`].
    ///
    /// The root needs a devpts at `/dev/pts` and a file `/dev/console`.
    #[doc(alias("pty", "openpt", "TIOCSCTTY"))]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// The payload's user and group ids, as seen in its user namespace. Supplementary groups become none, but see
    /// [`groups`](Self::groups) and [`keep_groups`](Self::keep_groups).
    #[doc(alias("setuid", "setgid"))]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// The payload's supplementary groups.
    #[doc(alias = "setgroups")]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups = Some(groups.into_iter().collect());
        self
    }

    /// Leaves the supplementary groups alone: the only way where setgroups is denied, as in a user namespace that an
    /// ordinary user maps without newgidmap.
    pub fn keep_groups(mut self) -> Self {
        self.keep_groups = true;
        self
    }

    /// The capabilities of the payload: bounding, permitted and effective become exactly these, inheritable and ambient
    /// empty. Not asked for means none. A payload whose uid is not 0 loses permitted and effective at execve, as always.
    #[doc(alias("capset", "PR_CAPBSET_DROP"))]
    pub fn capabilities(mut self, set: CapabilitySet) -> Self {
        self.capabilities = set;
        self
    }

    /// No program that the payload runs can gain privileges. Linux 3.5.
    #[doc(alias = "PR_SET_NO_NEW_PRIVS")]
    pub fn no_new_privs(mut self) -> Self {
        self.no_new_privs = true;
        self
    }

    /// Makes the payload the leader of a new session, without a controlling terminal.
    #[doc(alias = "setsid")]
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Kills the payload (with a new pid namespace: all of it) when the *thread* that starts it ends, and so when the
    /// process does.
    ///
    /// The kernel watches the thread. Start from one that lives as long as the payload should: the main thread, not one of
    /// a pool that may end.
    #[doc(alias = "PR_SET_PDEATHSIG")]
    pub fn kill_with_parent_thread(mut self) -> Self {
        self.die_with_parent = true;
        self
    }

    /// Puts a reaper in front of the payload as PID 1, with [`Namespaces::PID`]: it reaps orphans, passes signals on, and
    /// ends as the payload ends (128 and the signal when one killed it).
    ///
    /// The reaper keeps a copy of the caller's memory as it was, which nobody in the container may read (it is not
    /// dumpable); start it from a program that holds no secrets it could not bear there.
    #[doc(alias("tini", "zombie"))]
    pub fn init(mut self) -> Self {
        self.init = true;
        self
    }

    /// Writes down when each step began, for the observer of [`PausedChild::resume`].
    pub fn timed(mut self) -> Self {
        self.timed = true;
        self
    }

    /// Checks everything, without privilege and without effect, and makes the list of system calls.
    ///
    /// # Errors
    /// Invalid for what can be known to be wrong beforehand: NUL bytes, a host name over 64 bytes, a reaper without a pid
    /// namespace, an id of 4294967295. [`Unsupported`](crate::ErrorKind::Unsupported) for what this kernel lacks.
    pub fn plan(self) -> Result<Plan> {
        self.check()?;
        let mut after = ChildSteps::new();
        let sync = after.slot();
        let joins_others = !self.joins.is_empty();
        let shares_memory = sys::CAN_SHARE_MEMORY && !joins_others && !self.init;
        let new_user = self.namespaces.contains(Namespaces::USER);
        let changes_ids = self.user.is_some() || new_user || self.groups.is_some();
        let namespaces = self.namespaces;
        let timed = self.timed;

        // What comes after the root, in order.
        if self.init {
            if self.die_with_parent {
                after.push(Step::DieWithParent { sync });
            }
            after.push(Step::Reaper);
        }
        let terminal = self.terminal_steps(&mut after, sync);
        self.descriptor_steps(&mut after, sync, terminal)?;
        self.credential_steps(&mut after, new_user);
        if self.die_with_parent && !self.init {
            after.push(Step::DieWithParent { sync });
        }
        if self.no_new_privs {
            after.push(Step::NoNewPrivileges);
        }
        after.push(Step::Umask(0o022));
        after.push(Step::ResetAffinity);
        after.push(Step::ResetDispositions);
        if let Some(dir) = &self.dir {
            after.push(Step::Chdir(c_string(dir, "chdir")?));
        }
        after.push(Step::VerifyCwd);
        after.push(Step::UnblockSignals);
        after.push(self.exec_step()?);

        let mut before = ChildSteps::new();
        let sync = before.slot();
        let rest = self.namespace_steps(new_user)?;
        let lists = rest.iter().map(Step::inherited);
        let foreign = self.roots.iter().flat_map(|list| list.iter().map(cellkit_core::ChildStep::inherits));
        let later = after.iter().map(cellkit_core::ChildStep::inherits);
        let mut keep: Vec<RawFd> =
            lists.chain(foreign).chain(later).flatten().map(|fd| fd.as_raw_fd()).filter(|fd| *fd > 2).collect();
        keep.sort_unstable();
        keep.dedup();
        before.push(Step::CloseInherited { sync, keep });
        before.push(Step::AwaitGo { sync });
        for step in rest {
            before.push(step);
        }

        let foreign = self.roots.into_iter().map(|steps| List { steps, own: false });
        let lists = std::iter::once(List { steps: before, own: true })
            .chain(foreign)
            .chain([List { steps: after, own: true }])
            .collect();
        let cgroup = self.cgroup.transpose().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        Ok(Plan { body: Arc::new(Body { lists, shares_memory, changes_ids, timed }), namespaces, cgroup })
    }

    /// [`plan`](Self::plan) and [`Plan::spawn_paused`].
    ///
    /// # Errors
    /// Those of both.
    pub fn spawn_paused(self) -> Result<PausedChild> {
        self.plan()?.spawn_paused()
    }

    /// [`plan`](Self::plan) and [`Plan::spawn`].
    ///
    /// # Errors
    /// Those of both.
    pub fn spawn(self) -> Result<Child> {
        self.plan()?.spawn()
    }

    fn check(&self) -> Result<()> {
        for (call, name) in [("sethostname", &self.hostname), ("setdomainname", &self.domainname)] {
            let Some(name) = name else { continue };
            let subject = || Subject::Value(name.to_string_lossy().into_owned());
            if name.is_empty() || name.len() > 64 {
                return Err(Error::invalid(call, "a name has 1 to 64 bytes").on(subject()));
            }
            if !self.namespaces.contains(Namespaces::UTS) {
                return Err(Error::invalid(call, "without a UTS namespace this would rename the machine").on(subject()));
            }
        }
        if self.loopback && !self.namespaces.contains(Namespaces::NET) {
            return Err(Error::invalid(
                "ioctl SIOCSIFFLAGS",
                "without a network namespace this would be the machine's own",
            ));
        }
        if self.init && !self.namespaces.contains(Namespaces::PID) {
            return Err(Error::invalid("clone", "a reaper needs a pid namespace to be PID 1 of"));
        }
        let ids = self.user.iter().flat_map(|(uid, gid)| [*uid, *gid]).chain(self.groups.iter().flatten().copied());
        for id in ids {
            if id == u32::MAX {
                let why = "4294967295 is not an id: the kernel takes it to mean \"unchanged\"";
                return Err(Error::invalid("setresuid", why).on(Subject::Value(id.to_string())));
            }
        }
        if self.time.is_some() && sys::kernel_release().is_some_and(|release| release < (6, 3)) {
            return Err(Error::unsupported(
                "unshare CLONE_NEWTIME",
                "entering a time namespace at execve",
                Some("6.3"),
            ));
        }
        Ok(())
    }

    /// From the clone to the root: joins, clocks, ids inside a new user namespace, names.
    fn namespace_steps(&self, new_user: bool) -> Result<Vec<Step>> {
        let mut steps = vec![Step::Umask(0)];
        for join in &self.joins {
            if let Step::Join { fd, flag, flag_name, shown } = join {
                steps.push(Step::Join { fd: Arc::clone(fd), flag: *flag, flag_name, shown: shown.clone() });
            }
        }
        if let Some(offsets) = self.time {
            let proc = Arc::new(ProcFd::open(ProcView::Processes)?);
            steps.push(Step::UnshareTime);
            steps.push(Step::TimeOffsets { proc, text: offsets.text() });
        }
        if new_user {
            let reason = "files made for the container belong to its root";
            if !self.keep_groups {
                steps.push(Step::Groups { ids: Vec::new(), reason: "the caller's groups are not the container's" });
            }
            steps.push(Step::Gid { id: 0, reason });
            steps.push(Step::Uid { id: 0, reason });
        }
        steps.push(Step::NewKeyring);
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
        steps.push(Step::OpenMaster { out: master });
        steps.push(Step::UnlockPeer { master });
        steps.push(Step::OpenPeer { master, out: peer });
        steps.push(Step::SendTerminal { master, sync });
        steps.push(Step::ControllingTerminal { peer });
        steps.push(Step::CloneConsole { peer, out: console });
        steps.push(Step::AttachConsole { console });
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
                (None, Stdio::Inherit) if sys::is_open(target) => continue,
                (None, Stdio::Inherit | Stdio::Null) => Source::Owned(Arc::new(null()?)),
                (None, Stdio::Fd(fd)) => Source::Owned(Arc::new(
                    fd.try_clone().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?,
                )),
            };
            let out = steps.slot();
            steps.push(Step::Lift { source, above, out });
            places.push(Step::Place { from: out, target });
        }
        for place in places {
            steps.push(place);
        }
        steps.push(Step::LiftSync { sync, above });
        steps.push(Step::CloseOthers { sync, keep });
        Ok(())
    }

    fn credential_steps(&self, steps: &mut ChildSteps, new_user: bool) {
        // Dropping from the bounding set is a privilege; who has none cannot, and has nothing to drop from but what
        // set-user-id programs would give: that is what no_new_privs is for.
        let may_bound = new_user || CapabilitySet::of_this_thread().is_ok_and(|set| set.contains(Capability::SETPCAP));
        if may_bound && self.capabilities != CapabilitySet::FULL {
            steps.push(Step::BoundCapabilities(self.capabilities));
        }
        let reason = "the payload's user";
        if self.user.is_some() {
            steps.push(Step::KeepCapabilities);
        }
        let groups = self.groups.clone().or_else(|| self.user.map(|_| Vec::new()));
        if let (Some(ids), false) = (groups, self.keep_groups) {
            steps.push(Step::Groups { ids, reason: "the payload's supplementary groups" });
        }
        if let Some((uid, gid)) = self.user {
            steps.push(Step::Gid { id: gid, reason });
            steps.push(Step::Uid { id: uid, reason });
        }
        steps.push(Step::Capabilities(self.capabilities));
        steps.push(Step::ClearAmbient);
    }

    fn exec_step(&self) -> Result<Step> {
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
        Ok(Step::Exec { paths, argv, envp, pointers })
    }
}

/// `/dev/null` of the caller's machine.
fn null() -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let file = std::fs::File::options().read(true).write(true).open(path);
    file.map(OwnedFd::from).map_err(|error| Error::from_io("openat", &error).on(path))
}
