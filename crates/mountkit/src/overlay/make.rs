//! The calls that make an overlay, in each of the four ways.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use cellkit_core::{Errno, Error, Result, Subject};

use super::dirs::{Dir, OVERLAYFS_SUPER_MAGIC, ST_RDONLY, Upper};
use super::mechanism::Mechanism;
use super::options::{Setting, an_overlay};
use super::short_names;
use crate::filesystem::{Context, Superblock};
use crate::hint::HINTS;
use crate::{DetachedMount, MountAttr, sys};

/// What is to be mounted: opened, checked, counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The topmost first.
    pub(crate) lowers: &'a [Dir],
    pub(crate) data: &'a [Dir],
    pub(crate) upper: Option<&'a Upper>,
    pub(crate) settings: &'a [Setting],
    pub(crate) attrs: MountAttr,
}

impl Request<'_> {
    pub(crate) fn make(&self, mechanism: Mechanism) -> Result<DetachedMount> {
        match mechanism {
            Mechanism::Descriptors => self.in_a_context(|context, key, dir| context.set_fd(key, dir.as_fd())),
            Mechanism::Appending => on_a_thread(|| {
                sys::overlay::unshare(libc::CLONE_FS).map_err(|errno| fail("unshare", errno))?;
                self.in_a_context(|context, key, dir| {
                    sys::fchdir(dir.as_fd().as_raw_fd()).map_err(|errno| fail("fchdir", errno))?;
                    context.set(key, c".")
                })
            }),
            Mechanism::OneString => on_a_thread(|| short_names::make(self, short_names::Text::OneString)),
            Mechanism::OnePage => on_a_thread(|| short_names::make(self, short_names::Text::OnePage)),
        }
    }

    /// One directory at a time, each told by `tell`.
    fn in_a_context(&self, tell: impl Fn(&Context, &std::ffi::CStr, &Dir) -> Result<()>) -> Result<DetachedMount> {
        let context = self.context()?;
        let upper = self.upper.into_iter().flat_map(|upper| [(c"upperdir", &upper.dir), (c"workdir", &upper.work)]);
        let dirs = self.lowers.iter().map(|dir| (c"lowerdir+", dir));
        for (key, dir) in dirs.chain(self.data.iter().map(|dir| (c"datadir+", dir))).chain(upper) {
            tell(&context, key, dir).map_err(|error| error.on(dir.subject()))?;
        }
        self.finish(context)
    }

    /// The options, the creation, the mount.
    pub(crate) fn finish(&self, context: Context) -> Result<DetachedMount> {
        for setting in self.settings {
            let told = match setting.value {
                Some(value) => context.set(setting.key, value),
                None => context.flag(setting.key),
            };
            told.map_err(|error| setting.fail(error))?;
        }
        context.create(Superblock::NewOrShared)?;
        context.mount(self.attrs, None)
    }

    pub(crate) fn context(&self) -> Result<Context> {
        Context::open(c"overlay", self.subject())
    }

    /// The upper directory, or the topmost lower one: what an overlay is told from another by.
    pub(crate) fn subject(&self) -> Subject {
        let named = self.upper.map(|upper| &upper.dir).or_else(|| self.lowers.first());
        named.map_or_else(an_overlay, Dir::subject)
    }

    /// Whether the kernel has made what was asked for: an overlay, and one that can be written exactly if it has an upper
    /// directory. An overlay that lost its upper directory is the sign of options that were cut.
    pub(crate) fn verify(&self, mount: &DetachedMount) -> Result<()> {
        let fail = |operation, errno: Errno| Error::from_errno(operation, errno.0).on(self.subject());
        let magic = cellkit_core::sys::fs_magic(mount.as_fd().as_raw_fd()).map_err(|errno| fail("fstatfs", errno))?;
        let flags = sys::mount_flags(mount.as_fd().as_raw_fd()).map_err(|errno| fail("fstatvfs", errno))?;
        let wants_writes = self.upper.is_some() && !self.attrs.contains(MountAttr::RDONLY);
        if magic == OVERLAYFS_SUPER_MAGIC && (flags & ST_RDONLY == 0) == wants_writes {
            return Ok(());
        }
        let why = "the kernel has mounted something else than was asked for: `dmesg | tail` may say why";
        let error = Error::other("fsmount", why).on(self.subject());
        // It does so, without an error, where it cannot make a directory in the work directory.
        Err(self.upper.and_then(Upper::why_not_writable).unwrap_or(error))
    }
}

impl Setting {
    /// An option that this kernel does not know is not wrong.
    fn fail(self, error: Error) -> Error {
        match (self.since, error.raw_os_error()) {
            (Some(since), Some(libc::EINVAL)) => error.as_unsupported(self.text(), Some(since)),
            _ => error,
        }
    }

    pub(crate) fn text(self) -> String {
        match self.value {
            Some(value) => format!("{}={}", self.key.to_string_lossy(), value.to_string_lossy()),
            None => self.key.to_string_lossy().into_owned(),
        }
    }
}

pub(crate) fn fail(operation: &'static str, errno: Errno) -> Error {
    Error::from_errno(operation, errno.0).on(an_overlay()).with_hints(&HINTS)
}

/// A thread has a working directory and a mount namespace of its own, once it has said so, and takes them with it.
fn on_a_thread(work: impl FnOnce() -> Result<DetachedMount> + Send) -> Result<DetachedMount> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("mountkit".into())
            .spawn_scoped(scope, work)
            .map_err(|error| Error::from_io("clone", &error).on(an_overlay()))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::other("clone", "the thread that was to make it died").on(an_overlay())))
    })
}
