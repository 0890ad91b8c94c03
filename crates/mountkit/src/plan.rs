//! From a [`Rootfs`] to the system calls that make it.
//!
//! # Theory of operation
//!
//! The steps run in a new mount namespace, which begins as a copy of the host's. Four facts carry the order:
//!
//! * *Nothing of the host is covered while it is needed.* The scratch tmpfs and then the new root are mounted on `/`
//!   itself. A lookup of an absolute path starts at the process's root, below whatever is mounted on it, so every path of
//!   the host keeps its meaning, and no directory of the host is needed as a place to work in. Only at the end does the
//!   scratch tmpfs move onto a directory of the host: then it leaves together with the old root. Each umount2 waits for
//!   every processor (synchronize_rcu_expedited), which on a busy machine takes longer than all else here together.
//! * *The scratch tmpfs is the working directory.* The overlay's upper and work directories are named relative to it, so
//!   that no path in an option needs escaping; the container's `/tmp` and `/run` and the sources of masks are in it too.
//!   It goes away with the old root, and lives on as long as what was made of it.
//! * *A target is a descriptor.* It is resolved in the new root with RESOLVE_IN_ROOT and mounted on as it is; no path is
//!   joined to a root. proc, sysfs and /dev come after the volumes, on directories reached without links, so that
//!   neither the content of the root nor a volume can move or cover them.
//! * *The host's own /proc is still visible when the new one is made*, which a user namespace needs.
//!
//! Descriptors are close-on-exec and are left open: `execve` closes them all at once.
#![forbid(unsafe_code)]

mod dev;
mod file;
mod host;
mod kernel_fs;
mod layers;
mod mask;
mod overlay;
mod volume;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::{ChildSteps, Error, Result, Slot, Subject};

use crate::filesystem::{Recipe, Value};
use crate::in_root::InRootPath;
use crate::rootfs::{Base, Made, Mount, Rootfs, absolute, check_detached};
use crate::shared_fd::SharedFd;
use crate::step::{At, Call, Step, Target};
use crate::sys::RawMountAttr;
use crate::{MountTable, Propagation, Tmpfs};

/// open_tree that makes a detached copy of one mount.
const CLONE: u32 = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
/// The same, with all that is mounted below it.
const CLONE_ALL: u32 = CLONE | libc::AT_RECURSIVE as u32;
/// mount_setattr of the mount a descriptor is the root of.
const THIS: u32 = libc::AT_EMPTY_PATH as u32;
/// The same, with all that is mounted below it.
const THIS_AND_BELOW: u32 = THIS | libc::AT_RECURSIVE as u32;

/// What no kernel file system needs.
const INERT: u64 = crate::MountAttr::INERT.bits();

pub(crate) fn steps(rootfs: &Rootfs) -> Result<ChildSteps> {
    let mut plan = Plan::new(rootfs)?;
    let early = plan.clones_that_follow_the_host(rootfs)?;
    plan.begin()?;
    let root = plan.root(rootfs, early.root)?;
    let all = rootfs.mounts.iter().zip(early.mounts);
    let (below_dev, elsewhere): (Vec<_>, Vec<_>) =
        all.partition(|(mount, _)| rootfs.dev.wanted && mount.target().starts_with("/dev"));
    for (mount, early) in elsewhere {
        plan.mount(root, mount, early, rootfs)?;
    }
    if let Some(proc) = &rootfs.proc {
        plan.proc(root, proc)?;
    }
    if let Some(sys) = rootfs.sys {
        plan.sys(root, sys)?;
    }
    if let Some(cgroup) = &rootfs.cgroup {
        plan.cgroup(root, cgroup)?;
    }
    let dev = if rootfs.dev.wanted { Some(plan.dev(root, rootfs)?) } else { None };
    for (mount, early) in below_dev {
        plan.mount(root, mount, early, rootfs)?;
    }
    plan.masks(root, rootfs)?;
    if let Some(dev) = dev {
        plan.console(dev, rootfs)?;
    }
    plan.finish(root, rootfs)?;
    Ok(plan.steps)
}

/// What was cloned before the child's mounts became private: the root, and a place for each of the mounts.
#[derive(Debug, Default)]
struct Early {
    root: Option<Slot>,
    mounts: Vec<Option<Slot>>,
}

/// A list of steps under construction.
struct Plan {
    steps: ChildSteps,
    /// The tmpfs that everything throw-away is in; the child's working directory.
    scratch: Slot,
    /// Mounts that a read-only root makes read-only at the end.
    writable: Vec<Slot>,
    /// How the root is called in errors.
    shown: PathBuf,
    /// A directory of the host other than `/`.
    elsewhere: PathBuf,
    /// How many overlays there are.
    overlays: usize,
    /// How many files of the caller's.
    files: usize,
}

