//! What an overlay can be asked for, beside its layers.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use cellkit_core::{Error, Result, Subject};

/// Whether a directory of one layer may stand for a directory of another name in the layers below it: `redirect_dir=`.
///
/// The name is kept in an attribute of the directory, `trusted.overlay.redirect`. Whoever fills a layer with attributes of
/// his own can so point elsewhere *within the layers*; that is why no redirect is followed unless asked for.
///
/// ```
/// use mountkit::RedirectDir;
///
/// assert_eq!(RedirectDir::default(), RedirectDir::NoFollow);
/// ```
///
/// See <https://docs.kernel.org/filesystems/overlayfs.html#redirect-dir>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "redirect_dir")]
#[non_exhaustive]
pub enum RedirectDir {
    /// None is made and none is followed. Renaming a directory that is in a lower layer fails with EXDEV, and mv(1) copies.
    #[default]
    NoFollow,
    /// None is made; those that are there are followed.
    Follow,
    /// They are made and followed: a directory can be renamed.
    On,
}

/// Whether inode numbers tell which layer a file is of, so that they stay the same when it is copied up: `xino=`.
///
/// It matters where the layers are on several file systems; on one the numbers are stable anyway.
///
/// ```
/// use mountkit::Xino;
///
/// assert_eq!(Xino::default(), Xino::Off);
/// ```
///
/// See <https://docs.kernel.org/filesystems/overlayfs.html#inode-properties>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "xino")]
#[non_exhaustive]
pub enum Xino {
    /// They do not.
    #[default]
    Off,
    /// Where the file systems below leave enough bits free.
    Auto,
    /// Always: the caller knows that the upper bits are free.
    On,
}

/// How the overlay's own file system id is chosen: `uuid=`.
///
/// ```
/// use mountkit::{Overlay, OverlayUuid};
///
/// let overlay = Overlay::new().lower("/srv/base").uuid(OverlayUuid::Null);
/// # let _ = overlay;
/// ```
///
/// See <https://docs.kernel.org/filesystems/overlayfs.html#uuid-and-fsid>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "uuid")]
#[non_exhaustive]
pub enum OverlayUuid {
    /// The ids of the layers' file systems are left out of account: copies of one disk image may be layers.
    Off,
    /// It is that of the upper file system. Linux 6.6.
    Null,
    /// As kept in the upper layer, and made for a new one. Linux 6.6.
    Auto,
    /// As kept in the upper layer, and made where there is none. Linux 6.6; before, the opposite of `Off`.
    On,
}

/// Whether the data of files that only their metadata was copied up of is checked by fs-verity: `verity=`. Linux 6.6.
///
/// ```
/// use mountkit::Verity;
///
/// assert_eq!(Verity::default(), Verity::Off);
/// ```
///
/// See <https://docs.kernel.org/filesystems/overlayfs.html#fs-verity-support>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "verity")]
#[non_exhaustive]
pub enum Verity {
    /// It is not.
    #[default]
    Off,
    /// Where a digest is noted, it must be right.
    On,
    /// A digest must be noted and right.
    Require,
}

/// Where an overlay keeps its notes: which directory is opaque, where a file came from.
///
/// ```
/// use mountkit::OverlayXattrs;
///
/// assert_eq!(OverlayXattrs::User.to_string(), "user.overlay.*");
/// ```
///
/// See <https://docs.kernel.org/filesystems/overlayfs.html#user-xattr>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "userxattr")]
#[non_exhaustive]
pub enum OverlayXattrs {
    /// In `trusted.overlay.*`, which only root of the first user namespace reads and writes.
    Trusted,
    /// In `user.overlay.*` (`userxattr`, Linux 5.11), which whoever owns a file may write: so the kernel follows no redirect
    /// and no metacopy there.
    User,
}

impl std::fmt::Display for OverlayXattrs {
    /// The names they stand for.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Trusted => "trusted.overlay.*",
            Self::User => "user.overlay.*",
        })
    }
}

/// One option as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: &'static CStr,
    /// A flag has none.
    pub(crate) value: Option<&'static CStr>,
    /// The first kernel that has it, where that is newer than the oldest we know.
    pub(crate) since: Option<&'static str>,
}

/// All of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) redirect_dir: RedirectDir,
    pub(crate) metacopy: bool,
    pub(crate) index: bool,
    pub(crate) nfs_export: bool,
    pub(crate) xino: Xino,
    pub(crate) uuid: Option<OverlayUuid>,
    pub(crate) verity: Verity,
    pub(crate) volatile: bool,
}

fn on_off(on: bool) -> Option<&'static CStr> {
    Some(if on { c"on" } else { c"off" })
}

