//! Why a controller cannot be had, in words that name who has it.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use cellkit_core::{ProcFd, ProcView};

use crate::proc_text::{Kernel, parse_cgroups};
use crate::{Cgroup, Controller, Controllers, Error, Place, Result};

/// Why groups made in a [`Place`] cannot use a controller. It prints as one line; [`what_to_do`](Self::what_to_do) is
/// another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyNot {
    controller: Controller,
    reason: Reason,
}

/// What stands in the way of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A cgroup v1 hierarchy holds it; a controller is in one hierarchy at a time.
    HeldByV1 {
        /// Where that hierarchy is mounted, as far as it can be seen.
        mounts: Vec<PathBuf>,
    },
    /// A group above has it, but does not pass it down in its `cgroup.subtree_control`.
    NotPassedDown {
        /// That group.
        group: PathBuf,
    },
    /// The group where groups would be made has processes of its own, and such a one passes nothing down.
    HoldsProcesses {
        /// That group.
        group: PathBuf,
        /// How many.
        processes: usize,
    },
    /// `cgroup.subtree_control` of the group where groups would be made is not the caller's to write.
    NotDelegated {
        /// That group.
        group: PathBuf,
    },
    /// The topmost group that can be seen from here, the root of a cgroup namespace or a container, was not given it.
    NotGranted {
        /// That group.
        group: PathBuf,
    },
    /// It was switched off on the kernel's command line.
    Disabled,
    /// It is not built into this kernel.
    NotBuiltIn,
    /// A file that would tell could not be read.
    Unreadable {
        /// The error, in words.
        error: String,
    },
}

impl WhyNot {
    /// Which controller.
    #[must_use]
    pub fn controller(&self) -> Controller {
        self.controller
    }

    /// What stands in the way.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What can be done about it, in one sentence.
    #[must_use]
    pub fn what_to_do(&self) -> String {
        let name = self.controller;
        match &self.reason {
            Reason::HeldByV1 { .. } => format!(
                "boot with cgroup_no_v1={} (with systemd: systemd.unified_cgroup_hierarchy=1), or do without this limit",
                name.v1_name()
            ),
            Reason::NotPassedDown { group } => format!(
                "as root: echo +{name} > {}/cgroup.subtree_control; of a systemd user: Delegate={name} (and the others) \
                 in user@.service",
                group.display()
            ),
            Reason::HoldsProcesses { group, .. } => format!(
                "move what {}/cgroup.procs lists to a group below it, or start from a delegated group that is empty",
                group.display()
            ),
            Reason::NotDelegated { .. } => crate::hint::DELEGATE.to_owned(),
            Reason::NotGranted { .. } => {
                format!("have the host pass {name} down to this container or namespace, or do without this limit")
            }
            Reason::Disabled if name == Controller::Memory => {
                "take cgroup_disable=memory off the kernel's command line (a Raspberry Pi wants cgroup_enable=memory)"
                    .to_owned()
            }
            Reason::Disabled => format!("take cgroup_disable={} off the kernel's command line", name.v1_name()),
            Reason::NotBuiltIn => format!("use a kernel that is built with {}", name.build_option()),
            Reason::Unreadable { .. } => "see whether the group still exists and may be read".to_owned(),
        }
    }

    /// The error of an operation that needs the controller.
    pub(crate) fn error(&self, operation: impl Into<String>, group: &Cgroup) -> Error {
        Error::unsupported(operation.into(), format!("the {} controller ({})", self.controller, self.reason), None)
            .on(group.path())
            .with_hint(self.what_to_do())
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} controller: {}", self.controller, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeldByV1 { mounts } => {
                f.write_str("held by cgroup v1")?;
                for (index, mount) in mounts.iter().enumerate() {
                    write!(f, "{} {mount:?}", if index == 0 { ", mounted at" } else { " and" })?;
                }
                Ok(())
            }
            Self::NotPassedDown { group } => write!(f, "the group {group:?} does not pass it down"),
            Self::HoldsProcesses { group, processes: 1 } => {
                write!(f, "the group {group:?} has a process of its own, so it passes nothing down")
            }
            Self::HoldsProcesses { group, processes } => {
                write!(f, "the group {group:?} has {processes} processes of its own, so it passes nothing down")
            }
            Self::NotDelegated { group } => write!(f, "the group {group:?} is not delegated to you"),
            Self::NotGranted { group } => {
                write!(f, "the group {group:?}, the topmost seen from here, was not given it")
            }
            Self::Disabled => f.write_str("switched off on the kernel's command line"),
            Self::NotBuiltIn => f.write_str("not built into this kernel"),
            Self::Unreadable { error } => write!(f, "it cannot be found out: {error}"),
        }
    }
}

impl Place {
    /// Why groups made here could not use `controller`; `None` when they can.
    ///
    /// It looks at `cgroup.controllers` and `cgroup.subtree_control` of this group and those above it, at its processes
    /// and permissions, at the mounted version 1 hierarchies and at `/proc/cgroups`. Nothing is changed.
    #[must_use]
    pub fn why_not(&self, controller: Controller) -> Option<WhyNot> {
        let reason = match self.examine(controller) {
            Ok(reason) => reason?,
            Err(error) => Reason::Unreadable { error: error.to_string() },
        };
        Some(WhyNot { controller, reason })
    }

