//! Control groups beside other crates that make and read them.
//!
//! Most machines give cgroup2 only some controllers, and the other crates look for it at /sys/fs/cgroup alone. So what
//! needs controllers is measured in the virtual machine, in one boot: this program runs itself there. The clock there counts
//! the emulated instructions of the kernel and its programs, so that a busy machine does not blur it. What needs no more
//! controllers than this machine has is measured on it, the other crates in a mount namespace that has cgroup2 where they
//! want it.
//!
//! Every round does each thing once, in turn. What is timed is inside workers: `benches/cgroup`, and `benches/peers` for
//! the other crates. Processes that are moved, and the groups that are read, are made by this program, and it looks at the
//! kernel's files to see whether everybody did the same.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use super::plot::{self, Chart};
use super::table::{Row, markdown};
use super::worker::Worker;
use super::{build, machine};
use crate::install::output;
use crate::vm::{Init, Kernel, Machine};
use crate::{Result, is_root};

mod life;
mod snapshot;
mod starters;

/// Set in the virtual machine.
const INSIDE: &str = "CELLKIT_BENCH_INSIDE";
/// Where the virtual machine has the programs and where it leaves what it has to say.
const PROGRAMS: &str = "/job-bin";
const ANSWERS: &str = "/job";

/// What `cargo xtask bench cgroup` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each thing is done
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// How many groups are read
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// How many starts sixteen threads make, five times
    #[arg(long, default_value_t = 1600)]
    starts: usize,
    /// Which kernel the virtual machine has
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// Let the processor run the virtual machine, and take times: many times faster where /dev/kvm works
    #[arg(long)]
    kvm: bool,
    /// Kill the virtual machine after this many seconds
    #[arg(long, default_value_t = 900)]
    limit_secs: u64,
    /// Only what this machine can show by itself
    #[arg(long)]
    no_vm: bool,
    /// Write the medians of the virtual machine as a picture
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// # Errors
/// When it cannot be done at all: no root, no virtual machine.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        return Err("the comparison needs root: the other crates do".into());
    }
    if std::env::var_os(INSIDE).is_some() {
        let dir = Path::new(PROGRAMS);
        let peers = Some(dir.join(PEERS)).filter(|file| file.exists());
        let programs = Programs { worker: dir.join(WORKER), peers };
        let charts = with_controllers(&programs, options)?;
        plot::write(&Path::new(ANSWERS).join("svg"), &charts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let programs = Programs { worker: build::worker("cgroup")?, peers: build::peers(PEERS)? };
    if !options.no_vm {
        in_machine(&programs, options)?;
    }
    println!("On this machine, {}:\n", machine());
    on_this_machine(&programs, options)?;
    Ok(ExitCode::SUCCESS)
}

const WORKER: &str = "cgroup";
const PEERS: &str = "cellkit-bench-cgroup-peers";

struct Programs {
    worker: PathBuf,
    /// Other crates, where they can be built.
    peers: Option<PathBuf>,
}

impl Programs {
    fn worker(&self) -> Result<Worker> {
        Worker::start("benches/cgroup", Command::new(&self.worker).arg("--worker"))
    }

    fn peers(&self) -> Result<Option<Worker>> {
        self.peers.as_ref().map(|program| Worker::start("benches/peers", &mut Command::new(program))).transpose()
    }

    /// Where cgroup2 is not at /sys/fs/cgroup, which is the only place where they look for it.
    fn peers_seeing(&self, top: &Path) -> Result<Option<Worker>> {
        const MOVE: &str = r#"mount --bind "$1" /sys/fs/cgroup && exec "$2""#;
        let start = |program: &PathBuf| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", MOVE, "sh"]).arg(top).arg(program);
            Worker::start("benches/peers", &mut command)
        };
        self.peers.as_ref().map(start).transpose()
    }
}

fn in_machine(programs: &Programs, options: &Options) -> Result<()> {
    let vm = Machine::prepare(options.kernel, Init::Job, 2048, options.kvm)?;
    let vm = vm.with_one_processor().with_instructions_counted();
    let here = std::env::current_exe()?;
    let mut files = vec![("xtask", here.as_path()), (WORKER, programs.worker.as_path())];
    files.extend(programs.peers.as_deref().map(|program| (PEERS, program)));
    // What is started is in memory and needs no libraries: nobody is to wait for this machine's disks, least of all with a
    // clock that counts instructions.
    let script = format!(
        "ulimit -n 1048576\nmkdir /run/local\ncp /bin/busybox /run/local/sleep\nexport PATH=/run/local:$PATH\n{INSIDE}=1 {PROGRAMS}/xtask bench cgroup --rounds {} --groups {} >{ANSWERS}/out 2>{ANSWERS}/err\n",
        options.rounds, options.groups,
    );
    let answers = vm.run_programs(&files, &script, &["out", "err", "svg"], Duration::from_secs(options.limit_secs))?;
    let [out, err, svg] = answers.as_slice() else { return Err("the machine left no answers".into()) };
    println!(
        "In a virtual machine, {}:\n\n{out}",
        if options.kvm { "by KVM" } else { "a millisecond is a million instructions" }
    );
    if !err.is_empty() {
        return Err(err.trim().to_owned().into());
    }
    if let Some(file) = &options.svg {
        fs::write(file, svg)?;
    }
    Ok(())
}

fn with_controllers(programs: &Programs, options: &Options) -> Result<Vec<Chart>> {
    println!("{}.\n", machine());
    let top = Path::new("/sys/fs/cgroup");
    // What a kernel does for the first group of all, such as patching itself, it does not do for each.
    let _another = Parent::make(top, "another")?;
    let read = snapshot::measure(programs, top, options.groups, options.rounds.div_ceil(2))?;
    let started = life::measure_started(programs, top, options.rounds)?;
    println!("With the mount option favordynmods, so that a move does not wait for an RCU grace period:\n");
    output(Command::new("mount").args(["-o", "remount,favordynmods"]).arg(top))?;
    let moved = life::measure_moved(programs, top, options.rounds)?;
    Ok(vec![started, moved, read])
}

fn on_this_machine(programs: &Programs, options: &Options) -> Result<()> {
    let top = mount_point()?;
    // As many as the usual limit on descriptors allows.
    snapshot::measure_alone(programs, &top, options.groups.min(60), options.rounds)?;
    life::measure_started_here(programs, &top, options.rounds)?;
    starters::measure(programs, &top, options.starts)
}

/// Where cgroup2 is mounted on this machine.
fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.filter(|fields| fields.get(2) == Some(&"cgroup2")).find_map(|fields| fields.get(1).copied());
    Ok(found.ok_or("no cgroup2 is mounted")?.into())
}

/// A group for the groups of a comparison, with what is below it; removed at the end, when the processes in it are gone.
struct Parent(PathBuf);

impl Parent {
    fn make(top: &Path, name: &str) -> Result<Self> {
        let path = top.join(format!("cellkit-bench-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let parent = Self(path);
        let controllers = fs::read_to_string(parent.0.join("cgroup.controllers"))?;
        for controller in controllers.split_whitespace() {
            // One that takes no groups below, such as cpu with real-time processes, is left out for everybody.
            let _ = fs::write(parent.0.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        Ok(parent)
    }

    /// Makes the groups 0 to `count` - 1 in it.
    fn fill(&self, count: usize) -> Result<()> {
        (0..count).try_for_each(|number| Ok(fs::create_dir(self.0.join(number.to_string()))?))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for group in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(group.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}

fn chart(title: String, rows: Vec<Row>, references: &[&str]) -> Chart {
    println!("### {title}\n\n{}", markdown(&rows, references));
    Chart { title, rows }
}
