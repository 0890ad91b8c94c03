#![forbid(unsafe_code)]

use std::fs;

use mountkit::ErrorKind;

use crate::dirs::{Dirs, run, text};

#[test]
fn what_a_volatile_overlay_leaves_is_explained_and_can_be_cleared() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        let options = dirs.with(&dirs.writable().volatile(), |at| {
            fs::write(at.join("file"), "x").expect("write");
            run("findmnt", &["-nro", "FS-OPTIONS", text(at)])
        });
        assert!(options.split(',').any(|option| option == "volatile" || option == "fsync=volatile"), "{options}");
        assert!(dirs.path("work/work/incompat/volatile").exists());
        for overlay in [dirs.writable(), dirs.writable().volatile()] {
            let error = overlay.mount().expect_err("the mark");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.hint().is_some_and(|hint| hint.contains("forget_volatile")), "{error:#}");
        }
        assert!(dirs.writable().forget_volatile().expect("cleared"));
        assert!(!dirs.writable().forget_volatile().expect("nothing left"));
        dirs.with(&dirs.writable(), |_| assert_eq!(dirs.read("at/file"), "x"));
    });
}
