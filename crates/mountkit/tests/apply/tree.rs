//! A tree of files as text, by the standard library.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Every path below `dir`, sorted.
pub fn paths(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).expect("read_dir") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_dir() {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// All that can be seen of a tree, with the times of the last change.
pub fn all(dir: &Path) -> String {
    let mut text = String::new();
    for path in std::iter::once(dir.to_owned()).chain(paths(dir)) {
        let found = fs::symlink_metadata(&path).expect("stat");
        let _ = writeln!(
            text,
            "{} {} mode {:o} {}:{} links {} changed {}.{:09} ({}.{:09})",
            path.display(),
            what(&path),
            found.mode(),
            found.uid(),
            found.gid(),
            found.nlink(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        );
    }
    text
}

/// Each path below `dir` and what it is: `dir`, `file:CONTENT`, `link:TARGET`, `fifo`, `whiteout`, `char:M:N`.
pub fn listing(dir: &Path) -> Vec<String> {
    paths(dir)
        .iter()
        .map(|path| {
            let name = path.strip_prefix(dir).expect("below").as_os_str().as_bytes().escape_ascii();
            format!("{name} {}", what(path))
        })
        .collect()
}

fn what(path: &Path) -> String {
    let found = fs::symlink_metadata(path).expect("stat");
    let kind = found.file_type();
    if kind.is_dir() {
        "dir".into()
    } else if kind.is_symlink() {
        format!("link:{}", fs::read_link(path).expect("readlink").display())
    } else if kind.is_fifo() {
        "fifo".into()
    } else if kind.is_char_device() || kind.is_block_device() {
        let letter = if kind.is_char_device() { "char" } else { "block" };
        match found.rdev() {
            0 => "whiteout".into(),
            device => format!("{letter}:{}:{}", device >> 8, device & 0xff),
        }
    } else {
        let content = fs::read(path).map(|content| content.escape_ascii().to_string());
        format!("file:{}", content.unwrap_or_else(|error| error.to_string()))
    }
}
