//! Resource limits and I/O priorities: what is read prints as what reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ns_core::{IoPriority, Limit, Resource, Rlimit};

fuzz_target!(|text: &str| {
    if let Ok(limit) = text.parse::<Limit>() {
        assert_eq!(limit.to_string().parse::<Limit>().ok(), Some(limit));
    }
    if let Ok(resource) = text.parse::<Resource>() {
        assert_eq!(resource.to_string().parse::<Resource>().ok(), Some(resource));
    }
    if let Ok(rlimit) = text.parse::<Rlimit>() {
        assert_eq!(rlimit.to_string().parse::<Rlimit>().ok(), Some(rlimit));
    }
    if let Ok(priority) = text.parse::<IoPriority>() {
        assert_eq!(priority.to_string().parse::<IoPriority>().ok(), Some(priority));
    }
});
