//! A start as data: checked, printable, started as often as you like.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use cellkit_core::{ChildStep, ChildSteps, Error, Observer, Result, StepText, Subject};

use crate::hint::HINTS;
use crate::stdio::{Fresh, Theirs};
use crate::sys::{CloneOptions, NotStarted, Started};
use crate::watch::{self, Watch};
use crate::{Backend, Child, Namespaces, PausedChild, cgroup_memory, sys, with_namespaces};

/// One list of steps, with its own slots.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) steps: ChildSteps,
    /// Whether it is this crate's, so that slot 0 is the child's end of the socket pair. The first and the last list always
    /// are, and begin with all [`EndSlots`](crate::stdio::EndSlots).
    pub(crate) own: bool,
}

/// What the child runs.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) lists: Vec<List>,
    pub(crate) shares_memory: bool,
    pub(crate) changes_ids: bool,
    pub(crate) timed: bool,
    /// Whether the child makes a successor that takes its place.
    pub(crate) succeeds: bool,
    /// Whether it comes among others before its execve.
    pub(crate) joins: bool,
    pub(crate) fresh: Fresh,
    /// With a seccomp filter: how many steps are made under it.
    pub(crate) filtered: Option<usize>,
}

impl Body {
    pub(crate) fn count(&self) -> usize {
        self.lists.iter().map(|list| list.steps.len()).sum()
    }

    /// Whether step `number` is made under the payload's seccomp filter, so that a failure is told by memory alone.
    pub(crate) fn is_filtered(&self, number: usize) -> bool {
        self.filtered.is_some_and(|steps| number + steps >= self.count())
    }

    /// The texts of all steps, in order.
    pub(crate) fn describe(&self) -> Vec<StepText> {
        self.lists.iter().flat_map(|list| list.steps.describe()).collect()
    }

    /// Step `number`, counted over all lists.
    pub(crate) fn step(&self, number: usize) -> Option<&dyn ChildStep> {
        self.lists.iter().flat_map(|list| list.steps.iter()).nth(number)
    }
}

/// The checked list of system calls of one start, made by [`Command::plan`](crate::Command::plan).
///
/// Printing it shows what a start would do, and does nothing:
///
/// ```
/// use ns_core::{Command, Namespaces};
///
/// let plan = Command::new("/bin/true").namespaces(Namespaces::UTS).hostname("web").plan()?;
/// let text = plan.to_string();
/// assert!(text.starts_with("1. clone3(CLONE_NEWUTS|"));
/// assert!(text.contains("sethostname"));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See clone(2), strace(1): <https://man7.org/linux/man-pages/man2/clone.2.html>.
#[derive(Debug)]
#[must_use = "a plan does nothing until it is started"]
pub struct Plan {
    pub(crate) body: Arc<Body>,
    pub(crate) namespaces: Namespaces,
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) origin: Origin,
}

/// Whose child it is, and under which number.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) set_tid: Vec<i32>,
    pub(crate) sibling: bool,
    pub(crate) watched: bool,
}

impl Plan {
    /// Whether the child shares the caller's memory until execve.
    ///
    /// It does when it starts fresh namespaces, where nobody can see it, or none. It gets a copy instead (as fork(2) makes,
    /// at a cost that grows with the caller's memory):
    ///
    /// * when it joins a namespace that others are in, since whoever may ptrace the child could reach the caller's memory
    ///   through it;
    /// * when it is started by a thread that is in namespaces of others: inside [`with_namespaces`](crate::with_namespaces),
    ///   or after [`enter`](crate::enter). That is found out at the start, whatever is said here;
    /// * when the first child makes the one that becomes the payload, as before Linux 6.3 for a new time namespace;
    /// * when a reaper stays behind, which would share memory for as long as the container lives;
    /// * when a closure was given to [`Command::pre_exec`](crate::Command::pre_exec);
    /// * when its oom_score_adj is set, which the kernel keeps the same for all that share memory;
    /// * when it is born in a cgroup that has a memory limit, or below one: the out-of-memory killer kills every process
    ///   that shares its victim's memory, the caller too. That is found out at the start, whatever is said here;
    /// * on Linux before 5.16, where a core dump kills all that share memory, and on processors that this crate cannot
    ///   give a stack of their own.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// assert!(!Command::new("/bin/true").oom_score_adj(0).plan()?.shares_memory());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    #[must_use]
    pub fn shares_memory(&self) -> bool {
        self.body.shares_memory
    }

    /// The clone3 of [`spawn_paused`](Self::spawn_paused) in words.
    #[must_use]
    pub fn clone_step(&self) -> StepText {
        self.clone_text(self.cgroup.is_some())
    }

    /// The clone3 of [`spawn_paused_in`](Self::spawn_paused_in) in words.
    #[must_use]
    pub fn clone_step_in(&self) -> StepText {
        self.clone_text(true)
    }

    fn clone_text(&self, into_cgroup: bool) -> StepText {
        self.text_of(Backend::Clone3, into_cgroup)
    }

