//! Whose child the payload is, under which number, and how long it lives.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use super::Command;
use crate::Namespaces;

/// The depth to which the kernel nests pid namespaces.
const DEEPEST: usize = 33;

/// # Where the child comes from
impl Command {
    /// Kills the payload when the process that starts it ends, in whatever way: by exit, by a signal, by execve. With a new
    /// pid namespace that is the end of all in it; without one, only of the payload itself, not of what it has started.
    ///
    /// Not when the *thread* that starts it ends, as PR_SET_PDEATHSIG has it: for the kernel, the parent is a thread. A
    /// small thread of its own makes the child and lives as long as it does.
    ///
    /// * C call: prctl(2) PR_SET_PDEATHSIG with SIGKILL in the child, after its last change of credentials.
    /// * A payload that runs a set-user-ID or set-group-ID program, or one with file capabilities, is no longer watched
    ///   afterwards: the kernel forgets the signal there. [`no_new_privs`](Self::no_new_privs) prevents that;
    ///   [`init`](Self::init), which runs no program, stays watched and takes all down.
    ///
    /// ```no_run
    /// use ns_core::{Command, Namespaces};
    ///
    /// let mut worker = Command::new("/usr/libexec/worker")
    ///     .namespaces(Namespaces::PID)
    ///     .init()
    ///     .kill_with_parent()
    ///     .spawn()?;
    /// # worker.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See PR_SET_PDEATHSIG(2const): <https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html>.
    #[doc(alias("PR_SET_PDEATHSIG", "die-with-parent"))]
    pub fn kill_with_parent(mut self) -> Self {
        self.die_with_parent = true;
        self
    }

    /// Chooses the child's process numbers: first that in its own pid namespace, then that in the one around it, and so on
    /// outwards. Namespaces further out choose for themselves. For checkpoints that are restored, and for tests.
    ///
    /// * C call: clone3(2) with `set_tid`, Linux 5.5. Where a filter hides clone3 there is no other way.
    /// * Privileges: CAP_CHECKPOINT_RESTORE (Linux 5.9) or CAP_SYS_ADMIN in the user namespaces that own those pid
    ///   namespaces.
    ///
    /// ```no_run
    /// use ns_core::{Command, Namespaces};
    ///
    /// // PID 1 in its own namespace, 4242 outside.
    /// let mut child = Command::new("/bin/true").namespaces(Namespaces::PID).set_tid([1, 4242]).spawn()?;
    /// assert_eq!(child.pid(), 4242);
    /// # child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// At [`plan`](Self::plan), Invalid: a number below 1, more than there can be namespaces, another than 1 for the first
    /// process of a new one; or with a pid namespace that is joined. At the start: AlreadyExists for a number that is in
    /// use (EEXIST), Permission, Invalid for one above pid_max, [`Unsupported`](crate::ErrorKind::Unsupported) without
    /// clone3. An empty list chooses nothing.
    ///
    /// See clone(2): <https://man7.org/linux/man-pages/man2/clone.2.html>.
    #[doc(alias("clone3", "ns_last_pid"))]
    pub fn set_tid(mut self, numbers: impl IntoIterator<Item = i32>) -> Self {
        self.set_tid = numbers.into_iter().collect();
        self
    }

    /// Makes the child a sibling of the caller: a child of the caller's parent.
    ///
    /// It is that parent who hears of its end and has to reap it, and who must therefore expect a child that it has not
    /// made. For the caller, [`Child::wait`](crate::Child::wait) is ECHILD; its pidfd still tells of the end, and signals
    /// still reach it.
    ///
    /// * C call: clone3(2) with CLONE_PARENT.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("/bin/true").sibling().plan()?;
    /// assert!(plan.clone_step().to_string().contains("CLONE_PARENT"));
    /// // Whose death would it be?
    /// assert!(Command::new("/bin/true").sibling().kill_with_parent().plan().is_err());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// At [`plan`](Self::plan), Invalid with [`kill_with_parent`](Self::kill_with_parent) (which would watch the wrong
    /// process) and with a pid namespace that is joined. At the start, Invalid when the caller is PID 1 of its pid
    /// namespace, and so has no parent there.
    ///
    /// See clone(2): <https://man7.org/linux/man-pages/man2/clone.2.html>.
    #[doc(alias = "CLONE_PARENT")]
    pub fn sibling(mut self) -> Self {
        self.sibling = true;
        self
    }

    /// Gives the child a copy of the caller's memory, as fork(2) does, instead of sharing it until execve. The plan then
    /// says so; where it must be, it happens unasked: see [`Plan::shares_memory`](crate::Plan::shares_memory).
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// assert!(!Command::new("/bin/true").copy_memory().plan()?.shares_memory());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See clone(2): <https://man7.org/linux/man-pages/man2/clone.2.html>.
    #[doc(alias = "CLONE_VM")]
    pub fn copy_memory(mut self) -> Self {
        self.copies_memory = true;
        self
    }

    /// Writes down when each step began, for the observer of [`PausedChild::resume`](crate::PausedChild::resume).
    ///
    /// * C call: clock_gettime(2), before each step.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let mut made = Vec::new();
    /// let mut child = Command::new("/bin/true").timed().spawn_paused()?.resume(&mut made)?;
    /// child.wait()?;
    /// for (step, took) in &made {
    ///     println!("{took:>10.1?} {step}");
    /// }
    /// assert!(made.iter().any(|(step, _)| step.to_string().starts_with("execve(")));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See clock_gettime(2): <https://man7.org/linux/man-pages/man2/clock_gettime.2.html>.
    pub fn timed(mut self) -> Self {
        self.timed = true;
        self
    }

    pub(super) fn check_origin(&self) -> Result<()> {
        let numbers = || Subject::Thing(format!("set_tid {:?}", self.set_tid));
        let refused = |why: &'static str| Error::invalid("clone3", why).on(numbers());
        if self.set_tid.iter().any(|&number| number < 1) {
            return Err(refused("process numbers begin with 1"));
        }
        if self.set_tid.len() > DEEPEST {
            return Err(refused("pid namespaces are not nested so deep"));
        }
        let first = self.set_tid.first();
        if self.namespaces.contains(Namespaces::PID) && first.is_some_and(|&number| number != 1) {
            return Err(refused("the first process of a new pid namespace is number 1")
                .with_hint("numbers begin with that in the innermost namespace: [1, 4242] is 4242 outside"));
        }
        if self.sibling && self.die_with_parent {
            let why = "a sibling's parent is not the caller, so it cannot be killed with it";
            return Err(Error::invalid("clone3", why).on(Subject::Thing("CLONE_PARENT".into())));
        }
        Ok(())
    }

    /// What cannot be said of a child that makes a successor and ends.
    pub(super) fn check_successor(&self) -> Result<()> {
        let why =
            "a child that joins a pid namespace makes another one there, which is neither so numbered nor so placed";
        if self.sibling {
            return Err(Error::invalid("clone", why).on(Subject::Thing("CLONE_PARENT".into())));
        }
        if !self.set_tid.is_empty() {
            return Err(Error::invalid("clone", why).on(Subject::Thing(format!("set_tid {:?}", self.set_tid))));
        }
        Ok(())
    }
}
