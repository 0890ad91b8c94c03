//! What tables answer, of texts that are written here.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{Atime, MountAttr, Propagation};

fn points<'t>(mounts: impl IntoIterator<Item = MountEntry<'t>>) -> Vec<&'t OsStr> {
    mounts.into_iter().map(|mount| mount.mount_point()).collect()
}

const TABLE: &str = "\
    1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
    2 1 0:5 / /proc rw,nosuid,nodev,noexec,noatime - proc proc rw\n\
    3 1 8:1 /srv /mnt/a ro master:1 propagate_from:2 - ext4 /dev/sda1 rw\n\
    4 3 0:7 / /mnt/a/b/c rw,idmapped shared:3 master:1 - fuse.ssh\\040fs  ro,sync,lazytime,user_id=0\n\
    5 1 0:8 / /mnt rw unbindable - tmpfs none rw\n\
    6 5 0:9 /x//deleted /mnt/a rw,nosymfollow,nodiratime,relatime - tmpfs x rw\n\
    7 6 0:10 / /mnt/a rw - tmpfs y rw\n";

#[test]
fn every_field() {
    let table = MountTable::parse(TABLE);
    assert!(table.is_settled());
    assert_eq!(table.len(), 7);
    let root = table.by_id(1).expect("there");
    assert_eq!((root.parent(), root.device(), root.atime()), (None, (8, 1), Atime::Relative));
    assert_eq!(root.options().expect("told").as_written(), "errors=remount-ro");
    assert_eq!((root.propagation(), root.peer_group(), root.master()), (Propagation::Shared, Some(1), None));
    let proc = table.by_id(2).expect("there");
    assert_eq!((proc.attrs(), proc.atime()), (MountAttr::INERT, Atime::Never));
    assert_eq!(proc.options().expect("told").count(), 0);
    let slave = table.by_id(3).expect("there");
    assert_eq!((slave.propagation(), slave.master(), slave.propagate_from()), (Propagation::Slave, Some(1), Some(2)));
    assert_eq!((slave.root(), slave.atime()), (OsStr::new("/srv"), Atime::Strict));
    let fuse = table.by_id(4).expect("there");
    assert_eq!((fuse.fs_type(), fuse.subtype()), (OsStr::new("fuse"), Some(OsStr::new("ssh fs"))));
    assert_eq!((fuse.source(), fuse.is_idmapped(), fuse.uid_map()), (Some(OsStr::new("")), true, None));
    let flags = SuperFlags::RDONLY | SuperFlags::SYNCHRONOUS | SuperFlags::LAZYTIME;
    assert_eq!((fuse.super_flags(), fuse.propagation()), (flags, Propagation::Shared));
    let options = fuse.options().expect("told");
    assert_eq!((options.value("user_id"), options.has("sync"), options.value("user")), (Some("0".into()), false, None));
    let deleted = table.by_id(6).expect("there");
    assert!(deleted.is_deleted() && !root.is_deleted());
    assert_eq!(deleted.attrs(), MountAttr::NOSYMFOLLOW | MountAttr::NODIRATIME);
    assert_eq!(table.by_id(5).expect("there").propagation(), Propagation::Unbindable);
    assert_eq!((table.by_id(8), table.by_unique_id(1)), (None, None));
}

