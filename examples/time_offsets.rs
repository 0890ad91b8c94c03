//! `unshare --time --boottime SECONDS --monotonic SECONDS COMMAND`: a command for which the machine has been running for
//! longer, or not as long.
//!
//! As root: `cargo run --example time_offsets -- --boottime 86400 uptime --pretty`
use ns_core::{CapabilitySet, Command, Result, TimeOffsets};

fn usage() -> ! {
    eprintln!("usage: time_offsets [--boottime SECONDS] [--monotonic SECONDS] COMMAND [ARGUMENT]...");
    std::process::exit(2)
}

fn main() -> Result<()> {
    let mut offsets = TimeOffsets::default();
    let mut args = std::env::args().skip(1);
    let program = loop {
        let Some(arg) = args.next() else { usage() };
        let clock = match arg.as_str() {
            "--boottime" => &mut offsets.boottime,
            "--monotonic" => &mut offsets.monotonic,
            _ if arg.starts_with('-') => usage(),
            _ => break arg,
        };
        *clock = args.next().and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| usage());
    };
    let command = Command::new(program).args(args).time_offsets(offsets).capabilities(CapabilitySet::FULL);
    std::process::exit(command.status()?.shell_code())
}
