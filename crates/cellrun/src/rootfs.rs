//! The root file system that a container was asked for, as mountkit's plan of it.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::Result;
use idmap::MapPlan;
use mountkit::{DetachedMount, RootFd, Rootfs, Sys};

use crate::request::{NetMode, Request, RootChoice};
use crate::resolver::{self, Resolver};

/// Everything but names being resolved. `lower` is the directory of an overlay, where it was mounted before the start.
pub(crate) fn rootfs(
    request: &Request,
    lower: Option<DetachedMount>,
    maps: Option<&MapPlan>,
    has_cgroup2: bool,
) -> Result<Rootfs> {
    let own_net = matches!(request.net, NetMode::Bridge | NetMode::Pasta | NetMode::None);
    let mut rootfs = match (&request.root, lower) {
        (RootChoice::Host, _) => Rootfs::overlay_of_host(),
        (RootChoice::Overlay(_), Some(lower)) => Rootfs::overlay_of(lower),
        (RootChoice::Overlay(dir), None) => Rootfs::overlay(dir),
        (RootChoice::Bind(dir), _) => Rootfs::bind(dir),
    };
    rootfs = rootfs.proc().sys(if own_net { Sys::Fresh } else { Sys::BindOfHost }).dev();
    if request.masked {
        rootfs = rootfs.mask_defaults();
    }
    if has_cgroup2 {
        rootfs = rootfs.cgroup();
    }
    if request.read_only {
        rootfs = rootfs.read_only();
    }
    let all_ids = maps.is_none() && ns_core::in_initial_user_namespace()?;
    if !all_ids {
        rootfs = rootfs.unprivileged();
    }
    // The group that owns terminals, on most machines, if the container has it.
    const TTY_GID: u32 = 5;
    if all_ids || maps.is_some_and(|plan| plan.maps().gid.to_outside(TTY_GID).is_some()) {
        rootfs = rootfs.tty_gid(TTY_GID);
    }
    if request.tty {
        rootfs = rootfs.console();
    }
    for volume in &request.volumes {
        rootfs = rootfs.volume(volume.clone());
    }
    for (target, options) in &request.tmpfs {
        rootfs = rootfs.tmpfs(target, options.clone());
    }
    Ok(rootfs)
}

/// The root with an `/etc/resolv.conf`, unless that is a volume.
pub(crate) fn with_resolver(rootfs: Rootfs, request: &Request, resolver: &Resolver) -> Result<Rootfs> {
    let place = resolver::place(&root_fd(&request.root)?);
    let is_given =
        request.volumes.iter().any(|volume| [Path::new(resolver::TARGET), &place].contains(&volume.target()));
    Ok(if is_given { rootfs } else { rootfs.file(place, resolver.text()) })
}

/// The directory that the root is made of, as it is outside.
pub(crate) fn root_fd(root: &RootChoice) -> Result<RootFd> {
    match root {
        RootChoice::Host => RootFd::open("/"),
        RootChoice::Overlay(dir) | RootChoice::Bind(dir) => RootFd::open(dir),
    }
}
