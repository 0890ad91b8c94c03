//! What there is, written down twice and compared.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::isolated::Scope;
use crate::scan;

/// How long what ends by itself may take: killed processes, network namespaces, lazily detached mounts.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a line of the ledger is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Mount,
    Link,
    Address,
    Route,
    Rule,
    Nft,
    Sysctl,
    Cgroup,
    Namespace,
    Process,
    Thread,
    Fd,
    File,
    State,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mount => "mount",
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Nft => "nft",
            Self::Sysctl => "sysctl",
            Self::Cgroup => "cgroup",
            Self::Namespace => "namespace",
            Self::Process => "process",
            Self::Thread => "thread",
            Self::Fd => "fd",
            Self::File => "file",
            Self::State => "process state",
        })
    }
}

/// The lines of a ledger with how often each occurs: two mounts may look the same.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines(BTreeMap<(Kind, String), usize>);

impl Lines {
    pub(crate) fn add(&mut self, kind: Kind, line: impl Into<String>) {
        *self.0.entry((kind, line.into())).or_default() += 1;
    }

    /// What `after` has more, and what it has less.
    fn differences(&self, after: &Self) -> Vec<String> {
        let mut all = Vec::new();
        for (title, here, there) in [("left behind", after, self), ("gone", self, after)] {
            for (line, count) in &here.0 {
                let more = count.saturating_sub(there.0.get(line).copied().unwrap_or(0));
                if more > 0 {
                    let times = if more > 1 { format!(" ({more} times)") } else { String::new() };
                    all.push(format!("{title}: {} {}{times}", line.0, line.1));
                }
            }
        }
        all
    }
}

/// What there is, as the kernel and other programs show it: mounts; links, addresses, routes, rules, nft rules and
/// forwarding switches of the network namespace; cgroups; namespaces with who holds them; processes with zombies;
/// threads; file descriptors; files in `/run/netns` and in folders named; and the state of the process itself (working
/// directory, environment, umask, signal masks and dispositions, ids, capabilities).
///
/// Taken in an [`isolated!`](crate::isolated) body it counts all there is in its namespaces; elsewhere, where other tests
/// run at the same time, it counts of the processes only its own and those below it, of the cgroups only those with
/// `cell` or `faultkit` in their name, and no threads. An ordinary user's does not ask about the network.
///
/// ```
/// let before = faultkit::Ledger::take();
/// drop(std::fs::File::open("/dev/null").unwrap());
/// assert_eq!(before.differences(), Vec::<String>::new());
/// ```
#[derive(Debug)]
#[must_use = "compare it with what is there later"]
pub struct Ledger {
    lines: Lines,
    dirs: Vec<PathBuf>,
    scan: fn(Scope, &[PathBuf]) -> Lines,
}

impl Ledger {
    /// Writes down what there is.
    ///
    /// # Panics
    /// When a program it asks (`ip`, `nft`) fails, or is missing although `CELLKIT_EXPECT` promises programs.
    #[track_caller]
    pub fn take() -> Self {
        Self::of_dirs(Vec::new())
    }

    #[track_caller]
    pub(crate) fn of_dirs(dirs: Vec<PathBuf>) -> Self {
        Self { lines: scan::all(Scope::of_self(), &dirs), dirs, scan: scan::all }
    }

    /// As [`take`](Self::take), but without what takes other programs or long: the network and files.
    pub fn quick() -> Self {
        Self { lines: scan::quick(Scope::of_self(), &[]), dirs: Vec::new(), scan: scan::quick }
    }

    /// Also counts the files below `dir`, which need not exist: a state folder, for example. They are written down now.
    #[track_caller]
    pub fn with_dir(mut self, dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref().to_owned();
        scan::files::add(&mut self.lines, &dir);
        self.dirs.push(dir);
        self
    }

    /// What differs now, a line each: `left behind: mount ...` or `gone: link ...`.
    #[must_use]
    #[track_caller]
    pub fn differences(&self) -> Vec<String> {
        self.lines.differences(&(self.scan)(Scope::of_self(), &self.dirs))
    }

    /// Waits up to two seconds, more in an emulated machine, until there is what there was.
    ///
    /// # Panics
    /// When there is not, with the differences.
    #[track_caller]
    pub fn assert_same(&self) {
        let deadline = Instant::now() + PATIENCE * crate::slowness();
        let mut pause = Duration::from_millis(10);
        loop {
            let differences = self.differences();
            if differences.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "the ledger differs:\n  {}", differences.join("\n  "));
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_not_only_seen() {
        let (mut before, mut after) = (Lines::default(), Lines::default());
        before.add(Kind::Mount, "/a");
        before.add(Kind::Fd, "7 -> /x");
        for _ in 0..3 {
            after.add(Kind::Mount, "/a");
        }
        after.add(Kind::Fd, "7 -> /y");
        let expected = ["left behind: mount /a (2 times)", "left behind: fd 7 -> /y", "gone: fd 7 -> /x"];
        assert_eq!(before.differences(&after), expected);
        assert_eq!(before.differences(&before), Vec::<String>::new());
    }
}
