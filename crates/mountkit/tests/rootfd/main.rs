//! Paths in roots that somebody hostile filled, with each resolver, and without openat2 for real.
#![deny(unsafe_code)]

mod hostile;
mod racer;
mod sys;
mod without_openat2;

mod root;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mountkit::{Resolver, RootFd};

/// `dir` as a root, resolved in each way. Where openat2 is taken away both are the walk.
fn roots(dir: &Path) -> [(Resolver, RootFd); 2] {
    let open = || RootFd::open(dir).expect("the root");
    let [kernel, walk] = [open(), open().resolved_in_user_space()];
    let expected = match std::env::var_os(without_openat2::MARK) {
        Some(_) => Resolver::UserSpace,
        None => Resolver::Kernel,
    };
    assert_eq!((kernel.resolver(), walk.resolver()), (expected, Resolver::UserSpace));
    [(Resolver::Kernel, kernel), (Resolver::UserSpace, walk)]
}

/// Every path below `dir` with its kind, mode, owner, size, change time and content.
fn census(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from(dir)];
    while let Some(path) = left.pop() {
        let data = fs::symlink_metadata(&path).expect("lstat");
        let content = match &data {
            data if data.is_symlink() => fs::read_link(&path).expect("readlink").as_os_str().as_bytes().to_vec(),
            data if data.is_file() => fs::read(&path).expect("read"),
            _ => Vec::new(),
        };
        let (mode, owner, times) = (data.mode(), (data.uid(), data.gid()), (data.ctime(), data.ctime_nsec()));
        found.push(format!("{path:?} {mode:o} {owner:?} {times:?} {} {content:?}", data.nlink()));
        if data.is_dir() {
            left.extend(fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("entry").path()));
        }
    }
    found.sort();
    found
}
