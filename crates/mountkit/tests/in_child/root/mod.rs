//! Everything here needs root: it makes mount namespaces. What an ordinary user gets is tested by becoming one.

mod copy_up;
mod detached;
mod dev;
mod enter;
mod failures;
mod file;
mod flags;
mod host;
mod hostile;
mod layers;
mod masks;
mod missing;
mod propagation;
mod unprivileged;
mod volumes;
mod writes;

use mountkit::{Rootfs, Sys, Volume};

/// A root as a container has it by default, on `rootfs`.
fn complete(rootfs: Rootfs) -> Rootfs {
    rootfs.proc().sys(Sys::Fresh).dev().cgroup().mask_defaults()
}

/// `rootfs` with the host's programs.
fn with_usr(rootfs: Rootfs) -> Rootfs {
    rootfs.volume(Volume::bind("/usr", "/usr").read_only())
}

/// Runs a program of the host, which must succeed.
#[track_caller]
fn host(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
