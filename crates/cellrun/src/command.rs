//! The process that a container was asked for, as ns-core's command: its namespaces, ids, capabilities and environment.
#![forbid(unsafe_code)]

use cellkit_core::Result;
use idmap::{MapPlan, Setgroups};
use mountkit::Rootfs;
use ns_core::{CapabilitySet, Command, Namespaces};

use crate::net_mode;
use crate::request::{NetMode, Request};
use crate::state::StateDir;
use crate::terminal;
use crate::user::User;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything is collected; what is wrong shows in [`Command::plan`], or is a capability or a container that is missing.
pub(crate) fn command(
    request: &Request,
    state: &StateDir,
    maps: Option<&MapPlan>,
    user: Option<User>,
    rootfs: Rootfs,
    timed: bool,
) -> Result<Command> {
    let mut namespaces = Namespaces::PID | Namespaces::MOUNT | Namespaces::UTS | Namespaces::IPC | Namespaces::CGROUP;
    namespaces.set(Namespaces::USER, maps.is_some());
    namespaces.set(Namespaces::NET, matches!(request.net, NetMode::Bridge | NetMode::Pasta | NetMode::None));
    let mut command = Command::new(&request.program)
        .args(&request.args)
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .env("HOSTNAME", &request.hostname)
        .namespaces(namespaces)
        .hostname(&request.hostname)
        .steps(rootfs.steps()?)
        .current_dir(&request.dir)
        .capabilities(capabilities(request, maps.is_some())?)
        .new_session()
        .kill_with_parent();
    let user = user.unwrap_or_else(User::root);
    command = command.env("HOME", user.home.as_deref().unwrap_or("/"));
    if request.tty {
        let term = std::env::var_os("TERM").unwrap_or_else(|| "xterm".into());
        command = command.terminal().env("TERM", term);
        if let Some((rows, columns)) = terminal::size() {
            command = command.terminal_size(rows, columns);
        }
    }
    for (name, value) in &request.env {
        command = command.env(name, value);
    }
    if maps.is_some_and(|plan| plan.setgroups() == Setgroups::Deny) {
        command = command.keep_groups();
    } else {
        command = command.groups(user.groups);
    }
    if (user.uid, user.gid) != (0, 0) {
        command = command.user(user.uid, user.gid);
    }
    if request.no_new_privs {
        command = command.no_new_privs();
    }
    if request.init {
        command = command.init();
    }
    if request.limits.memory_max.is_some() {
        // As the library does by itself where a group has a limit; said here so that --explain tells it.
        command = command.copy_memory();
    }
    if request.net == NetMode::None {
        command = command.loopback_up();
    }
    if let Some(offsets) = request.time {
        command = command.time_offsets(offsets);
    }
    if let NetMode::Container(id) = &request.net {
        command = command.join(net_mode::of_container(state, id, maps.is_some())?);
    }
    if timed {
        command = command.timed();
    }
    Ok(command)
}

/// The default set is what it says less what the caller lacks; a capability asked for by name must be there.
fn capabilities(request: &Request, new_user: bool) -> Result<CapabilitySet> {
    if new_user || request.capabilities == CapabilitySet::FULL {
        return Ok(request.capabilities);
    }
    let own = CapabilitySet::of_this_thread()?;
    Ok(request.capabilities.intersection(own).union(request.named_capabilities))
}
