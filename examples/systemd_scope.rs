//! `systemd-run --scope [--user] [--unit NAME] [--slice NAME] [-p MemoryMax=BYTES] COMMAND`: a command in a scope of its own.
//!
//! As root, or as anybody: `cargo run --example systemd_scope -- --user --memory 64m cat /proc/self/cgroup`
use std::time::Duration;

use cgroupfs::systemd::{CollectMode, Connection, Delegate, Scope};
use cgroupfs::{Bytes, Error, Limits, Result};
use ns_core::Command;

const USAGE: &str =
    "usage: systemd_scope [--user] [--unit NAME.scope] [--slice NAME.slice] [--memory BYTES] COMMAND [ARGUMENT]...";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::from_io("epoll_create1", &error))?;
    std::process::exit(runtime.block_on(run())?)
}

async fn run() -> Result<i32> {
    let mut is_user = false;
    let mut unit = format!("run-{}.scope", std::process::id());
    let (mut slice, mut limits) = (None, Limits::new());
    let mut args = std::env::args().skip(1);
    let program = loop {
        let word = args.next();
        let mut value = || args.next().unwrap_or_else(|| usage());
        match word.as_deref() {
            Some("--user") => is_user = true,
            Some("--unit") => unit = value(),
            Some("--slice") => slice = Some(value()),
            Some("--memory") => limits = limits.memory_max(value().parse::<Bytes>()?),
            Some(program) if !program.starts_with('-') => break program.to_owned(),
            _ => usage(),
        }
    };
    let bus = if is_user { Connection::user().await? } else { Connection::system().await? };
    // It waits before its first instruction until it is in its group.
    let paused = Command::new(program).args(args).spawn_paused()?;
    let mut scope = Scope::new(unit)
        .pidfd(&paused)
        .limits(limits)
        .delegate(Delegate::All)
        .collect_mode(CollectMode::InactiveOrFailed)
        .timeout_stop(Duration::from_secs(5));
    if let Some(slice) = slice {
        scope = scope.slice(slice);
    }
    let unit = scope.start(&bus).await?;
    eprintln!("running as unit {} in {}", unit.name(), unit.cgroup().path().display());
    let status = paused.resume(&mut ())?.wait();
    // What it has left behind goes with the scope.
    unit.stop(Duration::from_secs(10)).await?;
    Ok(status?.shell_code())
}

fn usage() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(2)
}
