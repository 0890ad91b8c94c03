//! What the payload may use and how it is scheduled.
//!
//! What raises the caller above others is not passed on: a real-time policy, a nice value below 0, a real-time I/O priority.
//! What puts it below them is: whoever was started politely starts others so. That needs no privilege and surprises nobody.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use cellkit_core::{ChildSteps, Error, ProcFd, ProcView, Result, Subject};

use super::Command;
use crate::step::ResourceStep;
use crate::{CpuSet, IoPriority, MemoryPolicy, Personality, Resource, Rlimit, Scheduler, sys};

/// What the kernel gives the first process.
const TIMER_SLACK: Duration = Duration::from_micros(50);

/// What a [`Command`] was told about the payload's resources.
#[derive(Debug, Default)]
pub(super) struct Resources {
    umask: Option<u32>,
    limits: BTreeMap<Resource, Rlimit>,
    affinity: Option<CpuSet>,
    scheduler: Option<Scheduler>,
    nice: Option<i32>,
    io_priority: Option<IoPriority>,
    memory_policy: Option<MemoryPolicy>,
    timer_slack: Option<Duration>,
    personality: Personality,
    oom_score_adj: Option<i32>,
}

/// # Resources
impl Command {
    /// Starts the child in the cgroup of this directory: born there, not moved (Linux 5.7).
    ///
    /// * C call: clone3(2) with CLONE_INTO_CGROUP. Where a filter hides clone3, the child moves itself first of all.
    /// * Privileges: to write `cgroup.procs` of that group, and of the one above both.
    /// * Errors: Permission; Busy for a group that has children with controllers; Unsupported for one of an invalid domain.
    ///
    /// ```no_run
    /// use std::fs::{self, File};
    ///
    /// use ns_core::Command;
    ///
    /// let group = "/sys/fs/cgroup/web";
    /// fs::create_dir(group)?;
    /// // Under a memory limit from its first instruction on.
    /// fs::write(format!("{group}/memory.max"), "64M")?;
    /// let mut child = Command::new("/usr/sbin/httpd").cgroup(File::open(group)?).spawn()?;
    /// # child.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
    #[doc(alias = "CLONE_INTO_CGROUP")]
    pub fn cgroup(mut self, cgroup: impl AsFd) -> Self {
        self.cgroup = Some(cgroup.as_fd().try_clone_to_owned());
        self
    }

    /// The payload's umask, 022 if nothing is asked for. The caller's is not inherited.
    ///
    /// * C call: umask(2). Refused by [`plan`](Self::plan) above 0777.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// assert_eq!(Command::new("sh").args(["-c", "umask"]).umask(0o077).output()?.stdout, b"0077\n");
    /// assert_eq!(Command::new("sh").args(["-c", "umask"]).output()?.stdout, b"0022\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/umask.2.html>.
    pub fn umask(mut self, mode: u32) -> Self {
        self.resources.umask = Some(mode);
        self
    }

    /// A limit on what the payload may use. Others stay the caller's; asked for twice, the last one holds.
    ///
    /// ```
    /// use ns_core::{Command, Resource, Rlimit};
    ///
    /// let plan = Command::new("/bin/true")
    ///     .rlimit(Resource::Nofile, Rlimit::new(256, 512)?)
    ///     .rlimit("core".parse()?, "0".parse()?)
    ///     .plan()?;
    /// assert!(plan.to_string().contains("prlimit64(0, RLIMIT_NOFILE, 256:512)"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// A hard limit above the caller's is set first of all, before any namespace is entered and any id is changed: that needs
    /// CAP_SYS_RESOURCE in the machine's own user namespace. The limits themselves are set when the payload's descriptors
    /// are in place and before its ids are.
    ///
    /// * C call: prlimit64(2), by the child on itself.
    /// * Errors: Permission, with a hint, where a hard limit may not be raised or is above `fs.nr_open`.
    ///
    /// See <https://man7.org/linux/man-pages/man2/getrlimit.2.html>.
    #[doc(alias("setrlimit", "prlimit", "ulimit"))]
    pub fn rlimit(mut self, resource: Resource, rlimit: Rlimit) -> Self {
        self.resources.limits.insert(resource, rlimit);
        self
    }

    /// The processors that the payload may run on: all that its cgroup has, if nothing is asked for, and not those of the
    /// caller ([`CpuSet::of_this_thread`] are those). Those that the cgroup does not have are left out.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("/bin/true").cpu_affinity("0-1,4".parse()?).plan()?;
    /// assert!(plan.to_string().contains("sched_setaffinity(0, 0-1,4)"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// * C call: sched_setaffinity(2). Needs nothing.
    /// * Errors: Invalid when the set is empty, or nothing in it can be used here.
    ///
    /// See <https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html>.
    #[doc(alias("sched_setaffinity", "taskset"))]
    pub fn cpu_affinity(mut self, cpus: CpuSet) -> Self {
        self.resources.affinity = Some(cpus);
        self
    }

