//! Killing everything in a group and below it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use cellkit_core::{Errno, ProcFd, ProcView, Subject, sys};

use crate::group::{parse_procs, read_whole};
use crate::tree::{Visit, vanished, walk};
use crate::{Cgroup, Error, ErrorKind, Result, open, sys as own_sys};

/// How often the group is gone through, when processes have to be killed one by one.
const ROUNDS: u32 = 200;

impl Cgroup {
    /// Writes `cgroup.kill`: SIGKILL to every process in the group and below it, at once; one that forks meanwhile does
    /// not get away. Frozen processes die too. It does not wait for them to be dead: [`remove`](Self::remove) does.
    ///
    /// * Kernel: 5.14. Before that, and for threaded groups, the group is frozen and its processes are killed one by one
    ///   by pidfd_send_signal(2).
    /// * Errors: Invalid for the root of the hierarchy, and for a group that holds the calling process: neither could be
    ///   meant. A group that has been removed has nothing to kill, which is success.
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
    ///
    /// # Errors
    /// As said; and whatever the kernel says.
    #[doc(alias = "cgroup.kill")]
    pub fn kill(&self) -> Result<()> {
        match self.try_kill() {
            Err(error) if error.kind() == ErrorKind::Gone => Ok(()),
            outcome => outcome,
        }
    }

