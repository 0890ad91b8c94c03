//! Why a controller cannot be had, in words that name who has it.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use cellkit_core::{ProcFd, ProcView};

use crate::hierarchy::{Own, by_this_thread};
use crate::proc_text::{Kernel, is_switched_off, parse_cgroups};
use crate::{Cgroup, CgroupType, Controller, Controllers, Error, Place, Result};

/// Why a group, or groups made in a [`Place`], cannot use a controller. It prints as one line; [`what_to_do`](Self::what_to_do) is
/// another.
///
/// ```no_run
/// use cgroupfs::{Controller, Hierarchy};
///
/// if let Some(why_not) = Hierarchy::detect()?.place()?.why_not(Controller::Memory) {
///     println!("{why_not}\n{}", why_not.what_to_do());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#enabling-and-disabling>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyNot {
    controller: Controller,
    reason: Reason,
}

/// What stands in the way of a controller.
///
/// ```no_run
/// use cgroupfs::{Controller, Hierarchy, Reason};
///
/// let why_not = Hierarchy::detect()?.place()?.why_not(Controller::Memory);
/// if let Some(Reason::HeldByV1 { mounts }) = why_not.as_ref().map(|why_not| why_not.reason()) {
///     println!("version 1 has it at {mounts:?}");
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#no-internal-process-constraint>.
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
    /// This group, or the one on the way to it, is threaded or has a threaded one below it, and this controller does not work
    /// for threads.
    Threaded {
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
            Reason::Threaded { group } => format!(
                "use a group outside of the threaded subtree: see {}/cgroup.type; only cpu, cpuset and pids work for threads",
                group.display()
            ),
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
    /// The same of an error that the kernel made.
    pub(crate) fn explain(&self, error: Error) -> Error {
        error.as_unsupported(self.feature(), None).with_hint(self.what_to_do())
    }

    fn feature(&self) -> String {
        format!("the {} controller ({})", self.controller, self.reason)
    }

    pub(crate) fn error(&self, operation: impl Into<String>, group: &Cgroup) -> Error {
        Error::unsupported(operation.into(), self.feature(), None).on(group.path()).with_hint(self.what_to_do())
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
            Self::Threaded { group } => write!(f, "the group {group:?} is part of a threaded subtree"),
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
    /// Why groups made here could not use `controller`; `None` when they can. See [`Cgroup::why_not_below`].
    #[must_use]
    pub fn why_not(&self, controller: Controller) -> Option<WhyNot> {
        self.group().why_not_below(controller)
    }
}

impl Cgroup {
    /// Why this group does not have `controller`; `None` when it has, and its files are there.
    ///
    /// It looks at `cgroup.controllers` and `cgroup.subtree_control` of the groups above it, at their processes and
    /// permissions, at the mounted version 1 hierarchies, at `/proc/cgroups` and `/proc/cmdline`. Nothing is changed.
    ///
    /// ```no_run
    /// use cgroupfs::{Controller, Hierarchy};
    ///
    /// let group = Hierarchy::detect()?.own_group()?;
    /// if let Some(why_not) = group.why_not(Controller::Memory) {
    ///     println!("{why_not}\n{}", why_not.what_to_do());
    /// }
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#organizing-processes-and-threads>.
    #[must_use]
    pub fn why_not(&self, controller: Controller) -> Option<WhyNot> {
        told(controller, self.examine_own(controller))
    }

    /// Why groups made below this one could not use `controller`; `None` when they can: it is passed down, or
    /// [`enable`](Self::enable) would do it.
    #[must_use]
    pub fn why_not_below(&self, controller: Controller) -> Option<WhyNot> {
        told(controller, self.examine_below(controller))
    }

    fn examine_own(&self, controller: Controller) -> Result<Option<Reason>> {
        if available(self)?.contains(controller) { Ok(None) } else { self.who_lacks(controller).map(Some) }
    }

    fn examine_below(&self, controller: Controller) -> Result<Option<Reason>> {
        if passed_down(self)?.contains(controller) {
            return Ok(None);
        }
        if !available(self)?.contains(controller) {
            return self.who_lacks(controller).map(Some);
        }
        if !controller.is_threaded() {
            if let Some(group) = self.threaded()? {
                return Ok(Some(Reason::Threaded { group }));
            }
        }
        if let Some(reason) = self.held_by_processes()? {
            return Ok(Some(reason));
        }
        Ok(match self.require_writable("cgroup.subtree_control") {
            Ok(()) => None,
            Err(_) => Some(Reason::NotDelegated { group: self.path().to_owned() }),
        })
    }

    fn threaded(&self) -> Result<Option<PathBuf>> {
        Ok((self.cgroup_type()? != CgroupType::Domain).then(|| self.path().to_owned()))
    }

    fn held_by_processes(&self) -> Result<Option<Reason>> {
        if self.is_root()? || self.cgroup_type()? != CgroupType::Domain {
            return Ok(None);
        }
        let processes = self.procs()?.len();
        Ok((processes > 0).then(|| Reason::HoldsProcesses { group: self.path().to_owned(), processes }))
    }

    /// Why the controller does not reach this group.
    fn who_lacks(&self, controller: Controller) -> Result<Reason> {
        // From the topmost, for what it lacks nobody below can have.
        let mut line = vec![self.try_clone()?];
        while let Some(above) = line.last().map(Self::parent).transpose()?.flatten() {
            line.push(above);
        }
        line.reverse();
        for (above, next) in line.iter().zip(line.iter().skip(1)) {
            if !available(above)?.contains(controller) || passed_down(above)?.contains(controller) {
                continue;
            }
            if !controller.is_threaded() {
                if let Some(group) = next.threaded()? {
                    return Ok(Reason::Threaded { group });
                }
            }
            let reason = above.held_by_processes()?;
            return Ok(reason.unwrap_or_else(|| Reason::NotPassedDown { group: above.path().to_owned() }));
        }
        // Not even the topmost has it.
        let own = by_this_thread(Own::read)?;
        if own.membership.held_by_v1.iter().any(|name| name == controller.v1_name()) {
            let mounts = own.mounts.into_iter().filter(|mount| mount.holds(controller));
            return Ok(Reason::HeldByV1 { mounts: mounts.map(|mount| mount.mount_point).collect() });
        }
        let top = line.first().unwrap_or(self);
        let proc = ProcFd::open(ProcView::Whole);
        let text = |file: &str| proc.as_ref().ok().and_then(|proc| proc.read(file.as_ref()).ok());
        let kernel = text("cgroups").map_or(Kernel::Enabled, |text| parse_cgroups(&text, controller));
        let switched_off = text("cmdline").is_some_and(|text| is_switched_off(&text, controller));
        Ok(match kernel {
            Kernel::Disabled => Reason::Disabled,
            // Newer kernels do not list what is not for version 1.
            _ if switched_off => Reason::Disabled,
            // The root of everything lacks it, so the kernel does.
            Kernel::Unlisted if top.is_root()? => Reason::NotBuiltIn,
            Kernel::Unlisted | Kernel::Enabled => Reason::NotGranted { group: top.path().to_owned() },
        })
    }
}

fn told(controller: Controller, examined: Result<Option<Reason>>) -> Option<WhyNot> {
    let reason = match examined {
        Ok(reason) => reason?,
        Err(error) => Reason::Unreadable { error: error.to_string() },
    };
    Some(WhyNot { controller, reason })
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
                Reason::Threaded { group: group.clone() },
                r#"no memory controller: the group "/sys/fs/cgroup/user.slice" is part of a threaded subtree"#,
                "cgroup.type",
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
