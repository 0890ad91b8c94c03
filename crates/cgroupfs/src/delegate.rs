//! Giving a group to a user, who may then make groups below it and move processes among them.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::Path;

use cellkit_core::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid};

use crate::children::with_more;
use crate::{Cgroup, DelegateFiles, Error, Result, open};

impl Cgroup {
    /// fchownat(2): gives this group to a user: its directory, and of its files exactly those that the kernel lists in
    /// `/sys/kernel/cgroup/delegate` and that exist, never the limits. Answers the names of the files.
    ///
    /// The user can then make groups below it, pass controllers down, and move processes that are in the group already.
    /// Putting a first process into it is the giver's part: [`attach`](Self::attach). Enable the controllers before: what
    /// appears later is not given away. When a step fails, what was given is taken back.
    ///
    /// * Kernel: 4.15 for the list, else that of Linux 6.12: see [`DelegateFiles`].
    /// * Privileges: CAP_CHOWN.
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Controller, Hierarchy};
    ///
    /// let place = Hierarchy::detect()?.place()?;
    /// place.group().enable(Controller::Pids)?;
    /// let group = place.group().create_child(&CgroupName::new("user-1000")?)?;
    /// let files = group.delegate(1000, 1000)?;
    /// assert!(files.contains(&"cgroup.procs".to_owned()));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation>.
    ///
    /// # Errors
    /// Invalid for the id 4294967295, which means "as it is"; Permission; Gone.
    #[doc(alias("chown", "fchownat"))]
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<Vec<String>> {
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Error::invalid("fchownat", "the id 4294967295 means that nothing is changed").on(self.path()));
        }
        let files = DelegateFiles::of_kernel()?;
        let mut given: Vec<(&str, FileStat)> = Vec::new();
        // The directory last: with it comes the power to make groups.
        for name in files.names().chain(["."]) {
            let owner = match self.owner_of(name) {
                Ok(Some(owner)) => owner,
                // Its controller is not enabled, or the kernel is older than the built-in list.
                Ok(None) => continue,
                Err(error) => return Err(self.take_back(&given, error)),
            };
            if let Err(error) = self.chown(name, uid, gid) {
                return Err(self.take_back(&given, error));
            }
            given.push((name, owner));
        }
        Ok(given.into_iter().map(|(name, _)| name.to_owned()).filter(|name| name != ".").collect())
    }

    fn owner_of(&self, name: &str) -> Result<Option<FileStat>> {
        let found = open::beneath(self.dir.as_fd(), Path::new(name), libc::O_PATH);
        match found {
            Ok(file) => nix::sys::stat::fstat(file)
                .map(Some)
                .map_err(|errno| self.fail("fstat", Errno(errno as i32)).on(self.path.join(name))),
            Err(Errno(libc::ENOENT)) if self.exists() => Ok(None),
            Err(errno) => Err(self.fail("openat2", errno)),
        }
    }

    fn chown(&self, name: &str, uid: u32, gid: u32) -> Result<()> {
        // By a handle that was opened without links and mounts.
        let file = open::beneath(self.dir.as_fd(), Path::new(name), libc::O_PATH)
            .map_err(|errno| self.fail("openat2", errno))?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        nix::unistd::fchownat(&file, "", uid, gid, AtFlags::AT_EMPTY_PATH).map_err(|errno| {
            let error = self.fail("fchownat", Errno(errno as i32));
            if error.kind() == crate::ErrorKind::Gone { error } else { error.on(self.path.join(name)) }
        })
    }

    fn take_back(&self, given: &[(&str, FileStat)], error: Error) -> Error {
        given
            .iter()
            .rev()
            .fold(error, |error, (name, owner)| with_more(error, self.chown(name, owner.st_uid, owner.st_gid)))
    }
}
