//! A layer, applied to a folder.
//!
//! # Theory of operation
//!
//! ```text
//!   reader ─► decompress: gzip, zstd, digests ─► entry: a row of entries ─► make: one entry after the other
//!                                                                          │
//!                                      tree: the directories on the way, open ─► DirFd: one name, never followed
//! ```
//!
//! The layer's author is an enemy. So no path of his is given to the kernel whole, but for a symbolic link in the way,
//! which [`RootFd`] resolves inside the root; what he writes down is checked before it is done; and what he may ask for has
//! limits. Nothing is held that grows with the layer, but what [`brought`](mod@brought) notes.
#![forbid(unsafe_code)]

mod brought;
mod hide;
mod make;
mod metadata;
mod owner;
mod path;
mod pipe;
mod report;
mod tree;

use std::io::Read;

use cellkit_core::Result;

use self::make::Work;
pub use self::owner::Owner;
pub use self::report::{Applied, Skipped, SkippedWhat};
use super::decompress::{Unpacked, compare};
use super::digest::{Algorithm, Digest};
use super::limits::Limits;
use super::whiteout::Whiteouts;
use crate::RootFd;

/// What becomes of the device nodes in a layer.
///
/// ```
/// use mountkit::layers::{Apply, Devices};
///
/// // A layer with device nodes is not wanted at all.
/// let apply = Apply::new().devices(Devices::Refuse);
/// # let _ = apply;
/// ```
///
/// <https://man7.org/linux/man-pages/man2/mknod.2.html>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "mknod")]
pub enum Devices {
    /// They are left out and reported: a container has a `/dev` of its own.
    #[default]
    Skip,
    /// They are made, which needs CAP_MKNOD in the first user namespace. On a mount without nodev they work: whoever may
    /// open them has the device. One with the number 0:0 is left out all the same: to an overlay it would be a whiteout.
    Create,
    /// The first one is an error.
    Refuse,
}

/// Applies an image layer to a folder: a tar archive, plain or packed by gzip or zstd, from a stream.
///
/// ```no_run
/// use mountkit::RootFd;
/// use mountkit::layers::{Apply, Owner, Whiteouts};
/// # let descriptor_digest: mountkit::layers::Digest = "sha256:".parse()?;
///
/// let layer = std::fs::File::open("blobs/sha256/9c27e2").map_err(|e| mountkit::Error::from_io("open", &e))?;
/// std::fs::create_dir("/var/lib/images/l1").map_err(|e| mountkit::Error::from_io("mkdir", &e))?;
/// let applied = Apply::new()
///     .whiteouts(Whiteouts::OverlayUser)
///     .owner(Owner::Shifted { uids: vec![(0, 100_000, 65_536)], gids: vec![(0, 100_000, 65_536)] })
///     .expect(descriptor_digest)
///     .apply(layer, &RootFd::open("/var/lib/images/l1")?)?;
/// println!("{} entries", applied.entries);
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// # What is made
/// * Files, directories, symbolic and hard links and FIFOs, with owner, mode (set-user-id bits too), and the time they were
///   changed, to the nanosecond where the archive has it. Holes of sparse files stay holes. A directory that no entry is
///   about is root's, 0755.
/// * Extended attributes `user.` and `security.capability`, and access control lists. What means something to the host
///   or to an overlay is left out: see [`SkippedWhat`].
/// * Of two entries with one name, the later one. What is no directory is replaced, never followed; a directory over a
///   directory keeps what is in it.
/// * Whiteouts as [`Whiteouts`] says, in whatever order the archive has them, and though they are shipped as hard links.
/// * Devices as [`Devices`] says.
///
/// # What is refused
/// `..` in a path; a hard link to what the layer does not have; what is over the [`Limits`]; an archive of which programs
/// disagree what is in it (sizes that contradict one another, content after its end). Each is an [`Error`](crate::Error) that
/// names the entry, as its subject: of kind Invalid, Limit, or Parse for a malformed archive.
///
/// # When it fails
/// The folder has then what came before, in part. It is not to be used: remove it. For an overlay, a layer is applied to an
/// empty folder, and given its final name by rename(2) when it is whole.
///
/// # Threads and memory
/// Unpacking and digests run on the caller's thread, files are made on one other, which ends with the call. Memory is
/// bounded: about 3 MiB, and the window of zstd (see [`Limits::window`]). Only with [`Whiteouts::Flattened`] in a folder that
/// is not empty it grows: some 16 bytes for each name that the layer brings into a directory of a lower one, and, while a
/// directory of lower layers is emptied, the names in it.
///
/// # Privileges
/// None for [`Owner::Caller`] with [`Whiteouts::OverlayUser`] or `Flattened`. Else see [`Owner`], [`Whiteouts`], [`Devices`].
/// A set-user-id file of an image is one of the host: keep the folder in a directory that others cannot enter (0700).
///
/// Calls: those of [`DirFd`](crate::DirFd), <https://man7.org/linux/man-pages/man2/openat2.2.html>. Linux 5.8 for whiteouts
/// without privileges. The format: <https://github.com/opencontainers/image-spec/blob/main/layer.md>.
#[derive(Clone, Debug, Default)]
#[must_use = "it does nothing until `apply`"]
#[doc(alias = "untar")]
pub struct Apply {
    whiteouts: Whiteouts,
    owner: Owner,
    devices: Devices,
    limits: Limits,
    digest: Option<Digest>,
    diff_id: Option<Digest>,
}

