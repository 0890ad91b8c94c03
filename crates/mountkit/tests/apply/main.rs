//! Layers applied to folders, looked at by other means: the standard library, `tar`, `getfattr`, and mounted overlays.
#![deny(unsafe_code)]

mod hostile;
mod packed;
mod root;
#[path = "../rootfd/sys.rs"]
mod sys;
mod tar;
mod tree;
mod whiteouts;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use faultkit::TempDir;
use mountkit::layers::{Applied, Apply, Owner, Whiteouts};
use mountkit::{Result, RootFd};

/// A folder to apply layers to, and one beside it that nobody may touch.
struct Ground {
    dir: TempDir,
    before: String,
}

impl Ground {
    fn new() -> Self {
        let dir = TempDir::new();
        std::fs::create_dir(dir.join("layer")).expect("mkdir");
        let outside = dir.join("outside");
        std::fs::create_dir_all(outside.join("sub")).expect("mkdir");
        std::fs::write(outside.join("victim"), "untouched").expect("write");
        std::fs::write(outside.join("sub/file"), "too").expect("write");
        std::os::unix::fs::symlink("victim", outside.join("link")).expect("symlink");
        let before = tree::all(&outside);
        Self { dir, before }
    }

    fn layer(&self) -> PathBuf {
        self.dir.join("layer")
    }

    fn outside(&self) -> PathBuf {
        self.dir.join("outside")
    }

    fn apply(&self, apply: &Apply, layer: &[u8]) -> Result<Applied> {
        apply.apply(layer, &RootFd::open(self.layer())?)
    }

    /// Applies a layer as this user may.
    fn apply_as_i_may(&self, layer: &[u8]) -> Result<Applied> {
        self.apply(&as_i_may(), layer)
    }

    #[track_caller]
    fn outside_is_untouched(&self) {
        assert_eq!(tree::all(&self.outside()), self.before, "the outside was touched");
    }
}

/// What works for whoever runs the test. Root may have the attributes that every file system keeps: tmpfs has those of
/// users since Linux 6.6 only.
fn as_i_may() -> Apply {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let whiteouts = if root { Whiteouts::OverlayTrusted } else { Whiteouts::OverlayUser };
    Apply::new().whiteouts(whiteouts).owner(Owner::Caller)
}

/// Runs a program, which must succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str], dir: &Path) -> String {
    let output = std::process::Command::new(program).args(arguments).current_dir(dir).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
