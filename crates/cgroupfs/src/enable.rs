//! Passing controllers down: `cgroup.controllers` and `cgroup.subtree_control`.
//!
//! A group has a controller when the group above passes it down, and that one when the one above it does, up to the root.
//! So to have one somewhere deep, it is enabled level by level from the top. The kernel takes a write of several
//! controllers whole or not at all, and one that it refuses would cost the others: so after a refusal each is written
//! alone. What was enabled on the way for a controller that a deeper level then refuses is disabled again.
//!
//! A group with processes passes no domain controllers down (EBUSY). Threaded ones (cpu, cpuset, pids) the kernel lets it
//! pass down, by silently making it the root of a threaded subtree, where the groups below it cannot hold processes any
//! more ("domain invalid"). Nobody who asks for `pids` means that, so it is refused here like the others; who does mean it
//! makes a group below threaded first.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::children::with_more;
use crate::{Cgroup, CgroupType, Controller, Controllers, Error, ErrorKind, Result};

const WRITE: &str = "write cgroup.subtree_control";

/// How often a group is emptied for a controller while something keeps putting processes into it.
const ROUNDS: u32 = 16;

impl Cgroup {
    /// `cgroup.controllers`: the controllers this group has, because the group above passes them down. Those that this
    /// library does not know are left out: [`raw`](Self::raw) has them.
    ///
    /// * Kernel: 4.5.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cgroup.controllers")]
    pub fn controllers(&self) -> Result<Controllers> {
        Ok(Controllers::parse(&self.read("cgroup.controllers")?))
    }

    /// `cgroup.subtree_control`: the controllers that the groups right below this one have.
    ///
    /// * Kernel: 4.5.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cgroup.subtree_control")]
    pub fn subtree_control(&self) -> Result<Controllers> {
        Ok(Controllers::parse(&self.read("cgroup.subtree_control")?))
    }

    /// Writes `cgroup.subtree_control`: passes `controllers` down to the groups below this one. Those that are passed down
    /// already are left alone. When some are refused the others are enabled all the same, and the error names each that
    /// cannot be had, and who holds it; its hint says what to do.
    ///
    /// * Kernel: 4.5.
    /// * Privileges: write access to the file.
    ///
    /// ```no_run
    /// use cgroupfs::{Controller, Hierarchy};
    ///
    /// let place = Hierarchy::detect()?.place()?;
    /// place.group().enable([Controller::Memory, Controller::Pids])?;
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#enabling-and-disabling>.
    ///
    /// # Errors
    /// Busy when this group has processes of its own: see [`evacuate`](Self::evacuate). Unsupported for a controller that
    /// this group does not have, in the words of [`why_not_below`](Self::why_not_below), and in a threaded subtree;
    /// Permission; Gone.
    #[doc(alias = "cgroup.subtree_control")]
    pub fn enable(&self, controllers: impl Into<Controllers>) -> Result<()> {
        Error::all(self.enable_some(controllers.into()).refused.into_iter().map(|(_, error)| error))
    }

