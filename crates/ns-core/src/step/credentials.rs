//! Who the payload is and what it may do, step by step. Running them is `sys/steps/credentials.rs`.
#![forbid(unsafe_code)]

use cellkit_core::{StepText, Subject};

use super::step;
use crate::CapabilitySet;

/// One step of the child that changes its credentials.
#[derive(Debug)]
pub(crate) enum CredentialStep {
    Groups { ids: Vec<u32>, reason: &'static str },
    Gid { id: u32, reason: &'static str },
    Uid { id: u32, reason: &'static str },
    NewKeyring,
    BoundCapabilities(CapabilitySet),
    KeepCapabilities,
    Capabilities(CapabilitySet),
    ClearAmbient,
    NoNewPrivileges,
}

impl CredentialStep {
    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Groups { ids, reason } => {
                step("setgroups", format!("{}, {ids:?}", ids.len()), reason).on(Subject::Value(format!("{ids:?}")))
            }
            Self::Gid { id, reason } => {
                step("setresgid", format!("{id}, {id}, {id}"), reason).on(Subject::Thing(format!("gid {id}")))
            }
            Self::Uid { id, reason } => {
                step("setresuid", format!("{id}, {id}, {id}"), reason).on(Subject::Thing(format!("uid {id}")))
            }
            Self::NewKeyring => {
                step("keyctl", "KEYCTL_JOIN_SESSION_KEYRING, NULL", "the caller's keys stay the caller's")
            }
            Self::BoundCapabilities(set) => step(
                "prctl PR_CAPBSET_DROP",
                format!("all but {set}"),
                "no program run later can have more (one call for each capability)",
            ),
            Self::KeepCapabilities => step("prctl", "PR_SET_KEEPCAPS, 1", "until they are set exactly, below"),
            Self::Capabilities(set) => {
                step("capset", format!("effective={set} permitted={set} inheritable=none"), "exactly those asked for")
                    .on(Subject::Thing(set.to_string()))
            }
            Self::ClearAmbient => {
                step("prctl", "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL", "none survives execve unasked")
            }
            Self::NoNewPrivileges => step("prctl", "PR_SET_NO_NEW_PRIVS, 1", "set-user-id programs gain nothing"),
        }
    }
}
