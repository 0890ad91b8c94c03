//! The command line, as a person types it.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs Linux containers.
#[derive(Debug, Parser)]
#[command(name = "cellrun", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    /// Where records of running containers are kept [default: /run/cellrun; without root $XDG_RUNTIME_DIR/cellrun or /tmp/cellrun-UID]
    #[arg(long, value_name = "DIR", global = true)]
    pub root: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a command in a new container and wait for it
    Box(Box<BoxArgs>),
    /// Remove what containers left behind whose cellrun was killed (every `box` does so too)
    Recover,
}

/// `cellrun box`.
#[derive(Args, Debug)]
pub struct BoxArgs {
    /// The container's name, for --net container:NAME [default: random]
    #[arg(long)]
    pub name: Option<String>,
    /// A directory as the root instead of the machine's own /; changes to it are thrown away
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Write into the --rootfs directory instead of a throw-away layer
    #[arg(long, requires = "rootfs")]
    pub writable: bool,
    /// Make the root read-only
    #[arg(long, conflicts_with = "writable")]
    pub read_only: bool,
    /// Leave all of /proc and /sys to be seen, and to root inside to be changed: for containers within the container
    #[arg(long)]
    pub unmask: bool,
    /// A user namespace: auto, host (none), single (root alone), keep-id or keep-id:UID:GID (the caller's id inside), or
    /// the host's UID:GID:COUNT [default: host as root, else auto]
    #[arg(long, value_name = "MAP")]
    pub userns: Option<String>,
    /// Seconds added to the boot-time clock, in a time namespace
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub boottime: Option<i64>,
    /// Seconds added to the monotonic clock, in a time namespace
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub monotonic: Option<i64>,
    /// Memory, such as 512m
    #[arg(short = 'm', long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory and swap together, such as 1g; -1 for swap without limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Processor time in CPUs, such as 0.5
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub cpus: Option<String>,
    /// How many processes and threads
    #[arg(long, alias = "pids-limit", value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids: Option<String>,
    /// Rates of a disk: DEVICE:rbps=1m,wbps=…,riops=…,wiops=…
    #[arg(long, value_name = "DEVICE:RATES")]
    pub io_max: Vec<String>,
    /// none: run in the caller's own cgroup, also on a machine without cgroup2
    #[arg(long, value_name = "auto|none", default_value = "auto")]
    pub cgroup: String,
    /// bridge, pasta, none, host, or container:NAME [default: bridge as root, else pasta where it is installed, else none]
    #[arg(long, alias = "network", value_name = "MODE")]
    pub net: Option<String>,
    /// The bridge's range of addresses
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub subnet: Option<String>,
    /// Publish a port.
    #[arg(
        short = 'p',
        long = "publish",
        value_name = "HOST:CONT",
        help = "Publish a port on all of the machine's addresses (with a bridge but 127.0.0.1): [IP:]HOST:CONTAINER[/tcp|udp]"
    )]
    pub publish: Vec<String>,
    /// Mount a file or directory.
    #[arg(short = 'v', long = "volume", value_name = "SRC:DST[:ro]", help = "Mount a file or directory")]
    pub volumes: Vec<OsString>,
    /// An empty memory file system: TARGET[:size=64m,mode=1777]
    #[arg(long, value_name = "DST[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Set a variable: NAME=VALUE, or NAME to take the caller's value
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// The working directory inside [default: /]
    #[arg(short = 'w', long = "workdir", value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// NAME|UID[:GROUP|GID] inside [default: 0:0]
    #[arg(short = 'u', long, value_name = "USER")]
    pub user: Option<String>,
    /// The host name inside [default: the container's name]
    #[arg(long)]
    pub hostname: Option<OsString>,
    /// Add a capability to the default ones, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Remove a capability of the default ones, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Let set-user-id programs inside gain privileges
    #[arg(long)]
    pub new_privileges: bool,
    /// Put a PID 1 in front of the command that reaps orphans and forwards signals
    #[arg(long)]
    pub init: bool,
    /// Give the command a terminal of its own; standard input must be one [default: when there is no COMMAND]
    #[arg(short = 't', long = "tty")]
    pub tty: bool,
    /// For fingers used to other programs: standard input is always there, and nothing is ever kept
    #[arg(short = 'i', long = "interactive", alias = "rm", hide = true, action = clap::ArgAction::Count)]
    pub interactive: u8,
    /// Print the plan, a numbered list of system calls with their reasons, and stop
    #[arg(long)]
    pub explain: bool,
    /// Print the same list with the time each step took, on standard error
    #[arg(long, conflicts_with = "explain")]
    pub trace: bool,
    /// The command and its arguments [default: /bin/sh]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