impl Plan {
    fn new(rootfs: &Rootfs) -> Result<Self> {
        let mut steps = ChildSteps::new();
        let scratch = steps.slot();
        let (shown, elsewhere) = match &rootfs.base {
            Base::OverlayOfHost => ("/".into(), "/".into()),
            Base::Overlay(dir) | Base::Bind(dir) => (dir.clone(), dir.clone()),
            Base::Detached(_) => ("the root".into(), host::a_directory()?),
            Base::OverlayOf(_, shown) => (shown.clone(), host::a_directory()?),
            Base::Layers(overlay) => {
                let top = overlay.topmost().unwrap_or("/".as_ref()).to_owned();
                (top.clone(), top)
            }
        };
        Ok(Self { steps, scratch, writable: Vec::new(), elsewhere, shown, overlays: 0, files: 0 })
    }

    /// A clone is a peer of what it was made of, until one of both is made private: what is to have the host's mounts, or
    /// to give it its own, is cloned first.
    fn clones_that_follow_the_host(&mut self, rootfs: &Rootfs) -> Result<Early> {
        let mut early = Early::default();
        if let Base::Bind(dir) = &rootfs.base {
            if rootfs.propagation == Propagation::Slave {
                early.root = Some(self.clone_of_root(dir)?);
            }
        }
        for mount in &rootfs.mounts {
            early.mounts.push(match mount {
                Mount::Volume(volume) if Rootfs::follows_host(volume.propagates()) => {
                    Some(self.clone_of_volume(volume)?)
                }
                _ => None,
            });
        }
        Ok(early)
    }

    fn begin(&mut self) -> Result<()> {
        let host_root = || Subject::from(Path::new("/"));
        let private = RawMountAttr { propagation: libc::MS_PRIVATE, ..RawMountAttr::default() };
        self.push(
            Call::MountSetattr { at: At::Cwd, path: c"/".into(), flags: libc::AT_RECURSIVE as u32, attr: private },
            "no mount made from here on is seen by the host",
            host_root(),
        );
        // It holds neither programs with privileges nor devices.
        let recipe = Tmpfs::new().mode(0o755).recipe()?;
        let mount = self.new_fs(&recipe, "a tmpfs for all that is throw-away");
        self.push(
            Call::MoveMount { from: mount, at: At::Cwd, path: c"/".into() },
            "on \"/\" itself it covers no path of the host, because lookups start below it",
            host_root(),
        );
        self.push(
            Call::Fchdir { dir: mount },
            "paths of the scratch tmpfs are relative from here on",
            thing("the scratch tmpfs"),
        );
        self.scratch = mount;
        Ok(())
    }

    /// Makes what is to become `/`, and mounts it where pivot_root wants it.
    fn root(&mut self, rootfs: &Rootfs, early: Option<Slot>) -> Result<Slot> {
        match &rootfs.base {
            Base::OverlayOfHost => self.overlay_of_host(rootfs),
            Base::Overlay(dir) => {
                let lower = overlay::Lower::look_at(dir)?;
                if rootfs.unprivileged {
                    lower.refuse_mounts_below()?;
                }
                let root = self.overlay(&lower, rootfs.unprivileged)?;
                self.writable.push(root);
                self.attach_root(root);
                Ok(root)
            }
            Base::OverlayOf(fd, shown) => {
                let root = self.overlay(&overlay::Lower::look_at_mount(fd, shown)?, rootfs.unprivileged)?;
                self.writable.push(root);
                self.attach_root(root);
                Ok(root)
            }
            Base::Layers(overlay) => {
                let root = self.overlay_of_layers(overlay, rootfs.unprivileged)?;
                self.writable.push(root);
                self.attach_root(root);
                Ok(root)
            }
            Base::Bind(dir) => {
                let root = match early {
                    Some(root) => root,
                    None => self.clone_of_root(dir)?,
                };
                self.set_root(root, rootfs);
                self.attach_root(root);
                Ok(root)
            }
            Base::Detached(fd) => {
                let root = self.inherit(fd, "the root: a tree that the caller made");
                self.set_root(root, rootfs);
                self.attach_root(root);
                Ok(root)
            }
        }
    }

    fn clone_of_root(&mut self, dir: &Path) -> Result<Slot> {
        let path = absolute_source(dir)?;
        self.clone_of(&path, CLONE_ALL, "the root: the directory itself, with what is mounted below it")
    }

