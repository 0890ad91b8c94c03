//! Terminals.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::as_a_mount;
use super::recipe::{self, MountOptions, Recipe, Setting};
use crate::MountAttr;

const FS: &str = "devpts";

/// Pseudo-terminals: `mount -t devpts -o newinstance`, as a detached mount (nosuid, noexec).
///
/// Each is an instance of its own, with numbers from 0 and a `ptmx` of its own that `/dev/ptmx` is to be a link to. Without
/// [`ptmxmode`](Self::ptmxmode) nobody may open that: its mode is 0.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem).
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace.
///
/// ```no_run
/// use mountkit::{Devpts, RootFd};
///
/// let pts = Devpts::new().ptmxmode(0o666).mode(0o620).gid(5).max(64).mount()?;
/// pts.attach(&RootFd::open("/srv/c1")?, "dev/pts")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See pts(4): <https://man7.org/linux/man-pages/man4/pts.4.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias("newinstance", "pty"))]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct Devpts {
    ptmxmode: Option<u32>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    max: Option<u32>,
    mount: MountOptions,
}

as_a_mount!(Devpts);

impl Devpts {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `ptmxmode=`: the permission bits of `ptmx`, up to 0o777; 0666 lets everybody open a terminal.
    pub fn ptmxmode(mut self, bits: u32) -> Self {
        self.ptmxmode = Some(bits);
        self
    }

    /// `mode=`: the permission bits of a terminal, up to 0o777; 0600 by default.
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits);
        self
    }

    /// `uid=`: the owner of every terminal, by its number in the user namespace of whoever makes the mount; without it
    /// whoever opened the terminal.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// `gid=`: the group of every terminal, by its number in the user namespace of whoever makes the mount, which must have
    /// it; without it that of whoever opened the terminal. Distributions use 5, `tty`.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// `max=`: how many terminals may be open, up to 1,048,576, of those that /proc/sys/kernel/pty/max allows in all.
    pub fn max(mut self, terminals: u32) -> Self {
        self.max = Some(terminals);
        self
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let mut settings = Vec::new();
        if let Some(bits) = self.ptmxmode {
            settings.push(recipe::mode(FS, c"ptmxmode", bits, 0o777)?);
        }
        if let Some(bits) = self.mode {
            settings.push(recipe::mode(FS, c"mode", bits, 0o777)?);
        }
        if let Some(uid) = self.uid {
            settings.push(recipe::id(FS, c"uid", uid)?);
        }
        if let Some(gid) = self.gid {
            settings.push(recipe::id(FS, c"gid", gid)?);
        }
        match self.max {
            None => {}
            Some(max @ 0..=1_048_576) => settings.push(Setting::text(c"max", max)),
            Some(max) => return Err(recipe::refuse(FS, format!("max {max} is more than 1048576"))),
        }
        self.mount.recipe(c"devpts", MountAttr::NOSUID | MountAttr::NOEXEC, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be() {
        for (devpts, word) in [
            (Devpts::new().ptmxmode(0o1666), "0o777"),
            (Devpts::new().mode(0o1000), "0o777"),
            (Devpts::new().gid(u32::MAX), "no gid"),
            (Devpts::new().max(1_048_577), "1048577"),
        ] {
            let error = devpts.mount().expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
