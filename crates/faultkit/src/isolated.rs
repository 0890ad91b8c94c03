//! A test alone in its own process and namespaces.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::cgroup_view::CgroupView;
use crate::sys::{self, Entry, Namespaces};
use crate::{Ledger, TempDir, scan};

/// Marks the process that runs the body: `what it got of its own:test`.
const MARK: &str = "CELLKIT_ISOLATED";
/// What that process says when the body ran and the ledgers agree. A test name that matched nothing says nothing.
const DONE: &str = "faultkit: the body ran to its end";

/// What the process of an isolated test has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Not isolated.
    None,
    /// The process.
    Process,
    /// The process, its mount, network and pid namespaces, `/run`.
    Namespaces,
    /// All that and the view of the cgroup hierarchy.
    NamespacesAndCgroup,
}

impl Scope {
    const WORDS: [(Self, &'static str); 3] = [
        (Self::Process, "process"),
        (Self::Namespaces, "namespaces"),
        (Self::NamespacesAndCgroup, "namespaces+cgroup"),
    ];

    /// That of this process.
    pub fn of_self() -> Self {
        let mark = std::env::var(MARK).unwrap_or_default();
        let word = mark.split_once(':').map_or("", |(word, _)| word);
        Self::WORDS.iter().find(|(_, w)| *w == word).map_or(Self::None, |(scope, _)| *scope)
    }

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(scope, _)| *scope == self).map_or("", |(_, word)| word)
    }
}

/// How [`isolated!`](crate::isolated) runs a body.
///
/// The test binary is executed again for this one test, and the body runs in a process with one thread (so that it may
/// unshare or join user and mount namespaces), its standard input empty, every signal at its default but SIGPIPE,
/// which Rust ignores, and `TMPDIR` a folder of its own. The process is a subreaper: orphans stay visible below it, see [`reap_orphans`](crate::reap_orphans). As root it also has
///
/// * a mount namespace, all of it private, with a new `/proc` and an empty tmpfs on `/run`;
/// * a network namespace with the loopback interface up;
/// * a pid namespace, where PID 1 only reaps;
/// * a cgroup namespace on a group of its own, as the root of the one cgroup2 mount, its controllers enabled for the
///   groups below; the test itself is in the group `/test`.
///
/// An ordinary user gets the fresh process only. The user, IPC, UTS and time namespaces are the caller's: a body that
/// needs others makes them.
///
/// The [`Ledger`] is taken before the body and must be the same after it.
#[derive(Debug)]
#[must_use = "run it"]
pub struct Isolated {
    test: String,
    limit: Duration,
    watch: Vec<PathBuf>,
}

impl Isolated {
    /// For the test of this name, as the test harness writes it. The time limit is 120 s, and more where the processor is
    /// emulated (`CELLKIT_VM`).
    pub fn new(test: impl Into<String>) -> Self {
        Self { test: test.into(), limit: Duration::from_secs(120), watch: Vec::new() }
    }

    /// Sets the time limit for the whole process.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Adds a folder whose files the ledger counts: see [`Ledger::with_dir`].
    pub fn watch(mut self, dir: impl AsRef<Path>) -> Self {
        self.watch.push(dir.as_ref().to_owned());
        self
    }

    /// Runs `body` alone. In the process made for it, this is where it runs.
    ///
    /// # Panics
    /// When the body panics, the time limit passes, something is left behind, or the process cannot be made.
    #[track_caller]
    pub fn run(self, body: impl FnOnce()) {
        if std::env::var(MARK).is_ok_and(|mark| mark.split_once(':').is_some_and(|(_, test)| test == self.test)) {
            self.run_here(body);
        } else {
            self.run_apart();
        }
    }

    #[track_caller]
    fn run_here(self, body: impl FnOnce()) {
        let status = sys::run_in_fork(|| {
            let _kill = KillLeft;
            let before = Ledger::of_dirs(self.watch);
            body();
            before.assert_same();
            let _ = io::stderr().write_all(format!("\n{DONE}\n").as_bytes());
        });
        match status {
            Ok(0) => {}
            Ok(101) => panic!("the body panicked"),
            Ok(status) => panic!("the body ended its process with status {status}"),
            Err(e) => panic!("fork: {e}"),
        }
    }

