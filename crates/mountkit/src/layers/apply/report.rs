//! What became of a layer.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use crate::layers::compression::Compression;
use crate::layers::decompress::Passed;
use crate::layers::digest::Digest;

/// How many of what was left out are told by name.
const TOLD: usize = 1000;

/// What became of a layer: what [`Apply::apply`](crate::layers::Apply::apply) answers.
///
/// ```no_run
/// use mountkit::RootFd;
/// use mountkit::layers::Apply;
///
/// let layer = std::fs::File::open("layer.tar.gz").map_err(|e| mountkit::Error::from_io("open", &e))?;
/// let applied = Apply::new().apply(layer, &RootFd::open("/var/lib/images/l1")?)?;
/// println!("{}: {} entries, {} bytes", applied.diff_id, applied.entries, applied.unpacked);
/// for skipped in &applied.skipped {
///     println!("left out: {} {:?}", skipped.path.display(), skipped.what);
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/config.md#layer-diffid>
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// How the layer was packed.
    pub compression: Compression,
    /// The digest of the layer as it came: its name in a manifest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The digest of the archive in it: its name in an image's configuration.
    pub diff_id: Digest,
    /// The bytes of the archive.
    pub unpacked: u64,
    /// Its entries, whiteouts with them.
    pub entries: u64,
    /// How many of them were whiteouts and marks for an opaque directory.
    pub whiteouts: u64,
    /// The layer hides all that is below it (it has a `.wh..wh..opq` at its top). The kernel knows no opaque root of an
    /// overlay: whoever stacks layers leaves those below this one out. With [`Flattened`](crate::layers::Whiteouts) it
    /// is done already.
    pub hides_all_below: bool,
    /// What of the layer was left out, the first thousand. The setting that left it out is where it is told of.
    pub skipped: Vec<Skipped>,
    /// How many were left out in all.
    pub skipped_count: u64,
}

/// Something that a layer has and that was not made of it.
///
/// ```no_run
/// use mountkit::layers::{Applied, SkippedWhat};
///
/// fn devices(applied: &Applied) -> impl Iterator<Item = &std::path::Path> {
///     applied.skipped.iter().filter(|s| s.what == SkippedWhat::Device).map(|s| s.path.as_path())
/// }
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Its path in the layer.
    pub path: PathBuf,
    /// What it is.
    pub what: SkippedWhat,
}

/// What was left out of a layer.
///
/// ```
/// use mountkit::layers::SkippedWhat;
///
/// let left_out = SkippedWhat::Attribute("trusted.overlay.redirect".into());
/// assert_ne!(left_out, SkippedWhat::Device);
/// ```
///
/// <https://man7.org/linux/man-pages/man7/xattr.7.html>
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkippedWhat {
    /// A device node, or one more name of one: [`Devices`](crate::layers::Devices).
    Device,
    /// An extended attribute of what was made: one that means something to the host (`trusted.`, `security.` but for
    /// `security.capability`), to an overlay (`user.overlay.`), that such a file cannot have, or that
    /// [`Owner::Caller`](crate::layers::Owner::Caller) may not set.
    Attribute(OsString),
    /// Book-keeping of aufs (`.wh..wh.plnk`), which says nothing about the image.
    Aufs,
}

/// What is counted while a layer is applied.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) entries: u64,
    pub(super) whiteouts: u64,
    pub(super) hides_all_below: bool,
    skipped: Vec<Skipped>,
    skipped_count: u64,
}

impl Report {
    pub(super) fn skip(&mut self, path: PathBuf, what: SkippedWhat) {
        self.skipped_count += 1;
        if self.skipped.len() < TOLD {
            self.skipped.push(Skipped { path, what });
        }
    }

    pub(super) fn finish(self, passed: Passed) -> Applied {
        Applied {
            compression: passed.compression,
            digest: passed.digest,
            size: passed.size,
            diff_id: passed.diff_id,
            unpacked: passed.unpacked,
            entries: self.entries,
            whiteouts: self.whiteouts,
            hides_all_below: self.hides_all_below,
            skipped: self.skipped,
            skipped_count: self.skipped_count,
        }
    }
}
