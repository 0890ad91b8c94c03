//! What the crate does to a real cgroup2 file system, checked by the kernel's own files and by other programs.
#![forbid(unsafe_code)]

/// Needs root: run alone, in a cgroup namespace of its own.
mod root;
