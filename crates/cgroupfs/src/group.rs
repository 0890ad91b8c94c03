//! One group: a directory handle and the files in it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cellkit_core::{Errno, Subject};

use crate::hint::HINTS;
use crate::interface::{self, Where};
use crate::{CgroupEvents, Controller, Controllers, Error, ErrorKind, Result, keyed, open, tree};

/// Bounds what a hostile or absurd file can make us hold.
const READ_LIMIT: u64 = 16 << 20;

/// A control group: a handle on its directory, verified to be of the cgroup2 file system.
///
/// Every file is opened below that handle, without following links and without crossing a mount. When the group has been
/// removed meanwhile, everything is [`ErrorKind::Gone`](crate::ErrorKind::Gone).
///
/// Dropping the handle leaves the group as it is; [`remove`](Self::remove) removes it. A program that ends leaves it too.
///
/// ```no_run
/// use cgroupfs::{CgroupName, Hierarchy, Limits, PidsMax};
/// use std::time::Duration;
///
/// let place = Hierarchy::detect()?.place()?;
/// let limits = Limits::new().pids_max(PidsMax::try_from(64)?);
/// let group = place.create(&CgroupName::new("example")?, &limits, &mut ())?;
/// // … start something in it by CLONE_INTO_CGROUP on group.as_fd() …
/// println!("{:?}", group.events()?);
/// group.remove(Duration::from_secs(5))?;
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
#[derive(Debug)]
pub struct Cgroup {
    pub(crate) dir: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) mount_point: PathBuf,
}

