//! Layers under names of one or two letters, for kernels that take all of them in one text.
//!
//! # Theory of operation
//!
//! Before Linux 6.8 the layers are one text, `lowerdir=/long/path:/another:…`, in which `:`, `,` and `\` are escaped by
//! rules that differ between kernels, and which may have 255 bytes (fsconfig) or 4,095 (mount(2), where the rest is cut
//! off in silence: what is left of the layers is mounted, without the upper directory).
//!
//! So the layers get short names. They need mounts to have them, which nobody shall see: a thread takes a mount namespace
//! of its own and leaves it when it ends. In there a tmpfs covers `/` and is the working directory:
//!
//! ```text
//!   0 1 2 … z 00 01 …   the lower directories, each a clone that was made before the thread left the old namespace
//!   top/                 a clone of the directory above both the upper and the work directory
//!   U -> top/…/upper     short names for the two, which have to be on one mount
//!   W -> top/…/work
//!   M/                   where mount(2) puts the overlay; a clone of it is what comes out
//! ```
//!
//! A directory above must be found by its path, and may be moved meanwhile; so what the links lead to is compared with
//! the descriptors. The working directory is what the kernel takes along when a thread changes its mount namespace, hence
//! the way from the old one into the new one.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cellkit_core::{Error, ProcFd, ProcView, Result, Subject};

use super::dirs::{Dir, Upper};
use super::make::{Request, fail};
use super::mechanism::{lowerdir, name, page};
use super::options::an_overlay;
use crate::filesystem::{Context, Superblock};
use crate::hint::HINTS;
use crate::host_path::open_dir;
use crate::sys::{self, RawMountAttr};
use crate::{DetachedMount, MountAttr};

/// How the text reaches the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    OneString,
    OnePage,
}

/// Runs on a thread that ends afterwards.
pub(super) fn make(request: &Request<'_>, text: Text) -> Result<DetachedMount> {
    if let Some(setting) = request.settings.iter().find(|setting| setting.since.is_some()) {
        // Options in a page are judged all together when the mount is made: the error would not say which.
        if super::mechanism::understands()? == super::mechanism::Understands::OnePage {
            return Err(Error::unsupported("fsconfig", setting.text(), setting.since).on(an_overlay()));
        }
    }
    let clones = request.lowers.iter().chain(request.data).map(clone).collect::<Result<Vec<_>>>()?;
    let above = request.upper.map(Above::of).transpose()?;
    sys::overlay::unshare(libc::CLONE_FS).map_err(|errno| fail("unshare", errno))?;
    if let Some(above) = &above {
        sys::fchdir(above.dir.as_raw_fd()).map_err(|errno| fail("fchdir", errno))?;
    }
    sys::overlay::unshare(libc::CLONE_NEWNS).map_err(|errno| fail("unshare", errno))?;
    let above = above.map(|above| above.in_this_namespace()).transpose()?;
    enter_scratch()?;
    for (number, clone) in clones.into_iter().enumerate() {
        put(&clone, &short(&name(number)))?;
    }
    if let (Some(above), Some(upper)) = (&above, request.upper) {
        above.name(upper)?;
    }
    let (lowers, data) = (request.lowers.len(), request.data.len());
    match text {
        Text::OneString => {
            let context = request.context()?;
            context.set(c"lowerdir", &short(&lowerdir(lowers, data)))?;
            if above.is_some() {
                context.set(c"upperdir", c"U")?;
                context.set(c"workdir", c"W")?;
            }
            request.finish(context)
        }
        Text::OnePage => {
            let options = page(lowers, data, above.as_ref().map(|_| ("U", "W")), request.settings)?;
            by_page(request, &short(&options))
        }
    }
}

fn short(text: &str) -> CString {
    // The text is made of letters, digits and the kernel's own words.
    CString::new(text).unwrap_or_default()
}

/// A detached clone of a layer, without what is mounted below it, as an overlay sees it.
fn clone(dir: &Dir) -> Result<OwnedFd> {
    sys::mount::clone_tree(Some(dir.as_fd()), c"", libc::AT_EMPTY_PATH as u32)
        .map_err(|errno| Error::from_errno("open_tree", errno.0).on(dir.subject()).with_hints(&HINTS))
}

/// A tmpfs on `/` of this thread's namespace, as its working directory.
fn enter_scratch() -> Result<()> {
    let private = RawMountAttr { propagation: libc::MS_PRIVATE, ..RawMountAttr::default() };
    sys::mount_setattr(libc::AT_FDCWD, c"/", 0, &private)
        .map_err(|errno| Error::from_errno("mount_setattr", errno.0).on(Path::new("/")).with_hints(&HINTS))?;
    let context = Context::open(c"tmpfs", Subject::Thing("tmpfs".into()))?;
    context.create(Superblock::NewOrShared)?;
    let scratch = context.mount(MountAttr::empty(), None)?;
    sys::move_mount(scratch.as_fd().as_raw_fd(), libc::AT_FDCWD, c"/").map_err(|errno| fail("move_mount", errno))?;
    sys::fchdir(scratch.as_fd().as_raw_fd()).map_err(|errno| fail("fchdir", errno))
}

/// Mounts a clone on a new directory of the working directory.
fn put(clone: &OwnedFd, name: &std::ffi::CStr) -> Result<()> {
    sys::mkdirat(libc::AT_FDCWD, name, 0o700).map_err(|errno| fail("mkdirat", errno))?;
    sys::move_mount(clone.as_raw_fd(), libc::AT_FDCWD, name).map_err(|errno| fail("move_mount", errno))
}

