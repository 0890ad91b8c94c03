//! Every source says the same, and findmnt(8) says it too.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use mountkit::{Atime, MountAttr, MountEntry, MountIdRange, MountTable, Propagation, SuperFlags, TableSource};

use super::{points, points_in_text};
use crate::scene::Scene;
use crate::sys;

/// All of a mount but its unique ids and id maps.
fn said(mount: MountEntry<'_>) -> String {
    let shown = format!("{mount:?}");
    let (before, after) = shown.split_once("unique_id: ").expect("there");
    format!("{before}{}", after.split_once(", ").expect("more").1)
}

#[test]
fn text_and_calls_say_the_same() {
    faultkit::require!(root, kernel(6.13));
    faultkit::isolated!(|| {
        let _scene = Scene::full();
        let both = MountTable::read().expect("both");
        let calls = MountTable::read_from(TableSource::Statmount).expect("statmount");
        let text = MountTable::read_from(TableSource::Mountinfo).expect("mountinfo");
        assert_eq!(
            [both.source(), calls.source(), text.source()],
            [TableSource::Both, TableSource::Statmount, TableSource::Mountinfo]
        );
        for table in [&both, &calls, &text] {
            assert!(table.is_settled());
            assert_eq!(table.len(), points_in_text().len());
        }
        for ((one, other), third) in both.iter().zip(calls.iter()).zip(text.iter()) {
            assert_eq!(said(one), said(other));
            assert_eq!(said(one), said(third));
            assert_eq!(
                (one.unique_id(), one.unique_parent_id()),
                (other.unique_id(), other.unique_parent_id()),
                "{one}"
            );
            assert!(one.unique_id().is_some() && one.unique_parent_id().is_some() && third.unique_id().is_none());
            assert_eq!((one.uid_map(), one.gid_map()), (other.uid_map(), other.gid_map()));
            assert_eq!(one.parent().map(said), third.parent().map(said));
        }
        assert!(both.diff(&calls).is_empty() && text.diff(&calls).is_empty());
        assert_eq!(both.namespace_id(), calls.namespace_id());
        assert!(both.namespace_id().is_some());
    });
}

