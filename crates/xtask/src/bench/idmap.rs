//! Id maps: lookups, starts as an ordinary user, user namespaces as descriptors, and trees whose owners are shifted.
//!
//! The rounds are interleaved, so that a busy moment of the machine strikes everybody. All but the lookups run in a private
//! mount namespace, where /etc knows two ordinary users, one with ranges of ids and one without.
#![forbid(unsafe_code)]

mod lookup;
mod place;
mod shift;
mod start;
mod userns;

use std::process::{Command, ExitCode};

use super::build;
use crate::install;
use crate::{Result, cargo, is_root};

/// Set in the private mount namespace: where the worker is.
const INSIDE: &str = "CELLKIT_BENCH_INSIDE";

/// What `cargo xtask bench idmap` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each is done
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Install the programs to compare with
    #[arg(long)]
    install: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Lookup,
    Start,
    Userns,
    Shift,
}

impl Part {
    const ALL: [Self; 4] = [Self::Lookup, Self::Start, Self::Userns, Self::Shift];

    fn word(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Start => "start",
            Self::Userns => "userns",
            Self::Shift => "shift",
        }
    }
}

/// Measures.
///
/// # Errors
/// When it cannot be done at all: no root, no newuidmap.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        return Err("the comparison needs root, which starts programs as other users".into());
    }
    let Some(worker) = std::env::var_os(INSIDE) else { return outside(options) };
    let place = place::Place::new(worker.as_ref())?;
    for part in Part::ALL.into_iter().filter(|part| options.only.is_none_or(|only| only == *part)) {
        match part {
            Part::Lookup => lookup::run(&place, options.rounds)?,
            Part::Start => start::run(&place, options.rounds)?,
            Part::Userns => userns::run(&place, options.rounds)?,
            Part::Shift => shift::run(&place, options.rounds)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs and builds, then runs this program again in the private mount namespace, where the cgroup2 hierarchy is at
/// /sys/fs/cgroup, for crun refuses to start where it is elsewhere.
fn outside(options: &Options) -> Result<ExitCode> {
    install::ensure(install::TEST_TOOLS)?;
    if options.install {
        install::ensure(install::PEERS)?;
    }
    let worker = build::worker("idmap")?;
    if !cargo().args(["build", "--release", "--package", "cellrun", "--quiet"]).status()?.success() {
        return Err("cellrun does not build".into());
    }
    let script = "u=/sys/fs/cgroup/unified; if [ -d $u ]; then mount --bind $u /sys/fs/cgroup; fi; exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .args(["bench", "idmap"])
        .args(["--rounds", &options.rounds.to_string()])
        .env(INSIDE, worker);
    if let Some(only) = options.only {
        command.args(["--only", only.word()]);
    }
    let status = command.status().map_err(|e| format!("unshare: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
