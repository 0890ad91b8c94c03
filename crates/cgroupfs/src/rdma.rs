//! The rdma controller's files.
#![forbid(unsafe_code)]

pub(crate) mod limit;
