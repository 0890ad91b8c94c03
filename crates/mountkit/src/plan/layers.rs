//! An overlay of many layers, made by the child.
//!
//! The child may be in a user namespace that its parent is not in, and is in another mount namespace: a descriptor of the
//! parent's is of no use to it. So each layer gets a short name in the scratch tmpfs, as in `overlay/short_names.rs`, which every
//! kernel takes: all in one string of fsconfig, or in the page of mount(2) where there are too many for that.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cellkit_core::{Result, Slot, Subject};

use super::overlay::Lower;
use super::{CLONE, CLONE_ALL, Plan};
use crate::Overlay;
use crate::overlay::steps::{Layers, Told};
use crate::step::{At, Call};

impl Plan {
    /// A detached overlay; what is written goes to its upper directory, or to the scratch tmpfs.
    pub(super) fn overlay_of_layers(&mut self, overlay: &Overlay, unprivileged: bool) -> Result<Slot> {
        let layers = overlay.for_steps(unprivileged)?;
        let top = Lower::look_at(layers.top())?;
        if unprivileged {
            for lower in layers.all() {
                Lower::look_at(lower)?.refuse_mounts_below()?;
            }
        }
        for (number, lower) in layers.all().enumerate() {
            let path = short(&layers.name(number));
            self.layer(lower, CLONE, path, "a layer, under a short name that needs no escaping")?;
        }
        match &layers.upper {
            Some((above, upper, work)) => {
                let reason = "the directory above the upper and the work directory, which must be on one mount";
                self.layer(above, CLONE_ALL, c"top".into(), reason)?;
                self.link(c"U".into(), upper, "the upper directory: what the container writes");
                self.link(c"W".into(), work, "… and its place to prepare");
            }
            None => {
                self.mkdir_in_scratch(
                    c"U",
                    top.mode,
                    "what the container writes; the mode is that of the topmost layer",
                );
                if !unprivileged && (top.uid, top.gid) != (0, 0) {
                    let call = Call::Fchownat { at: self.scratch, path: c"U".into(), uid: top.uid, gid: top.gid };
                    self.push(call, "… and the owner", super::in_scratch(c"U"));
                }
                self.mkdir_in_scratch(c"W", 0o700, "overlay prepares there what it then renames into place");
            }
        }
        // Neither a node that an image brings nor one that the container makes opens a device.
        let attributes = layers.attrs.bits() | libc::MOUNT_ATTR_NODEV;
        match layers.told()? {
            Told::OneString(lowerdir) => Ok(self.by_one_string(&layers, &lowerdir, attributes)),
            Told::OnePage(options) => Ok(self.by_page(&layers, &options, attributes)),
        }
    }

    fn layer(&mut self, source: &Path, flags: u32, path: CString, reason: &'static str) -> Result<()> {
        let source_name = super::c_string("open_tree", source)?;
        self.push(Call::Layer { at: self.scratch, source: source_name, flags, path }, reason, source);
        Ok(())
    }

    fn link(&mut self, path: CString, way: &Path, reason: &'static str) {
        // join: a way of names only, below a clone of the directory above.
        let target = CString::new(Path::new("top").join(way).as_os_str().as_bytes()).unwrap_or_default();
        let subject = super::in_scratch(&path);
        self.push(Call::Symlinkat { target, at: self.scratch, path }, reason, subject);
    }

    fn by_one_string(&mut self, layers: &Layers, lowerdir: &str, attributes: u64) -> Slot {
        let subject = || Subject::from(layers.top());
        let fs = self.steps.slot();
        self.push(Call::Fsopen { fs: c"overlay", into: fs }, "an overlay", subject());
        for (key, value, reason) in [
            (c"lowerdir", short(lowerdir), "the layers, the topmost first"),
            (c"upperdir", c"U".into(), "what the container writes"),
            (c"workdir", c"W".into(), "… and its place to prepare"),
        ] {
            self.push(Call::FsconfigString { fs, key, value }, reason, subject());
        }
        for setting in &layers.settings {
            let call = match setting.value {
                Some(value) => Call::FsconfigString { fs, key: setting.key, value: value.into() },
                None => Call::FsconfigFlag { fs, key: setting.key },
            };
            self.push(call, "said, so that no default of this kernel's counts", subject());
        }
        self.push(Call::FsconfigCreate { fs }, "… made", subject());
        self.fsmount(fs, attributes, subject())
    }

    fn by_page(&mut self, layers: &Layers, options: &str, attributes: u64) -> Slot {
        let subject = || Subject::from(layers.top());
        self.mkdir_in_scratch(c"M", 0o700, "a place for the overlay");
        let call = Call::MountPage { target: c"M".into(), options: short(options) };
        self.push(call, "an overlay of more layers than a string of fsconfig holds", subject());
        let into = self.steps.slot();
        let call = Call::OpenTree { at: At::Fd(self.scratch), path: c"M".into(), flags: CLONE, into };
        self.push(call, "… as a mount of its own", subject());
        self.set(into, super::THIS, attributes, "no device in it can be opened, whoever made the node", subject());
        into
    }
}

fn short(text: &str) -> CString {
    // Letters, digits and the kernel's own words.
    CString::new(text).unwrap_or_default()
}
