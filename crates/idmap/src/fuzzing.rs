//! The private parsers, each with what must hold of it, for the fuzz targets. Only there in builds with `--cfg fuzzing`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the targets below fuzz/ sees it")]

use crate::probe::surroundings;
use crate::shift::renumbering::Verdict;
use crate::shift::{acl, file_caps};
use crate::subid::getsubids;
use crate::{SubIdTable, User, login_defs, nsswitch, user};

/// Five files, with a byte between them that none of them has.
pub fn accounts(bytes: &[u8]) {
    let mut files = bytes.split(|&byte| byte == 1);
    let [passwd, group, subuid, subgid, other] = std::array::from_fn(|_| files.next().unwrap_or_default());
    for row in user::rows(passwd).take(8) {
        let found = User::from_passwd(passwd, row.uid);
        assert_eq!((found.uid(), found.name().is_some()), (row.uid, true));
        assert!(found.names.iter().all(|name| !name.is_empty() && !name.contains([':', '\n'])));
        assert_eq!(found.gid(), user::rows(passwd).find(|first| first.uid == row.uid).map(|first| first.gid));
    }
    for (name, _) in user::groups(group).take(8) {
        assert!(!name.is_empty() && !name.contains([':', '\n']));
    }
    let table = SubIdTable::parse(subuid, subgid, passwd, group);
    let _ = (table.conflicts().len(), table.owners_of_uid(100_000).len(), table.owners_of_gid(u32::MAX).len());
    if let Some(service) = nsswitch::subid_service(other) {
        assert!(!service.is_empty() && service != "files" && service.split_ascii_whitespace().eq([service]));
    }
    let _ = (nsswitch::other_accounts(other), login_defs::grants_any_group(other));
}

/// The answer of a program that is not believed.
pub fn getsubids(bytes: &[u8]) {
    let Ok(answer) = getsubids::parse(bytes, "ann") else { return };
    assert!(answer.ranges.len() <= bytes.iter().filter(|&&byte| byte == b'\n').count());
    for range in &answer.ranges {
        assert!(range.start() <= range.last() && range.last() < u32::MAX);
    }
}

/// What hostile files of a tree may have as attributes.
pub fn attributes(bytes: &[u8]) {
    if let Ok(root) = file_caps::root_of(bytes) {
        for other in [0, 100_000, u32::MAX] {
            let moved = file_caps::with_root(bytes, other);
            assert_eq!(file_caps::root_of(&moved), Ok(other));
            assert!(moved.len() <= file_caps::MOST);
            // Back is the same, but that what counts for uid 0 has two ways to be written.
            let back = file_caps::with_root(&moved, root);
            assert_eq!(file_caps::root_of(&back), Ok(root));
            assert_eq!(back.get(4..20), bytes.get(4..20));
        }
    }
    let up = |id: u32| if id < 1000 { Verdict::Move(id + 100_000) } else { Verdict::Unmapped };
    let down = |id: u32| if (100_000..101_000).contains(&id) { Verdict::Move(id - 100_000) } else { Verdict::Unmapped };
    if let Ok(rewritten) = acl::rewrite(bytes, up, up) {
        let Some(list) = rewritten.to else { return };
        assert_eq!(list.len(), bytes.len());
        let back = acl::rewrite(&list, down, down).expect("what was written is read");
        assert!(back.to.is_some_and(|back| back.len() == bytes.len()));
    }
}

pub fn surroundings(bytes: &[u8]) {
    if let Some(profile) = surroundings::profile(bytes) {
        assert!(!profile.is_empty() && profile != "unconfined");
    }
    let _ = surroundings::seccomp_mode(bytes);
}
