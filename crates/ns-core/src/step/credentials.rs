//! Who the payload is and what it may do, step by step. Running them is `sys/steps/credentials.rs`.
#![forbid(unsafe_code)]

use std::ffi::CString;

use cellkit_core::{StepText, Subject};

use super::step;
use crate::{Capabilities, CapabilitySet, Securebits};

/// One step of the child that changes its credentials.
#[derive(Debug)]
pub(crate) enum CredentialStep {
    Groups {
        ids: Vec<u32>,
        reason: &'static str,
    },
    Gid {
        id: u32,
        reason: &'static str,
    },
    Uid {
        id: u32,
        reason: &'static str,
    },
    Keyring(Option<CString>),
    BoundCapabilities(CapabilitySet),
    KeepCapabilities,
    /// All that is permitted made effective, once more: a change of uid has cleared it.
    RaiseEffective {
        inheritable: CapabilitySet,
    },
    ClearAmbient,
    RaiseAmbient(CapabilitySet),
    Securebits(Securebits),
    Capabilities(Capabilities),
    NoNewPrivileges,
}

impl CredentialStep {
    pub(crate) fn text(&self) -> StepText {
        match self {
            Self::Groups { ids, reason } => {
                step("setgroups", format!("{}, {ids:?}", ids.len()), reason).on(Subject::Thing(match ids.is_empty() {
                    true => "no groups".into(),
                    false => format!("groups {ids:?}"),
                }))
            }
            Self::Gid { id, reason } => {
                step("setresgid", format!("{id}, {id}, {id}"), reason).on(Subject::Thing(format!("gid {id}")))
            }
            Self::Uid { id, reason } => {
                step("setresuid", format!("{id}, {id}, {id}"), reason).on(Subject::Thing(format!("uid {id}")))
            }
            Self::Keyring(None) => {
                step("keyctl", "KEYCTL_JOIN_SESSION_KEYRING, NULL", "the caller's keys stay the caller's")
            }
            Self::Keyring(Some(name)) => {
                let arguments = format!("KEYCTL_JOIN_SESSION_KEYRING, {name:?}");
                step("keyctl", arguments, "the session keyring of this name, instead of the caller's")
                    .on(Subject::Value(name.to_string_lossy().into_owned()))
            }
            Self::BoundCapabilities(set) => step(
                "prctl PR_CAPBSET_DROP",
                format!("all but {set}"),
                "no program run later can have more (one call for each capability)",
            ),
            Self::KeepCapabilities => step("prctl", "PR_SET_KEEPCAPS, 1", "until they are set exactly, below"),
            Self::RaiseEffective { inheritable } => {
                let arguments = format!("effective=permitted inheritable={inheritable}");
                step("capset", arguments, "what the next calls need, until the sets are made exact below")
                    .on(Subject::Thing(inheritable.to_string()))
            }
            Self::ClearAmbient => {
                step("prctl", "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL", "none survives execve unasked")
            }
            Self::RaiseAmbient(set) => step(
                "prctl PR_CAP_AMBIENT_RAISE",
                set.to_string(),
                "these survive execve whatever the uid (one call for each capability)",
            )
            .on(Subject::Thing(set.to_string())),
            Self::Securebits(bits) => {
                step("prctl PR_SET_SECUREBITS", bits.to_string(), "how much uid 0 means to the payload")
                    .on(Subject::Thing(bits.to_string()))
            }
            Self::Capabilities(Capabilities { effective, permitted, inheritable, .. }) => step(
                "capset",
                format!("effective={effective} permitted={permitted} inheritable={inheritable}"),
                "exactly those asked for",
            )
            .on(Subject::Thing(permitted.to_string())),
            Self::NoNewPrivileges => step("prctl", "PR_SET_NO_NEW_PRIVS, 1", "set-user-id programs gain nothing"),
        }
    }
}
