//! A folder of unpacked layers that images, and processes, share.
#![forbid(unsafe_code)]

mod marker;
mod place;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind as Io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use super::apply::{Devices, Owner};
use super::{Apply, Digest, Image, ImageConfig, ImageLayer, Whiteouts};
use crate::hint::HINTS;
use marker::Marker;
use place::{Lease, Place};

/// Unpacked layers, each once, however many images have it and however many processes want it.
///
/// A layer in the form that an overlay takes depends on nothing but itself, so its folder is found by the digest of what is
/// in it (`diff_id`), and by how it was applied: an image with two of its three layers in common with another costs the
/// third.
///
/// ```text
/// DIR/                            0700: nobody else comes in
///     layers/FORM/sha256-HEX/     one layer
///         diff/                   what to give to an overlay
///         lock, work/, whole      the store's own
/// ```
///
/// * **Whole or not there.** A layer is unpacked in a folder of its own, which gets its name and then its marker (`whole`)
///   when every byte was read and both digests are right. Who is killed in the middle leaves nothing that is taken for a
///   layer, also not after a loss of power: syncfs(2) puts it on the disk before its marker is
///   ([`volatile`](Self::volatile) leaves that out).
/// * **Once.** Of any number of processes and threads that want a layer, one unpacks it. The others wait.
/// * **While in use, it stays.** What [`unpack`](Self::unpack) answers is a lease on its layers, which ends when it is
///   dropped or its process ends. [`prune`](Self::prune) removes what has none.
/// * **Nobody else comes in.** Images bring set-user-id programs, which are programs of this machine as long as a path leads
///   to them (CVE-2021-41091): the folder is its owner's alone, or refused.
///
/// Calls: [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html) on directories, syncfs(2), rename(2); and those of
/// [`Apply`]. Privileges: those of [`Apply`]. Locks are as good as the file system's: not every NFS has them for all machines.
///
/// ```no_run
/// use mountkit::layers::{Apply, ImageLayout, Store};
///
/// let image = ImageLayout::open("/srv/alpine")?.find().image()?;
/// let store = Store::open("/var/lib/mine")?;
/// let unpacked = store.unpack(&image, &Apply::new())?;
/// for layer in unpacked.layers() {
///     println!("{}", layer.path().display()); // the topmost first, as `lowerdir` wants them
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://man7.org/linux/man-pages/man2/flock.2.html>
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    on_disk: bool,
}

/// An image's layers in a [`Store`], and the leases on them.
///
/// The leases end when this is dropped. An overlay that is still mounted then works as long as nobody prunes: whoever lets
/// containers outlive the process that started them gives the descriptors ([`StoredLayer`] has them as [`AsFd`]) to a process
/// that lives as long.
///
/// ```
/// use mountkit::layers::Unpacked;
/// use mountkit::{Overlay, Rootfs};
///
/// // Also of an image with a single layer, of which the kernel makes no overlay without an upper directory.
/// fn root(unpacked: &Unpacked) -> Rootfs {
///     Rootfs::overlay_of_layers(Overlay::new().lowers(unpacked.layers().iter().map(|layer| layer.path())))
/// }
/// ```
///
/// <https://docs.kernel.org/filesystems/overlayfs.html#multiple-lower-layers>
#[derive(Debug)]
pub struct Unpacked {
    layers: Vec<StoredLayer>,
    config: ImageConfig,
}

/// A layer in a [`Store`], and the lease on it.
///
/// ```
/// use mountkit::layers::StoredLayer;
///
/// fn how(layer: &StoredLayer) -> &'static str {
///     if layer.is_new() { "unpacked" } else { "was there" }
/// }
/// ```
///
/// <https://man7.org/linux/man-pages/man2/flock.2.html>
#[derive(Debug)]
pub struct StoredLayer {
    path: PathBuf,
    diff_id: Digest,
    is_new: bool,
    lease: Lease,
}