    /// The payload's scheduling policy. Not asked for, it is the caller's, but SCHED_OTHER for a caller of real time.
    ///
    /// * C call: sched_setattr(2). Real time needs CAP_SYS_NICE in the machine's own user namespace or
    ///   [`Resource::Rtprio`]; so does leaving SCHED_IDLE, or [`Resource::Nice`].
    /// * Errors: Invalid for a priority outside 1 to 99 and for times out of order; Permission; Busy when a deadline cannot be
    ///   promised beside those of others.
    ///
    /// ```
    /// use ns_core::{Command, Scheduler};
    ///
    /// let output = Command::new("chrt").args(["-p", "0"]).scheduler(Scheduler::Batch).output()?;
    /// assert!(String::from_utf8_lossy(&output.stdout).contains("SCHED_BATCH"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/sched_setattr.2.html>.
    #[doc(alias("sched_setattr", "sched_setscheduler", "chrt"))]
    pub fn scheduler(mut self, scheduler: Scheduler) -> Self {
        self.resources.scheduler = Some(scheduler);
        self
    }

    /// The payload's nice value, -20 (first) to 19. Not asked for, it is the caller's, but 0 for a caller below 0.
    ///
    /// * C call: setpriority(2). Less than the caller's needs CAP_SYS_NICE in the machine's own user namespace, or
    ///   [`Resource::Nice`].
    /// * Errors: Invalid out of range; Permission.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// assert_eq!(Command::new("nice").nice(19).output()?.stdout, b"19\n");
    /// assert!(Command::new("nice").nice(20).check().is_err());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/setpriority.2.html>.
    #[doc(alias("setpriority", "renice"))]
    pub fn nice(mut self, nice: i32) -> Self {
        self.resources.nice = Some(nice);
        self
    }

    /// The payload's I/O priority. Not asked for, it is the caller's, but follows the nice value for a caller of real time.
    ///
    /// * C call: ioprio_set(2). Real time needs CAP_SYS_ADMIN or CAP_SYS_NICE in the machine's own user namespace.
    /// * Errors: Permission.
    ///
    /// ```
    /// use ns_core::{Command, IoPriority};
    ///
    /// let output = Command::new("ionice").io_priority(IoPriority::best_effort(7)?).output()?;
    /// assert_eq!(output.stdout, b"best-effort: prio 7\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/ioprio_set.2.html>.
    #[doc(alias("ioprio_set", "ionice"))]
    pub fn io_priority(mut self, priority: IoPriority) -> Self {
        self.resources.io_priority = Some(priority);
        self
    }

    /// The memory nodes that the payload's memory comes from. Not asked for, the policy is the caller's.
    ///
    /// * C call: set_mempolicy(2). Needs nothing.
    /// * Errors: Invalid when no node of the set can be used here, and for a policy that this kernel lacks.
    ///
    /// ```
    /// use ns_core::{Command, MemoryPolicy};
    ///
    /// assert!(Command::new("true").memory_policy(MemoryPolicy::Local).status()?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/set_mempolicy.2.html>.
    #[doc(alias("set_mempolicy", "numactl"))]
    pub fn memory_policy(mut self, policy: MemoryPolicy) -> Self {
        self.resources.memory_policy = Some(policy);
        self
    }

    /// How late the payload's timers may be, 50 µs if nothing is asked for: the kernel's own value, not the caller's.
    ///
    /// * C call: prctl(2) PR_SET_TIMERSLACK. Needs nothing.
    /// * Errors: Invalid for no time at all.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use ns_core::Command;
    ///
    /// let command = Command::new("cat").arg("/proc/self/timerslack_ns").timer_slack(Duration::from_millis(2));
    /// assert_eq!(command.output()?.stdout, b"2000000\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/PR_SET_TIMERSLACK.2const.html>.
    #[doc(alias = "PR_SET_TIMERSLACK")]
    pub fn timer_slack(mut self, slack: Duration) -> Self {
        self.resources.timer_slack = Some(slack);
        self
    }

    /// How the kernel pretends to be another one, as setarch(8) has it. Not asked for, it does not, whatever the caller has.
    ///
    /// * C call: personality(2). Needs nothing; READ_IMPLIES_EXEC and others may be refused by a security module.
    ///
    /// ```
    /// use ns_core::{Command, Personality};
    ///
    /// let output = Command::new("cat").arg("/proc/self/personality").personality(Personality::ADDR_NO_RANDOMIZE).output()?;
    /// assert_eq!(output.stdout, b"00040000\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/personality.2.html>.
    #[doc(alias = "setarch")]
    pub fn personality(mut self, personality: Personality) -> Self {
        self.resources.personality = personality;
        self
    }

