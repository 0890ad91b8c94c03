//! The maps of a process, as procfs shows them.
//!
//! # Theory of operation
//!
//! The kernel keeps the outside of each extent as ids of the machine, and translates it for whoever *opens* the file: into
//! the ids of that process's own user namespace, or of the parent if both are in the same. It translates the first id of
//! an extent alone, and copies the count. That is right for a reader above: an extent lies within one extent of every
//! namespace further out, because the kernel took it only on that condition. For any other reader (a sibling, or somebody
//! inside) the column is a guess: the ids after the first may be others, or nobody, and a first id that the reader has not
//! is shown as 4294967295.
//!
//! So there is one right way to ask what a map is for somebody else: read both maps from above, where both are exact, and
//! calculate ([`IdMaps::relative_to`]).
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cellkit_core::{ProcFd, Result};

use super::IdMaps;
use crate::IdMap;

impl IdMaps {
    /// The maps of the user namespace of the process of `pidfd`, with the ids of the *reader's* namespace outside.
    ///
    /// What the reader is to that namespace decides what is read:
    ///
    /// * above it (the parent, or further out): its ids, as ids of the reader. The usual case.
    /// * in it: its ids, as ids of its parent: there is no other use for a map of it.
    /// * elsewhere: what cannot be relied on. The kernel translates only the first id of each extent, and says 4294967295
    ///   for one that the reader has not, which is an error here. Have somebody above both read both maps, and use
    ///   [`relative_to`](Self::relative_to).
    ///
    /// A map that has not been written is empty, and `projid` then `None`. The process is named by its pidfd, but one that
    /// calls unshare(2) meanwhile may answer with the uids of one namespace and the gids of another.
    ///
    /// * Files: `/proc/PID/uid_map`, `gid_map`, `projid_map`.
    /// * Privileges: none, where `/proc` is not mounted with `hidepid`.
    ///
    /// # Errors
    /// * [`ErrorKind::Gone`](cellkit_core::ErrorKind::Gone): the process has died.
    /// * [`ErrorKind::Parse`](cellkit_core::ErrorKind::Parse): there is an id that the reader's namespace has not.
    ///
    /// ```
    /// use cellkit_core::{ProcFd, ProcView};
    /// use idmap::IdMaps;
    ///
    /// let child = std::process::Command::new("sleep").arg("10").spawn().expect("sleep");
    /// let pidfd = cellkit_core::sys::pidfd_open(child.id() as i32).expect("a child of ours");
    /// let maps = IdMaps::of_process(&pidfd, &ProcFd::open(ProcView::Processes)?)?;
    /// println!("root there is uid {:?} here", maps.uid.to_outside(0));
    /// # let mut child = child;
    /// # let _ = child.kill();
    /// # let _ = child.wait();
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See user_namespaces(7), "User and group ID mappings: uid_map and gid_map":
    /// <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    pub fn of_process(pidfd: impl AsFd, proc: &ProcFd) -> Result<Self> {
        let process = proc.process(pidfd)?;
        let read = |file: &str| {
            let map = IdMap::from_proc(&process.read(Path::new(file))?);
            map.map_err(|error| {
                error.on(PathBuf::from(format!("/proc/{}/{file}", process.pid()))).with_hint(
                    "4294967295 stands for an id that this reader's user namespace has not: read the map from a \
                     namespace above, and translate it with relative_to",
                )
            })
        };
        Ok(Self {
            uid: read("uid_map")?.unwrap_or_default(),
            gid: read("gid_map")?.unwrap_or_default(),
            projid: read("projid_map")?,
        })
    }
}
