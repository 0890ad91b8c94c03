//! `/dev`: a tmpfs with what every program expects.
//!
//! The tmpfs is nodev, as the root and volumes are: a node that the container makes with CAP_MKNOD opens no device. Those
//! it is meant to have are mounts of the host's, one by one.
//!
//! Everything in it is made by name below the descriptor of our own new tmpfs, where nobody else has put anything yet.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::Path;

use cellkit_core::{Result, Slot, Subject};

use super::{CLONE, Plan, THIS};
use crate::filesystem::Recipe;
use crate::in_root::InRootPath;
use crate::rootfs::Rootfs;
use crate::step::{At, Call, Target};
use crate::{Devpts, Mqueue, Tmpfs};

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
    pub(super) fn dev(&mut self, root: Slot, rootfs: &Rootfs) -> Result<()> {
        let dev = Tmpfs::new().size(65536).mode(0o755).no_exec().recipe()?;
        let dev = self.new_fs(&dev, "/dev: never the host's, nor the root's");
        self.put(root, dev, InRootPath::new("move_mount", Path::new("dev"))?, Target::RealDir);
        for (name, path, device) in NODES {
            self.host_node(dev, name, Path::new(path), device)?;
        }
        for (path, target) in LINKS {
            let call = Call::Symlinkat { target: target.into(), at: dev, path: path.into() };
            self.push(call, "every program expects it", in_dev(path));
        }
        self.pts(dev, rootfs)?;
        let shm = Tmpfs::new().size(64 << 20).mode(0o1777).no_exec().recipe()?;
        self.fs_in_dev(dev, &shm, c"shm", "shared memory by name, shm_open(3)");
        let mqueue = Mqueue::new().recipe()?;
        self.fs_in_dev(dev, &mqueue, c"mqueue", "the message queues of the child's own ipc namespace");
        if rootfs.console {
            let mode = libc::S_IFREG | 0o600;
            let call = Call::Mknodat { at: dev, path: c"console".into(), mode, device: (0, 0) };
            self.push(call, "a place for the container's terminal", in_dev(c"console"));
        }
        Ok(())
    }

    /// A device node of the host, checked to be the device of that name.
    fn host_node(&mut self, dev: Slot, name: &CStr, path: &Path, rdev: (u32, u32)) -> Result<()> {
        let node = self.clone_of(
            path,
            CLONE,
            "the host's own node: one made here would not work, here or in a user namespace",
        )?;
        self.push(Call::CheckDevice { fd: node, rdev }, "… if it is what its name says", path);
        // Read-only keeps its mode and owner, which are the host's; a device can be written all the same.
        let attributes = DEVICES | libc::MOUNT_ATTR_RDONLY;
        self.set(node, THIS, attributes, "… and no more than that: its mode and owner stay the host's", path);
        let mode = libc::S_IFREG | 0o666;
        let call = Call::Mknodat { at: dev, path: name.into(), mode, device: (0, 0) };
        self.push(call, "the place for it", in_dev(name));
        self.push(Call::MoveMount { from: node, at: At::Fd(dev), path: name.into() }, "there it is", in_dev(name));
        Ok(())
    }

    fn pts(&mut self, dev: Slot, rootfs: &Rootfs) -> Result<()> {
        let devpts = Devpts::new().ptmxmode(0o666).mode(0o620);
        let devpts = match rootfs.tty_gid.or((!rootfs.unprivileged).then_some(TTY)) {
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
