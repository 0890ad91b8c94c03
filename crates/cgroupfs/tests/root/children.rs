#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use cgroupfs::{CgroupName, ErrorKind, Origin};

use super::{LIMIT, name, place};

#[test]
fn groups_in_groups_without_limits() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let web = place.group().create_child(&name("web")).expect("web");
        assert_eq!(web.path(), place.group().path().join("web"));
        let error = place.group().create_child(&name("web")).expect_err("taken");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::AlreadyExists, "mkdirat"));
        assert_eq!(error.to_string(), format!("mkdirat {:?}: file exists (EEXIST)", web.path()));

        let (same, origin) = place.group().create_or_share_child(&name("web")).expect("shared");
        assert_eq!((same.path(), origin), (web.path(), Origin::Found));
        let (other, origin) = web.create_or_share_child(&name("a")).expect("made");
        assert_eq!((other.path_in_hierarchy(), origin), ("/web/a".into(), Origin::Made));

        let nested = web.create_nested(&[name("a"), name("b"), name("c")]).expect("nested");
        assert_eq!(nested.path_in_hierarchy(), std::path::Path::new("/web/a/b/c"));
        assert_eq!(nested.parent().expect("parent").expect("above").path(), web.path().join("a/b"));
        let error = web.create_nested(&[name("a"), name("b"), name("c")]).expect_err("the last is new, or nothing");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(web.create_nested(&[]).expect_err("nothing").kind(), ErrorKind::Invalid);

        // What others made may have names that are not for us to make.
        fs::create_dir(web.path().join("odd name\u{e9}")).expect("mkdir");
        let names: BTreeSet<OsString> = web.children().expect("children").into_iter().collect();
        assert_eq!(names, ["a", "odd name\u{e9}"].map(OsString::from).into());
        assert!(web.open_child("odd name\u{e9}").expect("odd").procs().expect("procs").is_empty());
        assert_eq!(web.open_child("none").expect_err("none").kind(), ErrorKind::NotFound);
        for bad in ["", ".", "..", "/", "a/b", "a/", "/a", "a/..", "./a", "a\0b", &"x".repeat(256)] {
            let error = web.open_child(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}: {error}");
        }
        // A file is no group.
        assert_eq!(web.open_child("cgroup.procs").expect_err("a file").raw_os_error(), Some(libc::ENOTDIR));
        let (root, top) = (place.hierarchy().open("/").expect("root"), web.parent().expect("parent"));
        assert_eq!(top.expect("above").path(), root.path());
        assert!(root.parent().expect("parent").is_none());
        web.remove(LIMIT).expect("remove");
    });
}

#[test]
fn what_was_made_on_the_way_to_a_group_that_cannot_be_is_removed_again() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let web = place.group().create_child(&name("web")).expect("web");
        fs::write(web.path().join("cgroup.max.depth"), "2").expect("max.depth");
        let error = web.create_nested(&["a", "b", "c"].map(name)).expect_err("too deep");
        assert_eq!((error.kind(), error.also().len()), (ErrorKind::Limit, 0), "{error:#}");
        assert!(error.hint().expect("hint").contains("cgroup.max.depth"));
        assert_eq!(web.children().expect("children").len(), 0);
        // What was there before stays.
        fs::create_dir(web.path().join("a")).expect("mkdir");
        web.create_nested(&["a", "b", "c"].map(name)).expect_err("too deep");
        assert_eq!(web.children().expect("children"), ["a"]);
        assert!(!web.path().join("a/b").exists());
        web.remove(LIMIT).expect("remove");
    });
}

#[test]
fn those_who_share_a_name_never_fail() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let shared = CgroupName::new("shared").expect("name");
        let made = std::thread::scope(|scope| {
            let each = || place.group().create_or_share_child(&shared).expect("shared").1;
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(each)).collect();
            threads.into_iter().map(|thread| thread.join().expect("thread")).filter(|&o| o == Origin::Made).count()
        });
        assert_eq!(made, 1);
        place.group().open_child(&shared).expect("open").remove(LIMIT).expect("remove");
    });
}
