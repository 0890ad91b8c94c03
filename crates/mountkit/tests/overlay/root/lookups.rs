//! What an overlay of several layers shows, and where it writes.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use mountkit::{ErrorKind, MountAttr, Overlay, OverlayUuid, RedirectDir, Verity, Xino};

use crate::dirs::{Dirs, names, plant, run, text};

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    faultkit::require!(root, program("setfattr"), program("mknod"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        for file in
            ["base/gone", "base/stays", "base/opaque/old", "base/merged/old", "top/opaque/new", "top/merged/new"]
        {
            dirs.write(file, file);
        }
        run("mknod", &[text(&dirs.path("top/gone")), "c", "0", "0"]);
        plant(&dirs.path("top/opaque"), "trusted.overlay.opaque", "y");
        dirs.with(&dirs.lowers(), |at| {
            assert_eq!(names(at), ["merged", "opaque", "stays"]);
            assert_eq!(names(&at.join("opaque")), ["new"]);
            assert_eq!(names(&at.join("merged")), ["new", "old"]);
        });
        dirs.with(&dirs.writable(), |at| {
            fs::remove_file(at.join("stays")).expect("rm");
            fs::remove_dir_all(at.join("merged")).expect("rm");
            fs::create_dir(at.join("merged")).expect("mkdir");
        });
        // What was removed is noted as the kernel does it, and the layers are as they were.
        assert_eq!(run("stat", &["-c", "%F %t:%T", text(&dirs.path("upper/stays"))]), "character special file 0:0");
        let note =
            run("getfattr", &["--only-values", "-n", "trusted.overlay.opaque", text(&dirs.path("upper/merged"))]);
        assert_eq!(note, "y");
        assert_eq!(dirs.read("base/stays"), "base/stays");
        assert_eq!(names(&dirs.path("base/merged")), ["old"]);
    });
}

#[test]
fn the_first_named_is_on_top() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        dirs.write("top/file", "top");
        dirs.write("base/file", "base");
        let (top, base) = (dirs.path("top"), dirs.path("base"));
        for (overlay, expected) in [
            (Overlay::new().lowers([&top, &base]), "top"),
            (Overlay::new().lowers([&base, &top]), "base"),
            (Overlay::new().lowers_from_base([&base, &top]), "top"),
            (Overlay::new().lower(&base).lower(&top), "base"),
        ] {
            assert_eq!(dirs.with(&overlay, |_| dirs.read("at/file")), expected);
        }
    });
}

#[test]
fn options_are_what_findmnt_shows() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        let options = |overlay: &Overlay| {
            dirs.with(overlay, |at| run("findmnt", &["-nro", "FS-OPTIONS", text(at)]))
                .split(',')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        // The kernel shows what differs from its own defaults, so each is seen on against off.
        let plain = options(&dirs.writable());
        for on in ["index=on", "metacopy=on", "redirect_dir=on", "nfs_export=on", "userxattr", "volatile"] {
            assert!(!plain.contains(&on.to_owned()), "{plain:?}");
        }
        let full = dirs.writable().redirect_dir(RedirectDir::On).metacopy().index().uuid(OverlayUuid::Off);
        let full = options(&full);
        for on in ["index=on", "metacopy=on", "redirect_dir=on", "uuid=off"] {
            assert!(full.contains(&on.to_owned()), "{on}: {full:?}");
        }
        for name in ["upper", "work"] {
            fs::remove_dir_all(dirs.path(name)).expect("rm");
            fs::create_dir(dirs.path(name)).expect("mkdir");
        }
        let exported = options(&dirs.writable().index().nfs_export());
        assert!(exported.contains(&"nfs_export=on".to_owned()), "{exported:?}");
        // It is about several file systems, so it shows where there are some.
        fs::create_dir(dirs.path("other")).expect("mkdir");
        run("mount", &["-t", "tmpfs", "x", text(&dirs.path("other"))]);
        let spread = Overlay::new().lower(dirs.path("top")).lower(dirs.path("other"));
        assert!(options(&spread.clone().xino(Xino::On)).contains(&"xino=on".to_owned()));
        assert!(!options(&spread).iter().any(|option| option == "xino=on" || option == "xino=auto"));
        run("umount", &[text(&dirs.path("other"))]);
        // Lower only.
        let metacopy = options(&dirs.lowers().redirect_dir(RedirectDir::On).metacopy());
        assert!(metacopy.contains(&"metacopy=on".to_owned()), "{metacopy:?}");
    });
}

#[test]
fn options_of_newer_kernels_are_there_or_unsupported_by_name() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        let lazy = || dirs.lowers().redirect_dir(RedirectDir::On).metacopy();
        for (overlay, name) in [
            (dirs.lowers().uuid(OverlayUuid::Null), "uuid=null"),
            (dirs.lowers().uuid(OverlayUuid::Auto), "uuid=auto"),
            (lazy().verity(Verity::On), "verity=on"),
            (lazy().verity(Verity::Require), "verity=require"),
        ] {
            if let Err(error) = overlay.mount() {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error:#}");
                assert!(error.to_string().contains(name) && error.to_string().contains("6.6"), "{error}");
            }
        }
    });
}

#[test]
fn options_of_newer_kernels_are_there_where_they_are_promised() {
    faultkit::require!(root, kernel(6.6));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        drop(dirs.lowers().uuid(OverlayUuid::Null).mount().expect("uuid=null"));
        drop(dirs.lowers().redirect_dir(RedirectDir::On).metacopy().verity(Verity::On).mount().expect("verity=on"));
    });
}

#[test]
fn attributes_of_the_mount() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        let flags = |overlay: &Overlay| dirs.with(overlay, |at| run("findmnt", &["-nro", "VFS-OPTIONS", text(at)]));
        assert_eq!(flags(&dirs.writable()), "rw,relatime");
        assert_eq!(flags(&dirs.writable().attrs(MountAttr::RDONLY | MountAttr::NODEV)), "ro,nodev,relatime");
    });
}

#[test]
fn an_index_keeps_hard_links_together() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        dirs.write("base/one", "same");
        fs::hard_link(dirs.path("base/one"), dirs.path("base/two")).expect("link");
        dirs.with(&dirs.writable().index(), |at| {
            fs::write(at.join("one"), "changed").expect("write");
            assert_eq!(dirs.read("at/two"), "changed");
            assert_eq!(fs::metadata(at.join("two")).expect("stat").nlink(), 2);
        });
    });
}

#[test]
fn metacopy_copies_no_data_for_a_change_of_owner() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        dirs.write("base/file", &"x".repeat(1 << 20));
        let blocks = |overlay: &Overlay| {
            for name in ["upper", "work"] {
                fs::remove_dir_all(dirs.path(name)).expect("rm");
                fs::create_dir(dirs.path(name)).expect("mkdir");
            }
            dirs.with(overlay, |at| std::os::unix::fs::chown(at.join("file"), Some(7), None).expect("chown"));
            fs::metadata(dirs.path("upper/file")).expect("stat").blocks()
        };
        assert_eq!(blocks(&dirs.writable()), 2048);
        assert_eq!(blocks(&dirs.writable().redirect_dir(RedirectDir::On).metacopy()), 0);
    });
}
