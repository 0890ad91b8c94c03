//! Programs that tests run, and what they said.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use faultkit::OrdinaryUser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `cellrun`: one folder above this test, where cargo puts it and where a copy of the suite has it.
pub fn program() -> PathBuf {
    let exe = std::env::current_exe().expect("where is this program?");
    let beside = exe.parent().and_then(Path::parent).map(|dir| dir.join("cellrun"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| env!("CARGO_BIN_EXE_cellrun").into())
}

/// The same, where somebody without privileges may run it.
pub fn program_for(user: &OrdinaryUser) -> PathBuf {
    let path = program();
    let open = |dir: &Path| fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o1 != 0);
    if path.ancestors().all(open) {
        return path;
    }
    let copy = user.home().join("cellrun");
    if copy.exists() { copy } else { user.copy_of(path) }
}

/// What a program said, and how it ended: its exit status, or the negative number of the signal that killed it.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(status: ExitStatus, out: &[u8], err: &[u8]) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let status = status.code().unwrap_or_else(|| -status.signal().expect("a signal"));
        Self { status, out: text(out), err: text(err) }
    }

    /// What it wrote, if it succeeded in silence.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status == 0 && self.err.is_empty(), "{self:#?}");
        self.out
    }

    /// Its lines.
    #[track_caller]
    pub fn lines(self) -> Vec<String> {
        self.ok().lines().map(str::to_owned).collect()
    }

    /// The one line of a failure, without the hint, after the rules of failures were checked: one line that begins with
    /// the program's name, perhaps a hint and what the machine shows of the reason, and nothing on standard output.
    #[track_caller]
    pub fn failure(&self) -> &str {
        let lines: Vec<&str> = self.err.lines().collect();
        let [first, rest @ ..] = lines.as_slice() else { panic!("it said nothing: {self:#?}") };
        let whys = match rest {
            [hint, whys @ ..] if hint.starts_with("  hint: ") => whys,
            whys => whys,
        };
        let well_formed = first.starts_with("cellrun: ") && whys.iter().all(|line| line.starts_with("  why: "));
        assert!(well_formed && self.out.is_empty(), "not one line, a hint and reasons: {self:#?}");
        first.trim_start_matches("cellrun: ")
    }
}

/// Runs it to its end, with nothing on standard input unless told otherwise.
#[track_caller]
pub fn say(command: &mut Command) -> Said {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Said::of(output.status, &output.stdout, &output.stderr)
}

/// `cellrun ARGS`, with nothing on standard input.
pub fn cellrun<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::null());
    command
}

/// `cellrun box ARGS`, run to its end.
#[track_caller]
pub fn boxed(args: &[&str]) -> Said {
    say(cellrun(["box"]).args(args))
}

/// What a shell script prints inside a box with a loopback interface only. It has to succeed in silence.
#[track_caller]
pub fn inside(options: &[&str], script: &str) -> String {
    say(cellrun(["box", "--net", "none"]).args(options).args(["--", "sh", "-c", script])).ok()
}

/// What a shell script prints outside. It has to succeed.
#[track_caller]
pub fn host(script: &str) -> String {
    let said = say(Command::new("sh").args(["-c", script]).stdin(Stdio::null()));
    assert_eq!(said.status, 0, "{script}: {said:#?}");
    said.out
}

/// The links of this network namespace, as ip(8) lists them.
#[track_caller]
pub fn links() -> Vec<String> {
    let lines = host("ip -o link");
    let name = |line: &str| line.split([':', '@']).nth(1).map(|name| name.trim().to_owned());
    lines.lines().filter_map(name).collect()
}

/// Checks that no record and no lease is left in cellrun's own folder, and removes the folder, as nobody else would.
#[track_caller]
pub fn assert_no_records(state: &Path) {
    if !state.exists() {
        return;
    }
    let found = host(&format!("find {} -mindepth 1 -printf '%P\\n'", state.display()));
    // What outlives containers: one lock, and a folder for each network namespace, which is empty.
    let stays = |name: &str| name == ".lock" || (name.starts_with(".net-") && !name.contains('/'));
    let left: Vec<_> = found.lines().filter(|name| !stays(name)).collect();
    assert_eq!(left, [""; 0], "left in {}", state.display());
    fs::remove_dir_all(state).expect("remove");
}

/// How long it takes until the payload of `cellrun box OPTIONS` runs.
#[track_caller]
pub fn time_to_start(options: &[&str]) -> Duration {
    let begun = Instant::now();
    let mut running = Running::boxed(&[options, &["--", "sh", "-c", "echo ready; read line || true"]].concat());
    running.until("ready");
    let time = begun.elapsed();
    assert_eq!(running.end().status, 0);
    time
}

/// The end of most tests.
#[track_caller]
pub fn nothing_is_left() {
    assert_no_records(Path::new("/run/cellrun"));
}

/// A program that runs while the test looks at it. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    input: Option<ChildStdin>,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it, with pipes.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let input = child.stdin.take();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self { child: Some(child), input, out }
    }

    /// `cellrun box ARGS`.
    #[track_caller]
    pub fn boxed(args: &[&str]) -> Self {
        Self::start(cellrun(["box"]).args(args))
    }

    /// The next line it writes; waits for it.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("read");
        if line.is_empty() {
            let mut err = String::new();
            let mut child = self.child.take().expect("running");
            child.stderr.take().expect("piped").read_to_string(&mut err).expect("read");
            panic!("it ended ({:?}) before that line: {err}", child.wait());
        }
        line.trim_end().to_owned()
    }

    /// Waits for a line with this in it.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until the payload is this program: a shell that says `ready; exec` is not it yet.
    #[track_caller]
    pub fn becomes(&self, name: &str) {
        let comm = format!("/proc/{}/comm", self.payload());
        eventually(name, || fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == name));
    }

    /// Kills it, and waits for the end of its orphaned payload.
    #[track_caller]
    pub fn kill(self) {
        let payload = PathBuf::from(format!("/proc/{}", self.payload()));
        self.signal(Signal::SIGKILL);
        assert_eq!(self.end().status, -9);
        eventually("the payload dies with its cellrun", || {
            faultkit::reap_orphans();
            !payload.exists()
        });
    }

    /// Types it.
    #[track_caller]
    pub fn write(&mut self, text: &str) {
        let input = self.input.as_mut().expect("open");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("write");
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().expect("running").id()).expect("a pid")
    }

    /// The pid, out here, of the one child it has.
    #[track_caller]
    pub fn payload(&self) -> i32 {
        let children = children(self.pid());
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("kill");
    }

    /// Closes its standard input and waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Said {
        drop(self.input.take());
        let mut child = self.child.take().expect("running");
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().expect("wait").is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        self.out.read_to_end(&mut out).expect("read");
        child.stderr.take().expect("piped").read_to_end(&mut err).expect("read");
        Said::of(child.wait().expect("wait"), &out, &err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processes whose parent it is.
pub fn children(pid: i32) -> Vec<i32> {
    // The kernel lists them by the thread that made them.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    texts.flat_map(|text| text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect::<Vec<_>>()).collect()
}

/// Polls for at most ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
