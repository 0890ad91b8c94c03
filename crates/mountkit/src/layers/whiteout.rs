//! How a layer says that something is gone.
#![forbid(unsafe_code)]

use std::ffi::CStr;

/// How a name that a layer removes is written down in the folder the layer is applied to.
///
/// In the archive it is an empty file `.wh.NAME` (a whiteout), and `.wh..wh..opq` for all that lower layers have in its
/// directory (an opaque one). Neither hides what the same layer brings, in whatever order the archive has them.
///
/// ```
/// use mountkit::layers::Whiteouts;
///
/// // A folder of its own for each layer, stacked by root's overlay: the default.
/// assert_eq!(Whiteouts::default(), Whiteouts::OverlayTrusted);
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>,
/// <https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "trusted.overlay.opaque")]
pub enum Whiteouts {
    /// For an overlay that root mounts: a character device 0:0, and `trusted.overlay.opaque=y` on a directory.
    ///
    /// Needs CAP_SYS_ADMIN in the first user namespace for the attribute.
    #[default]
    OverlayTrusted,
    /// For an overlay mounted with `userxattr`, as in a user namespace: a character device 0:0, and
    /// `user.overlay.opaque=y` on a directory.
    ///
    /// Needs no privilege: a device 0:0 is no device, and anybody may make one since Linux 5.8. `user.*` attributes of
    /// tmpfs came with Linux 6.6.
    #[doc(alias = "userxattr")]
    OverlayUser,
    /// For one folder that all layers are applied to, one after the other: what a layer removes is removed.
    Flattened,
}

impl Whiteouts {
    /// The extended attribute that makes a directory opaque to the overlay these are for.
    pub(crate) fn opaque_attribute(self) -> Option<&'static CStr> {
        match self {
            Self::OverlayTrusted => Some(c"trusted.overlay.opaque"),
            Self::OverlayUser => Some(c"user.overlay.opaque"),
            Self::Flattened => None,
        }
    }
}

/// What a name in an archive says beside being a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker<'a> {
    /// Nothing.
    Plain,
    /// `.wh.NAME`: lower layers' NAME is gone.
    Gone(&'a [u8]),
    /// `.wh..wh..opq`: all that lower layers have in this directory is gone.
    Opaque,
    /// Book-keeping of aufs, such as `.wh..wh.plnk`: it says nothing about the image.
    Aufs,
    /// `.wh.` before what can be no name.
    Nonsense,
}

impl<'a> Marker<'a> {
    /// The prefix that no file of an image may have.
    pub(crate) const PREFIX: &'static [u8] = b".wh.";

    /// What `name`, the last part of a path, says.
    pub(crate) fn of(name: &'a [u8]) -> Self {
        match name.strip_prefix(Self::PREFIX) {
            None => Self::Plain,
            Some(b".wh..opq") => Self::Opaque,
            Some(rest) if rest.starts_with(Self::PREFIX) => Self::Aufs,
            Some(b"" | b"." | b"..") => Self::Nonsense,
            Some(rest) if rest.contains(&b'/') || rest.contains(&0) => Self::Nonsense,
            Some(rest) => Self::Gone(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_say() {
        for (name, marker) in [
            (&b"etc"[..], Marker::Plain),
            (b".wh", Marker::Plain),
            (b"a.wh.b", Marker::Plain),
            (b".wh.a", Marker::Gone(b"a")),
            (b".wh..a", Marker::Gone(b".a")),
            (b".wh....", Marker::Gone(b"...")),
            (b".wh..wh..opq", Marker::Opaque),
            (b".wh..wh.plnk", Marker::Aufs),
            (b".wh..wh.aufs", Marker::Aufs),
            (b".wh..wh.", Marker::Aufs),
            (b".wh..wh..opqx", Marker::Aufs),
            (b".wh.", Marker::Nonsense),
            (b".wh..", Marker::Nonsense),
            (b".wh...", Marker::Nonsense),
            (b".wh.a/b", Marker::Nonsense),
        ] {
            assert_eq!(Marker::of(name), marker, "{}", name.escape_ascii());
        }
    }
}