#[test]
fn what_was_mounted_is_what_is_told() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let scene = Scene::full();
        let table = MountTable::read().expect("table");
        let at = |name: &str| table.at(scene.0.join(name)).unwrap_or_else(|| panic!("{name}: {table:?}"));
        for odd in
            [&b"a b"[..], b"new\nline", b"back\\slash", b"hash#", b"com,ma", b"\xff\xfe", b"\\040", b"tab\t", b"=:"]
        {
            let name = std::ffi::OsStr::from_bytes(odd);
            let mount = table.at(scene.0.join(name)).unwrap_or_else(|| panic!("{name:?}"));
            assert_eq!(mount.source(), Some(name));
            assert!(mount.attrs() == MountAttr::NOSUID && mount.fs_type() == "tmpfs");
            assert_eq!(mount.options().expect("told").value("size"), Some("64k".into()));
        }
        let none = at("no source");
        assert_eq!((none.source(), none.atime()), (Some("".as_ref()), Atime::Never));
        assert_eq!(none.attrs(), MountAttr::RDONLY | MountAttr::NODIRATIME);
        assert_eq!(none.super_flags(), SuperFlags::RDONLY);
        assert_eq!(at("flags").attrs(), MountAttr::NODEV | MountAttr::NOEXEC | MountAttr::NOSYMFOLLOW);
        assert_eq!(at("flags").atime(), Atime::Strict);
        let sync = SuperFlags::SYNCHRONOUS | SuperFlags::DIRSYNC | SuperFlags::LAZYTIME;
        assert_eq!((at("ro").attrs(), at("ro").super_flags()), (MountAttr::RDONLY, sync));
        assert_eq!((at("sync").attrs(), at("sync").device()), (MountAttr::empty(), at("ro").device()));

        let group = at("shared").peer_group().expect("shared");
        let names = |mounts: Vec<MountEntry<'_>>| {
            mounts.iter().map(|mount| mount.path().strip_prefix(&scene.0).expect("here").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(table.peers(group).collect()), [Path::new("shared"), Path::new("peer")]);
        assert_eq!(names(table.slaves(group).collect()), [Path::new("slave"), Path::new("both")]);
        assert_eq!(at("both").propagation(), Propagation::Shared);
        assert_eq!(at("slave").propagation(), Propagation::Slave);
        assert_eq!(at("below both").master(), at("both").peer_group());
        assert_eq!(at("unbindable").propagation(), Propagation::Unbindable);
        for name in ["peer/below", "slave/below", "both/below", "below both/below"] {
            assert_eq!((at(name).source(), at(name).root()), (Some("below".as_ref()), "/".as_ref()));
        }

        assert_eq!(at("over").source(), Some("above".as_ref()));
        assert_eq!(table.at(scene.0.join("over/hidden")), None);
        let hidden = *table.below(scene.0.join("over")).first().expect("listed all the same");
        assert_eq!(hidden.source(), Some("hidden".as_ref()));
        assert_eq!(hidden.parent().and_then(MountEntry::covered_by), Some(at("over")));

        assert_eq!((at("on file").root(), at("on file").is_deleted()), ("/file".as_ref(), false));
        assert_eq!(at("on deleted file").root(), "/deleted file//deleted");
        assert!(at("on deleted file").is_deleted());
        assert_eq!(at("of a renamed one").root(), "/after it");
        assert!(at("on").root().to_string_lossy().starts_with("uts:["));
        let lower = at("overlay").options().expect("told").value("lowerdir");
        assert_eq!(lower, Some(scene.0.join("lo wer").into()));
        assert_eq!((at("mapped").is_idmapped(), at("flags").is_idmapped()), (scene.1, false));
        for (mount, file) in [("over", "over"), ("on file", "on file"), ("pts", "pts/ptmx")] {
            let file = File::open(scene.0.join(file)).expect("open");
            assert_eq!(table.covering_fd(&file).expect("statx"), Some(at(mount)), "{mount}");
            let text = MountTable::read_from(TableSource::Mountinfo).expect("mountinfo");
            assert_eq!(text.covering_fd(&file).expect("statx").map(MountEntry::id), Some(at(mount).id()));
        }
    });
}

#[test]
fn id_maps_are_told() {
    faultkit::require!(root, kernel(6.15), program("unshare"));
    faultkit::isolated!(|| {
        let scene = Scene::full();
        let table = MountTable::read().expect("table");
        assert!(scene.1, "ext4, tmpfs and overlay can be idmapped in this version");
        let mapped = table.at(scene.0.join("mapped")).expect("there");
        let shown = |ranges: Option<&[MountIdRange]>| {
            let ranges = ranges.expect("told").iter();
            ranges.map(|range| (range.first, range.lower_first, range.count)).collect::<Vec<_>>()
        };
        assert_eq!(shown(mapped.uid_map()), [(0, 100_000, 1000), (2000, 300_000, 5)]);
        assert_eq!(shown(mapped.gid_map()), [(0, 100_000, 1000), (2000, 300_000, 5)]);
        assert_eq!(table.at(&scene.0).expect("there").uid_map(), None);
    });
}

/// As `findmnt --raw` writes a cell in the C locale.
fn cell(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b' ' | b'\t' | b'\\' => write!(text, "\\x{byte:02x}").expect("write"),
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => write!(text, "\\x{byte:02x}").expect("write"),
        }
    }
    text
}

/// As mountinfo has them.
fn attrs(mount: MountEntry<'_>) -> String {
    let mut words = vec![if mount.attrs().contains(MountAttr::RDONLY) { "ro" } else { "rw" }];
    for (there, word) in [
        (mount.attrs().contains(MountAttr::NOSUID), "nosuid"),
        (mount.attrs().contains(MountAttr::NODEV), "nodev"),
        (mount.attrs().contains(MountAttr::NOEXEC), "noexec"),
        (mount.atime() == Atime::Never, "noatime"),
        (mount.attrs().contains(MountAttr::NODIRATIME), "nodiratime"),
        (mount.atime() == Atime::Relative, "relatime"),
        (mount.attrs().contains(MountAttr::NOSYMFOLLOW), "nosymfollow"),
        (mount.is_idmapped(), "idmapped"),
    ] {
        words.extend(there.then_some(word));
    }
    words.join(",")
}