/// What [`Store::prune`] has done.
///
/// ```
/// use mountkit::layers::Pruned;
///
/// fn show(pruned: &Pruned) -> String {
///     format!("{} removed, {} in use", pruned.removed, pruned.in_use)
/// }
/// ```
///
/// <https://man7.org/linux/man-pages/man2/flock.2.html>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// How many layers were removed.
    pub removed: u64,
    /// How many are leased.
    pub in_use: u64,
}

fn io(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::from_io(operation, &error).on(path).with_hints(&HINTS)
}

fn ensure_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != Io::AlreadyExists => Err(io("mkdir", path)(error)),
        _ => Ok(()),
    }
}

/// Refuses what is not a directory of the caller's that nobody else may enter. A link is none.
fn check_owner(dir: &Path) -> Result<()> {
    let found = fs::symlink_metadata(dir).map_err(io("stat", dir))?;
    let refuse = |why: String| Error::invalid("open store", why).on(dir);
    if !found.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    if found.mode() & 0o077 != 0 {
        let why = format!("its mode is {:#o}: others reach the set-user-id programs of images", found.mode() & 0o7777);
        return Err(refuse(why).with_hint("take a new folder, or make a new one within it"));
    }
    if found.uid() != crate::sys::effective_uid() {
        return Err(refuse(format!("it belongs to user {}", found.uid())));
    }
    Ok(())
}

impl Store {
    /// Opens the store in `dir`, which is made (0700) if it is missing, and removes what processes that were killed have left
    /// there. Links in `dir` are followed now, and never again. The directories above it are the caller's to choose: nobody
    /// else should be able to rename in them.
    ///
    /// # Errors
    /// Invalid when others may enter the directory, or it is somebody else's. NotFound when the directory above is
    /// missing. What mkdir(2), open(2), flock(2) and unlinkat(2) answer.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        ensure_dir(dir)?;
        // Links are followed once: whoever could turn one elsewhere later gains nothing.
        let dir = fs::canonicalize(dir).map_err(io("realpath", dir))?;
        check_owner(&dir)?;
        let layers = dir.join("layers");
        ensure_dir(&layers)?;
        // Of somebody who could write here before, it has who knows what in it.
        check_owner(&layers)?;
        let store = Self { dir, on_disk: true };
        store.each_place(|place| place.remove_unused(true).map(drop))?;
        Ok(store)
    }

    /// Does without syncfs(2): for a store that does not outlive the machine's next start, such as one in a tmpfs. After a
    /// loss of power, layers may be there that are not whole.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.on_disk = false;
        self
    }

    /// Unpacks the layers of `image` that are not there yet, as `apply` says, and leases all of them. It blocks while it does,
    /// and while others unpack what it needs.
    ///
    /// Layers that are below one which hides everything are left out, and so is every but the topmost of a layer that an
    /// image has more than once: it hides the others, and an overlay takes no folder twice.
    ///
    /// `apply` says for whom ([`Apply::whiteouts`], [`Apply::owner`], [`Apply::devices`]): layers that were unpacked
    /// differently are different ones. What it expects is the image's to say. What was there is not unpacked again to see
    /// whether it keeps to other [`Limits`](super::Limits).
    ///
    /// # Errors
    /// Invalid for [`Whiteouts::Flattened`]: such a layer needs those below it. As [`Image::open`] and [`Apply::apply`], for
    /// the layer that is the error's context; nothing is left of it then, and what was unpacked before stays.
    pub fn unpack(&self, image: &Image, apply: &Apply) -> Result<Unpacked> {
        let form = self.dir.join("layers").join(form(apply)?);
        ensure_dir(&form)?;
        let mut seen = BTreeSet::new();
        let mut layers = Vec::new();
        for layer in image.layers().iter().rev() {
            if !seen.insert(layer.diff_id()) {
                continue;
            }
            let (stored, marker) = self
                .layer(image, layer, apply, &form)
                .map_err(|error| error.context(format!("unpack layer {}", layer.digest())))?;
            layers.push(stored);
            if marker.hides_all_below {
                break;
            }
        }
        Ok(Unpacked { layers, config: image.config().clone() })
    }

    fn layer(&self, image: &Image, layer: &ImageLayer, apply: &Apply, form: &Path) -> Result<(StoredLayer, Marker)> {
        let diff_id = layer.diff_id();
        let place = Place::new(form.join(format!("{}-{}", diff_id.algorithm(), diff_id.hex())));
        let apply = apply.clone().expect(layer.digest()).expect_diff_id(diff_id);
        let (lease, marker, is_new) = place.take(
            |marker| marker.diff_id == diff_id,
            self.on_disk,
            |folder| {
                // The digest is compared by `apply`, and not twice.
                let applied = apply.apply(image.unchecked(layer)?, folder)?;
                Ok(Marker {
                    diff_id,
                    entries: applied.entries,
                    bytes: applied.unpacked,
                    hides_all_below: applied.hides_all_below,
                })
            },
        )?;
        Ok((StoredLayer { path: place.diff(), diff_id, is_new, lease }, marker))
    }

    /// Removes the layers that nobody has leased. What comes to be in use meanwhile stays.
    ///
    /// # Errors
    /// What unlinkat(2) and flock(2) answer, of all layers that could not be removed: it goes on past errors.
    pub fn prune(&self) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        self.each_place(|place| {
            match place.remove_unused(false)? {
                true => pruned.removed += 1,
                false => pruned.in_use += 1,
            }
            Ok(())
        })?;
        Ok(pruned)
    }

    fn each_place(&self, mut work: impl FnMut(&Place) -> Result<()>) -> Result<()> {
        let mut errors = Vec::new();
        for form in directories(&self.dir.join("layers"))? {
            for place in directories(&form)? {
                errors.extend(work(&Place::new(place)).err());
            }
        }
        Error::all(errors)
    }
}

