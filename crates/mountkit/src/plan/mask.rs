//! Paths that are hidden, and paths that are protected.
#![forbid(unsafe_code)]

use cellkit_core::{Result, Slot};

use super::{INERT, Plan, THIS};
use crate::rootfs::{Rootfs, absolute};
use crate::step::{At, Call};

impl Plan {
    pub(super) fn masks(&mut self, root: Slot, rootfs: &Rootfs) -> Result<()> {
        if !rootfs.masked.is_empty() {
            let masks = self.mask_sources();
            for path in &rootfs.masked {
                let path = absolute("move_mount", path)?;
                let subject = self.inside(&path);
                self.push(
                    Call::Mask { root, path, masks },
                    "hidden: it tells about the machine, not the container",
                    subject,
                );
            }
        }
        for path in &rootfs.read_only_paths {
            let path = absolute("mount_setattr", path)?;
            let subject = self.inside(&path);
            self.push(Call::MakeReadOnly { root, path }, "read-only: it is the machine's to change", subject);
        }
        Ok(())
    }

    /// An empty file and an empty directory of our own: what hides something is never taken from the container, whose
    /// /dev/null may be anything.
    fn mask_sources(&mut self) -> Slot {
        self.mkdir_in_scratch(c"masks", 0o755, "what hides things is not taken from the container");
        self.mkdir_in_scratch(c"masks/dir", 0o555, "an empty directory");
        let (mode, path) = (libc::S_IFREG | 0o444, c"masks/file");
        let call = Call::Mknodat { at: self.scratch, path: path.into(), mode, device: (0, 0) };
        self.push(call, "an empty file", super::in_scratch(path));
        let masks = self.clone_of_scratch(c"masks", "… as a mount of its own");
        let subject = super::in_scratch(c"masks");
        self.set(masks, THIS, INERT | libc::MOUNT_ATTR_RDONLY, "read-only, and so is every copy", subject.clone());
        let call = Call::MoveMount { from: masks, at: At::Fd(self.scratch), path: c"masks".into() };
        self.push(call, "only an attached mount can be cloned (before Linux 6.15)", subject);
        masks
    }
}
