//! `ip netns add NAME; ip netns exec NAME COMMAND [ARGUMENT]...; ip netns delete NAME`: a command in a network namespace
//! with a name. One that is there is used and stays; otherwise it is made for as long as the command runs.
//!
//! As root: `cargo run --example netns_exec -- web ip address`
use std::process::{Command, ExitStatus};

use vethnet::{Error, ErrorKind, Netns, Result};

fn run(netns: &Netns, program: &str, arguments: &[String]) -> Result<ExitStatus> {
    netns
        .run(|| Command::new(program).args(arguments).status())?
        .map_err(|error| Error::from_io("execve", &error).on(std::path::Path::new(program)))
}

fn exec(name: &str, program: &str, arguments: &[String]) -> Result<ExitStatus> {
    match Netns::open_named(name) {
        Ok(netns) => return run(&netns, program, arguments),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let netns = Netns::create_named(name)?;
    let status = run(&netns, program, arguments);
    // Whatever became of the command, the name goes.
    Netns::remove_named(name)?;
    status
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, program, arguments @ ..] = arguments.as_slice() else {
        eprintln!("usage: netns_exec NAME COMMAND [ARGUMENT]...");
        std::process::exit(2)
    };
    match exec(name, program, arguments) {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("{error:#}");
            std::process::exit(1)
        }
    }
}
