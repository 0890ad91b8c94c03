#![forbid(unsafe_code)]

use std::fs::File;

use mountkit::{ErrorKind, MountEntry, MountTable, MountWatch, TableSource};

#[test]
fn nothing_here_needs_privileges() {
    let table = MountTable::read().expect("table");
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    assert_eq!(table.len(), text.lines().count());
    let proc = table.at("/proc").expect("mounted");
    let file = File::open("/proc/self/stat").expect("open");
    assert_eq!(table.covering_fd(&file).expect("statx"), Some(proc));
    let part = MountTable::of_tree(&file).expect("part");
    assert_eq!(part.iter().next().map(MountEntry::id), Some(proc.id()));
    assert!(MountWatch::new().expect("watch").table().len() >= part.len());
}

#[test]
#[ignore = "run by a test that hides /proc"]
fn without_proc() {
    let release = std::process::Command::new("uname").arg("-r").output().expect("uname").stdout;
    let release = String::from_utf8(release).expect("text");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().expect("major"), numbers.next().expect("minor"));
    let table = MountTable::read();
    if version < (6, 8) {
        // Neither of the two: the error is that of /proc.
        assert_eq!(table.expect_err("nothing to read").kind(), ErrorKind::Invalid);
        return;
    }
    let table = table.expect("table");
    assert_eq!((table.source(), table.is_settled()), (TableSource::Statmount, true));
    assert_eq!(table.at("/proc").map(|mount| mount.fs_type().to_owned()), Some("tmpfs".into()));
    assert_eq!(table.at("/proc").and_then(MountEntry::covered_by), None);
    assert_eq!(table.at("/proc").and_then(MountEntry::source).is_some(), version >= (6, 13));
    assert_eq!(table.at("/proc").and_then(MountEntry::options).is_some(), version >= (6, 11));
    let one = MountTable::of_mount(File::open("/proc").expect("open"));
    assert_eq!(
        one.expect("one").iter().next().map(MountEntry::unique_id),
        table.at("/proc").map(MountEntry::unique_id)
    );
}
