//! Processes, their threads and namespaces, and this process's file descriptors.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::isolated::Scope;
use crate::ledger::{Kind, Lines};
use crate::sys;

pub fn add(lines: &mut Lines, scope: Scope) {
    let own = own_pid();
    let all = table();
    let ours: BTreeSet<i32> = match scope {
        // The pid namespace is ours alone.
        Scope::Namespaces | Scope::NamespacesAndCgroup => all.keys().copied().collect(),
        Scope::None | Scope::Process => below(&all, own),
    };
    let shared = links("/proc/self/ns");
    for (pid, process) in all.iter().filter(|(pid, _)| ours.contains(pid)) {
        if *pid != own {
            let zombie = if process.state == 'Z' { ", a zombie" } else { "" };
            lines.add(Kind::Process, format!("{pid} ({}){zombie}, child of {}", process.comm, process.parent));
        }
        namespaces(lines, *pid, process, &shared);
    }
    if scope != Scope::None {
        for tid in names(Path::new("/proc/self/task")).iter().filter(|tid| **tid != own) {
            let comm = fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
            lines.add(Kind::Thread, format!("{tid} ({})", comm.trim()));
        }
    }
    fds(lines);
}

/// Kills what runs below process `root`, or below this one, so that a failed test leaves nobody behind.
pub fn kill_below(root: Option<i32>) {
    let root = root.unwrap_or_else(own_pid);
    for pid in below(&table(), root).into_iter().filter(|pid| *pid != root) {
        sys::kill(pid);
    }
}

/// This process and those below it.
pub fn family() -> BTreeSet<i32> {
    below(&table(), own_pid())
}

/// What runs below process `root`, a line a thread, with where in the kernel it waits: why a test does not end.
pub fn waiting_below(root: i32) -> Vec<String> {
    waiting(root, &BTreeSet::new())
}

/// As [`waiting_below`] this process, but for those of `known`.
pub fn waiting_beside(known: &BTreeSet<i32>) -> Vec<String> {
    waiting(own_pid(), known)
}

fn waiting(root: i32, known: &BTreeSet<i32>) -> Vec<String> {
    let all = table();
    let ours: BTreeSet<i32> = below(&all, root).difference(known).copied().collect();
    let mut lines = Vec::new();
    for (pid, process) in all.iter().filter(|(pid, _)| ours.contains(pid)) {
        let (comm, parent, state) = (&process.comm, process.parent, process.state);
        lines.push(format!("{pid} ({comm}), child of {parent}, state {state}, {}", place(&format!("/proc/{pid}"))));
        // The main thread may only wait for one of the others.
        for tid in names(Path::new(&format!("/proc/{pid}/task"))).into_iter().filter(|tid| tid != pid) {
            let task = format!("/proc/{pid}/task/{tid}");
            let Some(thread) = fs::read_to_string(format!("{task}/stat")).ok().and_then(|stat| parse_stat(&stat))
            else {
                continue;
            };
            lines.push(format!("{tid} ({}), thread of {pid}, state {}, {}", thread.comm, thread.state, place(&task)));
        }
    }
    lines
}

/// Where in the kernel, and the number of the system call with its arguments. The kernel's stack where root may see it.
fn place(task: &str) -> String {
    let text = |file| fs::read_to_string(format!("{task}/{file}")).unwrap_or_default();
    let stack = text("stack");
    let calls = stack.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('+').next()).take(8);
    let calls: Vec<_> = calls.collect();
    format!("in {}, system call {}, {}", text("wchan"), text("syscall").trim(), calls.join(" < "))
}

#[derive(Debug)]
struct Process {
    comm: String,
    state: char,
    parent: i32,
}

/// The own number as /proc counts, which is not getpid() when /proc belongs to another pid namespace.
fn own_pid() -> i32 {
    let link = fs::read_link("/proc/self").unwrap_or_else(|e| panic!("readlink /proc/self: {e}"));
    link.to_string_lossy().parse().unwrap_or_else(|e| panic!("/proc/self is {}: {e}", link.display()))
}

fn table() -> BTreeMap<i32, Process> {
    // A process may go between the listing and the reading.
    let stat = |pid: i32| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    names(Path::new("/proc")).into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// `12 (a (odd) name) S 1 ...`
fn parse_stat(line: &str) -> Option<Process> {
    let (start, rest) = line.rsplit_once(") ")?;
    let comm = start.split_once(" (")?.1.to_owned();
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Process { comm, state, parent: fields.next()?.parse().ok()? })
}

/// `root` and all below it.
fn below(all: &BTreeMap<i32, Process>, root: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, process)| !found.contains(pid) && found.contains(&process.parent))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The namespaces of this process; of another process, and of a thread, those it does not share.
fn namespaces(lines: &mut Lines, pid: i32, process: &Process, own: &BTreeMap<String, String>) {
    let main = links(&format!("/proc/{pid}/ns"));
    for (name, target) in &main {
        if pid == own_pid() || own.get(name) != Some(target) {
            lines.add(Kind::Namespace, format!("{target} as {name} of process {pid} ({})", process.comm));
        }
    }
    for tid in names(Path::new(&format!("/proc/{pid}/task"))).into_iter().filter(|tid| *tid != pid) {
        for (name, target) in links(&format!("/proc/{pid}/task/{tid}/ns")) {
            if main.get(&name) != Some(&target) {
                lines.add(Kind::Namespace, format!("{target} as {name} of thread {tid} of process {pid}"));
            }
        }
    }
}

/// The links of a folder and where they lead.
fn links(dir: &str) -> BTreeMap<String, String> {
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| Some((text(&e.file_name()), text(fs::read_link(e.path()).ok()?.as_os_str())))).collect()
}

fn fds(lines: &mut Lines) {
    let dir = Path::new("/proc/self/fd");
    // The listing's own descriptor is closed by the time its link is read.
    for fd in names(dir) {
        if let Ok(target) = fs::read_link(dir.join(fd.to_string())) {
            lines.add(Kind::Fd, format!("{fd} -> {}", target.display()));
        }
    }
}

/// The entries of a folder whose names are numbers.
fn names(dir: &Path) -> Vec<i32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_in_stat() {
        let process = parse_stat("12 (a (odd) name) Z 7 12 12 0").unwrap();
        assert_eq!((process.comm.as_str(), process.state, process.parent), ("a (odd) name", 'Z', 7));
        assert!(parse_stat("").is_none());
    }

    #[test]
    fn threads_and_where_they_wait() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let waits = move || assert!(stopped.recv().is_err());
        let waiter = std::thread::Builder::new().name("the waiter".into()).spawn(waits).unwrap();
        let line = || waiting_below(own_pid()).into_iter().find(|line| line.contains("(the waiter), thread of"));
        let is_seen = || line().is_some_and(|line| line.contains("in futex"));
        let pause = || std::thread::sleep(std::time::Duration::from_millis(10));
        let seen = (0..1000).any(|_| is_seen() || (pause(), false).1);
        println!("{:?}", line());
        drop(stop);
        waiter.join().unwrap();
        assert!(seen);
    }

    #[test]
    fn descendants_of_descendants() {
        let table = [(1, 0), (2, 1), (3, 2), (9, 3), (4, 1)]
            .map(|(pid, parent)| (pid, Process { comm: String::new(), state: 'S', parent }));
        assert_eq!(below(&BTreeMap::from(table), 2), BTreeSet::from([2, 3, 9]));
    }
}
