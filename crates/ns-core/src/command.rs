//! What a start is to be: the builder.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellkit_core::{ChildSteps, Error, Result, Subject};

use crate::namespaces::TimeOffsets;
use crate::step::Front;
use crate::sys::PreExec;
use crate::{Child, MountPropagation, Namespaces, PausedChild, Plan};

mod confinement;
mod credentials;
mod init;
mod join;
mod origin;
mod resources;
mod run;
mod stdio;
mod steps;

use confinement::Confinement;
use credentials::Credentials;
use resources::Resources;
use stdio::Descriptors;

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
    program_fd: Option<Arc<OwnedFd>>,
    args: Vec<OsString>,
    arg0: Option<OsString>,
    environment: BTreeMap<OsString, OsString>,
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
    /// A command that runs `program`: a path, or a name to be looked for in the payload's PATH inside its root.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            program_fd: None,
            args: Vec::new(),
            arg0: None,
            environment: std::env::vars_os().collect(),
            namespaces: Namespaces::empty(),
            propagation: MountPropagation::default(),
            joins: Vec::new(),
            time: None,
            loopback: false,
            hostname: None,
            domainname: None,
            cgroup: None,
            roots: Vec::new(),
            dir: None,
            descriptors: Descriptors::default(),
            credentials: Credentials::default(),
            confinement: Confinement::default(),
            resources: Resources::default(),
            new_session: false,
            new_group: false,
            die_with_parent: false,
            set_tid: Vec::new(),
            sibling: false,
            reaper: None,
            pre_exec: Vec::new(),
            copies_memory: false,
            timed: false,
        }
    }

    /// A command that runs the program behind a descriptor, whatever is at its path by then, or in no path at all. `arg0`
    /// is what it sees as `argv[0]`.
    ///
    /// The payload does not get the descriptor. So a script cannot be run like this, whose interpreter would have to open
    /// it again: that fails with ENOENT, and a hint.
    ///
    /// * C call: execveat(2) with AT_EMPTY_PATH, Linux 3.19. O_PATH descriptors will do.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let echo = std::fs::File::open("/bin/true").unwrap();
    /// assert!(Command::from_fd(echo, "true").spawn()?.wait()?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See execveat(2): <https://man7.org/linux/man-pages/man2/execveat.2.html>.
    #[doc(alias("execveat", "fexecve"))]
    pub fn from_fd(program: impl Into<OwnedFd>, arg0: impl AsRef<OsStr>) -> Self {
        Self { program_fd: Some(Arc::new(program.into())), ..Self::new(arg0) }
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

    /// Sets variables of the payload's environment.
    pub fn envs(mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        let variables = variables.into_iter();
        self.environment.extend(variables.map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())));
        self
    }

    /// Leaves a variable out of the payload's environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.remove(name.as_ref());
        self
    }

    /// Starts from an empty environment instead of the caller's.
    pub fn env_clear(mut self) -> Self {
        self.environment.clear();
        self
    }

    /// The kinds of namespace that the payload gets new ones of.
    ///
    /// In a new mount namespace all mounts are made private, as unshare(1) does, or what the payload mounts would appear on
    /// the machine where that is shared: see [`propagation`](Self::propagation).
    ///
    /// With [`Namespaces::USER`] the payload is user and group 0 of that namespace, unless [`user`](Self::user) says
    /// otherwise, and somebody has to write id maps in which they are: see [`spawn_paused`](Self::spawn_paused).
    ///
    /// [`Namespaces::TIME`] alone is as [`time_offsets`](Self::time_offsets) with offsets of zero.
    #[doc(alias("unshare", "CLONE_NEWNS", "CLONE_NEWUSER", "CLONE_NEWPID"))]
    pub fn namespaces(mut self, kinds: Namespaces) -> Self {
        self.namespaces |= kinds;
        self
    }

    /// How the mounts of a new mount namespace hang together with the caller's: private unless asked otherwise. A root made
    /// by [`steps`](Self::steps) brings its own rule, and this one is not used. Without a new mount namespace,
    /// [`plan`](Self::plan) answers Invalid.
    ///
    /// * C call: mount(2) with MS_REC and MS_PRIVATE, MS_SLAVE or MS_SHARED, on `/`.
    ///
    /// See <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
    #[doc(alias("MS_REC", "mount --make-rprivate"))]
    pub fn propagation(mut self, propagation: MountPropagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// Gives the payload a time namespace with these offsets. Linux 6.3.
    ///
    /// Older kernels (5.6) do not enter it at execve: there the child makes a successor in it, as for a pid namespace that
    /// is [joined](Self::join). With a new pid namespace that cannot be, and [`plan`](Self::plan) answers
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
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
    /// They need [`Namespaces::MOUNT`], and without it the plan is refused: they would change the machine's own root. The
    /// umask is 0 while they run. Several lists run in the order in which they were added.
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

    /// Makes the payload the leader of a new session, without a controlling terminal.
    #[doc(alias = "setsid")]
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Gives the child a copy of the caller's memory, as fork(2) does, instead of sharing it until execve. The plan then
    /// says so; where it must be, it happens unasked: see [`Plan::shares_memory`].
    #[doc(alias = "CLONE_VM")]
    pub fn copy_memory(mut self) -> Self {
        self.copies_memory = true;
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
        self.check_values()?;
        self.into_plan()
    }

    /// [`plan`](Self::plan) and [`Plan::spawn_paused`]: the child waits for its id maps, its network, its cgroup.
    ///
    /// The crate `cellkit-idmap` writes maps of any size (`MapPlan::write`). One id, one's own, is mapped like this:
    ///
    /// ```
    /// use cellkit_core::{ProcFd, ProcView};
    /// use ns_core::{Command, Namespaces};
    ///
    /// # use std::os::unix::fs::MetadataExt;
    /// # if !ns_core::probe()?.can_make_with_user.contains(Namespaces::UTS) { return Ok(()) }
    /// # let me = std::fs::metadata("/proc/self").unwrap();
    /// # let (uid, gid) = (me.uid(), me.gid());
    /// let paused = Command::new("id")
    ///     .namespaces(Namespaces::USER | Namespaces::UTS)
    ///     .keep_groups() // setgroups is denied below
    ///     .spawn_paused()?;
    /// let files = ProcFd::open(ProcView::Processes)?.process(&paused)?;
    /// files.write("setgroups".as_ref(), b"deny")?; // before gid_map, for whoever has no CAP_SETGID
    /// files.write("uid_map".as_ref(), format!("0 {uid} 1").as_bytes())?;
    /// files.write("gid_map".as_ref(), format!("0 {gid} 1").as_bytes())?;
    /// assert!(paused.resume(&mut ())?.wait()?.success()); // uid=0(root) gid=0(root)
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of both.
    pub fn spawn_paused(self) -> Result<PausedChild> {
        self.plan()?.spawn_paused()
    }

    /// [`plan`](Self::plan) and [`Plan::spawn`]: for everything but a new user namespace, whose id maps need
    /// [`spawn_paused`](Self::spawn_paused).
    ///
    /// # Errors
    /// Those of both.
    pub fn spawn(self) -> Result<Child> {
        self.plan()?.spawn()
    }

    /// The clocks of a new time namespace, if there is to be one.
    fn new_time(&self) -> Option<TimeOffsets> {
        self.time.or_else(|| self.namespaces.contains(Namespaces::TIME).then(TimeOffsets::default))
    }

    /// Checks all that [`plan`](Self::plan) checks, without privilege and without effect.
    ///
    /// ```
    /// # use ns_core::Command;
    /// let error = Command::new("/bin/true").hostname("web").check().unwrap_err();
    /// assert!(error.to_string().contains("without a UTS namespace this would rename the machine"));
    /// ```
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn check(&self) -> Result<()> {
        self.check_values()?;
        let joining = self.joining()?;
        self.namespace_steps(&joining)?;
        self.payload_steps(joining.new_user).map(drop)
    }

    fn check_values(&self) -> Result<()> {
        self.check_descriptors()?;
        for (call, name) in [("sethostname", &self.hostname), ("setdomainname", &self.domainname)] {
            let Some(name) = name else { continue };
            let subject = || Subject::Value(name.to_string_lossy().into_owned());
            if name.is_empty() || name.len() > 64 {
                return Err(Error::invalid(call, "a name has 1 to 64 bytes").on(subject()));
            }
            if !self.namespaces.contains(Namespaces::UTS) {
                return Err(Error::invalid(call, "without a UTS namespace this would rename the machine")
                    .on(subject())
                    .with_hint("add Namespaces::UTS"));
            }
        }
        if !self.roots.is_empty() && !self.namespaces.contains(Namespaces::MOUNT) {
            let why = "without a mount namespace these steps would change the machine's own root";
            return Err(Error::invalid("pivot_root", why).with_hint("add Namespaces::MOUNT"));
        }
        if self.loopback && !self.namespaces.contains(Namespaces::NET) {
            let why = "without a network namespace this would be the machine's own";
            return Err(Error::invalid("ioctl SIOCSIFFLAGS", why)
                .on(Subject::Interface("lo".into()))
                .with_hint("add Namespaces::NET"));
        }
        if let (MountPropagation::Slave | MountPropagation::Shared, false) =
            (self.propagation, self.namespaces.contains(Namespaces::MOUNT))
        {
            let why = "without a mount namespace this would change the machine's own mounts";
            return Err(Error::invalid("mount", why).on(Path::new("/")).with_hint("add Namespaces::MOUNT"));
        }
        self.check_joins()?;
        self.check_origin()?;
        if self.reaper == Some(Front::Pid1) && !self.namespaces.contains(Namespaces::PID) {
            return Err(Error::invalid("clone", "a reaper needs a pid namespace to be PID 1 of")
                .with_hint("add Namespaces::PID, or ask for Command::subreaper instead"));
        }
        self.credentials.check()?;
        self.resources.check()?;
        if self.new_time().is_some() && !join::enters_time_at_execve() && self.namespaces.contains(Namespaces::PID) {
            return Err(Error::unsupported(
                "unshare CLONE_NEWTIME",
                "entering a time namespace at execve",
                Some("6.3"),
            )
            .with_hint("PID 1 of a new pid namespace enters it in no other way: leave one of the two out"));
        }
        Ok(())
    }
}