/// The directory above the upper and the work directory, and the way down to each.
struct Above {
    dir: OwnedFd,
    upper: PathBuf,
    work: PathBuf,
}

impl Above {
    fn of(upper: &Upper) -> Result<Self> {
        let (top, down, down_to_work) = common(&upper.dir.path()?, &upper.work.path()?);
        Ok(Self { dir: open_dir(&top)?.into(), upper: down, work: down_to_work })
    }

    /// The same directory in the mount namespace that the thread has entered, as its working directory.
    fn in_this_namespace(self) -> Result<Self> {
        Ok(Self { dir: sys::overlay::here().map_err(|errno| fail("openat2", errno))?, ..self })
    }

    /// Gives the two their short names.
    fn name(&self, upper: &Upper) -> Result<()> {
        // With what is mounted below it: the kernel lets a user namespace clone no directory without its locked mounts.
        let flags = libc::AT_EMPTY_PATH as u32 | libc::AT_RECURSIVE as u32;
        let clone = sys::mount::clone_tree(Some(self.dir.as_fd()), c"", flags)
            .map_err(|errno| Error::from_errno("open_tree", errno.0).on(upper.dir.subject()).with_hints(&HINTS))?;
        put(&clone, c"top")?;
        for (link, way, dir) in [(c"U", &self.upper, &upper.dir), (c"W", &self.work, &upper.work)] {
            // join: a way of names only, verified below.
            let target = CString::new(Path::new("top").join(way).as_os_str().as_bytes()).unwrap_or_default();
            sys::symlinkat(&target, libc::AT_FDCWD, link).map_err(|errno| fail("symlinkat", errno))?;
            let found = sys::overlay::open_at(cellkit_core::sys::AT_FDCWD, link, libc::O_PATH | libc::O_DIRECTORY)
                .and_then(|found| sys::statx(found.as_raw_fd()))
                .map_err(|errno| Error::from_errno("openat2", errno.0).on(dir.subject()))?;
            if (found.device, found.inode) != dir.identity() {
                return Err(Error::other("openat2", "it was moved meanwhile").on(dir.subject()));
            }
        }
        Ok(())
    }
}

/// What two absolute paths have in common, and the rest of each.
pub(super) fn common(a: &Path, b: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let shared = a.components().zip(b.components()).take_while(|(a, b)| a == b).count();
    let rest =
        |path: &Path| path.components().skip(shared).filter(|part| matches!(part, Component::Normal(_))).collect();
    (a.components().take(shared).collect(), rest(a), rest(b))
}

/// mount(2) in this thread's namespace, a look at what the kernel made of the text, and a clone of it.
fn by_page(request: &Request<'_>, options: &std::ffi::CStr) -> Result<DetachedMount> {
    let error = |operation, errno: cellkit_core::Errno| {
        Error::from_errno(operation, errno.0).on(request.subject()).with_hints(&HINTS)
    };
    sys::mkdirat(libc::AT_FDCWD, c"M", 0o700).map_err(|errno| fail("mkdirat", errno))?;
    sys::overlay::mount_page(c"overlay", c"M", 0, options).map_err(|errno| error("mount", errno))?;
    let mount = sys::mount::clone_tree(None, c"M", 0).map_err(|errno| error("open_tree", errno))?;
    let seen = sys::overlay::open_at(cellkit_core::sys::AT_FDCWD, c"M", libc::O_PATH)
        .and_then(|fd| sys::statx(fd.as_raw_fd()))
        .map_err(|errno| error("statx", errno))?;
    let table = ProcFd::open(ProcView::Processes)?.this_thread()?.read(Path::new("mountinfo"))?;
    if !has_all(&table, seen.mount_id, request) {
        let why = "the kernel has taken only a part of the options: please report this";
        return Err(Error::other("mount", why).on(request.subject()));
    }
    let mount = DetachedMount::new(mount, request.subject());
    mount.set(request.attrs)?;
    Ok(mount)
}

/// Whether the line of mountinfo has every layer, and the upper directory if there is one.
fn has_all(table: &[u8], mount: u64, request: &Request<'_>) -> bool {
    let number = mount.to_string();
    let Some(line) = cellkit_core::mountinfo::lines(table).find(|line| line.id == number.as_bytes()) else {
        return false;
    };
    let value = |key: &[u8]| {
        let mut options = line.options.split(|byte| *byte == b',');
        options.find_map(|option| option.strip_prefix(key)?.strip_prefix(b"="))
    };
    let layers = value(b"lowerdir").unwrap_or_default().split(|byte| *byte == b':').filter(|layer| !layer.is_empty());
    let all = (0..request.lowers.len() + request.data.len()).map(name);
    layers.eq(all.map(String::into_bytes)) && value(b"upperdir").is_some() == request.upper.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_above_two() {
        let split = |a: &str, b: &str| {
            let (top, a, b) = common(Path::new(a), Path::new(b));
            [top, a, b].map(|path| path.to_string_lossy().into_owned())
        };
        assert_eq!(split("/x/y/upper", "/x/y/work"), ["/x/y", "upper", "work"]);
        assert_eq!(split("/x/a/b/upper", "/x/work"), ["/x", "a/b/upper", "work"]);
        assert_eq!(split("/upper", "/work"), ["/", "upper", "work"]);
        assert_eq!(split("/x/ab", "/x/a"), ["/x", "ab", "a"]);
    }
}
