//! What is refused before the kernel has to, and what it says itself.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use mountkit::{Error, ErrorKind, Overlay};

use crate::dirs::{Dirs, names, run, text};

#[track_caller]
fn refused(overlay: &Overlay, word: &str) -> Error {
    let error = overlay.mount().expect_err(word);
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error:#}");
    assert!(format!("{error:#}").contains(word), "{error:#}");
    error
}

#[test]
fn upper_and_work_that_cannot_go_together() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        for name in ["elsewhere", "ro", "upper/inner", "base/inner", "over"] {
            fs::create_dir(dirs.path(name)).expect("mkdir");
        }
        let upper = |upper: &str, work: &str| dirs.lowers().upper(dirs.path(upper), dirs.path(work));
        run("mount", &["-t", "tmpfs", "x", text(&dirs.path("elsewhere"))]);
        let error = refused(&upper("upper", "elsewhere"), "on the file system of the upper directory");
        assert!(error.to_string().contains("elsewhere"), "{error}");
        run("umount", &[text(&dirs.path("elsewhere"))]);
        // The same file system by another mount.
        run("mount", &["--bind", text(&dirs.path("work")), text(&dirs.path("elsewhere"))]);
        refused(&upper("upper", "elsewhere"), "two mounts");
        run("umount", &[text(&dirs.path("elsewhere"))]);

        refused(&upper("upper", "upper"), "named twice");
        refused(&upper("upper", "upper/inner"), "inside");
        refused(&upper("upper/inner", "upper"), "inside");
        refused(&upper("base/inner", "work"), "inside");
        refused(&upper("base", "work"), "named twice");
        refused(&dirs.lowers().lower(dirs.path("upper/inner")).upper(dirs.path("upper"), dirs.path("work")), "inside");
        refused(&dirs.lowers().lower(dirs.path("top/.")), "named twice");

        run("mount", &["--bind", text(&dirs.path("upper")), text(&dirs.path("ro"))]);
        fs::create_dir_all(dirs.path("upper/u")).expect("mkdir");
        fs::create_dir_all(dirs.path("upper/w")).expect("mkdir");
        run("mount", &["-o", "remount,bind,ro", text(&dirs.path("ro"))]);
        refused(&upper("ro/u", "ro/w"), "read-only");
        run("umount", &[text(&dirs.path("ro"))]);

        // An overlay holds no upper directory.
        let plain = format!(
            "lowerdir={},upperdir={},workdir={}",
            text(&dirs.path("top")),
            text(&dirs.path("upper/u")),
            text(&dirs.path("upper/w"))
        );
        run("mount", &["-t", "overlay", "x", "-o", &plain, text(&dirs.path("over"))]);
        for name in ["over/u", "over/w"] {
            fs::create_dir(dirs.path(name)).expect("mkdir");
        }
        refused(&upper("over/u", "over/w"), "on an overlay");
        run("umount", &[text(&dirs.path("over"))]);
        assert!(names(&dirs.path("work")).is_empty(), "nothing was made");
    });
}

#[test]
fn a_work_directory_that_is_not_the_overlays_own() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        dirs.write("work/precious", "data");
        let error = refused(&dirs.writable(), "must be empty");
        assert!(error.to_string().contains("precious"), "{error}");
        assert_eq!(dirs.read("work/precious"), "data");
    });
}

#[test]
fn a_work_directory_is_made_and_goes_with_what_failed() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        let made = |lowers: Overlay| lowers.upper(dirs.path("upper"), dirs.path("new"));
        assert!(made(dirs.lowers().lower(dirs.path("top"))).mount().is_err());
        assert!(!dirs.path("new").exists());
        assert!(dirs.lowers().upper(dirs.path("upper"), dirs.path("no/such")).mount().is_err());
        dirs.with(&made(dirs.lowers()), |at| fs::write(at.join("file"), "x").expect("write"));
        assert_eq!(run("stat", &["-c", "%a", text(&dirs.path("new"))]), "700");
        // The leftovers of an overlay are no obstacle to the next one.
        dirs.with(&made(dirs.lowers()), |_| assert_eq!(dirs.read("at/file"), "x"));
    });
}

