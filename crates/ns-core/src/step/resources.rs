//! What the payload may use and how it is scheduled, step by step. Running them is `sys/steps/resources.rs`.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use cellkit_core::{ProcFd, StepText, Subject};

use super::step;
use crate::{CpuSet, IoPriority, MemoryPolicy, Personality, Resource, Rlimit, Scheduler};

/// One step of the child that changes what it inherited of its caller's resources.
#[derive(Debug)]
pub(crate) enum ResourceStep {
    Umask(u32),
    OomScoreAdj {
        proc: Arc<ProcFd>,
        text: String,
    },
    /// Raises the hard limit to that of `rlimit`, if it is lower: early, while the caller's privileges are there.
    RaiseLimit(Resource, Rlimit),
    Limit(Resource, Rlimit),
    /// All processors there are, or these.
    Affinity(Option<CpuSet>),
    /// Back to SCHED_OTHER and nice 0 from what is more than that.
    LowerPriority {
        keep_nice: bool,
    },
    Scheduler(Scheduler),
    Nice(i32),
    /// Back from the real-time class, or to this.
    IoPriority(Option<IoPriority>),
    MemoryPolicy(MemoryPolicy),
    TimerSlack(Duration),
    Personality(Personality),
}

impl ResourceStep {
    pub(crate) fn inherited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::OomScoreAdj { proc, .. } => Some(proc.as_fd()),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Umask(mode) if *mode == 0 => step("umask", "0", "the modes asked for below are the modes made"),
            Self::Umask(mode) => step("umask", format!("{mode:03o}"), "the caller's umask is not inherited"),
            Self::OomScoreAdj { text, .. } => {
                step("write oom_score_adj", format!("{text:?}"), "how soon the out-of-memory killer picks the payload")
                    .on(Subject::Value(text.clone()))
            }
            Self::RaiseLimit(resource, rlimit) => {
                let arguments = format!("0, {resource}, at least {rlimit}");
                step("prlimit64", arguments, "above the caller's hard limit, while there is the privilege for it")
                    .on(Subject::Thing(format!("{resource} {rlimit}")))
            }
            Self::Limit(resource, rlimit) => {
                step("prlimit64", format!("0, {resource}, {rlimit}"), "the payload's limit")
                    .on(Subject::Thing(format!("{resource} {rlimit}")))
            }
            Self::Affinity(None) => step("sched_setaffinity", "0, all", "the caller's affinity is not inherited"),
            Self::Affinity(Some(set)) => {
                step("sched_setaffinity", format!("0, {set}"), "the processors that the payload may run on")
                    .on(Subject::Thing(format!("processors {set}")))
            }
            Self::LowerPriority { keep_nice } => step(
                "sched_setattr",
                if *keep_nice { "0, SCHED_OTHER" } else { "0, SCHED_OTHER, nice 0" },
                "a priority of the caller's that is above the usual is not inherited (called if there is one)",
            ),
            Self::Scheduler(scheduler) => step("sched_setattr", format!("0, {scheduler}"), "the payload's policy")
                .on(Subject::Thing(scheduler.to_string())),
            Self::Nice(nice) => step("setpriority", format!("PRIO_PROCESS, 0, {nice}"), "the payload's nice value")
                .on(Subject::Thing(format!("nice {nice}"))),
            Self::IoPriority(None) => step(
                "ioprio_set",
                "IOPRIO_WHO_PROCESS, 0, none",
                "a real-time I/O priority of the caller's is not inherited (called if there is one)",
            ),
            Self::IoPriority(Some(priority)) => {
                step("ioprio_set", format!("IOPRIO_WHO_PROCESS, 0, {priority}"), "the payload's I/O priority")
                    .on(Subject::Thing(priority.to_string()))
            }
            Self::MemoryPolicy(policy) => {
                step("set_mempolicy", policy.to_string(), "the memory nodes that the payload uses")
                    .on(Subject::Thing(policy.to_string()))
            }
            Self::TimerSlack(slack) => {
                let arguments = format!("PR_SET_TIMERSLACK, {}", slack.as_nanos());
                step("prctl", arguments, "how late timers may be, in nanoseconds")
            }
            Self::Personality(personality) => {
                step("personality", personality.to_string(), "the caller's is not inherited")
                    .on(Subject::Thing(personality.to_string()))
            }
        }
    }
}