    #[track_caller]
    fn run_apart(self) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("faultkit-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let temp = TempDir::new();
        // Programs run as somebody else find their way to what is below.
        let _ = std::fs::set_permissions(&temp, Permissions::from_mode(0o755));
        let (scope, view, namespaces) = namespaces(&name);

        let exe = std::env::current_exe().unwrap_or_else(|e| panic!("where is this program? {e}"));
        let mut command = Command::new(exe);
        command
            .args([&self.test, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"])
            .env(MARK, format!("{}:{}", scope.word(), self.test))
            .env("TMPDIR", temp.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let report = io::stderr().as_fd().try_clone_to_owned().unwrap_or_else(|e| panic!("dup of stderr: {e}"));
        sys::enter_before_exec(&mut command, Entry { report, namespaces });

        sys::keep_children();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("could not isolate {}: {e}", self.test));
        drop(command);
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let status = wait(&mut child, self.limit * crate::slowness());
        let (stdout, stderr) = (finish(&stdout), finish(&stderr));
        drop(view);
        self.judge(status, &stdout, &stderr);
    }

    /// Passes on what the process said, and panics unless all went well.
    #[track_caller]
    fn judge(&self, status: Option<ExitStatus>, stdout: &str, stderr: &str) {
        let done = stderr.lines().any(|line| line == DONE);
        for line in stderr.lines().filter(|line| *line != DONE) {
            if line.starts_with("skipped: ") || line.starts_with("faultkit: ") {
                let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
            } else {
                eprintln!("{line}");
            }
        }
        println!("{stdout}");
        let Some(status) = status else { panic!("{} did not end within {:?} and was killed", self.test, self.limit) };
        // The harness exits with 101 for a failed test. With #[should_panic] it exits with 0 and the body did not end.
        assert!(status.success(), "{} failed in its own process ({status}); its output is above", self.test);
        assert!(
            done,
            "the body of {} did not run to its end: it panicked, or isolated! is not in the test function itself",
            self.test
        );
    }
}

/// An ordinary user has no pid namespace that would end what a failed test left running.
struct KillLeft;

impl Drop for KillLeft {
    fn drop(&mut self) {
        scan::processes::kill_below(None);
    }
}

fn namespaces(name: &str) -> (Scope, Option<CgroupView>, Option<Namespaces>) {
    if sys::euid() != 0 {
        return (Scope::Process, None, None);
    }
    let tmpfs: Vec<CString> = Path::new("/run").is_dir().then(|| c"/run".to_owned()).into_iter().collect();
    let made = match scan::mounts::cgroup2() {
        Some(mount) => CgroupView::make(&mount, name).map_err(|e| format!("{}: {e}", mount.display())),
        None => Err("no cgroup2 file system is mounted".to_owned()),
    };
    match made {
        Ok((view, entry)) => (Scope::NamespacesAndCgroup, Some(view), Some(Namespaces { cgroup: Some(entry), tmpfs })),
        Err(why) => {
            scan::note_once(&format!("isolated tests have no cgroup of their own: {why}"));
            (Scope::Namespaces, None, Some(Namespaces { cgroup: None, tmpfs }))
        }
    }
}

/// Reads to the end on a thread, so that a full pipe stops nobody.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer.get(..n).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// All that was read. A process that an ordinary user's test leaked may hold the pipe open: ten seconds, then no more. On a
/// busy machine the thread that reads may have been kept from it for some of them.
fn finish(pipe: &Receiver<Vec<u8>>) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut all = Vec::new();
    while let Ok(more) = pipe.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        all.extend(more);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(pause),
            _ => break,
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    // PID 1 dies with the process it was forked from, and everything in its pid namespace with it. Without one, what is
    // below has to be found.
    if let Ok(pid) = i32::try_from(child.id()) {
        for line in scan::processes::waiting_below(pid) {
            eprintln!("still running: {line}");
        }
        scan::processes::kill_below(Some(pid));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
