//! As root of a user namespace that an ordinary user made: whoever runs the test, or one that root becomes.
#![forbid(unsafe_code)]

use std::fs;

use mountkit::{ErrorKind, OverlayXattrs, RedirectDir};

use crate::dirs::{Dirs, names, run, text};
use crate::user_namespace;

#[test]
fn notes_are_kept_in_user_attributes() {
    faultkit::require!(userns, kernel(6.6), program("unshare"), program("getfattr"), program("findmnt"));
    if !user_namespace::is_here() {
        return faultkit::isolated!(|| user_namespace::run_again("rootless::notes_are_kept_in_user_attributes"));
    }
    let dirs = Dirs::new();
    dirs.write("base/dir/old", "old");
    let options = dirs.with(&dirs.writable(), |at| {
        fs::remove_dir_all(at.join("dir")).expect("rm");
        fs::create_dir(at.join("dir")).expect("mkdir");
        assert!(names(&at.join("dir")).is_empty(), "the old directory does not shine through");
        run("findmnt", &["-nro", "FS-OPTIONS", text(at)])
    });
    assert!(options.split(',').any(|option| option == "userxattr"), "{options}");
    let note = run("getfattr", &["--only-values", "-n", "user.overlay.opaque", text(&dirs.path("upper/dir"))]);
    assert_eq!(note, "y");
    assert_eq!(names(&dirs.path("base/dir")), ["old"]);
    // What the kernel would refuse there is refused before, with the reason.
    let error = dirs.writable().redirect_dir(RedirectDir::On).mount().expect_err("not there");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error}");
    let error = dirs.writable().xattrs(OverlayXattrs::User).metacopy().mount().expect_err("not there");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error}");
}

#[test]
fn a_file_system_without_user_attributes_is_told_of() {
    faultkit::require!(userns, program("unshare"));
    if !user_namespace::is_here() {
        return faultkit::isolated!(|| user_namespace::run_again(
            "rootless::a_file_system_without_user_attributes_is_told_of"
        ));
    }
    let dirs = Dirs::new();
    dirs.write("base/file", "x");
    assert_eq!(
        dirs.with(&dirs.lowers(), |_| dirs.read("at/file")),
        "x",
        "without an upper directory they do not matter"
    );
    // tmpfs has them from 6.6 on.
    match dirs.writable().mount() {
        Ok(mount) => drop(mount),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
            assert!(error.to_string().contains("user.overlay.*") && error.to_string().contains("6.6"), "{error}");
        }
    }
}

#[test]
fn without_privilege_it_is_not_allowed() {
    faultkit::require!(user);
    let error = mountkit::Overlay::new().lowers(["/usr", "/etc"]).mount().expect_err("not allowed");
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "fsopen"), "{error:#}");
    assert!(error.hint().is_some_and(|hint| hint.contains("CAP_SYS_ADMIN")), "{error:#}");
}
