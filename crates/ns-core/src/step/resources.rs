//! What the payload may use and how it is scheduled, step by step. Running them is `sys/steps/resources.rs`.
#![forbid(unsafe_code)]

use cellkit_core::StepText;

use super::step;

/// One step of the child that changes what it inherited of its caller's resources.
#[derive(Debug)]
pub(crate) enum ResourceStep {
    Umask(u32),
    ResetAffinity,
}

impl ResourceStep {
    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Umask(mode) if *mode == 0 => step("umask", "0", "the modes asked for below are the modes made"),
            Self::Umask(mode) => step("umask", format!("{mode:03o}"), "the caller's umask is not inherited"),
            Self::ResetAffinity => step("sched_setaffinity", "0, all", "the caller's affinity is not inherited"),
        }
    }
}
