//! Root of a user namespace shifts what it owns, by the ids that it has.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use cellkit_core::ErrorKind;
use idmap::{IdMaps, Shift};

use crate::sys::{become_id, in_fork, memfd, new_user_namespace};
use crate::tree::{expected, look, make, open, sh};

/// Runs `work` as root of a new user namespace with this map for uids and gids.
fn as_root_of(map: &str, work: impl FnOnce()) {
    in_fork(|| {
        // A shell that stays outside writes the maps.
        let mut outside = Command::new("sh")
            .args([
                "-euc",
                &format!("read x; echo '{map}' >/proc/$PPID/uid_map; echo '{map}' >/proc/$PPID/gid_map; echo ok"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        new_user_namespace();
        outside.stdin.take().expect("pipe").write_all(b"\n").expect("write");
        let mut line = String::new();
        BufReader::new(outside.stdout.take().expect("pipe")).read_line(&mut line).expect("read");
        assert_eq!(line, "ok\n");
        outside.wait().expect("wait");
        become_id(0);
        work();
    });
}

#[test]
fn what_it_owns_by_the_ids_that_it_has() {
    faultkit::require!(root, program("getfacl"), program("setcap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let tree = dir.path().join("tree");
        make(&tree, dir.path());
        let before = look(&tree);
        // For the namespace to have them, they are its own first: 0 inside is 200000.
        Shift::to_outside(&"200000:200000:65536".parse().expect("maps")).apply(open(&tree)).expect("shift");
        let own = look(&tree);
        assert_eq!(own, expected(&before, |id| id + 200_000, |id| id + 200_000));
        sh(dir.path(), "chmod 755 .");
        as_root_of("0 200000 300000", || {
            Shift::to_outside(&"100000:100000:65536".parse().expect("maps")).apply(open(&tree)).expect("shift");
        });
        assert_eq!(look(&tree), expected(&before, |id| id + 300_000, |id| id + 300_000));
        as_root_of("0 200000 300000", || {
            Shift::to_inside(&"100000:100000:65536".parse().expect("maps")).apply(open(&tree)).expect("shift");
        });
        assert_eq!(look(&tree), own);
        // An id too many for setting others aside, and just enough.
        let maps = || IdMaps::new("0:1:1001".parse().expect("map"), "0:1:1001".parse().expect("map"));
        as_root_of("0 200000 1002", || {
            let error = Shift::to_outside(&maps()).apply_with_journal(open(&tree), memfd()).expect_err("no room");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains("too few others exist"), "{error}");
        });
        assert_eq!(look(&tree), own);
        as_root_of("0 200000 2002", || {
            Shift::to_outside(&maps()).apply_with_journal(open(&tree), memfd()).expect("shift");
        });
        assert_eq!(look(&tree), expected(&own, |id| id + 1, |id| id + 1));
    });
}

#[test]
fn what_it_does_not_own_is_refused_with_a_reason() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        sh(dir.path(), "chmod 755 .; mkdir tree; echo >tree/foreign; chown 200000:200000 tree");
        let tree = dir.path().join("tree");
        let shift = |text: &str| Shift::to_outside(&text.parse::<IdMaps>().expect("maps"));
        as_root_of("0 200000 200000", || {
            // Files of ids that the namespace does not have look as if they were 65534's, which it has too.
            let error = shift("100000:100000:65536").apply(open(&tree)).expect_err("not its own");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "fchownat"), "{error}");
            assert!(error.to_string().contains("\"foreign\""), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("65534")), "{error:#}");
            fs::remove_file(tree.join("foreign")).expect("remove");
            // And a new id that it does not have.
            let error = shift("300000:300000:65536").apply(open(&tree)).expect_err("no such id");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("user namespace")), "{error:#}");
        });
        assert_eq!(sh(dir.path(), "stat -c %u:%g tree"), "200000:200000\n");
    });
}

#[test]
fn an_ordinary_user_outside_of_one() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        sh(dir.path(), "chmod 755 .; mkdir tree; chown 4242:4242 tree");
        let tree = dir.path().join("tree");
        in_fork(|| {
            become_id(4242);
            let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
            let error = Shift::to_outside(&maps).apply(open(&tree)).expect_err("not permitted");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "fchownat"), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("podman unshare")), "{error:#}");
        });
    });
}
