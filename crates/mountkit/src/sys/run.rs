//! How a [`Step`] is made in the cloned child: system calls on what the step holds, and nothing else.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use cellkit_core::sys::{fsconfig, fsmount, fsopen};
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::{Links, RawMountAttr};
use crate::in_root::InRootPath;
use crate::step::{Call, Step, Target};

const FD: u32 = libc::AT_EMPTY_PATH as u32;
const CLONE: u32 = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;

// SAFETY: every arm of `run` makes raw system calls through this module and `cellkit_core::sys` on data that the step
// owns and the descriptors in `fds`. Nothing in them allocates, locks, panics (slices are taken with `get`) or drops an
// owner; loops are bounded by the length of a prepared list or by a constant; `kernel_text` reads into the stack and
// `buffer`.
unsafe impl ChildStep for Step {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::HINTS)
    }

    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        match &self.call {
            Call::Inherit { mount: fd, .. } | Call::Idmap { userns: fd, .. } => Some(fd.as_fd()),
            _ => None,
        }
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Result<(), Errno> {
        match &self.call {
            Call::MountSetattr { at, path, flags, attr } => {
                super::mount_setattr(super::at(fds, *at)?, path, *flags, attr)
            }
            Call::OpenTree { at, path, flags, into } => {
                let fd = super::open_tree(super::at(fds, *at)?, path, *flags)?;
                fds.set(*into, fd)
            }
            Call::Inherit { mount, into } => fds.set(*into, mount.as_fd().as_raw_fd()),
            Call::Idmap { mount, flags, userns } => {
                let userns_fd = userns.as_fd().as_raw_fd();
                let attr = RawMountAttr {
                    attr_set: libc::MOUNT_ATTR_IDMAP,
                    userns_fd: u64::from(userns_fd.unsigned_abs()),
                    ..RawMountAttr::default()
                };
                super::mount_setattr(fds.get(*mount)?, c"", *flags, &attr)
            }
            Call::CheckDevice { fd, mode, rdev } => {
                let stat = super::statx(fds.get(*fd)?)?;
                let as_expected = stat.is(mode & libc::S_IFMT) && stat.rdev == *rdev;
                if as_expected { Ok(()) } else { Err(Errno(libc::ENODEV)) }
            }
            Call::Fsopen { fs, into } => {
                let fd = fsopen(fs, libc::FSOPEN_CLOEXEC)?;
                fds.set(*into, fd)
            }
            Call::FsconfigString { fs, key, value, .. } => {
                fsconfig(fds.get(*fs)?, libc::FSCONFIG_SET_STRING, Some(key), Some(value), 0)
            }
            Call::FsconfigFlag { fs, key, .. } => fsconfig(fds.get(*fs)?, libc::FSCONFIG_SET_FLAG, Some(key), None, 0),
            Call::Layer { at, source, flags, path } => layer(fds.get(*at)?, source, *flags, path),
            Call::MountPage { target, options } => super::overlay::mount_page(c"overlay", target, 0, options),
            Call::FsconfigCreate { fs, .. } => fsconfig(fds.get(*fs)?, libc::FSCONFIG_CMD_CREATE, None, None, 0),
            Call::Fsmount { fs, attributes, into, .. } => {
                let fd = fsmount(fds.get(*fs)?, libc::FSMOUNT_CLOEXEC, *attributes)?;
                fds.set(*into, fd)
            }
            Call::MoveMount { from, at, path } => super::move_mount(fds.get(*from)?, super::at(fds, *at)?, path),
            Call::Fchdir { dir } => super::fchdir(fds.get(*dir)?),
            Call::Mkdirat { at, path, mode } => super::mkdirat(fds.get(*at)?, path, *mode),
            Call::Fchownat { at, path, uid, gid } => super::fchownat(fds.get(*at)?, path, *uid, *gid),
            Call::ChownAs { at, path, like } => {
                let dir = fds.get(*at)?;
                let super::Stat { uid, gid, .. } = super::statx_at(dir, like)?;
                match super::fchownat(dir, path, uid, gid) {
                    // An id that is not mapped shows as nobody's, whom the child need not have: it stays root's.
                    Err(Errno(libc::EINVAL)) => Ok(()),
                    answer => answer,
                }
            }
            Call::Mknodat { at, path, mode, device } => super::mknodat(fds.get(*at)?, path, *mode, *device),
            Call::WriteFile { at, path, mode, content } => write_file(fds.get(*at)?, path, *mode, content),
            Call::Symlinkat { target, at, path } => super::symlinkat(target, fds.get(*at)?, path),
            Call::OpenTarget { root, path, target, into } => {
                let root = fds.get(*root)?;
                let fd = match target {
                    Target::RealDir => super::ensure_dir(root, path, 0o755, Links::Refused),
                    Target::Dir => super::ensure_dir(root, path, 0o755, Links::Inside),
                    Target::File => super::ensure_file(root, path, 0o644),
                }?;
                match is_same_place(root, fd) {
                    Ok(false) => fds.set(*into, fd),
                    answer => {
                        super::shut(fd);
                        Err(answer.err().unwrap_or(Errno(libc::EBUSY)))
                    }
                }
            }
            Call::CopyUp { root, path, to } => {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                let from = match super::open_in_root(fds.get(*root)?, path.full(), flags, Links::Inside) {
                    // A place that is yet to be made.
                    Err(Errno(libc::ENOENT)) => return Ok(()),
                    answer => answer?,
                };
                let done = super::copy_up::copy_up(from, fds.get(*to)?);
                super::shut(from);
                done
            }
            Call::Mask { root, path, masks } => mask(fds.get(*root)?, path, fds.get(*masks)?),
            Call::MakeReadOnly { root, path } => make_read_only(fds.get(*root)?, path),
            Call::DetachHost { paths } => {
                for path in paths {
                    match super::detach_at(path) {
                        // Gone with another; locked in a user namespace; not there any more.
                        Ok(())
                        | Err(Errno(libc::EINVAL | libc::EPERM | libc::ENOENT | libc::EBUSY | libc::ENOTDIR)) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Ok(())
            }
            Call::ChrootHere => super::chroot_here(),
            Call::PivotRoot => super::pivot_root_here(),
            Call::DetachOldRoot => detach_old_root(),
            Call::ChdirRoot => super::chdir(c"/"),
        }
    }

    fn kernel_text(&self, fds: &ChildFds<'_>, buffer: &mut [u8]) -> usize {
        let (Call::FsconfigString { fs, .. }
        | Call::FsconfigFlag { fs, .. }
        | Call::FsconfigCreate { fs, .. }
        | Call::Fsmount { fs, .. }) = &self.call
        else {
            return 0;
        };
        match fds.get(*fs) {
            Ok(fs) => super::context_log(fs, buffer),
            Err(_) => 0,
        }
    }
}

/// Makes a file with this content.
fn write_file(dir: RawFd, path: &std::ffi::CStr, mode: u32, content: &[u8]) -> Result<(), Errno> {
    let fd = super::fs::openat(dir, path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode)?;
    let mut rest = content;
    let mut outcome = Ok(());
    while !rest.is_empty() && outcome.is_ok() {
        match cellkit_core::sys::write(fd, rest) {
            Ok(0) => outcome = Err(Errno(libc::EIO)),
            Ok(written) => rest = rest.get(written..).unwrap_or(&[]),
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => outcome = Err(errno),
        }
    }
    super::shut(fd);
    outcome
}

/// Whether a link has led to the root itself: what is mounted there would hide all of it.
fn is_same_place(a: RawFd, b: RawFd) -> Result<bool, Errno> {
    let (a, b) = (super::statx(a)?, super::statx(b)?);
    Ok((a.mount_id, a.device, a.inode) == (b.mount_id, b.device, b.inode))
}

/// How often a mask is put in place, when somebody renames on the way to it meanwhile.
const MOST_ATTEMPTS: usize = 16;

/// Clones a directory of the host onto `path` of the scratch tmpfs.
fn layer(scratch: RawFd, source: &std::ffi::CStr, flags: u32, path: &std::ffi::CStr) -> Result<(), Errno> {
    let clone = super::open_tree(libc::AT_FDCWD, source, flags)?;
    let moved = super::mkdirat(scratch, path, 0o700).and_then(|()| super::move_mount(clone, scratch, path));
    super::shut(clone);
    moved
}

/// Opens `path` below `root`, or `None` where there is nothing to hide or protect.
fn open_existing(root: RawFd, path: &InRootPath) -> Result<Option<RawFd>, Errno> {
    match super::open_in_root(root, path.full(), libc::O_PATH, Links::Inside) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Does `put` to what is at `path`, and looks it up again until `is_done` says so of what is there.
fn put_and_verify<T>(
    root: RawFd,
    path: &InRootPath,
    put: impl Fn(RawFd) -> Result<T, Errno>,
    is_done: impl Fn(RawFd, T) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    for _ in 0..MOST_ATTEMPTS {
        let Some(target) = open_existing(root, path)? else { return Ok(()) };
        let outcome = put(target);
        super::shut(target);
        let expected = outcome?;
        let Some(found) = open_existing(root, path)? else { continue };
        let verdict = is_done(found, expected);
        super::shut(found);
        if verdict? {
            return Ok(());
        }
    }
    Err(Errno(libc::EAGAIN))
}

/// Puts the empty file or the empty directory of `masks` over `path`.
fn mask(root: RawFd, path: &InRootPath, masks: RawFd) -> Result<(), Errno> {
    let put = |target| {
        // A directory can only be mounted on a directory, and anything else only on anything else.
        let empty = if super::statx(target)?.is(libc::S_IFDIR) { c"dir" } else { c"file" };
        let clone = super::open_tree(masks, empty, CLONE)?;
        let moved = super::statx(clone).and_then(|stat| super::move_mount(clone, target, c"").map(|()| stat));
        super::shut(clone);
        moved
    };
    put_and_verify(root, path, put, |found, empty: super::Stat| {
        let stat = super::statx(found)?;
        Ok((stat.device, stat.inode) == (empty.device, empty.inode) && super::is_read_only(found)?)
    })
}

/// Puts a read-only clone of `path`, and of all that is mounted below it, over itself.
fn make_read_only(root: RawFd, path: &InRootPath) -> Result<(), Errno> {
    let recursive = libc::AT_RECURSIVE as u32;
    let put = |target| {
        let clone = super::open_tree(target, c"", CLONE | FD | recursive)?;
        let attr = RawMountAttr { attr_set: libc::MOUNT_ATTR_RDONLY, ..RawMountAttr::default() };
        let moved = super::mount_setattr(clone, c"", FD | recursive, &attr)
            .and_then(|()| super::move_mount(clone, target, c""));
        super::shut(clone);
        moved
    };
    put_and_verify(root, path, put, |found, ()| super::is_read_only(found))
}

/// After pivot_root(".", "."): unmounts whatever is mounted on the new root, until nothing is.
///
/// umount2(".") takes the topmost mount only, which is the old root unless the host had something mounted on its own "/".
/// A last umount2 too many would take the new root itself, so each is made only after a look: ".." of a root is that
/// root, but a lookup of it crosses to what is mounted on it.
fn detach_old_root() -> Result<(), Errno> {
    for _ in 0..64 {
        if super::statx_path(c"/..")?.mount_id == super::statx_path(c"/")?.mount_id {
            return Ok(());
        }
        super::detach_here()?;
    }
    Err(Errno(libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use cellkit_core::{ChildSteps, Subject};

    use super::*;
    use crate::sys::enter::run_here;

    fn step(call: Call) -> Step {
        Step { call, reason: "a test", subject: Subject::Thing("a test".into()) }
    }

    mod root {
        use super::*;

        #[test]
        fn the_kernels_own_words_reach_the_error() {
            faultkit::require!(root);
            faultkit::isolated!(|| {
                let mut steps = ChildSteps::new();
                let (fs, mount) = (steps.slot(), steps.slot());
                steps.push(step(Call::Fsopen { fs: c"tmpfs", into: fs }));
                steps.push(step(Call::FsconfigString { fs, key: c"size", value: c"many".into() }));
                steps.push(step(Call::Fsmount { fs, attributes: 0, into: mount }));
                let error = run_here(&steps).expect_err("many is no number");
                assert_eq!((error.operation(), error.raw_os_error()), ("fsconfig", Some(libc::EINVAL)));
                assert_eq!(error.kernel_text(), Some("tmpfs: Bad value for 'size'"));
            });
        }

        #[test]
        fn a_device_is_told_from_another() {
            faultkit::require!(root);
            let mut steps = ChildSteps::new();
            let null = steps.slot();
            let path = c"/dev/null".to_owned();
            steps.push(step(Call::OpenTree { at: crate::step::At::Cwd, path, flags: 0, into: null }));
            steps.push(step(Call::CheckDevice { fd: null, mode: libc::S_IFCHR, rdev: (1, 3) }));
            steps.push(step(Call::CheckDevice { fd: null, mode: libc::S_IFCHR, rdev: (1, 5) }));
            let error = run_here(&steps).expect_err("it is not zero");
            assert_eq!((error.operation(), error.raw_os_error()), ("statx", Some(libc::ENODEV)));
        }
    }

    #[test]
    fn a_step_without_a_context_says_nothing() {
        let mut steps = ChildSteps::new();
        let fs = steps.slot();
        steps.push(step(Call::FsconfigCreate { fs }));
        let error = run_here(&steps).expect_err("an empty slot");
        assert_eq!((error.raw_os_error(), error.kernel_text()), (Some(libc::EBADF), None));
    }
}
