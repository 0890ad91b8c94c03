//! What the crate does to a real cgroup2 file system, checked by the kernel's own files and by other programs.
#![forbid(unsafe_code)]

/// Configurations of OCI runtimes.
#[cfg(feature = "oci")]
mod oci;
/// Needs root: run alone, in a cgroup namespace of its own.
mod root;
/// Needs an ordinary user, who has a systemd of its own.
#[cfg(feature = "systemd")]
mod user;
#[cfg(feature = "systemd")]
mod with_systemd;
