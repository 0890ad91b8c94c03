//! `nsenter --target PID --mount --uts --ipc --net --pid --cgroup --user --time COMMAND`: a command in the namespaces of
//! another process, or in those pinned to files (`--net=/run/netns/web`).
//!
//! As root: `cargo run --example nsenter -- --target 1234 --net --pid ps`
use ns_core::{CapabilitySet, Cgroup, Command, Ipc, Kind, Mount, Net, NsFd, Pid, Result, Time, User, Uts};

const USAGE: &str = "usage: nsenter [--target PID] [--mount | --uts | --ipc | --net | --pid | --cgroup | --user | --time]\
                     [=FILE]... COMMAND [ARGUMENT]...";

fn usage() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(2)
}

/// Adds one namespace: the one pinned to the file, or that of the process.
fn join<K: Kind>(command: Command, target: Option<i32>, file: Option<&str>) -> Result<Command> {
    let namespace = match (file, target) {
        (Some(file), _) => NsFd::<K>::open(file)?,
        (None, Some(pid)) => NsFd::<K>::of_pid(pid)?,
        (None, None) => usage(),
    };
    Ok(command.join(namespace))
}

fn main() -> Result<()> {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let mut target = None;
    let mut wanted = Vec::new();
    let mut args = all.iter().map(String::as_str);
    let program = loop {
        match args.next() {
            Some("--target" | "-t") => target = args.next().and_then(|pid| pid.parse().ok()).or_else(|| usage()),
            Some(option) if option.starts_with("--") => wanted.push(option.split_once('=').unwrap_or((option, ""))),
            Some(program) => break program,
            None => usage(),
        }
    };
    // What a command is not given here it does not have: nsenter(1) keeps all capabilities.
    let mut command = Command::new(program).args(args).capabilities(CapabilitySet::FULL);
    for (kind, file) in wanted {
        let file = Some(file).filter(|file| !file.is_empty());
        command = match kind {
            "--mount" => join::<Mount>(command, target, file)?,
            "--uts" => join::<Uts>(command, target, file)?,
            "--ipc" => join::<Ipc>(command, target, file)?,
            "--net" => join::<Net>(command, target, file)?,
            "--pid" => join::<Pid>(command, target, file)?,
            "--cgroup" => join::<Cgroup>(command, target, file)?,
            "--user" => join::<User>(command, target, file)?,
            "--time" => join::<Time>(command, target, file)?,
            _ => usage(),
        };
    }
    std::process::exit(command.spawn()?.wait()?.shell_code())
}
