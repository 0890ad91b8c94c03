//! Directories for one overlay, and a place to see it at.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use faultkit::TempDir;
use mountkit::{DetachedMount, Overlay, RootFd};

/// A tmpfs, which has all attributes that an overlay wants, with `top`, `base`, `upper`, `work` and `at` in it.
pub(crate) struct Dirs(TempDir);

impl Dirs {
    pub(crate) fn new() -> Self {
        Self::with_options("mode=755")
    }

    pub(crate) fn with_options(options: &str) -> Self {
        let temp = TempDir::new();
        run("mount", &["-t", "tmpfs", "-o", options, "dirs", text(&temp)]);
        for name in ["top", "base", "upper", "work", "at"] {
            fs::create_dir(temp.join(name)).expect("mkdir");
        }
        Self(temp)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().expect("a parent")).expect("mkdir");
        fs::write(self.path(name), content).expect("write");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn lowers(&self) -> Overlay {
        Overlay::new().lower(self.path("top")).lower(self.path("base"))
    }

    pub(crate) fn writable(&self) -> Overlay {
        self.lowers().upper(self.path("upper"), self.path("work"))
    }

    pub(crate) fn attach(&self, mount: DetachedMount) {
        mount.attach(&RootFd::open(&*self.0).expect("open"), "at").expect("attach");
    }

    pub(crate) fn detach(&self) {
        run("umount", &[text(&self.path("at"))]);
    }

    /// What is at `at` while `overlay` is.
    #[track_caller]
    pub(crate) fn with<T>(&self, overlay: &Overlay, look: impl FnOnce(&Path) -> T) -> T {
        self.attach(overlay.mount().unwrap_or_else(|error| panic!("{error:#}")));
        let seen = look(&self.path("at"));
        self.detach();
        seen
    }
}

impl Drop for Dirs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            run("umount", &[text(&self.0)]);
        }
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Plants an extended attribute.
pub(crate) fn plant(path: &Path, name: &str, value: &str) {
    run("setfattr", &["-h", "-n", name, "-v", value, text(path)]);
}

/// The names in a directory.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("readdir");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}
