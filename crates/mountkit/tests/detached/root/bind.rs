//! Binds: sources, trees, attributes, and what is locked.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use mountkit::{Atime, Bind, ErrorKind, Locked, MountAttr, Propagation, RootFd, Tmpfs};

use super::{dir_with, host, line_of, table, text};

#[test]
fn a_source_is_a_path_a_descriptor_or_a_path_in_a_root() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["root", "root/data", "to"]);
        fs::write(dir.join("root/data/file"), "content").expect("write");
        symlink("/data", dir.join("root/link")).expect("symlink");
        let place = RootFd::open(&*dir).expect("root");
        let inside = RootFd::open(dir.join("root")).expect("root");
        let open = fs::File::open(dir.join("root/data")).expect("open");
        let odd = dir.join("root/link/../data/.");
        for bind in [
            Bind::new(dir.join("root/data")),
            Bind::of_fd(&open),
            Bind::in_root(&inside, "data"),
            // "/data" is there in the root only.
            Bind::in_root(&inside, "link"),
        ] {
            let mount = bind.mount().expect("clone").attach(&place, "to").expect("attach");
            assert_eq!(fs::read_to_string(dir.join("to/file")).expect("read"), "content", "{bind:?}");
            mount.unmount().expect("umount");
        }
        let error = Bind::new(odd).mount().expect_err("/data is not there");
        assert_eq!((error.operation(), error.kind()), ("open_tree", ErrorKind::NotFound));
        let error = Bind::in_root(&inside, "no").mount().expect_err("missing");
        assert_eq!((error.operation(), error.kind()), ("openat2", ErrorKind::NotFound));
        // A file.
        fs::write(dir.join("place"), "").expect("write");
        let file = Bind::new(dir.join("root/data/file")).read_only().mount().expect("clone");
        let file = file.attach(&place, "place").expect("attach");
        fs::write(dir.join("place"), "x").expect_err("read-only");
        file.unmount().expect("umount");
    });
}

/// `from`: a tmpfs with another one in it, noexec; `to`: where the bind goes.
fn tree() -> (faultkit::TempDir, RootFd) {
    let dir = dir_with(&["from", "to"]);
    let root = RootFd::open(&*dir).expect("root");
    Tmpfs::new().source("outer").mount().expect("mount").attach(&root, "from").expect("attach");
    fs::create_dir(dir.join("from/inner")).expect("mkdir");
    Tmpfs::new().source("inner").no_exec().mount().expect("mount").attach(&root, "from/inner").expect("attach");
    (dir, root)
}

fn options(target: &Path) -> String {
    let line = line_of(target).unwrap_or_else(|| panic!("{target:?} is not mounted"));
    line.split(' ').nth(5).expect("options").to_owned()
}

#[test]
fn with_what_is_below_or_without_and_read_only_all_the_way_down_or_not() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (dir, root) = tree();
        let (to, below) = (dir.join("to"), dir.join("to/inner"));
        let look = |bind: Bind<'_>, inner: Option<&str>, outer: &str| {
            bind.mount().expect("clone").attach(&root, "to").expect("attach");
            assert_eq!((options(&to).as_str(), line_of(&below).map(|_| options(&below)).as_deref()), (outer, inner));
            host("umount", &["-R", text(&to)]);
        };
        let from = || Bind::new(dir.join("from"));
        look(from(), None, "rw,nosuid,nodev,relatime");
        look(from().recursive(), Some("rw,nosuid,nodev,noexec,relatime"), "rw,nosuid,nodev,relatime");
        look(from().recursive().read_only(), Some("ro,nosuid,nodev,noexec,relatime"), "ro,nosuid,nodev,relatime");
        let top = from().recursive().attrs_of_topmost(MountAttr::RDONLY);
        look(top, Some("rw,nosuid,nodev,noexec,relatime"), "ro,nosuid,nodev,relatime");
        host("umount", &["-R", text(&dir.join("from"))]);
    });
}

#[test]
fn each_attribute_is_set_and_cleared() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (dir, root) = tree();
        let to = dir.join("to");
        let look = |bind: Bind<'_>| {
            let mount = bind.mount().expect("clone");
            assert!(mount.kept().is_empty());
            let mount = mount.attach(&root, "to").expect("attach");
            let seen = options(&to);
            mount.unmount().expect("umount");
            seen
        };
        let from = || Bind::new(dir.join("from")).clear(MountAttr::all());
        assert_eq!(look(from()), "rw,relatime");
        for attr in MountAttr::all() {
            let words = look(from().attrs(attr));
            assert!(words.split(',').any(|word| word == attr.to_string()), "{attr}: {words}");
        }
        assert_eq!(look(from().atime(Atime::Never)), "rw,noatime");
        // Nothing is shown for it.
        assert_eq!(look(from().atime(Atime::Strict)), "rw");
        assert_eq!(look(from().atime(Atime::Relative)), "rw,relatime");
        host("umount", &["-R", text(&dir.join("from"))]);
    });
}