#[test]
fn findmnt_says_the_same() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let _scene = Scene::full();
        let columns = "ID,PARENT,MAJ:MIN,TARGET,FSROOT,FSTYPE,VFS-OPTIONS,FS-OPTIONS,PROPAGATION";
        let output = Command::new("findmnt")
            .args(["--kernel", "--raw", "--noheadings", "--notruncate", "--output", columns])
            .env("LC_ALL", "C")
            .output()
            .expect("findmnt");
        let mut theirs: Vec<String> =
            String::from_utf8(output.stdout).expect("ASCII").lines().map(String::from).collect();
        let table = MountTable::read().expect("table");
        let row = |mount: MountEntry<'_>| {
            let (major, minor) = mount.device();
            let mut fs_type = mount.fs_type().to_owned();
            if let Some(subtype) = mount.subtype() {
                fs_type.push(".");
                fs_type.push(subtype);
            }
            let mut options = mount.super_flags().to_string().into_bytes();
            for option in mount.options().expect("told") {
                options.push(b',');
                options.extend(option.as_bytes());
            }
            let mut propagation = String::from(if mount.peer_group().is_some() { "shared" } else { "private" });
            if mount.master().is_some() {
                propagation += ",slave";
            }
            if mount.propagation() == Propagation::Unbindable {
                propagation += ",unbindable";
            }
            let texts = [mount.mount_point(), mount.root(), &*fs_type].map(|text| cell(text.as_bytes())).join(" ");
            let (id, parent, options) = (mount.id(), mount.parent_id(), cell(&options));
            let attrs = attrs(mount);
            format!("{id} {parent} {major}:{minor} {texts} {attrs} {options} {propagation}")
        };
        let mut ours: Vec<String> = table.iter().map(row).collect();
        // findmnt shows overmounted ones in another order.
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs);
    });
}

#[test]
fn pages_are_put_together_and_ids_ascend() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        let from = scene.dir("from");
        for number in 0..3000 {
            scene.bind(&from, format!("{number}"));
        }
        let table = MountTable::read().expect("table");
        let text: Vec<_> =
            points_in_text().iter().map(|point| String::from_utf8(point.clone()).expect("ASCII")).collect();
        assert_eq!(points(&table).iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(), text);
        assert_eq!(table.below(&scene.0).len(), 3000);
        let place = scene.0.join("2999");
        assert_eq!(table.at(&place).map(|mount| mount.root().to_owned()), Some("/from".into()));
        if table.source() == TableSource::Both {
            assert!(table.iter().map(MountEntry::unique_id).is_sorted());
            let calls = MountTable::read_from(TableSource::Statmount).expect("statmount");
            assert!(calls.iter().map(MountEntry::unique_id).eq(table.iter().map(MountEntry::unique_id)));
        }
        let one = MountTable::of_mount(File::open(&place).expect("open")).expect("one");
        assert_eq!((points(&one), one.len()), (vec![place], 1));
    });
}

#[test]
fn answers_longer_than_the_buffer() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        let mut path = scene.dir("deep");
        let name = "x".repeat(250);
        while path.as_os_str().len() < 3800 {
            path.push(&name);
            fs::create_dir(&path).expect("mkdir");
        }
        // Three times nearly four thousand bytes: root, mount point and source.
        sys::mount(path.as_os_str().as_bytes(), &path, "", libc::MS_BIND, "");
        let source = "s".repeat(4000);
        sys::mount(&source, &path, "tmpfs", 0, "");
        for from in [TableSource::Both, TableSource::Statmount] {
            let table = match MountTable::read_from(from) {
                Err(error) if from == TableSource::Statmount => {
                    assert_eq!(error.kind(), mountkit::ErrorKind::Unsupported, "{error}");
                    continue;
                }
                table => table.expect("table"),
            };
            let mount = table.at(&path).expect("there");
            assert!(mount.source().is_none_or(|text| text == &*source));
            assert_eq!(mount.parent().expect("bind").root().len(), path.as_os_str().len() - scene.0.as_os_str().len());
        }
    });
}
