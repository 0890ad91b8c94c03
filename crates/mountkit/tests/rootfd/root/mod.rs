//! What needs root: mounts, devices and owners.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::process::Command;

use faultkit::TempDir;
use mountkit::{Bind, ErrorKind, MountTarget, Node, OpenOptions, RootFd};

use crate::racer::Arena;
use crate::{census, roots};

/// 20,000 mounts beside the racers, half of them with each resolver: each is inside, and in the end none is left.
#[test]
fn mounts_of_a_raced_path_are_inside() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(limit_secs = 600, || {
        let arena = Arena::new();
        let source = TempDir::new();
        let (inside, outside) = (arena.inside(), arena.outside());
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            assert!(
                Command::new(program).args(arguments).status().expect(program).success(),
                "{program} {arguments:?}"
            );
        };
        let before = (census(&outside), fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"));
        let (mut good, mut bad) = (0, 0);
        for _ in 0..50 {
            // On a mount of its own, with which all of a batch goes at once.
            run("mount", &["--bind".as_ref(), arena.0.path().as_ref(), arena.0.path().as_ref()]);
            let all = roots(&inside);
            let mut mounts = 0;
            arena.race(|| {
                for round in 0..200 {
                    for (_, root) in &all {
                        let path = if round % 2 == 0 { "a/t" } else { "x/y/z/../../t" };
                        match Bind::new(&source).mount().expect("a bind").attach(root, path) {
                            Ok(mount) => {
                                drop(mount);
                                mounts += 1;
                            }
                            Err(_) => bad += 1,
                        }
                    }
                }
            });
            good += mounts;
            let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            let new: Vec<_> = table.lines().filter(|line| !before.1.contains(line)).collect();
            assert_eq!(new.len(), mounts + 1);
            for line in new {
                let place = line.split(' ').nth(4).expect("a place");
                let is_inside = place.starts_with(inside.to_str().expect("text"));
                assert!(is_inside || place == arena.0.path().to_str().expect("text"), "{line}");
            }
            drop(all);
            run("umount", &["--lazy".as_ref(), arena.0.path().as_ref()]);
        }
        assert!(good > 1000 && bad > 0, "{good} good, {bad} bad");
        let after = (census(&outside), fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"));
        assert_eq!(after, before);
    });
}

#[test]
fn a_mount_below_is_not_emptied() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let (dir, volume) = (TempDir::new(), TempDir::new());
        fs::create_dir_all(dir.path().join("d/a/volume")).expect("mkdir");
        fs::write(dir.path().join("d/b"), "").expect("write");
        fs::write(volume.path().join("kept"), "kept").expect("write");
        let target = dir.path().join("d/a/volume");
        assert!(Command::new("mount").arg("--bind").args([volume.path(), &target]).status().expect("mount").success());
        let root = RootFd::open(&dir).expect("root");
        for path in ["d", "d/a/volume"] {
            let error = root.remove_all(path).expect_err("a mount");
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Busy, Some(libc::EBUSY)), "{error:#}");
            assert!(error.to_string().contains("d/a/volume"), "{error}");
        }
        assert_eq!(fs::read(volume.path().join("kept")).expect("read"), b"kept");
        assert!(!dir.path().join("d/b").exists(), "the rest is removed");
        assert!(Command::new("umount").arg(&target).status().expect("umount").success());
        root.remove_all("d").expect("removed");
    });
}

#[test]
fn devices_owners_and_attributes() {
    faultkit::require!(root, program("getfattr"));
    let dir = TempDir::new();
    for (resolver, root) in roots(dir.path()) {
        root.mkdir("d", 0o755).expect("mkdir");
        root.mknod("d/zero", Node::CharDevice { major: 1, minor: 5 }, 0o666).expect("mknod");
        root.mknod("d/disk", Node::BlockDevice { major: 259, minor: 300_000 }, 0o600).expect("mknod");
        let found = fs::symlink_metadata(dir.path().join("d/disk")).expect("stat");
        assert!(found.file_type().is_block_device(), "{resolver:?}");
        assert_eq!(found.rdev(), libc::makedev(259, 300_000));
        assert_eq!(root.stat("d/disk").expect("stat").device_of_node(), (259, 300_000));
        // A device is neither read nor cut off by mistake.
        assert_eq!(root.open_file("d/zero").expect_err("a device").kind(), ErrorKind::Invalid);
        let options = OpenOptions::new().write().truncate().create(0o600);
        assert_eq!(root.open_with("d/zero", options).expect_err("a device").kind(), ErrorKind::Invalid);
        symlink("zero", dir.path().join("d/link")).expect("symlink");
        root.chown("d/link", 1234, 5678).expect("chown");
        root.chown("d", None, 99).expect("chown");
        let owner = |name: &str| {
            let data = fs::symlink_metadata(dir.path().join(name)).expect("stat");
            (data.uid(), data.gid())
        };
        assert_eq!([owner("d/link"), owner("d/zero"), owner("d")], [(1234, 5678), (0, 0), (0, 99)]);
        for name in ["d/link", "d/zero", "d"] {
            root.set_xattr(name, "trusted.note", name).expect("set");
        }
        for name in ["d/link", "d/zero", "d"] {
            let mut command = Command::new("getfattr");
            command.args(["-h", "--only-values", "--absolute-names", "-n", "trusted.note"]).arg(dir.path().join(name));
            assert_eq!(command.output().expect("getfattr").stdout, name.as_bytes(), "{resolver:?}");
            assert_eq!(root.list_xattrs(name).expect("list"), ["trusted.note"]);
            root.remove_xattr(name, "trusted.note").expect("remove");
        }
        let place = root.mount_target("d/link", MountTarget::File).expect("place");
        drop(place);
        root.remove_all("d").expect("removed");
    }
}
