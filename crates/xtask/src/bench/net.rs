//! Networks: a container wired and unwired beside CNI's plugins, netavark and a program in C that sends the same messages; the
//! thousandth container beside the first; traffic; and single requests beside ip(8).
//!
//! The rounds are interleaved, so that a busy moment of the machine strikes everybody. Each contender has a network namespace of
//! its own that stands for the machine. All of it is in a private mount namespace with another /run, where ip(8) keeps the
//! names of namespaces, iptables its lock, and everybody the state: the machine's own network is neither used nor changed.
#![forbid(unsafe_code)]

mod attach;
mod cni;
mod links;
mod many;
mod netavark;
mod place;
mod traffic;

use std::process::{Command, ExitCode};

use super::build;
use crate::install;
use crate::{Result, is_root};

/// Set in the private mount namespace: where the worker is.
const INSIDE: &str = "CELLKIT_BENCH_INSIDE";

/// What `cargo xtask bench net` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often a container is attached and detached by each
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// How many containers are attached at the same time
    #[arg(long, default_value_t = 1000)]
    containers: u32,
    /// How often each way is measured with traffic, a second each
    #[arg(long, default_value_t = 12)]
    seconds: u32,
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Install the programs to compare with
    #[arg(long)]
    install: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Attach,
    Many,
    Traffic,
    Links,
}

impl Part {
    const ALL: [Self; 4] = [Self::Attach, Self::Many, Self::Traffic, Self::Links];

    fn word(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Many => "many",
            Self::Traffic => "traffic",
            Self::Links => "links",
        }
    }
}

/// Measures.
///
/// # Errors
/// When it cannot be done at all: no root, no C compiler.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        return Err("the comparison needs root: it makes network namespaces".into());
    }
    let Some(worker) = std::env::var_os(INSIDE) else { return outside(options) };
    let place = place::Place::new(worker.into())?;
    for part in Part::ALL.into_iter().filter(|part| options.only.is_none_or(|only| only == *part)) {
        match part {
            Part::Attach => attach::run(&place, options.rounds)?,
            Part::Many => many::run(&place, options.containers)?,
            Part::Traffic => traffic::run(&place, options.seconds)?,
            Part::Links => links::run(&place, options.rounds)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs and builds, then runs this program again in a mount namespace and a network namespace of its own.
fn outside(options: &Options) -> Result<ExitCode> {
    install::ensure(install::TEST_TOOLS)?;
    if options.install {
        install::ensure(install::PEERS)?;
    }
    let worker = build::worker("net")?;
    let script = "mount -t tmpfs run /run && mkdir /run/netns && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .args(["bench", "net", "--rounds", &options.rounds.to_string()])
        .args(["--containers", &options.containers.to_string(), "--seconds", &options.seconds.to_string()])
        .env(INSIDE, worker);
    if let Some(only) = options.only {
        command.args(["--only", only.word()]);
    }
    let status = command.status().map_err(|e| format!("unshare: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