    /// The same, and a group that has processes of its own is [evacuated](Self::evacuate) into `leaf`, a group below it.
    /// Something that keeps putting processes into it is met by doing so again, a few times.
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Controller, Hierarchy};
    ///
    /// // A container's root group holds its processes, so it passes nothing down until they have moved.
    /// let own = Hierarchy::detect()?.own_group()?;
    /// let leaf = own.create_child(&CgroupName::new("init")?)?;
    /// own.enable_evacuating(Controller::Pids, &leaf)?;
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`enable`](Self::enable) and [`evacuate`](Self::evacuate). What was moved stays moved.
    pub fn enable_evacuating(&self, controllers: impl Into<Controllers>, leaf: &Self) -> Result<()> {
        let controllers = controllers.into();
        for _ in 0..ROUNDS {
            match self.enable(controllers) {
                Err(error) if busy(&error) => self.evacuate(leaf)?,
                outcome => return outcome,
            }
        }
        self.enable(controllers)
    }

    /// Writes `cgroup.subtree_control` of this group and of each one down to the one above `group`, so that `group` has
    /// `controllers`.
    ///
    /// For each controller it is all levels or none: where one level refuses it, the levels above that were changed for it
    /// are changed back. A controller that is refused does not cost the others.
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Controller, Hierarchy};
    ///
    /// let place = Hierarchy::detect()?.place()?;
    /// let group = place.group().create_nested(&[CgroupName::new("app")?, CgroupName::new("web")?])?;
    /// place.group().enable_down_to(&group, [Controller::Memory, Controller::Cpu])?;
    /// assert!(group.controllers()?.contains(Controller::Memory));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid when `group` is not below this one; as [`enable`](Self::enable), each with the path of the group that
    /// refused, and whatever could not be changed back.
    #[doc(alias = "cgroup.subtree_control")]
    pub fn enable_down_to(&self, group: &Self, controllers: impl Into<Controllers>) -> Result<()> {
        let mut wanted = controllers.into();
        let mut errors = Vec::new();
        let mut changed: Vec<(Self, Controllers)> = Vec::new();
        for level in self.levels_down_to(group)? {
            let done = level.enable_some(wanted);
            for (refused, error) in done.refused {
                wanted = wanted.without(refused);
                errors.push(restore(&changed, refused, error));
            }
            changed.push((level, done.enabled));
        }
        Error::all(errors)
    }

    /// Writes `cgroup.subtree_control`: stops passing `controllers` down. Their files vanish from the groups below, with
    /// the limits in them. Those that are not passed down are left alone; a refusal does not cost the others.
    ///
    /// # Errors
    /// Busy when a group below passes the controller further down; Permission; Gone.
    #[doc(alias = "cgroup.subtree_control")]
    pub fn disable(&self, controllers: impl Into<Controllers>) -> Result<()> {
        let wanted = match self.subtree_control() {
            Ok(enabled) => controllers.into().and(enabled),
            Err(error) => return Err(error),
        };
        if wanted.is_empty() || self.write("cgroup.subtree_control", &wanted.disabling()).is_ok() {
            return Ok(());
        }
        Error::all(wanted.iter().filter_map(|one| {
            let refused = self.write("cgroup.subtree_control", &Controllers::from(one).disabling()).err()?;
            let hint = "a group below this one passes the controller further down: disable it there first";
            Some(if busy(&refused) { refused.with_hint(hint) } else { refused })
        }))
    }

    fn enable_some(&self, wanted: Controllers) -> Done {
        let missing = match self.subtree_control() {
            Ok(enabled) => wanted.without(enabled),
            Err(error) => return Done { enabled: Controllers::NONE, refused: vec![(wanted, error)] },
        };
        let mut done = Done { enabled: Controllers::NONE, refused: Vec::new() };
        if missing.is_empty() {
            return done;
        }
        match self.write_enabling(missing) {
            Ok(()) => done.enabled = missing,
            // It is about one of them: which, only the kernel knows.
            Err(error) if missing.len() > 1 && about_one(&error) => {
                for one in missing.iter().map(Controllers::from) {
                    match self.write_enabling(one) {
                        Ok(()) => done.enabled = done.enabled.or(one),
                        Err(error) => done.refused.push((one, self.explain_refusal(one, error))),
                    }
                }
            }
            Err(error) => done.refused.push((missing, self.explain_refusal(missing, error))),
        }
        done
    }

    /// Who has the controller that the kernel knows nothing of here: its errno does not even say which it is.
    fn explain_refusal(&self, refused: Controllers, error: Error) -> Error {
        let unknown = [Some(libc::ENOENT), Some(libc::EINVAL)].contains(&error.raw_os_error());
        let why_not = refused.iter().next().filter(|_| unknown && refused.len() == 1);
        match why_not.and_then(|controller| self.why_not_below(controller)) {
            Some(why_not) => why_not.explain(error),
            None => error,
        }
    }

    fn write_enabling(&self, controllers: Controllers) -> Result<()> {
        if controllers.iter().all(Controller::is_threaded) && self.would_become_threaded()? {
            return Err(Error::from_errno(WRITE, libc::EBUSY).on(self.path()).with_hint(
                "this group has processes of its own, and with these controllers the kernel would make the groups below \
                 it threaded: evacuate it, or call make_threaded on a group below it if that is meant",
            ));
        }
        self.write("cgroup.subtree_control", &controllers.enabling())
    }

    fn would_become_threaded(&self) -> Result<bool> {
        Ok(!self.is_root()? && self.cgroup_type()? == CgroupType::Domain && !self.procs()?.is_empty())
    }

    /// This group and those below it on the way to `group`, without that one; from the top.
    fn levels_down_to(&self, group: &Self) -> Result<Vec<Self>> {
        let below = group.path().strip_prefix(self.path()).ok().filter(|below| below.components().count() > 0);
        let Some(below) = below else {
            let why = format!("the group {:?} is not below this one", group.path());
            return Err(Error::invalid(WRITE, why).on(self.path()));
        };
        let mut levels = vec![self.try_clone()?];
        let names = below.parent().into_iter().flat_map(Path::components);
        for name in names {
            let here = levels.last().unwrap_or(self);
            let next = here.open_child(name)?;
            levels.push(next);
        }
        Ok(levels)
    }
}

/// What came of enabling several.
struct Done {
    /// Those that were not passed down before and are now.
    enabled: Controllers,
    refused: Vec<(Controllers, Error)>,
}

fn busy(error: &Error) -> bool {
    std::iter::once(error).chain(error.also()).any(|error| error.kind() == ErrorKind::Busy)
}

/// Whether a refusal may be about one controller of several.
fn about_one(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Gone | ErrorKind::Permission)
}

/// Disables `refused` where it was enabled on the way, from the deepest. `error` is why.
fn restore(changed: &[(Cgroup, Controllers)], refused: Controllers, error: Error) -> Error {
    changed.iter().rev().fold(error, |error, (level, enabled)| with_more(error, level.disable(enabled.and(refused))))
}