impl Apply {
    /// For an overlay of root's, owners as in the archive, no devices, the default [`Limits`], whatever digest.
    pub fn new() -> Self {
        Self::default()
    }

    /// How removed names are written down.
    pub fn whiteouts(mut self, whiteouts: Whiteouts) -> Self {
        self.whiteouts = whiteouts;
        self
    }

    /// To whom everything belongs.
    #[doc(alias = "chown")]
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// What becomes of device nodes.
    pub fn devices(mut self, devices: Devices) -> Self {
        self.devices = devices;
        self
    }

    /// How much is too much.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The layer as it comes must have this digest: the one by which a manifest names it.
    ///
    /// It is known when the layer was read to its end, and so compared then.
    pub fn expect(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The archive in the layer must have this digest: the one in `rootfs.diff_ids` of the image's configuration.
    #[doc(alias = "diff_ids")]
    pub fn expect_diff_id(mut self, diff_id: Digest) -> Self {
        self.diff_id = Some(diff_id);
        self
    }

    /// What the folder of a layer depends on, beside the layer.
    pub(super) fn form(&self) -> (Whiteouts, &Owner, Devices) {
        (self.whiteouts, &self.owner, self.devices)
    }

    /// Applies the layer that `reader` gives, to its end, to the folder `root`.
    ///
    /// `reader` needs no buffer around it. It waits for `reader` as long as that takes.
    ///
    /// # Errors
    /// Invalid: extents of [`Owner::Shifted`] that overlap, a folder that is not empty (before anything is done); a
    /// digest that is not the expected one; what is refused. Parse: a malformed or torn layer. Limit: over the
    /// [`Limits`], or the kernel's (ENOSPC, EDQUOT). Permission: ids that are not the caller's to give, device nodes,
    /// `trusted.` attributes without CAP_SYS_ADMIN. Unsupported: a file system without the attributes. And what `reader`
    /// answers, as operation `read`.
    pub fn apply(&self, reader: impl Read, root: &RootFd) -> Result<Applied> {
        self.owner.check()?;
        let algorithm = |digest: &Option<Digest>| digest.as_ref().map_or(Algorithm::Sha256, Digest::kind);
        let work = Work::new(self, root)?;
        let (digest, diff_id) = (algorithm(&self.digest), algorithm(&self.diff_id));
        let mut unpacked = Unpacked::new(reader, &self.limits, digest, diff_id)?;
        let report = pipe::through(&mut unpacked, |reader| work.run(reader))?;
        let passed = unpacked.passed();
        compare("the layer", passed.digest, self.digest)?;
        compare("the archive in the layer", passed.diff_id, self.diff_id)?;
        Ok(report.finish(passed))
    }
}
