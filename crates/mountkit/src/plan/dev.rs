//! `/dev`: a tmpfs with what every program expects.
//!
//! The tmpfs is nodev, as the root and volumes are: a node that the container makes with CAP_MKNOD opens no device. Those
//! it is meant to have are mounts of the host's, one by one.
//!
//! Everything in it is made by name below the descriptor of our own new tmpfs, where nobody else has put anything yet.
#![forbid(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cellkit_core::{Error, Result, Slot, Subject};

use super::{CLONE, Plan, THIS};
use crate::filesystem::Recipe;
use crate::in_root::InRootPath;
use crate::rootfs::{Console, DeviceNodes, Rootfs};
use crate::step::{At, Call, Target};
use crate::{Devpts, MountAttr, Mqueue, Tmpfs, sys};

/// A device node of the host.
struct Node<'a> {
    path: &'a Path,
    /// With its kind.
    mode: u32,
    rdev: (u32, u32),
}

/// Names, numbers and paths on the host.
const NODES: [(&CStr, &str, (u32, u32)); 6] = [
    (c"null", "/dev/null", (1, 3)),
    (c"zero", "/dev/zero", (1, 5)),
    (c"full", "/dev/full", (1, 7)),
    (c"random", "/dev/random", (1, 8)),
    (c"urandom", "/dev/urandom", (1, 9)),
    (c"tty", "/dev/tty", (5, 0)),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"ptmx", c"pts/ptmx"),
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
];

/// The group `tty` of every distribution.
const TTY: u32 = 5;

/// These devices must work; set-user-id programs and programs at all have no place there.
const DEVICES: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;

impl Plan {
    pub(super) fn dev(&mut self, root: Slot, rootfs: &Rootfs) -> Result<Slot> {
        let recipe = Tmpfs::new().size(65536).mode(0o755).no_exec();
        let recipe = match rootfs.dev.nodes {
            DeviceNodes::Bound => recipe,
            DeviceNodes::Made => recipe.clear(MountAttr::NODEV),
        };
        let dev = self.new_fs(&recipe.recipe()?, "/dev: never the host's, nor the root's");
        self.put(root, dev, InRootPath::new("move_mount", Path::new("dev"))?, Target::RealDir);
        for (name, path, rdev) in NODES {
            let node = Node { path: Path::new(path), mode: libc::S_IFCHR | 0o666, rdev };
            self.node(dev, At::Fd(dev), name, rootfs.dev.nodes, &node)?;
        }
        for (path, device) in rootfs.dev.devices()? {
            let node = Node { path, mode: device.mode, rdev: device.rdev };
            self.device(dev, &device.place, rootfs.dev.nodes, &node)?;
        }
        for (path, target) in LINKS {
            let call = Call::Symlinkat { target: target.into(), at: dev, path: path.into() };
            self.push(call, "every program expects it", in_dev(path));
        }
        self.pts(dev, rootfs)?;
        let shm = Tmpfs::new().size(rootfs.dev.shm_size.unwrap_or(64 << 20)).mode(0o1777).no_exec().recipe()?;
        self.fs_in_dev(dev, &shm, c"shm", "shared memory by name, shm_open(3)");
        let mqueue = Mqueue::new().recipe()?;
        self.fs_in_dev(dev, &mqueue, c"mqueue", "the message queues of the child's own ipc namespace");
        if rootfs.dev.console != Console::Absent {
            let mode = libc::S_IFREG | 0o600;
            let call = Call::Mknodat { at: dev, path: c"console".into(), mode, device: (0, 0) };
            self.push(call, "a place for the container's terminal", in_dev(c"console"));
        }
        Ok(dev)
    }

