//! Rules for devices: what is read prints as what reads the same, and fewer rules in other words mean the same.
#![no_main]

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{DevNum, DeviceAccess, DeviceKind, DeviceMatch, DeviceRule, DeviceRules, OrAny};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<DeviceMatch>(text);
    round_trip::<DeviceRule>(text);
    round_trip::<DeviceRules>(text);
    let Ok(rules) = text.parse::<DeviceRules>() else { return };
    // The smallest form of many rules that cross each other is large.
    if rules.rules().len() > 16 {
        return;
    }
    let fewer = rules.normalised();
    assert!(fewer.same_meaning(&rules), "{fewer}");
    assert_eq!(fewer.normalised(), fewer);
    for rule in rules.rules() {
        let devices = rule.devices();
        let number = |number: OrAny<u32>| if let OrAny::Only(number) = number { number } else { 7 };
        let (major, minor) = (number(devices.major), number(devices.minor));
        let Ok(device) = format!("{major}:{minor}").parse::<DevNum>() else { continue };
        for kind in [DeviceKind::Char, DeviceKind::Block] {
            for access in [DeviceAccess::READ, DeviceAccess::WRITE, DeviceAccess::MKNOD] {
                assert_eq!(rules.allows(kind, device, access), fewer.allows(kind, device, access), "{device}");
            }
        }
    }
});