#[test]
fn overlays_stack_two_deep() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        for name in ["one", "two", "other"] {
            fs::create_dir(dirs.path(name)).expect("mkdir");
        }
        let attach = |overlay: Overlay, name: &str| {
            let root = mountkit::RootFd::open(dirs.path(".")).expect("open");
            overlay.mount().unwrap_or_else(|error| panic!("{error:#}")).attach(&root, name).expect("attach");
        };
        attach(dirs.lowers(), "one");
        attach(Overlay::new().lowers([dirs.path("one"), dirs.path("other")]), "two");
        let overlay = Overlay::new().lowers([dirs.path("two"), dirs.path("upper")]);
        let error = overlay.mount().expect_err("three");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        assert!(format!("{error:#}").contains("two deep"), "{error:#}");
        for name in ["two", "one"] {
            run("umount", &[text(&dirs.path(name))]);
        }
    });
}

#[test]
fn an_upper_directory_without_space() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::with_options("mode=755,size=1m");
        dirs.write("base/file", &"x".repeat(600 << 10));
        dirs.with(&dirs.writable(), |at| {
            let error = fs::OpenOptions::new().append(true).open(at.join("file")).expect_err("no space for a copy");
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            assert_eq!(fs::read(at.join("file")).expect("read").len(), 600 << 10, "it is still there to be read");
            assert!(names(&dirs.path("upper")).is_empty());
        });
        // And no space for the overlay itself, which the kernel would mount read-only without an error.
        let dirs = Dirs::with_options("mode=755,nr_inodes=6");
        let error = dirs.writable().mount().expect_err("no inode left");
        assert_eq!((error.operation(), error.raw_os_error()), ("mkdirat", Some(libc::ENOSPC)), "{error:#}");
        assert!(error.to_string().contains("work"), "{error}");
    });
}

#[test]
fn what_is_missing_is_named() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        let error = dirs.lowers().upper(dirs.path("missing"), dirs.path("work")).mount().expect_err("missing");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, "open"), "{error:#}");
        assert!(error.to_string().contains("missing"), "{error}");
        dirs.write("file", "");
        let error = dirs.lowers().lower(dirs.path("file")).mount().expect_err("a file");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        assert!(error.to_string().contains("file"), "{error}");
        assert!(Path::new(&dirs.path("at")).read_dir().expect("readdir").next().is_none());
    });
}

#[test]
fn directories_that_another_overlay_has() {
    faultkit::require!(root, program("mount"), program("getfattr"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        for name in ["other", "other-work", "seen"] {
            fs::create_dir(dirs.path(name)).expect("mkdir");
        }
        let with = |upper: &str, work: &str| dirs.lowers().upper(dirs.path(upper), dirs.path(work));
        // By another program, and nothing is written to it.
        let lowers = text(&dirs.path("top")).to_owned();
        let (upper, work) = (dirs.path("upper"), dirs.path("work"));
        let options = format!("lowerdir={lowers},upperdir={},workdir={}", text(&upper), text(&work));
        run("mount", &["-t", "overlay", "x", "-o", &options, text(&dirs.path("seen"))]);

        let busy = |overlay: Overlay| {
            let error = overlay.mount().expect_err("two overlays");
            assert_eq!(error.kind(), ErrorKind::Busy, "{error:#}");
            assert!(format!("{error:#}").contains("belongs to another overlay"), "{error:#}");
        };
        busy(with("upper", "work"));
        busy(with("other", "work"));
        // The mark of Linux 6.6 and newer.
        if !run("getfattr", &["-d", "-m", "-", text(&upper)]).is_empty() {
            busy(with("upper", "other-work"));
        }
        fs::write(dirs.path("seen/file"), "").expect("write");
        busy(with("upper", "other-work"));
        assert_eq!(names(&dirs.path("other-work")).len() + names(&dirs.path("other")).len(), 0, "nothing was made");

        run("umount", &[text(&dirs.path("seen"))]);
        drop(with("upper", "work").mount().expect("nobody has it now"));
    });
}
