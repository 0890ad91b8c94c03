//! Applies a layer to a folder, for `cargo xtask bench unpack`: `unpack LAYER FOLDER`. It answers with the most memory
//! that it had, in KiB.
#![forbid(unsafe_code)]

use std::fs::File;

use mountkit::layers::Apply;
use mountkit::{Error, RootFd};

fn main() -> mountkit::Result<()> {
    // Cargo may put `--bench` before or behind.
    let arguments: Vec<_> = std::env::args_os().skip(1).filter(|argument| argument != "--bench").collect();
    let [layer, folder] = arguments.as_slice() else {
        return Err(Error::invalid("unpack", "a layer and a folder are wanted"));
    };
    let layer = File::open(layer).map_err(|error| Error::from_io("open", &error))?;
    Apply::new().apply(layer, &RootFd::open(folder)?)?;
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| Error::from_io("read", &error))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    println!("{}", peak.trim().trim_end_matches(" kB"));
    Ok(())
}