impl Cgroup {
    /// openat2(2): the group whose directory is at `path`, an absolute path without links, such as a record of
    /// [`path`](Self::path) has it.
    ///
    /// # Errors
    /// Invalid when this is not a directory of a cgroup2 file system, or when there is a link in the path; NotFound when
    /// there is no such group.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let dir = open::cgroup2_directory(path)?;
        // Without a "." or a slash at the end, which are not levels.
        let path: PathBuf = path.components().collect();
        // Where the file system is mounted: as many levels up as there are before the mount ends.
        let mut mount_point = path.as_path();
        let mut above = open::above(dir.as_fd());
        while let (Ok(here), Some(parent)) = (&above, mount_point.parent()) {
            mount_point = parent;
            above = open::above(here.as_fd());
        }
        let mount_point = mount_point.to_owned();
        Ok(Self { dir, path, mount_point })
    }

    /// The same, if it is still the group with this [id](Self::id): for a record of both. The path alone may by now be
    /// another group's, which somebody made when the first was gone.
    ///
    /// ```no_run
    /// use cgroupfs::Cgroup;
    ///
    /// # let (path, id) = ("/sys/fs/cgroup/web", 4711);
    /// match Cgroup::open_with_id(path, id) {
    ///     Err(error) if error.kind() == cgroupfs::ErrorKind::Gone => println!("nothing is left of it"),
    ///     group => group?.kill()?,
    /// }
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See name_to_handle_at(2): <https://man7.org/linux/man-pages/man2/name_to_handle_at.2.html>.
    ///
    /// # Errors
    /// Gone when there is no group, or another one; as [`open`](Self::open) but NotFound.
    pub fn open_with_id(path: impl AsRef<Path>, id: u64) -> Result<Self> {
        let group = match Self::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(error.or_gone()),
            opened => opened?,
        };
        if group.id()? != id {
            let gone = Error::gone("openat2", None).on(group.path());
            return Err(gone.with_hint("another group has been made under its name"));
        }
        Ok(group)
    }

    /// The whole path of its directory: what a record needs, for [`open`](Self::open) to find it again; with the
    /// [id](Self::id) beside it, [`open_with_id`](Self::open_with_id) finds it and no other.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the mounted hierarchy, beginning with `/`.
    #[must_use]
    pub fn path_in_hierarchy(&self) -> PathBuf {
        Path::new("/").join(self.path.strip_prefix(&self.mount_point).unwrap_or(&self.path))
    }

    /// `cgroup.procs`: the processes in the group itself, not below it, in no order. One that this pid namespace cannot
    /// see is 0. Numbers are reused: open a pidfd and look again before acting on one.
    ///
    /// # Errors
    /// Unsupported (EOPNOTSUPP) for a threaded group; Gone.
    #[doc(alias = "cgroup.procs")]
    pub fn procs(&self) -> Result<Vec<i32>> {
        parse_procs(&self.read("cgroup.procs")?)
    }

    /// `cgroup.events`: whether something lives in the group or below it, and whether it is frozen.
    ///
    /// # Errors
    /// Unsupported for the root of the hierarchy, which has no such file; Gone.
    #[doc(alias = "cgroup.events")]
    pub fn events(&self) -> Result<CgroupEvents> {
        self.get("cgroup.events")
    }

    /// Any file of the group, by name.
    ///
    /// ```no_run
    /// # let group = cgroupfs::Hierarchy::detect()?.own_group()?;
    /// let peak = group.raw("memory.peak").read()?;
    /// group.raw("cgroup.freeze").write("1")?;
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    #[must_use]
    pub fn raw<'a>(&'a self, file: &'a str) -> RawFile<'a> {
        RawFile { group: self, name: file }
    }

    /// Whether this is the root of the whole hierarchy, which alone has no `cgroup.events`. The root of a cgroup
    /// namespace is not.
    pub(crate) fn is_root(&self) -> Result<bool> {
        match open::beneath(self.dir.as_fd(), Path::new("cgroup.events"), libc::O_PATH) {
            Ok(_) => Ok(false),
            Err(Errno(libc::ENOENT)) if self.exists() => Ok(true),
            Err(errno) => Err(self.fail("read cgroup.events", errno)),
        }
    }

    /// Whether the group has not been removed: every group has a `cgroup.procs`.
    pub(crate) fn exists(&self) -> bool {
        let found = open::beneath(self.dir.as_fd(), Path::new("cgroup.procs"), libc::O_PATH);
        !matches!(found, Err(errno) if tree::vanished(errno))
    }

    /// The error of an operation on this group: Gone when that is why, and with the hint for it.
    pub(crate) fn fail(&self, operation: impl Into<String>, errno: Errno) -> Error {
        let error = Error::from_errno(operation.into(), errno.0).on(self.path());
        if tree::vanished(errno) && !self.exists() { error.or_gone() } else { error.with_hints(&HINTS) }
    }

    /// The content of `file` as the type it has.
    pub(crate) fn get<T: FromStr<Err = Error>>(&self, file: &str) -> Result<T> {
        self.read(file)?
            .parse()
            .map_err(|error: Error| Error::parse(format!("read {file}"), error.to_string()).on(self.path()))
    }

    /// The content of `file`, a number.
    pub(crate) fn number(&self, file: &str) -> Result<u64> {
        let text = self.read(file)?;
        text.trim().parse().map_err(|_| {
            Error::parse(format!("read {file}"), format!("{:?} is not a number", text.trim())).on(self.path())
        })
    }

    /// Writes `value` as it prints.
    pub(crate) fn set(&self, file: &str, value: impl Display) -> Result<()> {
        self.write(file, &value.to_string())
    }

    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let operation = || format!("read {file}");
        let opened = self.open_file(file, libc::O_RDONLY, &operation)?;
        read_whole(opened).map_err(|errno| self.fail(operation(), errno))
    }

    /// One write(2), as the kernel's files want it.
    pub(crate) fn write(&self, file: &str, content: &str) -> Result<()> {
        let operation = || format!("write {file}");
        let opened = self.open_file(file, libc::O_WRONLY, &operation)?;
        let mut opened = File::from(opened);
        let written = loop {
            match opened.write(content.as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match written {
            Ok(written) if written == content.len() => Ok(()),
            Ok(_) => Err(self.fail(operation(), Errno(libc::EIO))),
            Err(error) => Err(self.fail(operation(), errno_of(&error))),
        }
    }

    /// openat2(2) of an interface file. One that is absent is explained.
    pub(crate) fn open_file(&self, file: &str, flags: i32, operation: &dyn Fn() -> String) -> Result<OwnedFd> {
        open::beneath(self.dir.as_fd(), Path::new(file), flags).map_err(|errno| {
            let error = self.fail(operation(), errno);
            let absent = errno.0 == libc::ENOENT && error.kind() != ErrorKind::Gone;
            if absent { self.explain_absent(error, file) } else { error }
        })
    }

    /// Why a file is not in a group that exists.
    fn explain_absent(&self, error: Error, file: &str) -> Error {
        let Some(known) = interface::find(file) else { return error };
        let is_root = self.is_root().unwrap_or(false);
        match (known.r#where, known.controller) {
            (Where::Below, _) if is_root => error
                .as_unsupported(format!("{file} at the root of the hierarchy"), None)
                .with_hint("the root has no limits and no events of its own: look at a group below it"),
            (Where::Root, _) if !is_root => error
                .as_unsupported(format!("{file} below the root of the hierarchy"), None)
                .with_hint("only the root has this file"),
            (_, Some(controller)) if !is_root && !self.has_controller(controller) => error
                .as_unsupported(format!("the {controller} controller (not enabled for this group)"), None)
                .with_hint(format!(
                    "the group above enables it: +{controller} in its cgroup.subtree_control; why_not says what stands \
                     in the way"
                )),
            _ => error
                .as_unsupported(file.to_owned(), Some(known.since))
                .with_hint("this kernel is older, or built or booted without it"),
        }
    }

    fn has_controller(&self, controller: Controller) -> bool {
        self.read("cgroup.controllers").is_ok_and(|text| Controllers::parse(&text).contains(controller))
    }
}

/// A file of a group, by name. See [`Cgroup::raw`].
///
/// ```no_run
/// let group = cgroupfs::Hierarchy::detect()?.own_group()?;
/// let stat = group.raw("memory.stat").flat_keyed()?;
/// println!("{:?}", stat.get("anon"));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct RawFile<'a> {
    group: &'a Cgroup,
    name: &'a str,
}

