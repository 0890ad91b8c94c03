//! `cargo xtask test`: all that a change must pass.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::suite::{Suite, TestBinary, is_public, run_limited};
use crate::tally::Tally;
use crate::vm::{Init, Kernel, Machine};
use crate::{Result, cargo, install, is_root, lint};

/// One test binary, natively.
const LIMIT: Duration = Duration::from_secs(600);
/// All of a virtual machine.
const VM_LIMIT: Duration = Duration::from_secs(900);
/// The ordinary user: nobody has this number.
const UID: u32 = 12345;

/// What `cargo xtask test` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave the virtual machine out
    #[arg(long)]
    no_vm: bool,
    /// Run only the tests: no format, no lints, no documentation
    #[arg(long)]
    only_tests: bool,
}

/// Does it, prints the time of each phase, and as the last line the sum.
///
/// # Errors
/// When something failed that is not a phase.
pub fn run(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    if !is_root() {
        println!("not root: the tests that need root run in the virtual machine only");
    }
    phase(&mut tally, "programs", |_| match install::ensure(install::TEST_TOOLS) {
        // Who may install nothing is promised nothing: tests that need one of them say so and are skipped.
        Err(error) if !is_root() => {
            println!("{error}");
            Ok(())
        }
        other => other,
    });
    if !options.only_tests {
        phase(&mut tally, "format", |_| cargo_ok(cargo().args(["fmt", "--all", "--check"])));
        phase(&mut tally, "house rules", |_| house_rules());
        phase(&mut tally, "clippy", |_| clippy());
        phase(&mut tally, "documentation", |_| {
            cargo_ok(
                cargo()
                    .args(["doc", "--workspace", "--all-features", "--no-deps", "--quiet"])
                    .env("RUSTDOCFLAGS", "-D warnings"),
            )
        });
    }
    let mut suite = Suite::default();
    phase(&mut tally, "build of the tests", |_| {
        suite = Suite::build(None)?;
        Ok(())
    });
    if !suite.tests.is_empty() {
        if is_root() {
            phase(&mut tally, "tests as root", |tally| native(&suite, "as root", "root,program", None, tally));
        }
        phase(&mut tally, "tests as an ordinary user", |tally| as_ordinary_user(&suite, tally));
        phase(&mut tally, "examples in the documentation", doc_tests);
        if options.no_vm {
            println!("the virtual machine was left out, as asked");
        } else {
            phase(&mut tally, "what this kernel lacks", |tally| in_a_machine(&suite, tally));
            phase(&mut tally, "what an older kernel lacks", |tally| on_an_older_kernel(&suite, tally));
            phase(&mut tally, "what needs systemd", |tally| under_systemd(&suite, tally));
        }
    }
    summary(&tally, begun.elapsed());
    Ok(if tally.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one phase. One that fails as a whole counts as one failure, and the others go on.
fn phase(tally: &mut Tally, name: &str, body: impl FnOnce(&mut Tally) -> Result<()>) {
    println!("{name} ...");
    let begun = Instant::now();
    let failures = tally.failures().len();
    if let Err(error) = body(tally) {
        println!("{error}");
        tally.fail(format!("{name}: {error}"));
    }
    let verdict = if tally.failures().len() == failures { "ok" } else { "FAILED" };
    println!("{name:<32} {verdict}  {:.1} s", begun.elapsed().as_secs_f64());
}

fn summary(tally: &Tally, time: Duration) {
    let skipped: Vec<String> =
        tally.skipped().map(|((binary, test), why)| format!("{why}: {binary}: {test}")).collect();
    for line in skipped {
        println!("{line}");
    }
    for failure in tally.failures() {
        println!("failed: {failure}");
    }
    println!("in {:.0} s:", time.as_secs_f64());
    println!("{tally}");
}

fn cargo_ok(command: &mut Command) -> Result<()> {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", arguments.join(" ")).into()) }
}

fn house_rules() -> Result<()> {
    let wrong = lint::check()?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn clippy() -> Result<()> {
    cargo_ok(cargo().args([
        "clippy",
        "--workspace",
        "--all-features",
        "--all-targets",
        "--keep-going",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    // Libraries return errors, and say which. Tests, which are not built here, may panic.
    let mut command = cargo();
    command.args([
        "clippy",
        "--workspace",
        "--all-features",
        "--lib",
        "--exclude",
        "faultkit",
        "--keep-going",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    let strict = ["unwrap_used", "expect_used", "panic", "indexing_slicing", "unreachable", "missing_errors_doc"];
    for lint in strict {
        command.args(["-D", &format!("clippy::{lint}")]);
    }
    cargo_ok(&mut command)
}

/// How the ordinary user starts a program.
#[derive(Debug)]
struct OrdinaryUser<'a> {
    /// Its home, with files for /etc below `etc`.
    home: &'a Path,
}

/// Runs every test binary here.
fn native(suite: &Suite, phase: &str, expect: &str, user: Option<&OrdinaryUser<'_>>, tally: &mut Tally) -> Result<()> {
    let scratch = Scratch::new()?;
    for test in &suite.tests {
        let begun = Instant::now();
        let dir = scratch.sub(&test.name.replace(['/', ' '], "-"))?;
        let skips = dir.join("skips");
        fs::write(&skips, "")?;
        let mut command = match user {
            Some(user) => {
                chown(&skips, Some(UID), Some(UID))?;
                user.command(test)
            }
            None => Command::new(&test.path),
        };
        let here = if user.is_none() || is_public(&test.package_dir) { &test.package_dir } else { Path::new("/") };
        command.current_dir(here).env("CELLKIT_SKIPS", &skips).env("CELLKIT_EXPECT", expect);
        if user.is_none() {
            let run = scratch.sub("run")?;
            fs::set_permissions(&run, fs::Permissions::from_mode(0o700))?;
            command.env("XDG_RUNTIME_DIR", run);
        }
        if !is_root() || user.is_some() {
            // Those modules are what needs root: they would be skipped one by one.
            command.args(["--skip", "root::"]);
        }
        let said = run_limited(&mut command, &dir, LIMIT)?;
        let success = said.status.is_some_and(|status| status.success());
        let run = tally.add(phase, &test.name, &said.stdout, &fs::read_to_string(&skips)?, success);
        if run != crate::tally::Run::default() {
            println!("  {:<28} {run}  {:.1} s", test.name, begun.elapsed().as_secs_f64());
        }
        if run.failed > 0 {
            let end = said.status.map_or_else(|| format!("killed after {LIMIT:?}"), |status| status.to_string());
            println!("{}{}\n{}: {end}", said.stdout, said.stderr, test.name);
        }
    }
    Ok(())
}

fn as_ordinary_user(suite: &Suite, tally: &mut Tally) -> Result<()> {
    if !is_root() {
        return native(suite, "as an ordinary user", "user", None, tally);
    }
    let scratch = Scratch::new()?;
    let home = scratch.sub("home")?;
    for dir in ["run", "tmp"] {
        let dir = home.join(dir);
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        chown(&dir, Some(UID), Some(UID))?;
    }
    chown(&home, Some(UID), Some(UID))?;
    let etc = scratch.sub("home/etc")?;
    let with = |file: &str, line: String| -> Result<()> {
        let old = fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
        Ok(fs::write(etc.join(file), format!("{old}{line}\n"))?)
    };
    with("passwd", format!("cellkit:x:{UID}:{UID}::{}:/bin/sh", home.display()))?;
    with("group", format!("cellkit:x:{UID}:"))?;
    with("subuid", "cellkit:300000:65536".into())?;
    with("subgid", "cellkit:300000:65536".into())?;

    let public = suite.tests.iter().all(|test| is_public(&test.path));
    let copy;
    let suite = if public {
        suite
    } else {
        copy = suite.copy_to(&scratch.sub("bin")?)?;
        &copy
    };
    native(suite, "as an ordinary user", "user,program", Some(&OrdinaryUser { home: &home }), tally)
}

impl OrdinaryUser<'_> {
    /// Runs `test` as the user, in a mount namespace where /etc knows it and its subordinate ids.
    fn command(&self, test: &TestBinary) -> Command {
        let script = "set -e
            for file in passwd group subuid subgid; do
                if [ -e /etc/$file ]; then mount --bind \"$0/etc/$file\" /etc/$file; fi
            done
            exec setpriv --reuid=$1 --regid=$1 --clear-groups --inh-caps=-all -- \"$2\" \"$3\" \"$4\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(self.home)
            .arg(UID.to_string())
            .arg(&test.path)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home)
            .env("USER", "cellkit")
            .env("TMPDIR", self.home.join("tmp"))
            .env("XDG_RUNTIME_DIR", self.home.join("run"));
        if let Some(level) = std::env::var_os("RUST_BACKTRACE") {
            command.env("RUST_BACKTRACE", level);
        }
        command
    }
}

/// Cargo alone can run these. Their harness prints the same lines.
fn doc_tests(tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    let output = command.args(["test", "--workspace", "--all-features", "--doc", "--no-fail-fast"]).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let count = |verdict: &str| {
        let lines = stdout.lines().filter(|line| line.starts_with("test ") && line.contains(" ... "));
        lines.filter(|line| line.ends_with(verdict)).count()
    };
    let (passed, failed) = (count("... ok"), count("... FAILED"));
    tally.pass(passed);
    println!("  {passed} passed, {failed} failed");
    if output.status.success() {
        return Ok(());
    }
    println!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Err(format!("{failed} examples failed").into())
}

/// Runs in a virtual machine what was skipped here for want of a kernel feature; as an ordinary user, all that needs
/// root.
fn in_a_machine(suite: &Suite, tally: &mut Tally) -> Result<()> {
    let choose = |test: &TestBinary| {
        let missing = skipped(tally, test, |name, why| {
            name.contains("root::") && !why.contains("an ordinary user") && !needs_systemd(why) && why.contains("needs")
        });
        match (is_root(), missing.is_empty()) {
            (true, true) => Vec::new(),
            (true, false) => [vec!["--exact".into()], missing].concat(),
            (false, _) => vec!["root::".into()],
        }
    };
    let mut chosen: Vec<_> = suite.tests.iter().map(|test| (test, choose(test))).collect();
    if is_root() {
        chosen.extend(other_ways(suite, ON_BOTH)?);
    }
    in_machine(Kernel::Newest, Init::Job, suite, chosen, tally)
}

/// Runs on the oldest kernel what goes other ways there.
fn on_an_older_kernel(suite: &Suite, tally: &mut Tally) -> Result<()> {
    let chosen = [other_ways(suite, ON_BOTH)?, other_ways(suite, ON_OLDEST)?].concat();
    in_machine(Kernel::Oldest, Init::Job, suite, chosen, tally)
}

/// Tests of code that does the same in another way on an older kernel, or says what that lacks: binaries, and parts of the
/// names of their tests. Emulated they take ten times as long, so it is not all of them: `cargo xtask vm` runs the others.
type OtherWays = &'static [(&'static str, &'static [&'static str])];

/// On the newest kernel of the virtual machine as well as on the oldest: what the calls of the newest years are for.
const ON_BOTH: OtherWays = &[
    ("idmap", &["root::direct", "root::userns"]),
    ("idmap/userns", &["root::made"]),
    ("vethnet/main", &["root::attach::two_containers_reach"]),
    ("vethnet/nat", &["root::guard::a_container_sends", "root::publish::the_world"]),
];

/// On the oldest one alone, beside those.
const ON_OLDEST: OtherWays = &[
    ("idmap", &["root::unprivileged", "root::nested"]),
    ("idmap/probe", &["root::"]),
    ("idmap/shift", &["root::refusals", "root::whole"]),
    ("idmap/userns", &["root::cache"]),
    ("idmap/writing", &["root::negative_group", "root::projid"]),
    ("mountkit", &["dir_fd::", "mount_table::"]),
    ("mountkit/apply", &["root::owners"]),
    ("mountkit/detached", &["root::bind", "root::idmap", "root::attach"]),
    ("mountkit/filesystem", &["root::", "rootless::formats"]),
    ("mountkit/mount_table", &["root::same", "root::others"]),
    ("mountkit/overlay", &["root::lookups", "root::refused", "rootless::"]),
    ("mountkit/rootfd", &["hostile::what_is_done"]),
    (
        "vethnet/links",
        &[
            "root::bridge::what_this_kernel_lacks",
            "root::kinds::dummies",
            "root::kinds::ipvlans",
            "root::kinds::macvtaps",
        ],
    ),
    ("vethnet/tc", &["root::limits::what_limits_goes"]),
];

/// Those of `ways`, each of which has to be there: a name that is none any more would choose nothing in silence.
fn other_ways(suite: &Suite, ways: OtherWays) -> Result<Vec<(&TestBinary, Vec<String>)>> {
    let mut chosen = Vec::new();
    for (binary, names) in ways {
        let test = suite.tests.iter().find(|test| test.name == *binary);
        let test = test.ok_or_else(|| format!("no test binary is called {binary}"))?;
        let listed = install::output(Command::new(&test.path).arg("--list"))?;
        if let Some(name) = names.iter().find(|name| !listed.contains(*name)) {
            return Err(format!("no test of {binary} has {name} in its name").into());
        }
        chosen.push((test, names.iter().map(|name| (*name).to_owned()).collect()));
    }
    Ok(chosen)
}

/// Runs where systemd is init what was skipped for want of it, which it is nowhere else.
fn under_systemd(suite: &Suite, tally: &mut Tally) -> Result<()> {
    let choose = |test: &TestBinary| match skipped(tally, test, |_, why| needs_systemd(why)) {
        none if none.is_empty() => none,
        some => [vec!["--exact".into()], some].concat(),
    };
    let chosen: Vec<_> = suite.tests.iter().map(|test| (test, choose(test))).collect();
    in_machine(Kernel::Newest, Init::Systemd, suite, chosen, tally)
}

fn needs_systemd(why: &str) -> bool {
    why.contains("needs systemd as init")
}

/// The names of the tests of a binary that were skipped for such a reason.
fn skipped(tally: &Tally, binary: &TestBinary, because: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let of_binary = tally.skipped().filter(|((name, test), why)| *name == binary.name && because(test, why));
    of_binary.map(|((_, test), _)| test.clone()).collect()
}

fn in_machine(
    kernel: Kernel,
    init: Init,
    suite: &Suite,
    chosen: Vec<(&TestBinary, Vec<String>)>,
    tally: &mut Tally,
) -> Result<()> {
    let chosen: Vec<_> = chosen.into_iter().filter(|(_, filters)| !filters.is_empty()).collect();
    if chosen.is_empty() {
        println!("  nothing that a test needs is missing");
        return Ok(());
    }
    let machine = Machine::prepare(kernel, init, 2048, false)?;
    println!("  Linux {}", machine.release());
    let choice: Vec<_> = chosen.into_iter().flat_map(|(test, filters)| machine.choose(test, filters)).collect();
    machine.run_tests(suite, &choice, VM_LIMIT, tally)
}

/// A folder that everybody may enter and that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = (0..).map(|n| std::env::temp_dir().join(format!("cellkit-xtask-{}-{n}", std::process::id())));
        for path in path {
            match fs::create_dir(&path) {
                Ok(()) => {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
                    return Ok(Self(path));
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(format!("mkdir {}: {e}", path.display()).into()),
            }
        }
        Err("no free name".into())
    }

    fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
