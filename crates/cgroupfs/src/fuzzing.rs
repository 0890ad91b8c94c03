//! Laws of the parsers, and the private ones among them, for the fuzz targets. Only there in builds with `--cfg fuzzing`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the targets below fuzz/ sees it")]

use std::fmt::{Debug, Display};
use std::path::{Component, Path};
use std::str::FromStr;

use crate::{Controller, Controllers, group, proc_text, stats};

/// What is read prints as what reads the same.
pub fn round_trip<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&value), "{printed:?}");
    }
}

pub fn controllers(text: &str) {
    let set = Controllers::parse(text);
    assert_eq!(Controllers::parse(&set.to_string()), set);
    assert_eq!(set.enabling().split_whitespace().count(), set.iter().count());
}

/// `cgroup.procs` and `cgroup.threads`.
pub fn procs(text: &str) {
    if let Ok(procs) = group::parse_procs(text) {
        assert!(procs.iter().all(|&pid| pid >= 0));
        let printed: String = procs.iter().map(|pid| format!("{pid}\n")).collect();
        assert_eq!(group::parse_procs(&printed).ok(), Some(procs));
    }
}

/// What [`crate::StatsReader`] reads into a value that is there already is what the public parsers read.
pub fn statistics(text: &str) {
    stats::parse::laws(text);
}

pub fn mountinfo(bytes: &[u8]) {
    for mount in proc_text::parse_mounts(bytes) {
        let _ = Controller::ALL.map(|controller| mount.holds(controller));
    }
}

/// `/proc/PID/cgroup`.
pub fn membership(bytes: &[u8]) {
    let membership = proc_text::parse_membership(bytes);
    let Some(own) = membership.v2 else { return };
    assert_eq!(proc_text::below(&own, &own).as_deref(), Some(Path::new("")));
    if let Some(below) = proc_text::below(&own, Path::new("/")) {
        assert!(
            below.is_relative() && below.components().all(|part| part != Component::ParentDir),
            "{own:?}: {below:?}"
        );
    }
}

/// `/proc/cgroups`, and `/proc/PID/fdinfo/FD`.
pub fn tables(bytes: &[u8]) {
    let _ = Controller::ALL.map(|controller| proc_text::parse_cgroups(bytes, controller));
    let _ = proc_text::parse_mount_id(bytes);
}
