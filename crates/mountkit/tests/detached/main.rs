//! Detached mounts, with the kernel's own table as the judge.
#![forbid(unsafe_code)]

mod root;
