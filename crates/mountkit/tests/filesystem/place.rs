//! Where the mounts of these tests are put.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;

use faultkit::TempDir;
use mountkit::{DetachedMount, RootFd};

/// A place for mounts, below `/run`, which is a tmpfs of the test's own.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new();
        fs::create_dir(dir.join("at")).expect("mkdir");
        Self(dir)
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.0.join("at")
    }

    /// Mounts it there, and takes it away after `look`, which gets where it is.
    #[track_caller]
    pub(crate) fn with<T>(&self, mount: DetachedMount, look: impl FnOnce(&Path) -> T) -> T {
        mount.attach(&RootFd::open(&*self.0).expect("root"), "at").expect("attach");
        let seen = look(&self.path());
        assert!(Command::new("umount").arg(self.path()).status().expect("umount").success());
        seen
    }
}

/// What findmnt says of a column of what is mounted on `target`.
#[track_caller]
pub(crate) fn findmnt(column: &str, target: &Path) -> String {
    let output = Command::new("findmnt").args(["-nr", "-o", column]).arg(target).output().expect("findmnt");
    assert!(output.status.success(), "findmnt {target:?}");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}
