//! Making a group with its limits: a plan that is first data, then done.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Instant;

use cellkit_core::{Observer, StepText};

use crate::children::with_more;
use crate::limits::{ForNew, Setting};
use crate::why_not::passed_down;
use crate::{Cgroup, CgroupName, Controllers, Limits, Place, Result};

impl Place {
    /// mkdirat(2), openat2(2), and a write(2) for each limit: makes the group `name` here, with `limits`.
    ///
    /// Everything is checked before anything is made. Then, in the order of
    /// [`describe_create`](Self::describe_create):
    /// 1. The directory is made; a group of that name that exists is an error, never shared.
    /// 2. It is opened, and verified not to be a link or a mount.
    /// 3. The controllers that the limits need, and that are not passed down yet, are enabled in this place's
    ///    `cgroup.subtree_control`. They stay enabled, for another group made here meanwhile may rely on them.
    /// 4. The limits are written.
    ///
    /// Each step is told to `observer` when it is done. When one fails, the new directory is removed again.
    ///
    /// * Kernel: 4.5; 5.6 for openat2.
    /// * Privileges: those that [`Hierarchy::place`](crate::Hierarchy::place) looked for. The directory's mode is 755, less
    ///   the caller's umask.
    ///
    /// # Errors
    /// As [`Limits::check`]; AlreadyExists; Busy when this group has processes of its own; Limit when
    /// `cgroup.max.descendants` or `cgroup.max.depth` of a group above is reached; `write memory.max` and the like as
    /// the kernel has it.
    pub fn create(&self, name: &CgroupName, limits: &Limits, observer: &mut dyn Observer) -> Result<Cgroup> {
        let plan = Plan { place: self, name, todo: limits.checked(self)? };
        timed(observer, || plan.make_text(), || plan.make())?;
        let made = plan.fill(observer);
        made.map_err(|error| with_more(error, self.group().remove_made(name)))
    }

    /// What [`create`](Self::create) would do, in words and in order. Nothing is checked or changed.
    #[must_use]
    pub fn describe_create(&self, name: &CgroupName, limits: &Limits) -> Vec<StepText> {
        // Where it cannot be read what is passed down already, nothing is, as far as we know.
        let enable = limits.controllers().without(passed_down(self.group()).unwrap_or(Controllers::NONE));
        Plan { place: self, name, todo: ForNew { enable, writes: limits.writes() } }.describe()
    }
}

struct Plan<'a> {
    place: &'a Place,
    name: &'a CgroupName,
    todo: ForNew,
}

impl Plan<'_> {
    fn path(&self) -> PathBuf {
        self.place.group().path().join(self.name.as_str())
    }

    fn describe(&self) -> Vec<StepText> {
        let mut steps = vec![self.make_text(), self.open_text()];
        if !self.todo.enable.is_empty() {
            steps.push(self.enable_text());
        }
        steps.extend(self.todo.writes.iter().map(|write| self.write_text(write)));
        steps
    }

    /// Everything after the directory was made.
    fn fill(&self, observer: &mut dyn Observer) -> Result<Cgroup> {
        let group = timed(observer, || self.open_text(), || self.open())?;
        if !self.todo.enable.is_empty() {
            let above = self.place.group();
            let enable = || above.write("cgroup.subtree_control", &self.todo.enable.enabling());
            timed(observer, || self.enable_text(), enable)?;
        }
        for write in &self.todo.writes {
            timed(observer, || self.write_text(write), || group.write(&write.file, &write.content()))?;
        }
        Ok(group)
    }

    fn make_text(&self) -> StepText {
        let arguments = format!("{:?}, {:?}, 0755", self.place.group().path(), self.name.as_str());
        StepText::new("mkdirat", arguments, "a group of its own, which nobody else has").on(self.path())
    }

    fn make(&self) -> Result<()> {
        self.place.group().make_directory(self.name)
    }

    fn open_text(&self) -> StepText {
        let resolve = "RESOLVE_BENEATH|RESOLVE_NO_XDEV|RESOLVE_NO_SYMLINKS|RESOLVE_NO_MAGICLINKS";
        let path = self.place.group().path();
        let arguments = format!("{path:?}, {:?}, O_PATH|O_DIRECTORY|O_CLOEXEC, {resolve}", self.name.as_str());
        StepText::new("openat2", arguments, "the handle that all else goes by").on(self.path())
    }

    fn open(&self) -> Result<Cgroup> {
        self.place.group().open_child(self.name.as_str())
    }

    fn enable_text(&self) -> StepText {
        let arguments = format!("{:?}", self.todo.enable.enabling());
        StepText::new("write cgroup.subtree_control", arguments, "the controllers its limits need")
            .on(self.place.group().path())
    }

    fn write_text(&self, write: &Setting) -> StepText {
        write.describe().on(self.path())
    }
}

/// Does a step and, when it is done, tells the observer.
fn timed<T>(
    observer: &mut dyn Observer,
    text: impl FnOnce() -> StepText,
    step: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    let outcome = step()?;
    if observer.listens() {
        observer.made(text(), started.elapsed());
    }
    Ok(outcome)
}
