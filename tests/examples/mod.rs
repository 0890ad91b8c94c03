//! Each example, run as a person would, and held against the tool that it stands for.
//!
//! One module an example, with what needs root in a module `root` of it and the rest in `rootless`.

use std::process::{Command, Output};

mod cgtop;
mod delegate;
mod docker_exec;
mod effective_cpus;
mod escape_as_nobody;
mod findmnt;
mod hostname;
mod idmapped_mount;
mod limit_cpu;
mod limit_io;
mod limit_memory;
mod limit_pids;
mod lsns;
mod map_root;
mod monitor;
mod netns_exec;
mod netns_named;
mod nsenter;
mod overlay;
mod pid1;
mod ping_the_host;
mod pivot_root;
mod pod;
mod port_80_twice;
mod probe;
mod propagation;
mod psi_watch;
mod rate_limit;
mod readme;
mod routed;
mod sandbox;
mod subid_ranges;
mod systemd_scope;
mod time_offsets;
mod unpack_image;
mod unshare;
mod veth_bridge;
mod who_owns_this;

/// The example of this name, ready to be given arguments.
fn example(name: &str) -> Command {
    Command::new(faultkit::built_example(name))
}

/// Runs to its end, and answers what it wrote to standard output; it must have succeeded.
#[track_caller]
fn stdout(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}