    fn examine(&self, controller: Controller) -> Result<Option<Reason>> {
        let group = self.group();
        if passed_down(group)?.contains(controller) {
            return Ok(None);
        }
        if !available(group)?.contains(controller) {
            return self.who_lacks(controller).map(Some);
        }
        if !group.is_root()? {
            let processes = group.procs()?.len();
            if processes > 0 {
                return Ok(Some(Reason::HoldsProcesses { group: group.path().to_owned(), processes }));
            }
        }
        Ok(match group.require_writable("cgroup.subtree_control") {
            Ok(()) => None,
            Err(_) => Some(Reason::NotDelegated { group: group.path().to_owned() }),
        })
    }

    /// Why the controller does not reach this group.
    fn who_lacks(&self, controller: Controller) -> Result<Reason> {
        for above in self.above() {
            let above = above?;
            if available(&above)?.contains(controller) && !passed_down(&above)?.contains(controller) {
                return Ok(Reason::NotPassedDown { group: above.path().to_owned() });
            }
        }
        // Not even the topmost has it.
        let hierarchy = &self.hierarchy().0;
        if hierarchy.membership.held_by_v1.iter().any(|name| name == controller.v1_name()) {
            let mounts = hierarchy.v1_mounts.iter().filter(|mount| mount.holds(controller));
            return Ok(Reason::HeldByV1 { mounts: mounts.map(|mount| mount.mount_point.clone()).collect() });
        }
        let top = self.hierarchy().open("/")?;
        let kernel = match ProcFd::open(ProcView::Whole).and_then(|proc| proc.read("cgroups".as_ref())) {
            Ok(text) => parse_cgroups(&text, controller),
            Err(_) => Kernel::Enabled,
        };
        Ok(match kernel {
            Kernel::Disabled => Reason::Disabled,
            // The root of everything lacks it, so the kernel does.
            Kernel::Unlisted if top.is_root()? => Reason::NotBuiltIn,
            Kernel::Unlisted | Kernel::Enabled => Reason::NotGranted { group: top.path().to_owned() },
        })
    }
}

pub(crate) fn passed_down(group: &Cgroup) -> Result<Controllers> {
    Ok(Controllers::parse(&group.read("cgroup.subtree_control")?))
}

fn available(group: &Cgroup) -> Result<Controllers> {
    Ok(Controllers::parse(&group.read("cgroup.controllers")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_in_words() {
        let group = PathBuf::from("/sys/fs/cgroup/user.slice");
        let reasons = [
            (
                Reason::HeldByV1 { mounts: vec!["/sys/fs/cgroup/memory".into()] },
                r#"no memory controller: held by cgroup v1, mounted at "/sys/fs/cgroup/memory""#,
                "cgroup_no_v1=memory",
            ),
            (Reason::HeldByV1 { mounts: vec![] }, "no memory controller: held by cgroup v1", "cgroup_no_v1"),
            (
                Reason::NotPassedDown { group: group.clone() },
                r#"no memory controller: the group "/sys/fs/cgroup/user.slice" does not pass it down"#,
                "echo +memory > /sys/fs/cgroup/user.slice/cgroup.subtree_control",
            ),
            (
                Reason::HoldsProcesses { group: group.clone(), processes: 1 },
                r#"no memory controller: the group "/sys/fs/cgroup/user.slice" has a process of its own, so it passes nothing down"#,
                "/sys/fs/cgroup/user.slice/cgroup.procs",
            ),
            (
                Reason::HoldsProcesses { group: group.clone(), processes: 3 },
                r#"no memory controller: the group "/sys/fs/cgroup/user.slice" has 3 processes of its own, so it passes nothing down"#,
                "empty",
            ),
            (
                Reason::NotDelegated { group: group.clone() },
                r#"no memory controller: the group "/sys/fs/cgroup/user.slice" is not delegated to you"#,
                "Delegate=yes",
            ),
            (
                Reason::NotGranted { group },
                r#"no memory controller: the group "/sys/fs/cgroup/user.slice", the topmost seen from here, was not given it"#,
                "host",
            ),
            (
                Reason::Disabled,
                "no memory controller: switched off on the kernel's command line",
                "cgroup_disable=memory",
            ),
            (Reason::NotBuiltIn, "no memory controller: not built into this kernel", "CONFIG_MEMCG"),
            (
                Reason::Unreadable { error: "read x: gone".into() },
                "no memory controller: it cannot be found out: read x: gone",
                "exists",
            ),
        ];
        for (reason, line, advice) in reasons {
            let why_not = WhyNot { controller: Controller::Memory, reason };
            assert_eq!(why_not.to_string(), line);
            assert!(why_not.what_to_do().contains(advice), "{}", why_not.what_to_do());
            assert_eq!(why_not.what_to_do().lines().count(), 1);
        }
    }
}
