//! `cargo xtask vm`: another kernel, under emulation, with this machine's files.
//!
//! The guest sees the host's root file system read-only with a tmpfs over it, so that what is built and installed here
//! runs there. With `--systemd` it is a small Debian instead, in which systemd is init. It writes what the tests say to `/job`, a folder shared with the host; its console is for people.
#![forbid(unsafe_code)]

mod image;
mod rootfs;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::suite::{Suite, TestBinary};
use crate::tally::Tally;
use crate::{Result, install, target_dir};
use image::Image;
pub use image::Kernel;

/// For every kernel that is booted.
const KERNEL_WORDS: &str = "console=ttyS0 panic=-1 quiet cgroup_no_v1=all swapaccount=1";
/// For systemd: the job is all that is wanted, and each line that it would log is dear.
const SYSTEMD_WORDS: &str = " cellkit.init=systemd systemd.unit=cellkit-job.service systemd.show_status=no \
    systemd.log_level=warning systemd.firstboot=no";

/// What `cargo xtask vm` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which kernel
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// Kill it after this many seconds
    #[arg(long, default_value_t = 600)]
    limit_secs: u64,
    /// Memory, in MiB
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Let the processor run the guest: many times faster where /dev/kvm works
    #[arg(long)]
    kvm: bool,
    /// Boot a Debian with systemd as init; the tests in modules named `user` run as an ordinary user with a user manager
    #[arg(long)]
    systemd: bool,
    /// Run only tests whose path contains one of these [default: root::, or systemd]
    #[arg(long)]
    filter: Vec<String>,
    /// Run only the tests of this package
    #[arg(long, short)]
    package: Option<String>,
    /// A command to run instead of the tests, as root
    #[arg(last = true)]
    command: Vec<String>,
}

/// Does it.
///
/// # Errors
/// When the machine cannot be made or the tests do not build.
pub fn run(options: &Options) -> Result<ExitCode> {
    let init = if options.systemd { Init::Systemd } else { Init::Job };
    let machine = Machine::prepare(options.kernel, init, options.memory, options.kvm)?;
    let limit = Duration::from_secs(options.limit_secs);
    if !options.command.is_empty() {
        let words: Vec<String> = options.command.iter().map(|word| quote(word)).collect();
        return match machine.boot(&words.join(" "), None, limit, Console::Shown, |_| {})? {
            Some(status) => Ok(ExitCode::from(status)),
            None => Err(format!("not done within {limit:?}: killed").into()),
        };
    }
    let suite = Suite::build(options.package.as_deref())?;
    let filters = match options.filter.as_slice() {
        [] => vec![if options.systemd { "systemd" } else { "root::" }.to_owned()],
        some => some.to_vec(),
    };
    let choice: Vec<_> = suite.tests.iter().flat_map(|test| machine.choose(test, filters.clone())).collect();
    let mut tally = Tally::default();
    machine.run_tests(&suite, &choice, limit, &mut tally)?;
    for failure in tally.failures() {
        println!("failed: {failure}");
    }
    for ((binary, test), why) in tally.skipped() {
        println!("{why}: {binary}: {test}");
    }
    println!("{tally}");
    Ok(if tally.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first program, which the others live under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// A shell that does the job, in this machine's own files.
    Job,
    /// systemd, in files of its own.
    Systemd,
}

/// Who runs a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Root,
    /// The one that has a user manager.
    Ordinary,
}

/// Some tests of a binary.
#[derive(Clone, Debug)]
pub struct Choice {
    binary: TestBinary,
    /// As the test harness takes them.
    filters: Vec<String>,
    user: User,
}

/// Whether the console goes to the terminal or only to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Console {
    Shown,
    Kept,
}

/// A machine that can be booted.
#[derive(Debug)]
pub struct Machine {
    version: &'static str,
    image: Image,
    cache: PathBuf,
    /// The root file system, if it is not the host's.
    rootfs: Option<PathBuf>,
    memory: u32,
    processors: u32,
    kvm: bool,
    counts: bool,
}

