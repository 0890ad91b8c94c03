//! `cargo xtask bench`: how long things take, here, next to other programs that do them.
//!
//! Only the ratios mean something elsewhere. No test fails because of a time.
#![forbid(unsafe_code)]

mod build;
mod cgroup;
mod idmap;
mod list;
mod mount;
mod mount_table;
mod net;
mod plot;
mod spawn;
mod start;
mod table;
mod unpack;
mod worker;

use std::process::ExitCode;

use crate::Result;

/// What `cargo xtask bench` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Start /bin/true in new pid, network, IPC, UTS and mount namespaces and wait for it. Prints Markdown
    Start(start::Options),
    /// List the namespaces that 2,000 processes are in. Prints Markdown
    List(list::Options),
    /// Read a table of many mounts, beside findmnt and another crate. Prints Markdown
    Table(mount_table::Options),
    /// Make, limit, read and remove control groups beside other crates, in a virtual machine that has every controller, and
    /// start programs in them. Prints Markdown
    Cgroup(cgroup::Options),
    /// Give containers their root: beside a program in C that makes the same system calls, on a host with many mounts, and
    /// ten at once. Prints Markdown
    Mount(mount::Options),
    /// Start /bin/true in six new namespaces, without mounts, from small and large programs. Prints Markdown
    Spawn(spawn::Options),
    /// Look ids up in maps, start programs as an ordinary user, make user namespaces as descriptors. Prints Markdown
    Idmap(idmap::Options),
    /// Attach containers to a network and detach them, beside CNI, netavark and a program in C that sends the same messages;
    /// many of them; traffic through it. Prints Markdown
    Net(net::Options),
    /// Unpack an image layer of 500 MB, beside GNU tar. Prints Markdown
    Unpack(unpack::Options),
}

/// What the figures were taken on.
fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, Into::<usize>::into);
    format!("Linux {}, {processors} processors", kernel.trim())
}

/// Does it.
///
/// # Errors
/// When it cannot be done at all: no root, no C compiler.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Start(options) => start::run(options),
        What::Cgroup(options) => cgroup::run(options),
        What::Table(options) => mount_table::run(options),
        What::List(options) => list::run(options),
        What::Mount(options) => mount::run(options),
        What::Spawn(options) => spawn::run(options),
        What::Idmap(options) => idmap::run(options),
        What::Net(options) => net::run(options),
        What::Unpack(options) => unpack::run(options),
    }
}
