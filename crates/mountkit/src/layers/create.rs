//! A layer made from what an overlay's upper directory has come to hold.
#![forbid(unsafe_code)]

mod attributes;
mod header;
mod output;
mod owner;
mod sparse;
mod walk;

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use cellkit_core::{Error, Result};

use super::{Compression, Digest, Owner, Whiteouts};
use crate::RootFd;
use header::Time;

/// Makes a layer from a directory: the reverse of applying one.
///
/// The directory is what an overlay wrote its changes to (`upperdir`), and the layer says what they are: what is new or
/// changed, a [whiteout](Whiteouts) for each name that is gone, a marker for each directory that hides what is below it.
/// With [`Whiteouts::Flattened`] it is any directory, such as one that is to become the lowest layer.
///
/// * Calls: getdents64(2), [statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html), openat(2) with O_NOFOLLOW,
///   readlinkat(2), fgetxattr(2), lseek(2) with SEEK_DATA, read(2). Everything is named below the descriptor of its
///   directory, no link is followed, and neither devices nor FIFOs are opened: what a container left in there cannot
///   lead the reader elsewhere. Attributes of links and devices are asked for by getxattrat(2) (Linux 6.13), and on older
///   kernels on a thread that has a working directory of its own.
/// * Privileges: to read all of it. `trusted.*` attributes, which [`Whiteouts::OverlayTrusted`] needs, are shown to
///   CAP_SYS_ADMIN only: without it a directory that hides what is below it looks like any other.
/// * The same directory gives the same layer, byte for byte: names are sorted, and nothing tells of when, where or by whom
///   it was made.
///
/// The overlay should be unmounted, or its processes frozen: a file that changes while it is read is an error.
///
/// In the layer are: mode, owner, mtime to the nanosecond, hard links, devices, FIFOs, and the attributes `user.*`,
/// `trusted.*`, `security.capability` and POSIX ACLs. Sockets, other attributes, and what is overlay's own book-keeping
/// are not; what is left out is listed in [`Created::left_out`], but for the book-keeping.
///
/// ```
/// use mountkit::RootFd;
/// use mountkit::layers::{Compression, Create, Whiteouts};
///
/// let dir = std::env::temp_dir().join(format!("layer-{}", std::process::id()));
/// std::fs::create_dir(&dir).unwrap();
/// std::fs::write(dir.join("hello"), "world").unwrap();
///
/// let mut layer = Vec::new();
/// let create = Create::new().whiteouts(Whiteouts::Flattened).compression(Compression::Zstd);
/// let created = create.create(&RootFd::open(&dir)?, &mut layer)?;
/// assert_eq!(created.size, layer.len() as u64);
/// assert_eq!(created.entries, 2); // `./` and `hello`
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>,
/// <https://docs.kernel.org/filesystems/overlayfs.html>
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `create`"]
pub struct Create {
    compression: Compression,
    whiteouts: Whiteouts,
    holes: Holes,
    latest: Option<Time>,
    owner: Owner,
    most_entries: u64,
    most_bytes: u64,
}

/// What becomes of the holes of sparse files.
///
/// ```
/// use mountkit::layers::{Create, Holes};
///
/// let create = Create::new().holes(Holes::Kept);
/// ```
///
/// <https://man7.org/linux/man-pages/man2/lseek.2.html>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "SEEK_HOLE")]
pub enum Holes {
    /// They are zeros in the layer, as OCI's specification asks for, since not every reader knows sparse files. Holes are
    /// not read, and zeros pack well.
    #[default]
    Filled,
    /// They stay holes, in GNU tar's format 1.0, which [`Apply`](super::Apply), GNU tar, bsdtar and Go know. The layer then
    /// depends on where the file system has them, and not on the content alone.
    Kept,
}

/// What [`Create::create`] made.
///
/// ```
/// use mountkit::layers::Created;
///
/// fn descriptor(layer: &Created) -> String {
///     format!(r#"{{"digest":"{}","size":{}}}"#, layer.digest, layer.size)
/// }
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/descriptor.md>
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Created {
    /// Of what was written: what a manifest names the layer by.
    pub digest: Digest,
    /// Of the archive before it was packed: what an image's configuration names the layer by (`diff_ids`).
    pub diff_id: Digest,
    /// How many bytes were written.
    pub size: u64,
    /// How many bytes the archive has, unpacked.
    pub unpacked_size: u64,
    /// How many entries it has, with whiteouts and markers.
    pub entries: u64,
    /// What no layer can hold, the first thousand; what has a path of more than 4,096 bytes is only counted.
    pub left_out: Vec<LeftOut>,
    /// How much was left out in all.
    pub left_out_count: u64,
}

