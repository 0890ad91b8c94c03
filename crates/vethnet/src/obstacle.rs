//! What stands in the way of an attachment: looked for before anything is made.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use cellkit_core::{Error, Result, Subject};

use crate::bind;
use crate::conflict;
use crate::ip_net::IpNet;
use crate::plan::Layout;
use crate::spec::Checked;
use crate::teardown::Host;

/// The first addresses of the ranges, or those that were asked for: for a plan of a network of which nothing is there.
pub(crate) fn first_addresses(layout: &Layout, checked: &Checked) -> Result<Vec<IpNet>> {
    let one = |range: &crate::plan::Range| {
        let subnet = range.subnet;
        let wanted = checked.addresses.iter().find(|address| subnet.contains(**address)).copied();
        let free = wanted.or_else(|| subnet.hosts_after(None).find(|address| Some(*address) != range.gateway));
        free.ok_or_else(|| crate::lease_dir::exhausted(subnet)).and_then(|address| subnet.at(address))
    };
    layout.ranges.iter().map(one).collect()
}

/// Refuses ranges that the machine uses already. For a network of which there is nothing yet. Blocks.
pub(crate) fn check_ranges(host: &Host, layout: &Layout) -> Result<()> {
    conflict::check_with(&layout.subnets(), None, |request| host.list(request))
}

/// Refuses a port that a program of this machine uses: what was published would be taken from it.
pub(crate) fn check_ports(layout: &Layout, checked: &Checked) -> Result<()> {
    // Any address of each family will do to know at which of the host's a port is wanted.
    let families: Vec<IpAddr> = layout.ranges.iter().map(|range| range.subnet.address()).collect();
    checked.ports.iter().try_for_each(|port| bind::check_free(port, &families))
}

/// Refuses what is no namespace, and the host's own.
pub(crate) fn check_netns(netns: &OwnedFd, host: &OwnedFd) -> Result<()> {
    let identity = |fd: &OwnedFd| {
        let stat = nix::sys::stat::fstat(fd).map_err(|errno| Error::from_errno("fstat", errno as i32))?;
        Ok((stat.st_dev, stat.st_ino))
    };
    let subject = || Subject::Namespace("the container's network namespace".into());
    let (theirs, ours) = (identity(netns)?, identity(host)?);
    if theirs == ours {
        return Err(Error::invalid("attach", "it is the host's own")
            .on(subject())
            .with_hint("start the container in a new network namespace (CLONE_NEWNET)"));
    }
    if theirs.0 != ours.0 {
        return Err(Error::invalid("attach", "it is not a namespace")
            .on(subject())
            .with_hint("pass a descriptor of /proc/PID/ns/net"));
    }
    Ok(())
}
