//! Names of groups, which are one directory and never a file of the kernel's, and of controllers.
#![no_main]

use std::path::Path;

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{CgroupName, CgroupType, Controller, DelegateFiles, Features, PressureAccounting};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<CgroupName>(text);
    round_trip::<Controller>(text);
    round_trip::<CgroupType>(text);
    round_trip::<PressureAccounting>(text);
    round_trip::<Features>(text);
    round_trip::<DelegateFiles>(text);
    cgroupfs::fuzzing::controllers(text);
    if let Ok(name) = CgroupName::new(text) {
        let path = Path::new(name.as_str());
        assert_eq!(path.file_name(), Some(text.as_ref()));
        assert!(path.components().count() == 1 && text.len() <= 255);
        assert!(!["cgroup.", "memory.", "cpu.", "io.", "pids."].iter().any(|prefix| text.starts_with(prefix)));
    }
});
