//! A whole `/proc/PID/mountinfo` as a table: every question about every mount of it has an end and an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mountkit::MountTable;

fuzz_target!(|bytes: &[u8]| {
    let table = MountTable::parse(bytes);
    for mount in table.iter() {
        let _ = (mount.options().map(Iterator::count), mount.ancestors().count(), mount.to_string());
        assert!(mount.parent().is_none_or(|parent| parent.children().any(|child| child == mount)));
        if let Some(found) = table.at(mount.path()) {
            assert_eq!(found.path().components().last(), mount.path().components().last());
        }
    }
    let _ = (table.tree().to_string(), table.below("/").len());
    assert!(table.diff(&table).is_empty());
});