/// The directories in `dir`, sorted.
fn directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("getdents64", dir))? {
        let entry = entry.map_err(io("getdents64", dir))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The name of all layers that are applied alike: `trusted`, `user`, and with other owners or devices some letters more.
fn form(apply: &Apply) -> Result<String> {
    let (whiteouts, owner, devices) = apply.form();
    let name = match whiteouts {
        Whiteouts::OverlayTrusted => "trusted",
        Whiteouts::OverlayUser => "user",
        Whiteouts::Flattened => {
            let why = "a store has layers that an overlay stacks: one that is flattened needs those below it";
            return Err(Error::invalid("unpack", why));
        }
    };
    let owner = match owner {
        Owner::Archive => String::new(),
        Owner::Caller => "caller".to_owned(),
        Owner::Shifted { uids, gids } => format!("shifted {uids:?} {gids:?}"),
    };
    let devices = match devices {
        // Where there is one, the two differ in whether there is a layer.
        Devices::Skip => "",
        Devices::Refuse => "refuse",
        Devices::Create => "create",
    };
    if owner.is_empty() && devices.is_empty() {
        return Ok(name.to_owned());
    }
    let hex = Digest::sha256_of(format!("owner {owner}\ndevices {devices}\n").as_bytes()).hex();
    Ok(format!("{name}-{}", hex.get(..16).unwrap_or(&hex)))
}

impl Unpacked {
    /// The layers, the topmost first: in the order of `lowerdir`.
    #[must_use]
    #[doc(alias = "lowerdir")]
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }

    /// How the image wants to be run.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }
}

impl StoredLayer {
    /// The folder to give to an overlay. It is shared: nothing in it may be changed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of its archive.
    #[must_use]
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// Whether it was unpacked now, and not before or by somebody else.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

impl AsFd for StoredLayer {
    /// The lease: it lasts until the last duplicate of this descriptor is closed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lease.as_fd()
    }
}
