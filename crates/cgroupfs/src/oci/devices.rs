//! The list of devices of an OCI configuration.
#![forbid(unsafe_code)]

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::invalid;
use crate::{DeviceAccess, DeviceKind, DeviceMatch, DeviceRules, OrAny, Result};

/// The rules in their order.
pub(super) fn rules(rules: &[LinuxDeviceCgroup]) -> Result<DeviceRules> {
    rules.iter().try_fold(DeviceRules::deny_all(), |list, rule| {
        let devices = devices(rule)?;
        Ok(if rule.allow() { list.allow(devices) } else { list.deny(devices) })
    })
}

fn devices(rule: &LinuxDeviceCgroup) -> Result<DeviceMatch> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => OrAny::Any,
        Some(LinuxDeviceType::B) => OrAny::Only(DeviceKind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => OrAny::Only(DeviceKind::Char),
        Some(other) => return Err(invalid("devices", "neither a block nor a character device", other.as_str())),
    };
    let access = match rule.access().as_deref() {
        // What is denied without saying how is denied in every way; what is allowed so, is not said.
        None | Some("") if !rule.allow() => DeviceAccess::ALL,
        None | Some("") => return Err(invalid("devices", "it is allowed, but not to do what", rule)),
        Some(letters) => letters.parse()?,
    };
    Ok(DeviceMatch::new(kind, number(rule.major())?, number(rule.minor())?, access))
}

/// -1 is what engines write for any.
fn number(number: Option<i64>) -> Result<OrAny<u32>> {
    match number {
        None | Some(-1) => Ok(OrAny::Any),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(OrAny::Only(number)),
            Err(_) => Err(invalid("devices", "this is no number of a device", number)),
        },
    }
}