    fn text_of(&self, backend: Backend, into_cgroup: bool) -> StepText {
        let mut flags = Vec::new();
        if !self.namespaces.is_empty() {
            flags.push(self.namespaces.c_names());
        }
        if self.body.shares_memory {
            flags.push("CLONE_VM".into());
        }
        flags.push("CLONE_PIDFD".into());
        if self.origin.sibling {
            flags.push("CLONE_PARENT".into());
        }
        if backend == Backend::Clone3 {
            flags.push("CLONE_CLEAR_SIGHAND".into());
            if into_cgroup {
                flags.push("CLONE_INTO_CGROUP".into());
            }
        }
        let mut arguments = flags.join("|");
        if !self.origin.set_tid.is_empty() {
            arguments += &format!(", set_tid={:?}", self.origin.set_tid);
        }
        let subject = match self.namespaces.is_empty() {
            true => "a new process".to_owned(),
            false => format!("new namespaces {}", self.namespaces.c_names()),
        };
        let reason = match backend {
            Backend::Clone3 => "one process, born in its namespaces and its cgroup, known by a pidfd",
            Backend::Clone => {
                "clone3 is hidden by a seccomp filter: the same namespaces, the cgroup joined by the child"
            }
        };
        StepText::new(backend.call(), arguments, reason).on(Subject::Namespace(subject))
    }

    /// What the child does, in words, in order.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("/bin/true").umask(0o077).plan()?;
    /// for step in plan.child_steps() {
    ///     println!("{step}: {}", step.reason);
    /// }
    /// assert!(plan.child_steps().iter().any(|step| step.to_string() == "umask(077)"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    #[must_use]
    pub fn child_steps(&self) -> Vec<StepText> {
        self.body.describe()
    }

    /// Makes the child, which waits: write its id maps, attach its network, then [`resume`](PausedChild::resume) it.
    ///
    /// * C call: clone3(2) with CLONE_PIDFD, CLONE_CLEAR_SIGHAND and what was asked for. Linux 5.7.
    /// * Blocks only for the clone itself.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("true").plan()?;
    /// let two = [plan.spawn_paused()?, plan.spawn_paused()?];
    /// for paused in two {
    ///     assert!(paused.resume(&mut ())?.wait()?.success());
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of clone3(2), each with a hint: Permission, [`Limit`](crate::ErrorKind::Limit) (ENOSPC, EAGAIN, EMFILE),
    /// Invalid for a kind of namespace this kernel lacks.
    ///
    /// See <https://man7.org/linux/man-pages/man2/clone.2.html>.
    pub fn spawn_paused(&self) -> Result<PausedChild> {
        self.spawn_into(self.cgroup.as_ref().map(AsFd::as_fd))
    }

    /// As [`spawn_paused`](Self::spawn_paused), in the cgroup of this directory: for a group that is made after the plan.
    ///
    /// * C call: clone3(2) with CLONE_INTO_CGROUP, Linux 5.7.
    /// * Privileges: as [`Command::cgroup`](crate::Command::cgroup).
    ///
    /// ```no_run
    /// use std::fs::{self, File};
    ///
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("/usr/sbin/httpd").plan()?;
    /// for name in ["one", "two"] {
    ///     let group = format!("/sys/fs/cgroup/{name}");
    ///     fs::create_dir(&group)?;
    ///     plan.spawn_paused_in(File::open(&group)?)?.resume(&mut ())?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`spawn_paused`](Self::spawn_paused); EACCES, EBUSY and EOPNOTSUPP are about the group.
    ///
    /// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
    pub fn spawn_paused_in(&self, cgroup: impl AsFd) -> Result<PausedChild> {
        self.spawn_into(Some(cgroup.as_fd()))
    }

    fn spawn_into(&self, cgroup: Option<BorrowedFd<'_>>) -> Result<PausedChild> {
        let (ends, fresh) = self.body.fresh.make()?;
        let (ours, theirs) = sys::socket_pair().map_err(|errno| Error::from_errno("socketpair", errno.0))?;
        let shares_memory = self.body.shares_memory
            && !with_namespaces::must_copy_memory()
            && !cgroup.is_some_and(cgroup_memory::is_limited);
        let (started, watch) = self.start(shares_memory, cgroup, theirs, fresh)?;
        let text = self.text_of(started.backend, cgroup.is_some());
        let needs_guard = shares_memory && self.body.changes_ids;
        let paused = PausedChild::new(Arc::clone(&self.body), text, started, ours, ends, needs_guard, watch);
        if cgroup.is_some() {
            paused.await_group()?;
        }
        Ok(paused)
    }

