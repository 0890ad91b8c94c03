//! All that a tree is, as lines to compare: by the standard library and the C library's calls for attributes.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sys;

/// A line for each entry of `dir`, in the order of their names, with all that a layer keeps of it.
#[track_caller]
pub(crate) fn of(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first_names = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = dir.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap_or_else(|e| panic!("{}: {e}", full.display()));
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&full).expect("readdir").map(|e| path.join(e.expect("entry").file_name())).collect();
            names.sort_by(|a, b| b.cmp(a));
            todo.extend(names);
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(&full).expect("link").display())
        } else if kind.is_file() {
            format!("{} bytes {}", meta.len(), sum(&full))
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            format!("device {:#x}", meta.rdev())
        };
        let first = if kind.is_dir() { &path } else { &*first_names.entry(meta.ino()).or_insert(path.clone()) };
        lines.push(format!(
            "{} {:o} {}:{} {}.{:09} {what} as {} {:?}",
            path.as_os_str().as_bytes().escape_ascii(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            first.as_os_str().as_bytes().escape_ascii(),
            sys::attributes(&full),
        ));
    }
    lines
}

#[track_caller]
fn sum(file: &Path) -> String {
    let input = fs::File::open(file).expect("open");
    let output = Command::new("sha256sum").stdin(Stdio::from(input)).output().expect("sha256sum");
    String::from_utf8_lossy(&output.stdout).split(' ').next().expect("sum").to_owned()
}
