//! Which network a container gets, where that takes a look at the machine.
#![forbid(unsafe_code)]

use cellkit_core::{Error, ErrorKind, ProcFd, Result, Subject};
use ns_core::{Net, NsFd};

use crate::pasta;
use crate::request::NetMode;
use crate::state::{Id, StateDir};

/// Which network it is, now that the machine can be looked at.
pub(crate) fn settled(net: NetMode, new_user: bool, proc: &ProcFd, notes: &mut Vec<String>) -> Result<NetMode> {
    match net {
        NetMode::Auto => match if new_user { pasta::why_not(proc) } else { Some("it has no user namespace".into()) } {
            None => Ok(NetMode::Pasta),
            Some(why) => {
                notes.push(format!("no network but a loopback interface: {why}"));
                Ok(NetMode::None)
            }
        },
        NetMode::Pasta if !new_user => Err(Error::invalid("--net", "pasta is for a container with a user namespace")
            .on(Subject::Value("pasta".into()))
            .with_hint("use --userns auto, or as root --net bridge")),
        net => Ok(net),
    }
}

/// The network namespace of a running container.
pub(crate) fn of_container(state: &StateDir, id: &Id, new_user: bool) -> Result<NsFd<Net>> {
    if new_user {
        return Err(Error::invalid(
            "setns",
            "joining another container's network from a new user namespace is not allowed",
        )
        .on(Subject::Value(format!("container:{}", id.as_str())))
        .with_hint("run as root with --userns host, or share the network with --net host"));
    }
    let record = state.find(id).map_err(|error| match error.kind() {
        // By the option, which is what was wrong; which file it was looked for in is no matter.
        ErrorKind::NotFound => Error::from_errno("--net", libc::ENOENT)
            .on(Subject::Value(format!("container:{}", id.as_str())))
            .with_hint("no container of this name is running: see the --name it was started with"),
        _ => error,
    })?;
    let process = record
        .process
        .ok_or_else(|| Error::gone("pidfd_open", None).on(Subject::Value(format!("container:{}", id.as_str()))))?;
    NsFd::of_process(process.open()?)
}