impl Options {
    /// What contradicts itself, and what the kernel would otherwise turn off without a word.
    pub(crate) fn check(&self, xattrs: OverlayXattrs, upper: bool, data: bool) -> Result<()> {
        let user = xattrs == OverlayXattrs::User;
        let rules = [
            (
                user && self.redirect_dir != RedirectDir::NoFollow,
                "with user.overlay.* (userxattr) no redirect is followed: leave redirect_dir out",
            ),
            (user && self.metacopy, "with user.overlay.* (userxattr) there is no metacopy: leave it out"),
            (self.metacopy && self.redirect_dir != RedirectDir::On, "metacopy needs redirect_dir(RedirectDir::On)"),
            (self.metacopy && self.nfs_export, "metacopy and nfs_export exclude each other"),
            (self.nfs_export && upper && !self.index, "nfs_export needs index()"),
            (
                self.nfs_export && !upper && self.redirect_dir != RedirectDir::NoFollow,
                "nfs_export without an upper directory needs RedirectDir::NoFollow",
            ),
            (self.index && !upper, "index is about what an upper directory holds, and there is none"),
            (self.volatile && !upper, "volatile is about what an upper directory holds, and there is none"),
            (self.verity != Verity::Off && !self.metacopy, "verity is about files of metacopy: ask for metacopy() too"),
            (data && !self.metacopy, "data-only layers are reached by metacopy: ask for metacopy() too"),
        ];
        match rules.into_iter().find(|(broken, _)| *broken) {
            Some((_, why)) => Err(Error::invalid("fsconfig", why).on(an_overlay())),
            None => Ok(()),
        }
    }

    /// The options, each said so that no default of the kernel's build or modules counts.
    pub(crate) fn settings(&self, xattrs: OverlayXattrs) -> Vec<Setting> {
        let plain = |key, value| Setting { key, value, since: None };
        let mut settings = vec![plain(c"index", on_off(self.index)), plain(c"nfs_export", on_off(self.nfs_export))];
        match xattrs {
            // It turns redirects and metacopy off, and old kernels take no word about them beside it.
            OverlayXattrs::User => settings.push(plain(c"userxattr", None)),
            OverlayXattrs::Trusted => {
                let redirect = match self.redirect_dir {
                    RedirectDir::NoFollow => c"nofollow",
                    RedirectDir::Follow => c"follow",
                    RedirectDir::On => c"on",
                };
                settings.push(plain(c"redirect_dir", Some(redirect)));
                settings.push(plain(c"metacopy", on_off(self.metacopy)));
            }
        }
        let xino = match self.xino {
            Xino::Off => c"off",
            Xino::Auto => c"auto",
            Xino::On => c"on",
        };
        settings.push(plain(c"xino", Some(xino)));
        if let Some(uuid) = self.uuid {
            let (value, since) = match uuid {
                OverlayUuid::Off => (c"off", None),
                OverlayUuid::On => (c"on", None),
                OverlayUuid::Null => (c"null", Some("6.6")),
                OverlayUuid::Auto => (c"auto", Some("6.6")),
            };
            settings.push(Setting { key: c"uuid", value: Some(value), since });
        }
        let verity = match self.verity {
            Verity::Off => None,
            Verity::On => Some(c"on"),
            Verity::Require => Some(c"require"),
        };
        settings.extend(verity.map(|value| Setting { key: c"verity", value: Some(value), since: Some("6.6") }));
        if self.volatile {
            settings.push(plain(c"volatile", None));
        }
        settings
    }
}

pub(crate) fn an_overlay() -> Subject {
    Subject::Thing("an overlay".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    fn text(options: &Options, xattrs: OverlayXattrs) -> String {
        let one = |setting: &Setting| match setting.value {
            Some(value) => format!("{}={}", setting.key.to_string_lossy(), value.to_string_lossy()),
            None => setting.key.to_string_lossy().into_owned(),
        };
        options.settings(xattrs).iter().map(one).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn defaults_leave_nothing_to_the_kernels_build() {
        let options = Options::default();
        assert_eq!(
            text(&options, OverlayXattrs::Trusted),
            "index=off,nfs_export=off,redirect_dir=nofollow,metacopy=off,xino=off"
        );
        assert_eq!(text(&options, OverlayXattrs::User), "index=off,nfs_export=off,userxattr,xino=off");
        let all = Options {
            redirect_dir: RedirectDir::On,
            metacopy: true,
            index: true,
            nfs_export: false,
            xino: Xino::Auto,
            uuid: Some(OverlayUuid::Null),
            verity: Verity::Require,
            volatile: true,
        };
        assert_eq!(
            text(&all, OverlayXattrs::Trusted),
            "index=on,nfs_export=off,redirect_dir=on,metacopy=on,xino=auto,uuid=null,verity=require,volatile"
        );
    }

    #[test]
    fn contradictions_are_told_apart() {
        use OverlayXattrs::{Trusted, User};
        let base = Options::default();
        let redirecting = Options { redirect_dir: RedirectDir::On, ..base };
        let lazy = Options { metacopy: true, ..redirecting };
        for (options, xattrs, upper, data, word) in [
            (redirecting, User, true, false, "redirect_dir"),
            (Options { metacopy: true, ..base }, User, true, false, "metacopy"),
            (Options { metacopy: true, ..base }, Trusted, true, false, "RedirectDir::On"),
            (Options { nfs_export: true, index: true, ..lazy }, Trusted, true, false, "exclude"),
            (Options { nfs_export: true, ..base }, Trusted, true, false, "index()"),
            (Options { nfs_export: true, ..redirecting }, Trusted, false, false, "NoFollow"),
            (Options { index: true, ..base }, Trusted, false, false, "index"),
            (Options { volatile: true, ..base }, Trusted, false, false, "volatile"),
            (Options { verity: Verity::On, ..base }, Trusted, true, false, "verity"),
            (base, Trusted, true, true, "data-only"),
        ] {
            let error = options.check(xattrs, upper, data).expect_err(word);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
        for (options, xattrs, upper) in [(base, Trusted, true), (base, User, false), (lazy, Trusted, true)] {
            options.check(xattrs, upper, false).expect("no contradiction");
        }
    }
}
