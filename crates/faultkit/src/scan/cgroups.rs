//! The groups of the cgroup2 hierarchy.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::isolated::Scope;
use crate::ledger::{Kind, Lines};
use crate::scan::mounts;
use crate::sys;

pub fn add(lines: &mut Lines, scope: Scope) {
    let Some(root) = mounts::cgroup2() else { return };
    let filter = match scope {
        Scope::NamespacesAndCgroup => Filter::All,
        _ if sys::euid() == 0 => Filter::Ours,
        _ => Filter::OursOwnedBy(sys::euid()),
    };
    walk(lines, &root, &root, filter);
}

/// Which groups count, where other programs have some too.
#[derive(Clone, Copy)]
enum Filter {
    All,
    Ours,
    OursOwnedBy(u32),
}

fn walk(lines: &mut Lines, root: &Path, dir: &Path, filter: Filter) {
    // A group may go at any time.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.contains("cell") || name.contains("faultkit");
        let counts = match filter {
            Filter::All => true,
            // The groups of other isolated tests come and go.
            Filter::Ours if dir == root && name.starts_with("faultkit-") => continue,
            Filter::Ours => ours,
            Filter::OursOwnedBy(uid) => ours && entry.metadata().is_ok_and(|meta| meta.uid() == uid),
        };
        if counts {
            lines.add(Kind::Cgroup, path.strip_prefix(root).unwrap_or(&path).display().to_string());
        }
        // What is below a group of ours is ours.
        walk(lines, root, &path, if counts { Filter::All } else { filter });
    }
}
