//! The private parsers, each with what must hold of it, for the fuzz targets. Only there in builds with `--cfg fuzzing`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the targets below fuzz/ sees it")]

use std::os::unix::ffi::OsStrExt;

use crate::list::text as listed;
use crate::probe::text as probed;

pub fn namespace_link(bytes: &[u8]) {
    if let Some((kind, inode)) = listed::link(bytes) {
        let written = format!("{}:[{inode}]", kind.name());
        assert_eq!(listed::link(written.as_bytes()), Some((kind, inode)));
    }
}

pub fn directory_records(bytes: &[u8]) {
    let mut length = 0;
    for name in listed::names(bytes) {
        length += name.len();
        assert!(!name.contains(&0));
        if let Some(pid) = listed::pid(name) {
            assert_eq!(listed::pid(pid.to_string().as_bytes()), Some(pid));
        }
    }
    assert!(length <= bytes.len());
}

pub fn mountinfo(bytes: &[u8]) {
    for mount in listed::nsfs_mounts(bytes) {
        assert!(mount.path.is_absolute());
    }
    let (cgroup, mounts) = bytes.split_at(bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()));
    if let Some(group) = probed::pids_group(cgroup, mounts.get(1..).unwrap_or_default()) {
        assert!(group.components().all(|part| part != std::path::Component::ParentDir));
    }
}

pub fn command_line(bytes: &[u8]) {
    if let Some(command) = listed::command_line(bytes) {
        assert!(!command.is_empty() && !command.as_bytes().contains(&0));
        assert!(command.len() <= bytes.len());
    }
    assert!(listed::bracketed(bytes).len() <= bytes.len() + 2);
}

pub fn status_fields(bytes: &[u8]) {
    for name in ["Seccomp", "NoNewPrivs", "NSpid"] {
        if let Some(value) = crate::status::field(bytes, name) {
            assert!(!value.contains('\n'));
            let _ = probed::number(value.as_bytes());
        }
    }
    let _ = (crate::enter::thread_count(bytes), crate::ns_fd::nspid(bytes));
}

pub fn stat(bytes: &[u8]) {
    if let Some(start) = crate::process_id::start_time(bytes) {
        // A name that looks like the end of one changes nothing.
        let with_name = [b"1 (x) y) ", bytes].concat();
        assert_eq!(crate::process_id::start_time(&with_name), Some(start));
    }
}
