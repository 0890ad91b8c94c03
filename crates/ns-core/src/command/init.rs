//! A reaper in front of the payload.
#![forbid(unsafe_code)]

use super::Command;
use crate::step::Front;

/// # PID 1
impl Command {
    /// Puts a reaper in front of the payload as PID 1, with [`Namespaces::PID`](crate::Namespaces::PID). The payload is
    /// then process 2.
    ///
    /// PID 1 of a namespace inherits every orphan in it, and has no default action for signals: a program that was not
    /// written for it leaves zombies and does not hear Ctrl-C. The reaper
    ///
    /// * reaps every orphan;
    /// * passes on each signal that a process sends to it, to the payload and not to its process group. What a terminal
    ///   sends has gone to the payload's group already. SIGKILL ends it and with it the namespace; SIGSTOP, from outside
    ///   only, stops it but not the payload, and SIGCONT wakes both;
    /// * ends when the payload ends, with its status, or 128 and the signal that killed it, and with it the namespace.
    ///
    /// No helper program is run for it. It keeps a copy of the caller's memory as it was, which nobody in the container may
    /// read (it is not dumpable); start it from a program that holds no secrets it could not bear there. It has no
    /// descriptor and no capability but CAP_KILL, so that it can signal a payload of another user.
    ///
    /// * C calls: clone(2), rt_sigtimedwait(2), wait4(2), in the child.
    ///
    /// ```
    /// use ns_core::{Command, Namespaces};
    ///
    /// # if !ns_core::probe()?.can_make.contains(Namespaces::PID) { return Ok(()) }
    /// // Without init(), each of these would stay a zombie for as long as sleep runs.
    /// let script = "for i in 1 2 3; do (sleep 0.1 &); done; exec sleep 10";
    /// let mut child = Command::new("sh").args(["-c", script]).namespaces(Namespaces::PID).init().spawn()?;
    /// child.signal(15)?;
    /// assert_eq!(child.wait()?.shell_code(), 128 + 15);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`plan`](Self::plan) answers Invalid without [`Namespaces::PID`](crate::Namespaces::PID); see
    /// [`subreaper`](Self::subreaper).
    ///
    /// See <https://man7.org/linux/man-pages/man7/pid_namespaces.7.html>.
    #[doc(alias("tini", "dumb-init", "zombie", "PID 1"))]
    pub fn init(mut self) -> Self {
        self.reaper = Some(Front::Pid1);
        self
    }

    /// As [`init`](Self::init), without a pid namespace: the reaper is no PID 1, but whoever among its descendants loses
    /// its parent becomes its child. It is the process that [`Child`](crate::Child) knows.
    ///
    /// When the payload ends, so does it, and the descendants that still run go to the next subreaper above, or to the
    /// machine's PID 1: to end them too takes a pid namespace or a cgroup. A payload that is stopped, as by Ctrl-Z, stops
    /// the reaper too, which a job-control shell then sees. If the reaper is killed, so is the payload.
    ///
    /// * C call: prctl(2) PR_SET_CHILD_SUBREAPER, Linux 3.4.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// // The orphan becomes the reaper's child, and the payload's status is the answer.
    /// let output = Command::new("sh").args(["-c", "(sleep 0.1; exit 3)& exit 7"]).subreaper().output()?;
    /// assert_eq!(output.status.code(), Some(7));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html>.
    #[doc(alias = "PR_SET_CHILD_SUBREAPER")]
    pub fn subreaper(mut self) -> Self {
        self.reaper = Some(Front::Subreaper);
        self
    }
}
