//! `cargo xtask vm`: another kernel, under emulation, with this machine's files.
//!
//! The guest sees the host's root file system read-only with a tmpfs over it, so that what is built and installed here
//! runs there. It writes what the tests say to `/job`, a folder shared with the host; its console is for people.
#![forbid(unsafe_code)]

mod image;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::suite::{Suite, TestBinary};
use crate::tally::Tally;
use crate::{Result, install, target_dir};
use image::Image;
pub use image::Kernel;

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
    /// Run only tests whose path contains this
    #[arg(long, default_value = "root::")]
    filter: String,
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
    let machine = Machine::prepare(options.kernel, options.memory, options.kvm)?;
    let limit = Duration::from_secs(options.limit_secs);
    if !options.command.is_empty() {
        let words: Vec<String> = options.command.iter().map(|word| quote(word)).collect();
        return match machine.boot(&words.join(" "), None, limit, Console::Shown, |_| {})? {
            Some(status) => Ok(ExitCode::from(status)),
            None => Err(format!("not done within {limit:?}: killed").into()),
        };
    }
    let suite = Suite::build(options.package.as_deref())?;
    let choice: Vec<_> = suite.tests.iter().map(|test| (test.clone(), vec![options.filter.clone()])).collect();
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
    memory: u32,
    kvm: bool,
}

impl Machine {
    /// Makes ready what it boots from.
    ///
    /// # Errors
    /// When programs are missing or the kernel package cannot be had.
    pub fn prepare(kernel: Kernel, memory: u32, kvm: bool) -> Result<Self> {
        install::ensure(install::VM_TOOLS)?;
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(dir) => PathBuf::from(dir).join("cellkit"),
            None => target_dir().join("vm"),
        };
        let image = Image::prepare(kernel, &cache)?;
        Ok(Self { version: kernel.version(), image, cache, memory, kvm })
    }

    /// The kernel's full name.
    pub fn release(&self) -> &str {
        &self.image.release
    }

    /// Runs tests of `suite` there: `choice` has for each binary the names, or parts of names, of the tests to run.
    ///
    /// # Errors
    /// When the machine cannot be started or does not end within `limit`.
    pub fn run_tests(
        &self,
        suite: &Suite,
        choice: &[(TestBinary, Vec<String>)],
        limit: Duration,
        tally: &mut Tally,
    ) -> Result<()> {
        let bin = Folder::make(&self.cache, "bin")?;
        let copy = suite.copy_to(&bin.0)?;
        let mut script = format!("export CELLKIT_VM=1 CELLKIT_EXPECT=root,cgroup2,kernel={}\n", self.version);
        for (number, (binary, filters)) in choice.iter().enumerate() {
            let file = copy.tests.iter().find(|test| test.name == binary.name).map(|test| &test.path);
            let file =
                file.and_then(|file| file.strip_prefix(&bin.0).ok()).ok_or("a binary that is not of the suite")?;
            let filters: Vec<String> = filters.iter().map(|filter| quote(filter)).collect();
            // What is built below /tmp is not seen in the guest, whose /tmp is its own.
            script += &format!(
                "cd {dir} 2>/dev/null || cd /\n\
                 CELLKIT_SKIPS=/job/{number}.skips timeout 300 /job-bin/{file} {filters} \
                 >/job/{number}.out 2>/job/{number}.err\n\
                 echo $? >/job/{number}.new; mv /job/{number}.new /job/{number}.status\n",
                dir = quote(&binary.package_dir.to_string_lossy()),
                file = quote(&file.to_string_lossy()),
                filters = filters.join(" "),
            );
        }
        let phase = format!("Linux {}", self.version);
        let (mut done, mut since) = (0, Instant::now());
        let mut collect = |job: &Path, tally: &mut Tally| {
            while let Some((binary, _)) = choice.get(done) {
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
        let status = self.boot(&script, Some(&bin.0), limit, Console::Kept, |job| complete = collect(job, tally))?;
        if status.is_none() || !complete {
            let console = fs::read(self.console()).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            let lines: Vec<&str> = console.lines().collect();
            println!("{}", lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n"));
            let what = if status.is_none() { format!("was killed after {limit:?}") } else { "ended too early".into() };
            return Err(format!("the machine {what}; its console: {}", self.console().display()).into());
        }
        Ok(())
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
        let accelerator = if self.kvm { "kvm" } else { "tcg,thread=multi" };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-M", "q35", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", &self.memory.to_string()])
            .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"])
            .arg("-kernel")
            .arg(&self.image.kernel)
            .arg("-initrd")
            .arg(&self.image.initrd)
            .args(["-append", "console=ttyS0 panic=-1 quiet cgroup_no_v1=all swapaccount=1"])
            .args(["-virtfs", &share(Path::new("/"), "host", ",readonly=on,multidevs=remap")])
            .args(["-virtfs", &share(&job.0, "job", "")])
            .args(["-virtfs", &share(bin.unwrap_or(&job.0), "bin", ",readonly=on")])
            .stdin(Stdio::null())
            .stdout(match console {
                Console::Shown => Stdio::inherit(),
                Console::Kept => File::create(self.console())?.into(),
            });
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
            Err(_) if in_time => Err("the machine ended without a word; look at its console".into()),
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