/// What is in the directory and not in the layer.
///
/// ```
/// use mountkit::layers::LeftOut;
///
/// fn show(left: &LeftOut) -> String {
///     match left {
///         LeftOut::Socket(path) => format!("{}: a socket", path.display()),
///         LeftOut::Attribute(path, name) => format!("{}: {}", path.display(), name.escape_ascii()),
///         other => format!("{other:?}"),
///     }
/// }
/// ```
///
/// <https://man7.org/linux/man-pages/man7/xattr.7.html>
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftOut {
    /// A socket: it was its process's own.
    Socket(PathBuf),
    /// An attribute of this file: of the machine's security module, of the other of overlay's two forms, or with a `=`
    /// in its name.
    Attribute(PathBuf, Vec<u8>),
}

impl Default for Create {
    fn default() -> Self {
        Self::new()
    }
}

impl Create {
    /// Packed by gzip, from the upper directory of an overlay that root mounted, with holes filled; at most ten million
    /// entries and 1 TiB.
    pub fn new() -> Self {
        Self {
            compression: Compression::default(),
            whiteouts: Whiteouts::default(),
            holes: Holes::default(),
            latest: None,
            owner: Owner::default(),
            most_entries: 10_000_000,
            most_bytes: 1 << 40,
        }
    }

    /// How the layer is packed: [`Compression::Gzip`] unless told.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// What overlay the directory was the upper one of: one that root mounted, unless told.
    #[doc(alias = "userxattr")]
    pub fn whiteouts(mut self, whiteouts: Whiteouts) -> Self {
        self.whiteouts = whiteouts;
        self
    }

    /// What becomes of holes: zeros, unless told.
    pub fn holes(mut self, holes: Holes) -> Self {
        self.holes = holes;
        self
    }

    /// To whom what is there belongs, as it was applied: the ids are shifted back, also those in access control lists and of
    /// file capabilities. With [`Owner::Caller`] all in the layer is root's. As it is, unless told.
    #[doc(alias = "uid_map")]
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// No mtime in the layer is later than `latest`: later ones become it. With the time of the sources
    /// ([SOURCE_DATE_EPOCH](https://reproducible-builds.org/docs/source-date-epoch/)) a build that is made again gives the
    /// same layer.
    #[doc(alias = "SOURCE_DATE_EPOCH")]
    pub fn clamp_mtime(mut self, latest: SystemTime) -> Self {
        self.latest = Some(match latest.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
                Time { seconds, nanoseconds: after.subsec_nanos() }
            }
            Err(before) => {
                let before = before.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX).saturating_neg();
                match before.subsec_nanos() {
                    0 => Time { seconds, nanoseconds: 0 },
                    nanoseconds => {
                        Time { seconds: seconds.saturating_sub(1), nanoseconds: 1_000_000_000 - nanoseconds }
                    }
                }
            }
        });
        self
    }

    /// The most entries that the layer may have: ten million unless told.
    pub fn max_entries(mut self, most: u64) -> Self {
        self.most_entries = most;
        self
    }

    /// The most bytes that the archive may have before it is packed: 1 TiB unless told.
    pub fn max_bytes(mut self, most: u64) -> Self {
        self.most_bytes = most;
        self
    }

    /// Reads all of `upper` and writes the layer to `out`. It blocks while it does.
    ///
    /// What `out` has got is of no use when this fails.
    ///
    /// # Errors
    /// * Busy (EBUSY) when something changes while it is read, Gone when it vanishes.
    /// * Unsupported for what needs a lower layer to be understood: an overlay mounted with `redirect_dir=on` and a
    ///   directory that was renamed, or with `metacopy=on` and a file that only changed its owner or mode.
    /// * Invalid for an id that [`Owner::Shifted`] does not map, for a name that begins with `.wh.`, which in a layer would remove a file, and for another file system
    ///   that is mounted in the directory.
    /// * Limit for more entries or bytes than allowed, or more than 4,096 directories within each other.
    /// * What the calls above answer, and `out` as "write layer".
    pub fn create(&self, upper: &RootFd, out: impl Write) -> Result<Created> {
        let owner = owner::Back::of(&self.owner)?;
        let output =
            output::Output::new(out, self.compression).map_err(|error| Error::from_io("write layer", &error))?;
        walk::Walk::new(self, owner, output).all_of(upper)
    }
}
