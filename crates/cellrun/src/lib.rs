//! The runtime behind the `cellrun` command: the five cellkit libraries, composed.
//!
//! It has no powers of its own: what it does is in `ns-core`, `cgroupfs`, `mountkit`, `vethnet` and `idmap`. Read
//! [`start`] for one container start from top to bottom.
#![deny(unsafe_code)]

pub mod cli;
mod command;
pub mod devices;
pub mod exit;
pub mod explain;
pub mod layers;
mod net_mode;
pub mod network;
pub mod pasta;
pub mod recover;
pub mod request;
pub mod resolver;
pub mod root_dir;
mod rootfs;
pub mod start;
pub mod state;
pub mod supervise;
mod sys;
pub mod terminal;
pub mod user;

use std::io::{IsTerminal, Write};

use cellkit_core::{ErrorKind, ProcFd, ProcView, Result};
use ns_core::{Capability, CapabilitySet, Net, NsFd, User};

use crate::cli::{BoxArgs, Cli, Verb};
use crate::explain::Trace;
use crate::request::Request;
use crate::start::Start;
use crate::state::StateDir;

/// Does what the command line says; the answer is the exit status.
///
/// # Errors
/// Of the first thing that failed: print it with `{:#}` and exit with [`exit::status_of`].
pub fn run(cli: Cli) -> Result<i32> {
    let state = StateDir::at(cli.root.as_deref());
    match cli.command {
        Verb::Box(args) => run_box(*args, state),
        Verb::Recover => {
            for name in state.recover(recover::remove)? {
                let _ = writeln!(std::io::stdout(), "{name}");
            }
            Ok(0)
        }
    }
}

/// Whether the caller may make namespaces and bridges without a user namespace of the container's own.
fn is_privileged() -> Result<bool> {
    let may = || CapabilitySet::of_this_thread().map(|own| own.contains(Capability::SYS_ADMIN));
    // The root of a user namespace is nobody in the network namespace of somebody else.
    let owns_network = || match NsFd::<Net>::of_this_thread()?.owner() {
        Ok(owner) => Ok(owner == NsFd::<User>::of_this_thread()?),
        Err(error) if error.kind() == ErrorKind::Permission => Ok(false),
        Err(error) => Err(error),
    };
    // Where it is denied there are not ids enough for a root file system either.
    let has_groups = || -> Result<bool> {
        let setgroups = ProcFd::open(ProcView::Processes)?.this_thread()?.read("setgroups".as_ref())?;
        Ok(setgroups.starts_with(b"allow"))
    };
    Ok(nix::unistd::geteuid().is_root() && may()? && owns_network()? && has_groups()?)
}

fn run_box(mut args: BoxArgs, state: StateDir) -> Result<i32> {
    // A shell for a person: nobody types -t to get a prompt.
    args.tty |= args.command.is_empty() && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let (explain, trace) = (args.explain, args.trace);
    let request = Request::parse(args, is_privileged()?)?;
    if request.tty && !explain {
        terminal::require()?;
    }
    if !explain {
        // What the dead left is not taken: names, ports, places on the bridge. What cannot be removed is for the claim to
        // tell, or for a later time.
        let _ = state.recover(recover::remove);
    }
    let at_terminal = request.tty;
    let start = Start::prepare(request, state, trace)?;
    if explain {
        // A reader that has seen enough (head) is no error.
        let _ = explain::print(&mut std::io::stdout().lock(), start.notes(), &start.steps()?);
        return Ok(0);
    }
    if at_terminal && !trace {
        let _ = explain::print(&mut std::io::stderr().lock(), start.lacks(), &[]);
    }
    if trace {
        let _ =
            explain::print(&mut std::io::stderr().lock(), start.notes(), &[]).and_then(|()| std::io::stderr().flush());
    }
    start.run(&mut Trace::new(trace))
}