    /// After the masks: nothing that is to be hidden can be reached through it.
    pub(super) fn console(&mut self, dev: Slot, rootfs: &Rootfs) -> Result<()> {
        let Console::Terminal(terminal) = &rootfs.dev.console else { return Ok(()) };
        let subject = Subject::from(Path::new("/dev/console"));
        let clone = sys::mount::clone_tree(Some(terminal.as_fd()), c"", libc::AT_EMPTY_PATH as u32)
            .map_err(|errno| Error::from_errno("open_tree", errno.0).on(subject.clone()).with_hints(&crate::HINTS))?;
        let mount = self.inherit(&clone.into(), "the node of the terminal itself, by its descriptor");
        self.set(mount, THIS, DEVICES, "… and no more than that", subject.clone());
        let call = Call::MoveMount { from: mount, at: At::Fd(dev), path: c"console".into() };
        self.push(call, "there it is", subject);
        Ok(())
    }

    /// A device beside those that every container has; what is missing of the directories on the way is made.
    fn device(&mut self, dev: Slot, place: &InRootPath, nodes: DeviceNodes, node: &Node<'_>) -> Result<()> {
        let Some((last, parents)) = place.prefixes().split_last() else { return Ok(()) };
        let name = last.name();
        let Some(parent) = parents.last() else { return self.node(dev, At::Fd(dev), name, nodes, node) };
        let path = InRootPath::new("mkdirat", Path::new(OsStr::from_bytes(parent.path().to_bytes())))?;
        let into = self.steps.slot();
        let subject = in_dev(parent.path());
        let call = Call::OpenTarget { root: dev, path, target: Target::RealDir, into };
        self.push(call, "the directory that it is in", subject);
        self.node(into, At::Fd(into), name, nodes, node)
    }

    fn node(&mut self, dir: Slot, at: At, name: &CStr, nodes: DeviceNodes, node: &Node<'_>) -> Result<()> {
        match nodes {
            DeviceNodes::Bound => self.host_node(dir, at, name, node),
            DeviceNodes::Made => {
                let call = Call::Mknodat { at: dir, path: name.into(), mode: node.mode, device: node.rdev };
                self.push(call, "a node of the container's own", node.path);
                Ok(())
            }
        }
    }

    /// A device node of the host, checked to be the device of that name.
    fn host_node(&mut self, dir: Slot, at: At, name: &CStr, node: &Node<'_>) -> Result<()> {
        let Node { path, mode, rdev } = *node;
        let clone = self.clone_of(
            path,
            CLONE,
            "the host's own node: one made here would not work, here or in a user namespace",
        )?;
        self.push(Call::CheckDevice { fd: clone, mode, rdev }, "… if it is what its name says", path);
        // Read-only keeps its mode and owner, which are the host's; a device can be written all the same.
        let attributes = DEVICES | libc::MOUNT_ATTR_RDONLY;
        self.set(clone, THIS, attributes, "… and no more than that: its mode and owner stay the host's", path);
        let mode = libc::S_IFREG | 0o666;
        let call = Call::Mknodat { at: dir, path: name.into(), mode, device: (0, 0) };
        self.push(call, "the place for it", path);
        self.push(Call::MoveMount { from: clone, at, path: name.into() }, "there it is", path);
        Ok(())
    }

    fn pts(&mut self, dev: Slot, rootfs: &Rootfs) -> Result<()> {
        let devpts = Devpts::new().ptmxmode(0o666).mode(0o620);
        let devpts = match rootfs.dev.tty_gid.or((!rootfs.unprivileged).then_some(TTY)) {
            Some(gid) => devpts.gid(gid),
            None => devpts,
        };
        self.fs_in_dev(dev, &devpts.recipe()?, c"pts", "terminals of the container's own");
        Ok(())
    }

    fn fs_in_dev(&mut self, dev: Slot, recipe: &Recipe, name: &CStr, reason: &'static str) {
        let fd = self.new_fs(recipe, reason);
        self.push(Call::Mkdirat { at: dev, path: name.into(), mode: 0o755 }, "the place for it", in_dev(name));
        self.push(Call::MoveMount { from: fd, at: At::Fd(dev), path: name.into() }, "there it is", in_dev(name));
    }
}

fn in_dev(name: &CStr) -> Subject {
    Subject::Path(Path::new("/dev").join(name.to_string_lossy().as_ref()))
}
