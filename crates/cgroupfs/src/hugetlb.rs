//! The hugetlb controller's files.
#![forbid(unsafe_code)]

pub(crate) mod size;
