//! Which devices a container may open and make.
#![forbid(unsafe_code)]

use cellkit_core::Result;
use cgroupfs::{DeviceAccess, DeviceMatch, DeviceRules};
use mountkit::Volume;

/// The rules of the container's group, if it has one: what every container gets, and the devices that are volumes of their
/// own. `None` in a user namespace, where the kernel lets nobody make a node: what a container finds there, it was given.
///
/// # Errors
/// When the caller's own user namespace cannot be asked.
pub fn rules(
    has_group: bool,
    new_user: bool,
    volumes: &[Volume],
    notes: &mut Vec<String>,
) -> Result<Option<DeviceRules>> {
    let why_not = if new_user || !ns_core::in_initial_user_namespace()? {
        "in a user namespace the kernel lets nobody make device nodes"
    } else if !has_group {
        "it belongs to a cgroup of its own"
    } else {
        // What is no device needs no rule.
        let given = volumes.iter().filter_map(|volume| DeviceMatch::of_path(volume.source(), DeviceAccess::ALL).ok());
        return Ok(Some(given.fold(DeviceRules::oci_default(), DeviceRules::allow)));
    };
    notes.push(format!("no device filter: {why_not}"));
    Ok(None)
}
