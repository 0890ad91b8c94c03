//! Directory trees for tests, and what is in them.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A root file system without programs of its own: `/usr` is to be a volume.
pub(crate) fn skeleton(root: &Path) {
    fs::create_dir_all(root.join("etc")).expect("mkdir");
    fs::write(root.join("etc/name"), "skeleton\n").expect("write");
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), root.join(link)).expect("symlink");
    }
}

/// Every path below `dir` with its kind, mode, owner, size and content.
pub(crate) fn census(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from(dir)];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).expect("lstat");
        let content = if metadata.is_symlink() {
            format!("{:?}", fs::read_link(&path).expect("readlink"))
        } else if metadata.is_file() {
            format!("{:?}", fs::read(&path).expect("read"))
        } else {
            String::new()
        };
        found.push(format!("{path:?} {:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid()));
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("entry").path()));
        }
    }
    found.sort();
    found
}