    fn set_root(&mut self, root: Slot, rootfs: &Rootfs) {
        let (read_only, reason) = match rootfs.read_only {
            true => (libc::MOUNT_ATTR_RDONLY, "read-only, and no device in it can be opened"),
            false => (0, "no device in it can be opened, whoever made the node"),
        };
        let propagation = match rootfs.propagation {
            Propagation::Slave => libc::MS_SLAVE,
            _ => 0,
        };
        let attr =
            RawMountAttr { attr_set: read_only | libc::MOUNT_ATTR_NODEV, propagation, ..RawMountAttr::default() };
        self.change(root, THIS_AND_BELOW, attr, reason, self.shown.clone());
    }

    fn attach_root(&mut self, root: Slot) {
        self.push(
            Call::MoveMount { from: root, at: At::Cwd, path: c"/".into() },
            "pivot_root wants a new root that is mounted",
            Subject::from(&*self.shown),
        );
    }

    /// A volume, a tmpfs or a tree of the caller.
    fn mount(&mut self, root: Slot, mount: &Mount, early: Option<Slot>, rootfs: &Rootfs) -> Result<()> {
        let target = absolute("move_mount", mount.target())?;
        let (fd, kind) = match mount {
            Mount::Volume(volume) => self.volume(volume, early, rootfs)?,
            Mount::CopyUp(_, options) => {
                let fd = self.new_fs(&options.recipe()?, "a tmpfs that begins with what is there");
                let call = Call::CopyUp { root, path: target.clone(), to: fd };
                self.push(call, "… copied before it is covered", self.inside(&target));
                (fd, Target::Dir)
            }
            Mount::File(_, content) => (self.file(content)?, Target::File),
            Mount::Source(_, source) => match source.made()? {
                Made::Here(recipe) => (self.new_fs(&recipe, "a file system that was asked for"), Target::Dir),
                Made::ByTheCaller(fd) => {
                    let kind = if check_detached(fd)? { Target::Dir } else { Target::File };
                    (self.inherit(fd, "a tree that the caller made"), kind)
                }
            },
        };
        self.put(root, fd, target, kind);
        Ok(())
    }

    /// A detached mount of the parent's.
    fn inherit(&mut self, mount: &SharedFd, reason: &'static str) -> Slot {
        let into = self.steps.slot();
        self.push(Call::Inherit { mount: mount.clone(), into }, reason, thing("a detached mount"));
        into
    }

    /// Mounts `fd` on `path` of the root.
    fn put(&mut self, root: Slot, fd: Slot, path: InRootPath, target: Target) {
        let reason = match target {
            Target::RealDir => "the place for it, which must be a real directory",
            Target::Dir | Target::File => "the place for it, looked up inside the root only",
        };
        let subject = self.inside(&path);
        let into = self.steps.slot();
        self.push(Call::OpenTarget { root, path, target, into }, reason, subject.clone());
        self.push(Call::MoveMount { from: fd, at: At::Fd(into), path: c"".into() }, "there it is", subject);
    }

    /// Makes a file system and a detached mount of it.
    fn new_fs(&mut self, recipe: &Recipe, reason: &'static str) -> Slot {
        let subject = || thing(&recipe.fs.to_string_lossy());
        let context = self.steps.slot();
        self.push(Call::Fsopen { fs: recipe.fs, into: context }, reason, subject());
        if let Some(name) = recipe.source() {
            let call = Call::FsconfigString { fs: context, key: c"source", value: name.to_owned() };
            self.push(call, "… by this name", subject());
        }
        for setting in &recipe.settings {
            let call = match &setting.value {
                Value::Text(value) => Call::FsconfigString { fs: context, key: setting.key, value: value.clone() },
                Value::Flag => Call::FsconfigFlag { fs: context, key: setting.key },
            };
            self.push(call, "… with this option", subject());
        }
        self.push(Call::FsconfigCreate { fs: context }, "… made", subject());
        self.fsmount(context, recipe.attributes(), subject())
    }

    fn fsmount(&mut self, context: Slot, attributes: u64, subject: Subject) -> Slot {
        let into = self.steps.slot();
        // All MOUNT_ATTR_* that fsmount takes are in the lower half.
        let call = Call::Fsmount { fs: context, attributes: attributes as u32, into };
        self.push(call, "… and mounted nowhere yet", subject);
        into
    }

    /// A detached copy of the mount at a path of the host.
    fn clone_of(&mut self, path: &Path, flags: u32, reason: &'static str) -> Result<Slot> {
        let into = self.steps.slot();
        self.push(Call::OpenTree { at: At::Cwd, path: c_string("open_tree", path)?, flags, into }, reason, path);
        Ok(into)
    }