#[test]
fn a_bind_of_a_shared_mount_is_private_unless_asked() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let (dir, root) = tree();
        host("mount", &["--make-rshared", text(&dir.join("from"))]);
        let to = dir.join("to");
        for (propagation, word) in [
            (None, None),
            (Some(Propagation::Private), None),
            (Some(Propagation::Shared), Some("shared:")),
            (Some(Propagation::Slave), Some("master:")),
            (Some(Propagation::Unbindable), Some("unbindable")),
        ] {
            let bind = Bind::new(dir.join("from")).recursive();
            let bind = propagation.map_or(bind.clone(), |propagation| bind.propagation(propagation));
            bind.mount().expect("clone").attach(&root, "to").expect("attach");
            for mount in [to.clone(), to.join("inner")] {
                let line = line_of(&mount).expect("mounted");
                let field = line.split(' ').nth(6).filter(|field| *field != "-");
                assert_eq!(field.is_some(), word.is_some(), "{propagation:?}: {line}");
                assert!(word.is_none_or(|word| field.is_some_and(|field| field.starts_with(word))), "{line}");
            }
            host("mount", &["--make-rprivate", text(&to)]);
            host("umount", &["-R", text(&to)]);
        }
        // What is unbindable has no bind.
        host("mount", &["--make-unbindable", text(&dir.join("from"))]);
        let error = Bind::new(dir.join("from")).mount().expect_err("unbindable");
        assert_eq!((error.operation(), error.kind()), ("open_tree", ErrorKind::Invalid));
        assert!(error.hint().is_some_and(|hint| hint.contains("unbindable")));
        host("umount", &["-R", text(&dir.join("from"))]);
    });
}

/// Where the process in a user namespace finds the tree.
const TREE: &str = "CELLKIT_TEST_TREE";

/// Not a test of its own: binds a tree whose attributes are locked here.
#[test]
#[ignore = "run by the next test, in a user namespace"]
fn in_a_user_namespace() {
    let Some(dir) = std::env::var_os(TREE).map(PathBuf::from) else { return };
    let root = RootFd::open(&dir).expect("root");
    let from = || Bind::new(dir.join("from")).recursive().attrs(MountAttr::RDONLY);
    // What is locked on the mount below stays on both: all of a tree is changed, or none.
    let asked = from().clear(MountAttr::NODEV | MountAttr::NOEXEC | MountAttr::NOSYMFOLLOW).atime(Atime::Strict);
    let mount = asked.mount().expect("clone");
    assert_eq!(mount.kept().to_string(), "nodev,noexec,atime");
    mount.attach(&root, "to").expect("attach");
    for line in table().lines().filter(|line| line.contains("/to")) {
        println!("table: {line}");
    }
    let error = asked.locked(Locked::Refuse).mount().expect_err("some are locked");
    assert_eq!((error.operation(), error.kind()), ("mount_setattr", ErrorKind::Permission));
    assert!(error.hint().is_some_and(|hint| hint.ends_with("nodev,noexec,atime")), "{error:#}");
    // What was not there is not locked.
    assert!(from().clear(MountAttr::NOSYMFOLLOW).locked(Locked::Refuse).mount().is_ok());
    // Without what is below it there is no bind of a mount of the machine.
    let error = Bind::new(dir.join("from")).mount().expect_err("it would uncover what is below the mount");
    assert_eq!((error.operation(), error.kind()), ("open_tree", ErrorKind::Invalid));
}

#[test]
fn locked_attributes_stay_and_are_told() {
    faultkit::require!(root, program("unshare"), userns);
    faultkit::isolated!(|| {
        let (dir, _root) = tree();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--propagation", "private"]);
        command.arg(std::env::current_exe().expect("exe"));
        command.args(["root::bind::in_a_user_namespace", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        let output = command.env(TREE, &*dir).output().expect("start");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = said.lines().filter_map(|line| line.split_once("table: ")).collect();
        let options: Vec<_> = lines.iter().filter_map(|(_, line)| line.split(' ').nth(5)).collect();
        assert_eq!(options, ["ro,nosuid,nodev,relatime", "ro,nosuid,nodev,noexec,relatime"], "{said}");
        host("umount", &["-R", text(&dir.join("from"))]);
    });
}