#[test]
fn who_is_below_whom() {
    let table = MountTable::parse(TABLE);
    let mount = |id| table.by_id(id).expect("there");
    assert_eq!(points(table.roots()), ["/"]);
    assert_eq!(mount(1).children().map(MountEntry::id).collect::<Vec<_>>(), [2, 3, 5]);
    assert_eq!(mount(4).ancestors().map(MountEntry::id).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(table.below("/mnt").into_iter().map(MountEntry::id).collect::<Vec<_>>(), [3, 4, 6, 7]);
    assert_eq!(table.below("/mnt/a/").into_iter().map(MountEntry::id).collect::<Vec<_>>(), [4]);
    assert_eq!(table.below("/mn").len() + table.below("mnt").len(), 0);
    assert_eq!(table.below("/").len(), 6);
    assert_eq!(table.peers(1).map(MountEntry::id).collect::<Vec<_>>(), [1]);
    assert_eq!(table.slaves(1).map(MountEntry::id).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(mount(6).covered_by(), Some(mount(7)));
    assert_eq!((mount(7).covered_by(), mount(3).covered_by()), (None, None));
}

#[test]
fn what_covers_a_path() {
    let table = MountTable::parse(TABLE);
    for (path, id) in [
        ("/", Some(1)),
        ("/etc", Some(1)),
        ("/procs", Some(1)),
        ("/proc", Some(2)),
        ("/proc/1/", Some(2)),
        ("/mnt/x", Some(5)),
        // Hidden by what is on /mnt, and by what is over it.
        ("/mnt/a", Some(7)),
        ("/mnt/a/b/c", Some(7)),
        ("relative", None),
        ("", None),
    ] {
        assert_eq!(table.covering(path).map(MountEntry::id), id, "{path}");
    }
    assert_eq!(table.at("/mnt/a/").map(MountEntry::id), Some(7));
    assert_eq!(table.at("/mnt/a/b/c"), None);
    assert_eq!(MountTable::parse("").covering("/"), None);
    // Of a part of a table, and of a root with something over it.
    let part = MountTable::parse("5 4 0:1 / /a/b rw - t t rw\n6 5 0:1 / /a/b/c rw - t t rw\n");
    let ids = ["/a/b", "/a/b/c/d", "/a"].map(|path| part.covering(path).map(MountEntry::id));
    assert_eq!(ids, [Some(5), Some(6), None]);
    let two = MountTable::parse("1 0 0:1 / / rw - t t rw\n2 1 0:2 / / rw - t t rw\n3 2 0:3 / /x rw - t t rw\n");
    assert_eq!(two.covering("/x/y").map(MountEntry::id), Some(3));
    assert_eq!(two.at("/").map(MountEntry::id), Some(2));
}

#[test]
fn lines_that_are_none_are_left_out_and_told_of() {
    let whole = "1 0 0:1 / / rw - tmpfs tmpfs rw\n";
    for torn in [
        "2 1 0:1 / /a rw",
        "2 1 0:1 / /a rw - tmpfs",
        "2 1 0:1 / /a rw - tmpfs none",
        "2 1 x / /a rw - tmpfs none rw\n",
        "2 1 0:1 / /a rw shared:x - tmpfs none rw\n",
        "99999999999 1 0:1 / /a rw - tmpfs none rw\n",
        "-1 1 0:1 / /a rw - tmpfs none rw\n",
        "2 1 0:1 / /a rw - tmpfs none rw",
        "\n",
    ] {
        let table = MountTable::parse(format!("{whole}{torn}"));
        assert!(!table.is_settled(), "{torn:?}");
        assert!(table.by_id(1).is_some());
    }
}

#[test]
fn circles_end() {
    let table = MountTable::parse("1 2 0:1 / /a rw - t t rw\n2 1 0:1 / /a rw - t t rw\n3 3 0:1 / / rw - t t rw\n");
    assert_eq!(table.by_id(1).expect("there").ancestors().count(), 3);
    assert_eq!(table.covering("/a").map(MountEntry::id), Some(3));
    assert_eq!(table.tree().to_string().lines().count(), 2);
}

#[test]
fn the_tree() {
    let shown = MountTable::parse(TABLE).tree().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[1], "/              /dev/sda1       ext4        rw,relatime,errors=remount-ro");
    assert_eq!(lines[2], "├─/proc        proc            proc        rw,nosuid,nodev,noexec,noatime");
    assert_eq!(lines[4], "│ └─/mnt/a/b/c                 fuse.ssh fs ro,idmapped,sync,lazytime,user_id=0");
    assert_eq!(lines[7], "    └─/mnt/a   y               tmpfs       rw");
    let odd = MountTable::parse(&b"1 0 0:1 / /\x1b[2J\xff\\012 rw - t \xc2\x9b rw\n"[..]);
    assert_eq!(odd.tree().to_string().lines().nth(1), Some("/\\x1b[2J\\xff\\x0a \\xc2\\x9b t      rw"));
    assert_eq!(odd.iter().next().expect("one").to_string(), "t \"\\u{9b}\" on \"/\\u{1b}[2J\\xFF\\n\" (rw)");
}

#[test]
fn differences() {
    let before = MountTable::parse(TABLE);
    let later = TABLE
        .replace("2 1 0:5 / /proc rw,nosuid", "2 1 0:5 / /proc ro,nosuid")
        .replace("/mnt/a/b/c", "/mnt/a/b/d")
        .replace("5 1 0:8 / /mnt rw unbindable", "8 1 0:8 / /mnt rw unbindable")
        .replace("7 6 0:10 / /mnt/a rw", "7 6 0:11 / /mnt/a rw");
    let after = MountTable::parse(later);
    let diff = before.diff(&after);
    let ids = |mounts: &[MountEntry<'_>]| mounts.iter().map(|mount| mount.id()).collect::<Vec<_>>();
    let pairs = |mounts: &[(MountEntry<'_>, MountEntry<'_>)]| {
        mounts.iter().map(|(old, new)| (old.id(), new.id())).collect::<Vec<_>>()
    };
    // Number 7 is another file system now, so another mount.
    assert_eq!((ids(&diff.removed), ids(&diff.added)), (vec![5, 7], vec![8, 7]));
    assert_eq!((pairs(&diff.moved), pairs(&diff.changed)), (vec![(4, 4)], vec![(2, 2)]));
    assert!(before.diff(&before.clone()).is_empty() && !diff.is_empty());
}

#[test]
fn of_lines_with_the_same_id_the_last_counts() {
    let text = "1 0 0:1 / /\\040a rw - tmpfs tmpfs rw\n\
                7 1 0:1 / /x rw - tmpfs tmpfs rw\n\
                1 5 0:1 /x//deleted /\\040b rw - tmpfs tmpfs rw\n\
                3 1 0:1 / /\\040b/c rw - tmpfs tmpfs rw\n\
                7 1 0:1 / /y rw - tmpfs tmpfs rw\n\
                7 1 0:1 / /z rw - tmpfs tmpfs rw\n";
    let table = MountTable::parse(text);
    assert_eq!(points(table.iter()), ["/ b", "/ b/c", "/z"]);
    assert_eq!(table.by_id(3).and_then(MountEntry::parent), table.by_id(1));
    assert!(table.diff(&table).is_empty() && !table.is_settled());
}

/// As the kernel's seq_escape: of the characters that fields are written with.
fn escaped(plain: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in plain {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => text.extend(format!("\\{byte:03o}").into_bytes()),
            _ => text.push(*byte),
        }
    }
    text
}

prop_compose! {
    fn name()(bytes in proptest::collection::vec(prop_oneof![4 => 1_u8.., 1 => Just(b' '), 1 => Just(b'\\'), 1 => Just(b'\n')], 0..20)) -> Vec<u8> {
        bytes
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        mounts in proptest::collection::vec((name(), name(), name(), any::<[u32; 4]>(), any::<[bool; 4]>()), 0..8)
    ) {
        let mut text = Vec::new();
        for (id, (root, point, source, [a, b, c, d], [ro, shared, slave, unbindable])) in mounts.iter().enumerate() {
            text.extend(format!("{id} {a} {b}:{c} /").bytes());
            text.extend(escaped(root));
            text.extend(b" /");
            text.extend(escaped(point));
            text.extend(if *ro { &b" ro,relatime"[..] } else { b" rw,relatime" });
            for (there, field) in [(shared, "shared"), (slave, "master")] {
                if *there {
                    text.extend(format!(" {field}:{d}").bytes());
                }
            }
            text.extend(if *unbindable { &b" unbindable"[..] } else { b"" });
            text.extend(b" - fuse.");
            text.extend(escaped(source));
            text.extend(b" ");
            text.extend(escaped(source));
            text.extend(b" rw\n");
        }
        let table = MountTable::parse(text);
        prop_assert!(table.is_settled());
        prop_assert_eq!(table.len(), mounts.len());
        for (mount, (root, point, source, [a, b, c, d], [ro, shared, slave, unbindable])) in table.iter().zip(&mounts) {
            prop_assert_eq!((mount.parent_id(), mount.device()), (*a, (*b, *c)));
            prop_assert_eq!(&mount.root().as_bytes()[1..], &root[..]);
            prop_assert_eq!(&mount.mount_point().as_bytes()[1..], &point[..]);
            prop_assert_eq!(mount.source(), Some(OsStr::from_bytes(source)));
            prop_assert_eq!(mount.subtype(), Some(OsStr::from_bytes(source)).filter(|name| !name.is_empty()));
            prop_assert_eq!(mount.attrs().contains(MountAttr::RDONLY), *ro);
            prop_assert_eq!(mount.peer_group(), Some(*d).filter(|group| *shared && *group != 0));
            prop_assert_eq!(mount.master(), Some(*d).filter(|group| *slave && *group != 0));
            let alone = mount.peer_group().is_none() && mount.master().is_none();
            prop_assert_eq!(mount.propagation() == Propagation::Unbindable, *unbindable && alone);
        }
    }

    #[test]
    fn any_bytes_do(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![any::<u8>(), proptest::sample::select(&b" \n-1:/,\\"[..])]), 0..24),
        end in any::<proptest::sample::Index>(),
    ) {
        // A good text that somebody spoiled: of bytes at random hardly any are a mount.
        let mut text = TABLE.as_bytes().to_vec();
        for (at, byte) in &edits {
            *at.get_mut(&mut text) = *byte;
        }
        text.truncate(end.index(text.len() + 1));
        let table = MountTable::parse(text);
        for mount in table.iter() {
            let _ = (table.covering(mount.path()), mount.ancestors().count(), mount.covered_by());
        }
        let _ = table.tree().to_string();
        prop_assert!(table.diff(&table).is_empty());
    }

    #[test]
    fn covering_is_what_a_walk_finds(
        parents in proptest::collection::vec((any::<proptest::sample::Index>(), 0..3_usize), 0..12),
        path in proptest::collection::vec(0..3_usize, 0..5),
    ) {
        // Mounts on random names below earlier ones, and a walk that looks at every mount at every step.
        let mut mounts = vec![(1_u32, 0_u32, String::from("/"))];
        for (number, (parent, name)) in (2..).zip(&parents) {
            let (parent, _, point) = parent.get(&mounts).clone();
            let point = if *name == 2 { point } else { format!("{}/{name}", point.trim_end_matches('/')) };
            if !mounts.iter().any(|(_, other, at)| (*other, at) == (parent, &point)) {
                mounts.push((number, parent, point));
            }
        }
        let text: String = mounts.iter().map(|(id, parent, point)| format!("{id} {parent} 0:1 / {point} rw - t t rw\n")).collect();
        let table = MountTable::parse(text);
        let (mut at, mut here) = (1, String::from("/"));
        let mut names = path.iter();
        let found = loop {
            while let Some((id, ..)) = mounts.iter().find(|(_, parent, point)| (*parent, point) == (at, &here)) {
                at = *id;
            }
            match names.next() {
                Some(name) => here = format!("{}/{name}", here.trim_end_matches('/')),
                None => break at,
            }
        };
        prop_assert_eq!(table.covering(Path::new(&here)).map(MountEntry::id), Some(found));
    }
}