    fn start(
        &self,
        shares_memory: bool,
        cgroup: Option<BorrowedFd<'_>>,
        sync: OwnedFd,
        fresh: Theirs,
    ) -> Result<(Started, Option<Watch>)> {
        let into_cgroup = cgroup.is_some();
        let namespaces = self.namespaces.bits();
        let Origin { ref set_tid, sibling, watched } = self.origin;
        let not_started = |why| self.not_started(why, into_cgroup);
        if !watched {
            let options = CloneOptions { namespaces, shares_memory, cgroup, set_tid, sibling };
            return sys::start(&self.body, options, sync.as_fd(), fresh.numbers())
                .map(|started| (started, None))
                .map_err(not_started);
        }
        let body = Arc::clone(&self.body);
        let set_tid = set_tid.clone();
        let cgroup = cgroup.map(|group| group.try_clone_to_owned()).transpose();
        let cgroup = cgroup.map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        let (outcome, watch) = watch::on_a_thread(move || {
            let cgroup = cgroup.as_ref().map(AsFd::as_fd);
            let options = CloneOptions { namespaces, shares_memory, cgroup, set_tid: &set_tid, sibling };
            sys::start(&body, options, sync.as_fd(), fresh.numbers())
        })?;
        outcome.map(|started| (started, Some(watch))).map_err(not_started)
    }

    fn not_started(&self, why: NotStarted, into_cgroup: bool) -> Error {
        let set_tid = &self.origin.set_tid;
        match why {
            NotStarted::Before(call, errno) => Error::from_errno(call, errno.0).with_hints(&HINTS),
            NotStarted::Clone(backend, errno) => {
                let error = Error::at_step(self.text_of(backend, into_cgroup), errno);
                let number = matches!(errno.0, libc::EEXIST | libc::EINVAL) && !set_tid.is_empty();
                let error = if number { error.on(Subject::Thing(format!("set_tid {set_tid:?}"))) } else { error };
                let error = match errno.0 {
                    libc::EINVAL if number => error.with_hint(
                        "a number that a pid namespace cannot have: above its pid_max, one for more namespaces than \
                         there are, or another than 1 where there is no PID 1 yet",
                    ),
                    libc::EPERM if !set_tid.is_empty() => error.with_hint(
                        "choosing a number needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in the user namespace that owns \
                         each pid namespace that it is chosen in",
                    ),
                    libc::EACCES | libc::EBUSY | libc::EOPNOTSUPP | libc::EBADF | libc::ENODEV if into_cgroup => {
                        error.on(Subject::Thing("into the cgroup".into()))
                    }
                    libc::EINVAL if self.origin.sibling => {
                        error.with_hint("PID 1 of a pid namespace has no siblings: its child would have no parent")
                    }
                    _ => error,
                };
                error.with_hints(&HINTS)
            }
            NotStarted::NoSetTid => Error::unsupported("clone3", "choosing a process number with clone(2)", None)
                .on(Subject::Thing(format!("set_tid {set_tid:?}")))
                .with_hint("a seccomp filter hides clone3: allow it in the profile of the container this runs in"),
            NotStarted::Group(errno) => {
                Error::from_errno("openat2", errno.0).on(std::path::Path::new("cgroup.procs")).with_hint(
                    "clone3 is hidden by a seccomp filter, so the child has to join its cgroup through this file",
                )
            }
        }
    }

    /// Makes the child and lets it go.
    ///
    /// A new user namespace cannot be started like this: its id maps have to be written between
    /// [`spawn_paused`](Self::spawn_paused) and [`PausedChild::resume`].
    ///
    /// ```
    /// use ns_core::{Command, ErrorKind, Namespaces};
    ///
    /// let plan = Command::new("true").plan()?;
    /// assert!(plan.spawn()?.wait()?.success());
    /// let error = Command::new("true").namespaces(Namespaces::USER).plan()?.spawn().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Invalid);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`spawn_paused`](Self::spawn_paused) and [`PausedChild::resume`]; Invalid, before anything is done, with a new user
    /// namespace.
    pub fn spawn(&self) -> Result<Child> {
        if self.namespaces.contains(Namespaces::USER) {
            let why =
                "a new user namespace has no ids until its maps are written, and this start would not wait for that";
            return Err(Error::invalid("write uid_map", why).with_hint(
                "spawn_paused, write the id maps of the child that waits (cellkit-idmap does), then resume it",
            ));
        }
        self.spawn_paused()?.resume(&mut ())
    }
}

impl fmt::Display for Plan {
    /// The numbered list of system calls, each with its reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = std::iter::once(self.clone_step()).chain(self.child_steps());
        for (number, step) in (1..).zip(steps) {
            writeln!(f, "{number}. {step}\n     {}", step.reason)?;
        }
        Ok(())
    }
}

/// Tells an observer of steps whose start times the child wrote down.
pub(crate) fn tell(body: &Body, starts: &[u64], end: u64, observer: &mut dyn Observer) {
    let ends = starts.iter().skip(1).copied().chain([end]);
    for ((step, &start), end) in body.describe().into_iter().zip(starts).zip(ends) {
        observer.made(step, std::time::Duration::from_nanos(end.saturating_sub(start)));
    }
}
