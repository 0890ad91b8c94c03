//! The cpuset controller's files.
#![forbid(unsafe_code)]

pub(crate) mod list;
pub(crate) mod partition;