    /// A detached copy of a directory of the scratch tmpfs.
    fn clone_of_scratch(&mut self, name: &CStr, reason: &'static str) -> Slot {
        let into = self.steps.slot();
        let subject = in_scratch(name);
        self.push(Call::OpenTree { at: At::Fd(self.scratch), path: name.into(), flags: CLONE, into }, reason, subject);
        into
    }

    fn set(&mut self, fd: Slot, flags: u32, attr_set: u64, reason: &'static str, subject: impl Into<Subject>) {
        self.change(fd, flags, RawMountAttr { attr_set, ..RawMountAttr::default() }, reason, subject);
    }

    fn change(&mut self, fd: Slot, flags: u32, attr: RawMountAttr, reason: &'static str, subject: impl Into<Subject>) {
        self.push(Call::MountSetattr { at: At::Fd(fd), path: c"".into(), flags, attr }, reason, subject);
    }

    fn mkdir_in_scratch(&mut self, name: &CStr, mode: u32, reason: &'static str) {
        self.push(Call::Mkdirat { at: self.scratch, path: name.into(), mode }, reason, in_scratch(name));
    }

    fn push(&mut self, call: Call, reason: &'static str, subject: impl Into<Subject>) {
        self.steps.push(Step { call, reason, subject: subject.into() });
    }

    /// A path of the new root, as errors show it.
    fn inside(&self, path: &InRootPath) -> Subject {
        Subject::PathUnder { path: path.shown(), dir: self.shown.clone() }
    }

    fn leave_by_pivot_root(&mut self, root: Slot, shown: Subject) -> Result<()> {
        let path = c_string("move_mount", &absolute_source(&self.elsewhere)?)?;
        let call = Call::MoveMount { from: self.scratch, at: At::Cwd, path };
        let elsewhere = Subject::from(&*self.elsewhere);
        self.push(
            call,
            "the scratch tmpfs is to leave with the old root: no path of the host is used from here on",
            elsewhere,
        );
        self.push(Call::Fchdir { dir: root }, "into the new root", shown.clone());
        self.push(Call::PivotRoot, "it becomes \"/\"; the old root is on top of it for a moment", shown);
        let old = Subject::Thing("the old root".into());
        self.push(Call::DetachOldRoot, "the old root, and the host with it, is out of reach", old);
        Ok(())
    }

    /// The root stays where it was mounted, on "/", and the scratch tmpfs and the initramfs below it.
    fn leave_by_chroot(&mut self, root: Slot, shown: Subject) -> Result<()> {
        let mut paths = Vec::new();
        // What is mounted last, or further down, goes first.
        for mount in MountTable::read()?.iter().rev().filter(|mount| mount.path() != Path::new("/")) {
            paths.push(c_string("umount2", mount.path())?);
        }
        let old = Subject::Thing("the host's mounts".into());
        self.push(Call::DetachHost { paths }, "what can be taken away of the host is", old);
        self.push(Call::Fchdir { dir: root }, "into the new root", shown.clone());
        self.push(
            Call::ChrootHere,
            "an initramfs cannot be exchanged: it STAYS BELOW, within reach of who may unmount",
            shown,
        );
        Ok(())
    }

    fn finish(&mut self, root: Slot, rootfs: &Rootfs) -> Result<()> {
        let shown = Subject::from(&*self.shown);
        if rootfs.read_only {
            for fd in std::mem::take(&mut self.writable) {
                self.set(fd, THIS, libc::MOUNT_ATTR_RDONLY, "a read-only root was asked for", shown.clone());
            }
        }
        if rootfs.no_pivot {
            self.leave_by_chroot(root, shown)?;
        } else {
            self.leave_by_pivot_root(root, shown)?;
        }
        let inside = || Subject::from(Path::new("/"));
        self.push(Call::ChdirRoot, "the working directory is inside", inside());
        if matches!(rootfs.propagation, Propagation::Shared | Propagation::Unbindable) {
            let attr = RawMountAttr { propagation: rootfs.propagation.flag(), ..RawMountAttr::default() };
            let call = Call::MountSetattr { at: At::Cwd, path: c"/".into(), flags: 0, attr };
            self.push(call, "asked for, and pivot_root wants a root that is not", inside());
        }
        Ok(())
    }
}

fn thing(name: &str) -> Subject {
    Subject::Thing(name.to_owned())
}

fn in_scratch(name: &CStr) -> Subject {
    Subject::PathUnder { path: name.to_string_lossy().into_owned().into(), dir: "the scratch tmpfs".into() }
}

fn c_string(operation: &'static str, path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(operation, "the path has a NUL byte in it").on(path))
}

/// The child has another working directory by the time it uses a path.
fn absolute_source(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| crate::host_path::io_error("getcwd", &error, path))
}

#[cfg(test)]
mod tests;
