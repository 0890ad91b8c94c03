//! What is refused, and says so.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;

use cellkit_core::ErrorKind;
use idmap::{IdMaps, Shift};

use crate::sys::memfd;
use crate::tree::{look, open, sh};

fn maps() -> IdMaps {
    "100000:100000:1000".parse().expect("maps")
}

#[test]
fn an_unmapped_id_names_the_file() {
    faultkit::require!(root, program("setfacl"), program("setcap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        for (script, words) in [
            ("mkdir -p a/b; echo >a/b/c; chown 5000:0 a/b/c", ["\"a/b/c\"", "uid 5000"]),
            ("echo >f; chown -h 0:7777 f", ["\"f\"", "gid 7777"]),
            ("echo >f; setfacl -m u:2000:r f", ["\"f\"", "uid 2000"]),
            ("mkdir d; setfacl -d -m g:3000:r d", ["\"d\"", "gid 3000"]),
            ("echo >f; setcap -n 70000 cap_chown=p f", ["\"f\"", "uid 70000"]),
            ("chown 5000 .", ["\".\"", "uid 5000"]),
        ] {
            let tree = dir.path().join("tree");
            fs::create_dir(&tree).expect("mkdir");
            sh(&tree, script);
            let before = look(&tree);
            let error = Shift::to_outside(&maps()).check(open(&tree)).expect_err(script);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            for word in words {
                assert!(error.to_string().contains(word), "{script}: {error}");
            }
            assert!(error.hint().is_some_and(|hint| hint.contains("Unmapped::Leave")), "{error:#}");
            assert_eq!(look(&tree), before);
            let same = Shift::to_outside(&maps()).apply(open(&tree)).expect_err(script);
            assert_eq!(same.to_string(), error.to_string());
            fs::remove_dir_all(&tree).expect("remove");
        }
    });
}

#[test]
fn immutable_files_and_read_only_mounts() {
    faultkit::require!(root, program("chattr"), program("mount"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        fs::create_dir(dir.path().join("d")).expect("mkdir");
        // Not every file system has such files; a tmpfs has, since Linux 6.0.
        sh(dir.path(), "mount -t tmpfs tmpfs d; mkdir d/t; echo >d/t/fixed; chattr +i d/t/fixed");
        let tree = dir.path().join("d/t");
        for error in [
            Shift::to_outside(&maps()).check(open(&tree)).expect_err("immutable"),
            Shift::to_outside(&maps()).apply(open(&tree)).expect_err("immutable"),
        ] {
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Permission, Some(libc::EPERM)), "{error}");
            assert!(error.to_string().contains("\"fixed\""), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("chattr")), "{error:#}");
        }
        sh(dir.path(), "chattr -i d/t/fixed; mount -o remount,ro d");
        let error = Shift::to_outside(&maps()).apply(open(&tree)).expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("read-only")), "{error:#}");
        sh(dir.path(), "umount d");
    });
}

#[test]
fn what_is_no_directory_and_what_is_no_journal() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let (file, tree) = (dir.path().join("file"), dir.path().join("tree"));
        fs::write(&file, "").expect("write");
        fs::create_dir(&tree).expect("mkdir");
        let shift = Shift::to_outside(&maps());
        let error = shift.apply(File::open(&file).expect("open")).expect_err("a file");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{error}");

        let wrong = |journal: &File, word: &str| {
            let error = shift.apply_with_journal(open(&tree), journal).expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(sh(&tree, "stat -c %u ."), "0\n");
        };
        wrong(&open(dir.path()), "regular file");
        let mut strange = memfd();
        strange.write_all(b"a diary\n").expect("write");
        wrong(&strange, "not written by a shift");
        let journal = memfd();
        let other: IdMaps = "200000:200000:1000".parse().expect("maps");
        fs::create_dir(dir.path().join("other")).expect("mkdir");
        Shift::to_outside(&other).apply_with_journal(open(&dir.path().join("other")), &journal).expect("shift");
        wrong(&journal, "another tree");
    });
}
