//! Where everybody can run what is measured: namespaces that stand for machines and for containers, and the workers in them.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::bench::start::Scratch;
use crate::bench::worker::Worker;
use crate::install::output;

const FLOOR: &str = include_str!("../../../../../benches/net/floor.c");

/// The network that the worker in C and the one wired by hand find there: a bridge of this name, and a table.
pub const BY_HAND: &str = "hand0";
/// The range of all networks that are measured, each in a namespace of its own.
pub const SUBNET: &str = "10.77.0.0/16";
pub const GATEWAY: &str = "10.77.0.1";

#[derive(Debug)]
pub struct Place {
    scratch: Scratch,
    worker: PathBuf,
    floor: PathBuf,
}

impl Place {
    /// # Errors
    /// Without a C compiler.
    pub fn new(worker: PathBuf) -> Result<Self> {
        let scratch = Scratch::new()?;
        let (source, floor) = (scratch.path().join("floor.c"), scratch.path().join("floor"));
        fs::write(&source, FLOOR)?;
        output(Command::new("cc").args(["-O2", "-Wall", "-o"]).args([&floor, &source]))?;
        Ok(Self { scratch, worker, floor })
    }

    /// A folder on the tmpfs at /run, where runtimes keep such state.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn state(name: &str) -> Result<PathBuf> {
        let dir = Path::new("/run").join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// A folder on the disk.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn disk(&self, name: &str) -> Result<PathBuf> {
        let dir = self.scratch.path().join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// The library's worker on `machine`, with its state in `dir`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ours(&self, machine: &Machine, dir: &Path, mode: &str) -> Result<Worker> {
        Worker::start("benches/net", machine.command(&self.worker).arg(dir).arg(mode))
    }

    /// The worker in C on `machine`, which was wired by hand; with a folder it writes leases.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn floor(&self, machine: &Machine, dir: Option<&Path>) -> Result<Worker> {
        Worker::start("floor", machine.command(&self.floor).args([BY_HAND, GATEWAY]).args(dir))
    }
}

/// A network namespace that stands for a machine, or for a container. It goes away with the private /run.
#[derive(Debug)]
pub struct Machine {
    name: String,
}

impl Machine {
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let machine = Self { name: name.to_owned() };
        output(Command::new("ip").args(["netns", "add", name]))?;
        machine.ip("link set lo up")?;
        Ok(machine)
    }

    /// Those of the containers 0 to `count` - 1, as the workers name them.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn containers(count: u32) -> Result<()> {
        let missing = (0..count).filter(|number| !container(*number).exists());
        let lines: String = missing.map(|number| format!("netns add c{number}\n")).collect();
        feed(Command::new("ip").args(["-batch", "-"]), &lines)
    }

    /// The container of this number.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn container(number: u32) -> Result<Self> {
        Self::containers(number + 1)?;
        Ok(Self { name: format!("c{number}") })
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// `program` in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// `ip ARGUMENTS`
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// `nft -f -`
    ///
    /// # Errors
    /// When it fails.
    pub fn nft(&self, rules: &str) -> Result<()> {
        feed(self.command("nft").args(["-f", "-"]), rules)
    }

    /// A bridge with the gateway's address, forwarding, and a table of the same name, as somebody makes them who has only
    /// ip(8), sysctl(8) and nft(8).
    ///
    /// # Errors
    /// When one of them fails.
    pub fn wire_by_hand(&self) -> Result<()> {
        self.ip(&format!("link add {BY_HAND} type bridge"))?;
        self.ip(&format!("address add {GATEWAY}/16 dev {BY_HAND}"))?;
        self.ip(&format!("link set {BY_HAND} up"))?;
        output(self.command("sh").args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]))?;
        self.nft(&format!(
            "table ip {BY_HAND} {{
                map published {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
                chain prerouting {{
                    type nat hook prerouting priority dstnat
                    fib daddr type local dnat ip to meta l4proto . th dport map @published
                }}
                chain output {{
                    type nat hook output priority -100
                    fib daddr type local dnat ip to meta l4proto . th dport map @published
                }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat
                    ip saddr {SUBNET} oifname != \"{BY_HAND}\" masquerade
                }}
                chain forward {{
                    type filter hook forward priority filter
                    oifname \"{BY_HAND}\" ct state established,related accept
                    oifname \"{BY_HAND}\" ct status dnat accept
                    oifname \"{BY_HAND}\" drop
                }}
            }}\n"
        ))
    }
}

/// The name of a container's namespace.
pub fn container(number: u32) -> PathBuf {
    Path::new("/run/netns").join(format!("c{number}"))
}

/// Runs a program that reads `text`.
///
/// # Errors
/// When it fails, with what it said.
pub fn feed(command: &mut Command, text: &str) -> Result<()> {
    converse(command, text).map(drop)
}

/// Runs a program that reads `text`, and returns what it says.
///
/// # Errors
/// When it fails, with what it said: CNI's plugins say it on the standard output.
pub fn converse(command: &mut Command, text: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("{name}: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{name}: {}: {}{said}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}
