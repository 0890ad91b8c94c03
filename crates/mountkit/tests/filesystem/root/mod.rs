#![forbid(unsafe_code)]

mod kernels_own;
mod tmpfs;

use std::fs;

use mountkit::{ErrorKind, Filesystem, MountAttr};

use crate::place::{Place, findmnt};

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