    fn try_kill(&self) -> Result<()> {
        if self.is_root()? {
            return Err(Error::invalid(
                "write cgroup.kill",
                "this is the root of the hierarchy, every process is in it",
            )
            .on(self.path()));
        }
        self.refuse_own_group("write cgroup.kill")?;
        match self.write("cgroup.kill", "1") {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL))
                    && error.kind() != ErrorKind::Gone =>
            {
                self.kill_one_by_one()
            }
            outcome => outcome,
        }
    }

    /// What `cgroup.kill` does, for kernels and groups without it.
    pub(crate) fn kill_one_by_one(&self) -> Result<()> {
        // Nothing that is frozen can fork, so that the rounds end. It is the caller's no longer than this takes: left
        // frozen, the group would stop whatever is put into it next.
        let frozen_before = self.read("cgroup.freeze").is_ok_and(|state| state.trim() == "1");
        let froze = !frozen_before && self.write("cgroup.freeze", "1").is_ok();
        let outcome = self.kill_in_rounds();
        let thawed = if froze { self.write("cgroup.freeze", "0") } else { Ok(()) };
        Error::all([outcome, thawed].into_iter().filter_map(Result::err))
    }

    fn kill_in_rounds(&self) -> Result<()> {
        let mut killed = BTreeSet::new();
        for _ in 0..ROUNDS {
            let mut found = Found::default();
            self.each_group(|dir| found.kill_all_in(dir, &mut killed))?;
            if let Some((pid, errno)) = found.refused {
                return Err(Error::from_errno("pidfd_send_signal", errno.0).on(Subject::Pid(pid)));
            }
            if found.unseen {
                return Err(Error::other("pidfd_send_signal", "a process of another pid namespace is in it")
                    .on(self.path())
                    .with_hint("it can be killed from a pid namespace that sees it, or by cgroup.kill (Linux 5.14)"));
            }
            if !found.new {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::timed_out("pidfd_send_signal", Duration::from_millis(ROUNDS.into())).on(self.path()))
    }

    /// Calls `visit` with this group and every group below it.
    pub(crate) fn each_group(&self, mut visit: impl FnMut(BorrowedFd<'_>)) -> Result<()> {
        let faults = walk(self.dir.as_fd(), |visited, _| {
            if let Visit::Enter(dir) = visited {
                visit(dir);
            }
        });
        Error::all(faults.into_iter().map(|(below, errno)| {
            Error::from_errno("openat2", errno.0).on(self.path.join(below)).with_hints(&crate::hint::HINTS)
        }))
    }
}

#[derive(Default)]
struct Found {
    /// Whether a process was killed that had not been before.
    new: bool,
    /// Whether there is one that this pid namespace cannot see.
    unseen: bool,
    refused: Option<(i32, Errno)>,
}

impl Found {
    fn kill_all_in(&mut self, dir: BorrowedFd<'_>, killed: &mut BTreeSet<i32>) {
        let Ok(procs) = procs_of(dir) else { return };
        self.unseen |= procs.contains(&0);
        // A few at a time: the caller's descriptors are not ours to use up.
        let seen: Vec<i32> = procs.into_iter().filter(|&pid| pid != 0).collect();
        for some in seen.chunks(16) {
            let opened: Vec<(i32, OwnedFd)> =
                some.iter().filter_map(|&pid| Some((pid, sys::pidfd_open(pid).ok()?))).collect();
            // The number may have been another process's when the pidfd was opened. Whoever is listed after that is the
            // process of the pidfd, or that process is dead and the signal reaches nobody.
            let Ok(still) = procs_of(dir) else { return };
            for (pid, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
                match own_sys::kill_by_pidfd(pidfd.as_fd()) {
                    // Again in every round, for the number may be a new process's: it costs nothing.
                    Ok(()) => self.new |= killed.insert(*pid),
                    Err(Errno(libc::ESRCH)) => self.new = true,
                    Err(errno) => self.refused = Some((*pid, errno)),
                }
            }
        }
    }
}

/// The processes in the group itself; of a threaded one, those that have a thread in it.
pub(crate) fn procs_of(dir: BorrowedFd<'_>) -> Result<Vec<i32>, Errno> {
    match list_of(dir, "cgroup.procs") {
        Err(Errno(libc::EOPNOTSUPP)) => processes_of(list_of(dir, "cgroup.threads")?),
        outcome => outcome,
    }
}

fn list_of(dir: BorrowedFd<'_>, file: &str) -> Result<Vec<i32>, Errno> {
    let file = open::beneath(dir, Path::new(file), libc::O_RDONLY)?;
    match read_whole(file) {
        Ok(text) => parse_procs(&text).map_err(|_| Errno(libc::EIO)),
        Err(errno) if vanished(errno) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// The processes whose threads these are. A thread that has ended has none.
fn processes_of(threads: Vec<i32>) -> Result<Vec<i32>, Errno> {
    if threads.is_empty() {
        return Ok(threads);
    }
    let errno = |error: Error| Errno(error.raw_os_error().unwrap_or(libc::EIO));
    let proc = ProcFd::open(ProcView::Processes).map_err(errno)?;
    let mut processes = BTreeSet::new();
    for thread in threads {
        // The directory of a thread is there although it is not listed.
        match proc.read(Path::new(&format!("{thread}/status"))) {
            Ok(status) => processes.extend(process_in_status(&status)),
            Err(_) if thread == 0 => drop(processes.insert(0)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Gone) => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(processes.into_iter().collect())
}

/// The `Tgid` of `/proc/TID/status`.
fn process_in_status(status: &[u8]) -> Option<i32> {
    String::from_utf8_lossy(status).lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn whose_thread() {
        assert_eq!(super::process_in_status(b"Name:\tx\nTgid:\t42\nPid:\t43\n"), Some(42));
        for other in [&b""[..], b"Tgid:\tx\n", b"NSpid:\t1\n", b"Tgid:\xff"] {
            assert_eq!(super::process_in_status(other), None);
        }
    }

    /// The way without `cgroup.kill`, which kernels before 5.14 take.
    mod root {
        use std::path::Path;
        use std::process::{Child, Command, Stdio};
        use std::time::{Duration, Instant};

        use crate::{Cgroup, CgroupName, Hierarchy, Limits};

        fn group(name: &str) -> Cgroup {
            let place = Hierarchy::detect().expect("hierarchy").place().expect("place");
            place.create(&CgroupName::new(name).expect("name"), &Limits::new(), &mut ()).expect("create")
        }

        fn start_in(group: &Path, script: &str) -> Child {
            let script = format!("echo $$ > \"$0/cgroup.procs\" && {script}");
            let child = Command::new("sh").args(["-c", &script]).arg(group).stdin(Stdio::null()).spawn().expect("sh");
            let pid = child.id().to_string();
            let started = Instant::now();
            while !std::fs::read_to_string(group.join("cgroup.procs")).expect("procs").lines().any(|line| line == pid) {
                assert!(started.elapsed() < Duration::from_secs(20), "the process did not enter");
            }
            child
        }

        #[test]
        fn gets_processes_that_fork_without_end_and_thaws() {
            faultkit::require!(root, cgroup2);
            faultkit::isolated!(|| {
                let group = group("one-by-one");
                let below = group.path().join("below");
                std::fs::create_dir(&below).expect("mkdir");
                let fork = "while :; do sleep 0.001 & wait; done";
                // All begin at once, when the group thaws.
                group.raw("cgroup.freeze").write("1").expect("freeze");
                let children: Vec<_> =
                    (0..20).map(|n| start_in(if n % 2 == 0 { &below } else { group.path() }, fork)).collect();
                group.raw("cgroup.freeze").write("0").expect("thaw");
                std::thread::sleep(Duration::from_millis(200));
                group.kill_one_by_one().expect("kill");
                for child in children {
                    assert!(!child.wait_with_output().expect("wait").status.success());
                }
                assert_eq!(std::fs::read_to_string(group.path().join("cgroup.freeze")).expect("freeze"), "0\n");
                // Nobody got away: nothing was left to be killed for the removal.
                let path = group.path().to_owned();
                group.remove(Duration::from_secs(20)).expect("remove");
                assert!(!path.exists());
                faultkit::reap_orphans();
            });
        }

        #[test]
        fn leaves_a_group_frozen_that_was() {
            faultkit::require!(root, cgroup2);
            faultkit::isolated!(|| {
                let group = group("frozen");
                let child = start_in(group.path(), "exec sleep 1000");
                group.raw("cgroup.freeze").write("1").expect("freeze");
                group.kill_one_by_one().expect("kill");
                child.wait_with_output().expect("wait");
                assert_eq!(std::fs::read_to_string(group.path().join("cgroup.freeze")).expect("freeze"), "1\n");
                group.remove(Duration::from_secs(20)).expect("remove");
            });
        }
    }
}