impl RawFile<'_> {
    /// The whole content, up to 16 MiB.
    ///
    /// # Errors
    /// Invalid when the name is not the name of one file; NotFound when the group has no such file; Gone; whatever the
    /// kernel says.
    pub fn read(&self) -> Result<String> {
        self.check()?;
        self.group.read(self.name)
    }

    /// Writes `content` by one write(2).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write(&self, content: impl AsRef<str>) -> Result<()> {
        self.check()?;
        self.group.write(self.name, content.as_ref())
    }

    /// The content as lines of `KEY VALUE`.
    ///
    /// # Errors
    /// As [`read`](Self::read); Parse when it is not such a file.
    pub fn flat_keyed(&self) -> Result<BTreeMap<String, u64>> {
        keyed::parse_flat_keyed(&self.read()?).map_err(|error| error.on(self.group.path.join(self.name)))
    }

    /// The content as lines of `KEY NAME=VALUE NAME=VALUE`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn nested_keyed(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
        Ok(keyed::parse_nested_keyed(&self.read()?))
    }

    fn check(&self) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.bytes().all(allowed) {
            return Err(Error::invalid("file of a group", "this is not the name of a file of the kernel")
                .on(Subject::Value(self.name.to_owned())));
        }
        Ok(())
    }
}

impl AsFd for Cgroup {
    /// For `CLONE_INTO_CGROUP`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl From<Cgroup> for OwnedFd {
    fn from(group: Cgroup) -> Self {
        group.dir
    }
}

pub(crate) fn read_whole(file: OwnedFd) -> Result<String, Errno> {
    // Most files fit, so that one read(2) and the one that finds the end do.
    let mut content = Vec::with_capacity(4096);
    File::from(file).take(READ_LIMIT + 1).read_to_end(&mut content).map_err(|error| errno_of(&error))?;
    // The last number of what is cut off would be another one.
    if content.len() as u64 > READ_LIMIT {
        return Err(Errno(libc::EFBIG));
    }
    Ok(String::from_utf8(content).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

pub(crate) fn parse_procs(text: &str) -> Result<Vec<i32>> {
    text.lines()
        .map(|line| match line.trim().parse() {
            Ok(pid) if pid >= 0 => Ok(pid),
            _ => Err(Error::parse("parse cgroup.procs", format!("{line:?} is not a process"))),
        })
        .collect()
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes() {
        assert_eq!(parse_procs("12\n0\n4194304\n").expect("processes"), [12, 0, 4_194_304]);
        assert_eq!(parse_procs("").expect("none"), [0; 0]);
        for text in ["x\n", "-1\n", "12\n\n", "99999999999\n"] {
            assert_eq!(parse_procs(text).expect_err(text).kind(), ErrorKind::Parse);
        }
    }

    #[test]
    fn what_is_no_group() {
        for path in ["/tmp", "/proc", "/sys/fs"] {
            let error = Cgroup::open(path).expect_err(path);
            assert_eq!(error.to_string(), format!("fstatfs {path:?}: this is not a cgroup2 file system"));
        }
        assert_eq!(Cgroup::open("sys/fs/cgroup").expect_err("relative").kind(), ErrorKind::Invalid);
        assert_eq!(Cgroup::open("").expect_err("empty").kind(), ErrorKind::Invalid);
        assert_eq!(Cgroup::open("/no/such/group").expect_err("none").kind(), ErrorKind::NotFound);
        // A link on the way, even to a group, is refused.
        let link = Cgroup::open("/proc/self/root").expect_err("link");
        assert_eq!(link.raw_os_error(), Some(libc::ELOOP));
    }
}
