//! A cgroup of its own for an isolated test, shown to it as the root of the hierarchy.
//!
//! The test then sees, makes and counts its own groups only, whatever runs beside it. As in a container the root it sees
//! is not the kernel's: it has `cgroup.type`, and the test's own process sits in the group `test` below it, so that the
//! root can hand its controllers down.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys::CgroupEntry;

/// The group. Dropping it kills what still runs in it and removes it with all below.
#[derive(Debug)]
pub struct CgroupView(PathBuf);

impl CgroupView {
    /// Makes the group `name` at the top of the hierarchy mounted at `mount`.
    pub fn make(mount: &Path, name: &str) -> io::Result<(Self, CgroupEntry)> {
        let root = mount.join(name);
        fs::create_dir(&root)?;
        let view = Self(root);
        let root = &view.0;
        fs::create_dir(root.join("test"))?;
        let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
        let entry = CgroupEntry {
            root_procs: open(&root.join("cgroup.procs"))?,
            leaf_procs: open(&root.join("test/cgroup.procs"))?,
            subtree_control: open(&root.join("cgroup.subtree_control"))?,
            controllers: controllers.split_whitespace().map(|name| format!("+{name}").into_bytes()).collect(),
            mount_point: CString::new(mount.as_os_str().as_bytes())?,
        };
        Ok((view, entry))
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    OpenOptions::new().write(true).open(path).map(File::into)
}

impl Drop for CgroupView {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Err(e) = remove_tree(&self.0) {
            // Killed processes leave their group a moment later.
            if Instant::now() > deadline {
                eprintln!("faultkit: could not remove the group {}: {e}", self.0.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A group is removed by rmdir alone; the files in it are the kernel's.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
