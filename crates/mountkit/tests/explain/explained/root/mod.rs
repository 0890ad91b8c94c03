//! Everything here needs root: it mounts, in its own namespaces.

mod attach;
mod full;
mod overlay;
mod path;
mod pivot;
mod user_namespace;

use std::path::{Path, PathBuf};

use faultkit::TempDir;

/// Runs a program of the host, which must succeed.
#[track_caller]
fn host(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tmpfs to work in, which goes away with all that is mounted below it.
struct Scratch(TempDir);

impl Scratch {
    #[track_caller]
    fn new() -> Self {
        let scratch = Self(TempDir::new());
        scratch.tmpfs("", &[]);
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.0.to_path_buf() } else { self.0.join(name) }
    }

    #[track_caller]
    fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("mkdir");
        path
    }

    /// Mounts a tmpfs on a directory, which is made.
    #[track_caller]
    fn tmpfs(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.dir(name);
        host("mount", &[&["-t", "tmpfs", "test"], options, &[text(&path)]].concat());
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = crate::calls::unmount(&self.0, libc::MNT_DETACH);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
