#![forbid(unsafe_code)]

mod kernels_own;
mod tmpfs;

use std::fs;
use std::path::Path;
use std::process::Command;

use faultkit::TempDir;
use mountkit::{DetachedMount, ErrorKind, Filesystem, MountAttr, RootFd};

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

#[test]
fn any_type_with_options_by_name() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        // Odd bytes in a source mean nothing to anybody.
        let filesystem = Filesystem::new("tmpfs").source("a,b c\\\u{e9}").set("mode", "0711").flag("ro");
        place.with(filesystem.attrs(MountAttr::NOSYMFOLLOW).mount().expect("mount"), |at| {
            assert_eq!(findmnt("FSTYPE", at), "tmpfs");
            assert!(findmnt("FS-OPTIONS", at).starts_with("ro,"), "{}", findmnt("FS-OPTIONS", at));
            assert_eq!(findmnt("VFS-OPTIONS", at), "rw,relatime,nosymfollow");
            let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
            assert!(table.contains(" - tmpfs a,b\\040c\\134\u{e9} ro"), "{table}");
        });
    });
}

#[test]
fn the_kernels_words_are_in_the_error() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let error = Filesystem::new("tmpfs").set("colour", "red").mount().expect_err("no such option");
        assert_eq!((error.operation(), error.kind()), ("fsconfig", ErrorKind::Invalid));
        assert_eq!(error.kernel_text(), Some("tmpfs: Unknown parameter 'colour'"));
        assert!(format!("{error:#}").contains("set colour=red"), "{error:#}");
        let error = Filesystem::new("tmpfs").set("password2", "hunter2").mount().expect_err("no such option");
        let text = format!("{error:#} {error:?}");
        assert!(text.contains("set password2=…") && !text.contains("hunter"), "{text}");
        let error = Filesystem::new("no_such_fs").mount().expect_err("no such type");
        assert_eq!((error.operation(), error.kind()), ("fsopen", ErrorKind::NotFound));
        assert!(error.hint().is_some_and(|hint| hint.contains("/proc/filesystems")));
        let error = Filesystem::new("ext4").source("/no/such/disk").mount().expect_err("no such disk");
        assert_eq!((error.operation(), error.kind()), ("fsconfig", ErrorKind::NotFound), "{error:#}");
    });
}

#[test]
fn a_file_system_of_its_own_or_none() {
    faultkit::require!(root, kernel(6.6));
    faultkit::isolated!(|| {
        drop(Filesystem::new("tmpfs").exclusive().mount().expect("each tmpfs is its own"));
        // Of sysfs there is one for each network namespace.
        let _first = Filesystem::new("sysfs").mount().expect("mount");
        let error = Filesystem::new("sysfs").exclusive().mount().expect_err("it is there already");
        assert_eq!((error.operation(), error.kind()), ("fsconfig", ErrorKind::Busy), "{error:#}");
    });
}

#[test]
fn a_file_system_of_its_own_is_unsupported_on_older_kernels() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let answer = Filesystem::new("tmpfs").exclusive().mount();
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("6.6"), "{error}");
        }
    });
}
