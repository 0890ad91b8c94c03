//! `unshare --uts sh -c 'hostname "$0"; uname -n' NAME; uname -n`: the program of clone(2)'s manual page, and of every
//! tutorial about namespaces. A child gets a UTS namespace and a name of its own; the machine keeps its name.
//!
//! As root: `cargo run --example hostname -- bizarro`
use ns_core::{Command, Namespaces, Result};

fn main() -> Result<()> {
    let name = std::env::args_os().nth(1).unwrap_or("bizarro".into());
    for command in [
        Command::new("uname").namespaces(Namespaces::UTS).hostname(name), // inside
        Command::new("uname"),                                            // outside
    ] {
        command.arg("-n").spawn()?.wait()?;
    }
    Ok(())
}
