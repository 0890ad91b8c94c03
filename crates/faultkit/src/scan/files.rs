//! The files below a folder.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::ledger::{Kind, Lines};

/// What programs that tests ask make for themselves and leave: mount(8), iptables(8), ip-netns(8).
const OF_OTHERS: [&str; 3] = ["/run/mount", "/run/xtables.lock", "/run/netns"];

/// Adds a line for each, not following links and not crossing into another file system: what is mounted there is the
/// mount table's business.
pub fn add(lines: &mut Lines, dir: &Path) {
    if let Ok(meta) = fs::symlink_metadata(dir) {
        walk(lines, dir, meta.dev());
    }
}

fn walk(lines: &mut Lines, dir: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        let kind = match meta.file_type() {
            kind if kind.is_dir() => "folder",
            kind if kind.is_symlink() => "link",
            kind if kind.is_file() => "file",
            _ => "special",
        };
        if !OF_OTHERS.iter().any(|other| Path::new(other) == path) {
            lines.add(Kind::File, format!("{} ({kind})", path.display()));
        }
        if kind == "folder" && path != Path::new("/run/mount") && meta.dev() == device {
            walk(lines, &path, device);
        }
    }
}
