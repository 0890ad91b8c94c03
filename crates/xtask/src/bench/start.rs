//! Starting a container that does nothing, and waiting for it: the whole process, from exec to exit.
//!
//! The rounds are interleaved, so that a busy moment of the machine strikes everybody. All of it runs in a private mount
//! namespace where the cgroup2 hierarchy is at /sys/fs/cgroup, for crun refuses to start where it is elsewhere.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::table::{Row, markdown};
use crate::install::{self, has, output};
use crate::{Result, cargo, is_root, target_dir};

/// Set in the private mount namespace.
const INSIDE: &str = "CELLKIT_BENCH_INSIDE";
const FLOOR: &str = include_str!("floor.c");
const TRUE: &str = "int main(void) { return 0; }\n";

/// What `cargo xtask bench start` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each program is run
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// Install the programs to compare with
    #[arg(long)]
    install: bool,
}

/// One program in the comparison, and how to call it in round `n`.
struct Contender {
    name: &'static str,
    command: Box<dyn Fn(u32) -> Command>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        return Err("the comparison needs root: the others need it for these namespaces".into());
    }
    if std::env::var_os(INSIDE).is_none() {
        return outside(options);
    }
    let scratch = Scratch::new()?;
    let (contenders, missing) = contenders(&scratch.0)?;
    let mut rows: Vec<Row> = contenders.iter().map(|contender| Row::new(contender.name)).collect();
    for contender in &contenders {
        // Once unmeasured: files are read, and a program that does not work is found out.
        time(&mut (contender.command)(0), contender.name)?;
    }
    for round in 1..=options.rounds {
        for (contender, row) in contenders.iter().zip(&mut rows) {
            row.times.push(time(&mut (contender.command)(round), contender.name)?);
        }
    }
    println!(
        "Start /bin/true in new pid, net, ipc, uts and mount namespaces and wait: {} interleaved rounds, {}.\n",
        options.rounds,
        super::machine(),
    );
    print!("{}", markdown(&rows, &["floor", "crun"]));
    if !missing.is_empty() {
        println!("\nNot here, so not compared: {}.", missing.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs and builds, then runs this program again in the private mount namespace.
fn outside(options: &Options) -> Result<ExitCode> {
    if options.install {
        install::ensure(install::PEERS)?;
    }
    // What goes wrong is printed by cargo, and cellrun is then named among the missing.
    let built = cargo().args(["build", "--release", "--package", "cellrun", "--quiet"]).status()?.success();
    if !built {
        eprintln!("cellrun does not build");
    }
    let script = "u=/sys/fs/cgroup/unified; if [ -d $u ]; then mount --bind $u /sys/fs/cgroup; fi; exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .args(["bench", "start", "--rounds", &options.rounds.to_string()])
        .env(INSIDE, "1");
    let status = command.status().map_err(|e| format!("unshare: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The whole life of a program.
///
/// # Errors
/// When it fails.
pub fn time(command: &mut Command, name: &str) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let output = command.spawn().map_err(|e| format!("{name}: {e}"))?.wait_with_output()?;
    let time = begun.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("{name}: {}: {said}", output.status).into());
    }
    Ok(time)
}

/// Those that are here, and the names of those that are not.
fn contenders(dir: &Path) -> Result<(Vec<Contender>, Vec<&'static str>)> {
    let floor = compile_floor(dir)?;
    let mut list = vec![Contender {
        name: "floor",
        command: Box::new(move |_| {
            let mut command = Command::new(&floor);
            command.arg("/bin/true");
            command
        }),
    }];
    let mut missing = Vec::new();
    let mut plain = |name: &'static str, program: PathBuf, arguments: &'static [&'static str]| {
        if program.is_absolute() && !program.exists() || !program.is_absolute() && !has(name) {
            missing.push(name);
            return;
        }
        let command = move |_| {
            let mut command = Command::new(&program);
            command.args(arguments);
            command
        };
        list.push(Contender { name, command: Box::new(command) });
    };
    plain("cellrun", target_dir().join("release/cellrun"), &["box", "--net", "none", "--", "/bin/true"]);
    plain(
        "unshare",
        "unshare".into(),
        &["--fork", "--pid", "--net", "--ipc", "--uts", "--mount", "--mount-proc", "/bin/true"],
    );
    plain(
        "bwrap",
        "bwrap".into(),
        &[
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "/bin/true",
        ],
    );
    for name in ["crun", "runc"] {
        if !has(name) {
            missing.push(name);
            continue;
        }
        let bundle = make_bundle(&dir.join(name))?;
        let state = dir.join(format!("{name}-state"));
        let command = move |round: u32| {
            let mut command = Command::new(name);
            command.arg("--root").arg(&state).args(["run", "--bundle"]).arg(&bundle);
            command.arg(format!("cellkit-bench-{}-{round}", std::process::id()));
            command
        };
        list.push(Contender { name, command: Box::new(command) });
    }
    Ok((list, missing))
}

/// The C program that does the least.
///
/// # Errors
/// Without a C compiler.
pub fn compile_floor(dir: &Path) -> Result<PathBuf> {
    compile(dir, "floor", FLOOR, &[])
}

/// A C program that does nothing.
///
/// # Errors
/// Without a C compiler.
pub fn compile_empty(dir: &Path) -> Result<PathBuf> {
    compile(dir, "empty", TRUE, &[])
}

/// The same, in need of no library.
///
/// # Errors
/// Without a C compiler.
pub fn compile_true(dir: &Path) -> Result<PathBuf> {
    compile(dir, "true", TRUE, &["-static"])
}

fn compile(dir: &Path, name: &str, source: &str, options: &[&str]) -> Result<PathBuf> {
    let (file, program) = (dir.join(format!("{name}.c")), dir.join(name));
    fs::write(&file, source)?;
    output(Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&program).args(options).arg(&file))?;
    Ok(program)
}

/// An OCI bundle with nothing but a statically linked program that ends at once.
fn make_bundle(dir: &Path) -> Result<PathBuf> {
    for sub in ["rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/bin"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    let program = compile_true(dir)?;
    fs::copy(program, dir.join("rootfs/bin/true"))?;
    fs::set_permissions(dir.join("rootfs/bin/true"), fs::Permissions::from_mode(0o755))?;
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| serde_json::json!({ "type": kind }));
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"] },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] }
        ],
        "linux": { "namespaces": namespaces }
    });
    fs::write(dir.join("config.json"), config.to_string())?;
    Ok(dir.to_owned())
}

/// A folder for bundles and state that goes away.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("cellkit-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