    /// How soon the out-of-memory killer picks the payload: -1000 (never) to 1000 (first). Not asked for, it is the caller's.
    ///
    /// The kernel keeps this value the same for all processes that share memory, so the child gets a copy of the caller's
    /// memory instead of sharing it, or the caller's own value would change: see
    /// [`Plan::shares_memory`](crate::Plan::shares_memory).
    ///
    /// * File: `/proc/self/oom_score_adj`, through a [`ProcFd`] that was opened before, first of all.
    /// * Less than the lowest value it has had needs CAP_SYS_RESOURCE in the machine's own user namespace.
    /// * Errors: Invalid out of range; Permission, with a hint.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// // Rather this than the caller.
    /// let output = Command::new("cat").arg("/proc/self/oom_score_adj").oom_score_adj(1000).output()?;
    /// assert_eq!(output.stdout, b"1000\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html>.
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.resources.oom_score_adj = Some(score);
        self
    }
}

impl Resources {
    pub(super) fn check(&self) -> Result<()> {
        let range = |call: &'static str, why: &'static str, value: Option<i32>, low: i32, high: i32| match value {
            Some(value) if !(low..=high).contains(&value) => {
                Err(Error::invalid(call, why).on(Subject::Value(value.to_string())))
            }
            _ => Ok(()),
        };
        range("setpriority", "a nice value is -20 to 19", self.nice, -20, 19)?;
        range("write oom_score_adj", "the value is -1000 to 1000", self.oom_score_adj, -1000, 1000)?;
        if let Some(mode) = self.umask.filter(|mode| *mode > 0o777) {
            let error = Error::invalid("umask", "a umask is 0 to 0777, in octal");
            return Err(error.on(Subject::Value(format!("{mode:#o}"))));
        }
        if self.affinity.as_ref().is_some_and(CpuSet::is_empty) {
            return Err(Error::invalid("sched_setaffinity", "the set of processors is empty"));
        }
        if let Some(scheduler) = self.scheduler {
            scheduler.check()?;
        }
        if let Some(policy) =
            self.memory_policy.as_ref().filter(|policy| policy.parts().1.is_some_and(|set| set.is_empty()))
        {
            let error = Error::invalid("set_mempolicy", "the set of nodes is empty");
            return Err(error.on(Subject::Thing(policy.to_string().trim_end().to_owned())));
        }
        let slack = self.timer_slack.unwrap_or(TIMER_SLACK).as_nanos();
        if slack == 0 || usize::try_from(slack).is_err() {
            let error = Error::invalid("prctl PR_SET_TIMERSLACK", "the slack is at least 1 ns and has a number");
            return Err(error.on(Subject::Value(slack.to_string())));
        }
        let unknown = self.personality.difference(Personality::all());
        if !unknown.is_empty() {
            let error = Error::invalid("personality", "these bits have no name here");
            return Err(error.on(Subject::Value(format!("{:#x}", unknown.bits()))));
        }
        Ok(())
    }

    /// Whether what is asked for belongs to the memory, and would be the caller's too if that were shared.
    pub(super) fn need_own_memory(&self) -> bool {
        self.oom_score_adj.is_some()
    }

    /// What needs the caller's privileges on the machine: before any namespace is entered.
    pub(super) fn early_steps(&self, steps: &mut ChildSteps) -> Result<()> {
        if let Some(score) = self.oom_score_adj {
            let proc = Arc::new(ProcFd::open(ProcView::Processes)?);
            steps.push(ResourceStep::OomScoreAdj { proc, text: score.to_string() });
        }
        for (&resource, &rlimit) in &self.limits {
            if sys::limits(resource).is_ok_and(|[_, hard]| hard < rlimit.hard()) {
                steps.push(ResourceStep::RaiseLimit(resource, rlimit));
            }
        }
        Ok(())
    }

    /// The rest: when the payload's descriptors are in place, as the user that the child still is.
    pub(super) fn steps(&self, steps: &mut ChildSteps) {
        for (&resource, &rlimit) in &self.limits {
            steps.push(ResourceStep::Limit(resource, rlimit));
        }
        steps.push(ResourceStep::Affinity(self.affinity.clone()));
        if self.scheduler.is_none() || self.nice.is_none() {
            steps.push(ResourceStep::LowerPriority { keep_nice: self.nice.is_some() });
        }
        if let Some(scheduler) = self.scheduler {
            steps.push(ResourceStep::Scheduler(scheduler));
        }
        if let Some(nice) = self.nice {
            steps.push(ResourceStep::Nice(nice));
        }
        steps.push(ResourceStep::IoPriority(self.io_priority));
        if let Some(policy) = &self.memory_policy {
            steps.push(ResourceStep::MemoryPolicy(policy.clone()));
        }
        steps.push(ResourceStep::TimerSlack(self.timer_slack.unwrap_or(TIMER_SLACK)));
        steps.push(ResourceStep::Personality(self.personality));
    }

    /// After everything that makes files.
    pub(super) fn umask_step(&self) -> ResourceStep {
        ResourceStep::Umask(self.umask.unwrap_or(0o022))
    }
}