impl Machine {
    /// Makes ready what it boots from.
    ///
    /// # Errors
    /// When programs are missing, or the kernel package or the root file system cannot be had.
    pub fn prepare(kernel: Kernel, init: Init, memory: u32, kvm: bool) -> Result<Self> {
        install::ensure(install::VM_TOOLS)?;
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(dir) => PathBuf::from(dir).join("cellkit"),
            None => target_dir().join("vm"),
        };
        let image = Image::prepare(kernel, &cache)?;
        let rootfs = match init {
            Init::Job => None,
            Init::Systemd => Some(rootfs::prepare(&cache)?),
        };
        Ok(Self { version: kernel.version(), image, cache, rootfs, memory, processors: 2, kvm, counts: false })
    }

    /// With one processor instead of two.
    pub fn with_one_processor(self) -> Self {
        Self { processors: 1, ..self }
    }

    /// With a clock that counts the emulated instructions, a nanosecond each, and not the time that they take: whatever else
    /// this machine does meanwhile does not count.
    pub fn with_instructions_counted(self) -> Self {
        Self { counts: !self.kvm, ..self }
    }

    /// The kernel's full name.
    pub fn release(&self) -> &str {
        &self.image.release
    }

    /// The tests of `binary` that `filters` let through, as they run there: with systemd those that need root as root and
    /// the others as an ordinary user, else all as root.
    pub fn choose(&self, binary: &TestBinary, filters: Vec<String>) -> Vec<Choice> {
        let choice = |user, filters| Choice { binary: binary.clone(), filters, user };
        if self.rootfs.is_none() {
            return vec![choice(User::Root, filters)];
        }
        // The harness takes what is to be skipped by its whole name too when it is told `--exact`.
        let without = |other: &str| {
            let mut of: Vec<String> = filters.iter().filter(|filter| !filter.contains(other)).cloned().collect();
            of.push(format!("--skip={other}"));
            of
        };
        let both = [(User::Root, without("user::")), (User::Ordinary, without("root::"))];
        // Without a name left, the harness would run everything.
        let both = both.into_iter().filter(|(_, filters)| filters.iter().any(|filter| !filter.starts_with("--")));
        both.map(|(user, filters)| choice(user, filters)).collect()
    }

    /// Runs tests of `suite` there.
    ///
    /// The emulator now and then lets a kernel panic that does not on real hardware. Then the binaries that had not ended
    /// are run once more, in a machine booted anew, and it is said; a second time is a failure.
    ///
    /// # Errors
    /// When the machine cannot be started or does not end within `limit`.
    pub fn run_tests(&self, suite: &Suite, choice: &[Choice], limit: Duration, tally: &mut Tally) -> Result<()> {
        let (done, outcome) = self.run_once(suite, choice, limit, tally)?;
        if outcome.is_ok() || !self.has_panicked() {
            return outcome;
        }
        println!("  the kernel of the emulated machine panicked; what is left is run in another one");
        let left = choice.get(done..).unwrap_or_default();
        self.run_once(suite, left, limit, tally)?.1
    }

    /// How many binaries have ended, and whether that is all of them.
    fn run_once(
        &self,
        suite: &Suite,
        choice: &[Choice],
        limit: Duration,
        tally: &mut Tally,
    ) -> Result<(usize, Result<()>)> {
        let bin = Folder::make(&self.cache, "bin")?;
        let copy = suite.copy_to(&bin.0)?;
        let systemd = if self.rootfs.is_some() { ",systemd" } else { "" };
        // One binary that hangs leaves time for others.
        let binary_limit = limit.as_secs() * 3 / 4;
        let expect = format!("cgroup2,kernel={}{systemd}", self.version);
        let mut script = String::from("export CELLKIT_VM=1\n");
        for (number, Choice { binary, filters, user }) in choice.iter().enumerate() {
            let file = copy.tests.iter().find(|test| test.name == binary.name).map(|test| &test.path);
            let file =
                file.and_then(|file| file.strip_prefix(&bin.0).ok()).ok_or("a binary that is not of the suite")?;
            let filters: Vec<String> = filters.iter().map(|filter| quote(filter)).collect();
            let (who, user) = match user {
                User::Root => ("root", String::new()),
                User::Ordinary => (
                    "user",
                    format!(
                        "setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all \
                         env HOME=/home/cellkit USER=cellkit XDG_RUNTIME_DIR=/run/user/{uid} ",
                        uid = rootfs::USER
                    ),
                ),
            };
            // What is built below /tmp is not seen in the guest, whose /tmp is its own.
            script += &format!(
                "cd {dir} 2>/dev/null || cd /\n\
                 : >/job/{number}.skips; chmod 666 /job/{number}.skips\n\
                 CELLKIT_EXPECT={who},{expect} CELLKIT_SKIPS=/job/{number}.skips timeout {binary_limit} {user}\
                 /job-bin/{file} {filters} >/job/{number}.out 2>/job/{number}.err\n\
                 echo $? >/job/{number}.new; mv /job/{number}.new /job/{number}.status\n",
                dir = quote(&binary.package_dir.to_string_lossy()),
                file = quote(&file.to_string_lossy()),
                filters = filters.join(" "),
            );
        }
        let phase = format!("Linux {}{}", self.version, if self.rootfs.is_some() { " with systemd" } else { "" });
        let (mut done, mut since) = (0, Instant::now());
        let mut collect = |job: &Path, tally: &mut Tally| {
            while let Some(Choice { binary, .. }) = choice.get(done) {
                let read = |what: &str| fs::read(job.join(format!("{done}.{what}")));
                let text = |what: &str| String::from_utf8_lossy(&read(what).unwrap_or_default()).into_owned();
                if read("status").is_err() {
                    return false;
                }
                let run = tally.add(&phase, &binary.name, &text("out"), &text("skips"), text("status").trim() == "0");
                if run != crate::tally::Run::default() {
                    println!("  {:<28} {run}  {:.1} s", binary.name, since.elapsed().as_secs_f64());
                }
                if run.failed > 0 {
                    println!("{}{}", text("out"), text("err"));
                }
                (done, since) = (done + 1, Instant::now());
            }
            true
        };
        let mut complete = false;
        let status = self.boot(&script, Some(&bin.0), limit, Console::Kept, |job| complete = collect(job, tally));
        let what = match status {
            Ok(Some(_)) if complete => return Ok((done, Ok(()))),
            Ok(Some(_)) => "ended too early".to_owned(),
            Ok(None) => format!("was killed after {limit:?}"),
            Err(error) => format!("gave no answer: {error}"),
        };
        let console = self.console_text();
        let lines: Vec<&str> = console.lines().collect();
        println!("{}", lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n"));
        Ok((done, Err(format!("the machine {what}; its console: {}", self.console().display()).into())))
    }

    fn console_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console()).unwrap_or_default()).into_owned()
    }

    fn has_panicked(&self) -> bool {
        self.console_text().contains("Kernel panic - not syncing")
    }

    /// Runs a shell script there, with `programs` in `/job-bin` under their names, and answers with the content of the files
    /// `answers` that it left in `/job`, empty where there is none.
    ///
    /// # Errors
    /// When the machine cannot be started or does not end within `limit`.
    pub fn run_programs(
        &self,
        programs: &[(&str, &Path)],
        script: &str,
        answers: &[&str],
        limit: Duration,
    ) -> Result<Vec<String>> {
        let bin = Folder::make(&self.cache, "bin")?;
        for (name, program) in programs {
            fs::copy(program, bin.0.join(name)).map_err(|e| format!("{}: {e}", program.display()))?;
        }
        let mut said = Vec::new();
        let status = self.boot(script, Some(&bin.0), limit, Console::Kept, |job| {
            let text = |name: &&str| fs::read(job.join(name)).unwrap_or_default();
            said = answers.iter().map(|name| String::from_utf8_lossy(&text(name)).into_owned()).collect();
        })?;
        match status {
            Some(_) => Ok(said),
            None => Err(format!("the machine was killed after {limit:?}; so far: {}", said.concat()).into()),
        }
    }

    fn console(&self) -> PathBuf {
        self.cache.join("console")
    }

    /// Boots, runs the shell script `script`, and answers with its exit status; `None` when it took longer than `limit`.
    /// `watch` is called now and then, and at the end, with the folder that is `/job` in the guest.
    fn boot(
        &self,
        script: &str,
        bin: Option<&Path>,
        limit: Duration,
        console: Console,
        mut watch: impl FnMut(&Path),
    ) -> Result<Option<u8>> {
        let job = Folder::make(&self.cache, "job")?;
        fs::write(job.0.join("run"), script)?;
        let share = |path: &Path, tag: &str, more: &str| {
            format!("local,path={},mount_tag={tag},security_model=none{more}", path.display())
        };
        let accelerator = match (self.kvm, self.counts) {
            (true, _) => "kvm",
            (false, true) => "tcg,thread=single",
            (false, false) => "tcg,thread=multi",
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-M", "q35", "-accel", accelerator, "-cpu", "max", "-smp", &self.processors.to_string()])
            .args(["-m", &self.memory.to_string()])
            .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"])
            .arg("-kernel")
            .arg(&self.image.kernel)
            .arg("-initrd")
            .arg(&self.image.initrd)
            .args(["-append", &format!("{KERNEL_WORDS}{}", if self.rootfs.is_some() { SYSTEMD_WORDS } else { "" })])
            .args(["-virtfs", &share(Path::new("/"), "host", ",readonly=on,multidevs=remap")])
            .args(["-virtfs", &share(&job.0, "job", "")])
            .args(["-virtfs", &share(bin.unwrap_or(&job.0), "bin", ",readonly=on")])
            .stdin(Stdio::null())
            .stdout(match console {
                Console::Shown => Stdio::inherit(),
                Console::Kept => File::create(self.console())?.into(),
            });
        if self.counts {
            // Where nothing is to be done, the clock goes on to the next timer at once.
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        if let Some(rootfs) = &self.rootfs {
            command.args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", rootfs.display())]);
        }
        let mut child = command.spawn().map_err(|e| format!("qemu-system-x86_64: {e}"))?;
        let deadline = Instant::now() + limit;
        let in_time = loop {
            watch(&job.0);
            match child.try_wait()? {
                Some(_) => break true,
                None if Instant::now() > deadline => break false,
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        if !in_time {
            child.kill()?;
            child.wait()?;
        }
        watch(&job.0);
        match fs::read_to_string(job.0.join("status")) {
            Ok(status) => Ok(status.trim().parse().ok()),
            Err(_) if in_time => Err("it ended without a word".into()),
            Err(_) => Ok(None),
        }
    }
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn make(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A word as a shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_come_back() {
        for word in ["plain", "", "two words", "it's", "$HOME \"x\" `y`", "new\nline"] {
            let echoed = install::run("sh", &["-c", &format!("printf %s {}", quote(word))]).unwrap();
            assert_eq!(echoed, word);
        }
    }
}
