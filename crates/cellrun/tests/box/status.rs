//! `/proc/PID/status`, as text somebody printed.

/// The value of one of its lines.
#[track_caller]
pub fn value(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
}

/// One of its masks.
#[track_caller]
pub fn mask(status: &str, key: &str) -> u64 {
    u64::from_str_radix(&value(status, key), 16).expect("a mask")
}
