//! How children end, and what is known about processes, held against the standard library and /proc.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use ns_core::{Command, ErrorKind, ExitStatus, Process, ProcessId};

use crate::{sh, sys};

#[test]
fn statuses_are_those_of_the_standard_library() {
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        for script in
            ["exit 0", "exit 255", "kill -TERM $$", "ulimit -c unlimited; kill -QUIT $$", "ulimit -c 0; kill -QUIT $$"]
        {
            let mut theirs = std::process::Command::new("/bin/sh");
            let theirs = theirs.args(["-c", script]).current_dir(dir.path()).status().expect(script);
            let ours = sh(script).current_dir(dir.path()).status().expect(script);
            assert_eq!(std::process::ExitStatus::from(ours).into_raw(), theirs.into_raw(), "{script}");
        }
    });
}

#[test]
fn a_wait_with_a_limit() {
    faultkit::isolated!(|| {
        let mut child = Command::new("sleep").arg("100").spawn().expect("start");
        assert_eq!(child.try_wait().expect("try"), None);
        assert_eq!(child.wait_timeout(Duration::ZERO).expect("wait"), None);
        assert_eq!(child.wait_timeout(Duration::from_millis(20)).expect("wait"), None);
        child.signal(libc::SIGTERM).expect("signal");
        let status = child.wait_timeout(Duration::MAX).expect("wait");
        assert_eq!(status.and_then(ExitStatus::signal), Some(libc::SIGTERM));
        assert_eq!(child.try_wait().expect("again"), status);
        assert_eq!(child.wait_timeout(Duration::ZERO).expect("again"), status);
        assert_eq!(child.signal(libc::SIGTERM).expect_err("reaped").kind(), ErrorKind::Gone);
        let living = Command::new("sleep").arg("100").spawn().expect("start");
        assert_eq!(living.signal(1000).expect_err("no signal").kind(), ErrorKind::Invalid);
        living.kill().expect("kill");
        let pidfd = OwnedFd::from(living);
        assert!(
            nix::sys::wait::waitid(nix::sys::wait::Id::PIDFd(pidfd.as_fd()), nix::sys::wait::WaitPidFlag::WEXITED)
                .is_ok()
        );
    });
}

#[test]
fn a_child_that_stops_and_goes_on_has_not_ended() {
    faultkit::isolated!(|| {
        let mut child = sh("kill -STOP $$; exit 4").spawn().expect("start");
        crate::reaper::until_state(child.pid(), "T");
        assert_eq!(child.wait_timeout(Duration::from_millis(20)).expect("wait"), None);
        child.signal(libc::SIGCONT).expect("signal");
        assert_eq!(child.wait().expect("wait").code(), Some(4));
    });
}

#[test]
fn the_status_of_a_child_that_somebody_else_has_reaped() {
    faultkit::require!(kernel(6.15));
    faultkit::isolated!(|| {
        for (script, status) in [
            ("exit 9", ExitStatus::Exited(9)),
            ("kill -KILL $$", ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false }),
        ] {
            let mut child = sh(script).spawn().expect("start");
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid()), None).expect("the other one");
            assert_eq!(child.wait().expect("kept by the kernel"), status);
            assert!(child.usage().is_none());
            let mut child = sh(script).spawn().expect("start");
            let process = Process::open(child.pid()).expect("open");
            assert_eq!(process.exit_status(), None, "not reaped");
            child.wait().expect("wait");
            assert_eq!(process.exit_status(), Some(status));
        }
        sys::ignore(libc::SIGCHLD);
        assert_eq!(sh("exit 8").status().expect("never a zombie").code(), Some(8));
        let output = sh("echo text; exit 7").output().expect("never a zombie");
        assert_eq!((output.status.code(), output.stdout), (Some(7), b"text\n".to_vec()));
        sys::default(libc::SIGCHLD);
    });
}

/// Whoever reaps a child takes it first and lets go of it a moment later: in between it is nobody's.
#[test]
fn no_status_is_lost_between_the_hands_of_somebody_else() {
    use std::sync::atomic::{AtomicBool, Ordering};
    faultkit::require!(kernel(6.15));
    faultkit::isolated!(limit_secs = 240, || {
        let starts = || {
            let plan = Command::new("/bin/true").plan().expect("plan");
            for _ in 0..crate::fewer_where_emulated(3000) {
                assert_eq!(plan.spawn().expect("start").wait().expect("wait"), ExitStatus::Exited(0));
            }
        };
        sys::ignore(libc::SIGCHLD);
        starts();
        sys::default(libc::SIGCHLD);
        static STOP: AtomicBool = AtomicBool::new(false);
        let thief = std::thread::spawn(|| {
            while !STOP.load(Ordering::Relaxed) {
                if nix::sys::wait::waitpid(None, None).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        starts();
        STOP.store(true, Ordering::Relaxed);
        thief.join().expect("thief");
    });
}

#[test]
fn where_the_kernel_does_not_keep_it_the_error_says_who_may_have_it() {
    faultkit::isolated!(|| {
        let mut child = sh("exit 9").spawn().expect("start");
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid()), None).expect("the other one");
        match child.wait() {
            Ok(status) => assert_eq!(status.code(), Some(9)),
            Err(error) => {
                assert_eq!((error.operation(), error.raw_os_error()), ("waitid", Some(libc::ECHILD)));
                assert!(error.hint().expect("hint").contains("SIGCHLD"));
            }
        }
    });
}

#[test]
fn five_thousand_of_the_shortest_lives() {
    faultkit::isolated!(limit_secs = 240, || {
        let each = crate::fewer_where_emulated(1250);
        let starters: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let plan = Command::new("/bin/true").plan().expect("plan");
                    for _ in 0..each {
                        let mut child = plan.spawn().expect("start");
                        let status = child.wait_timeout(Duration::from_secs(30)).expect("wait");
                        assert_eq!(status, Some(ExitStatus::Exited(0)));
                    }
                })
            })
            .collect();
        for thread in starters {
            thread.join().expect("starter");
        }
    });
}

#[test]
fn what_a_child_used() {
    let mut child = sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done").spawn().expect("start");
    assert!(child.usage().is_none(), "it still runs");
    child.wait().expect("wait");
    let usage = child.usage().expect("usage");
    assert!(usage.user_time > Duration::ZERO && usage.max_resident > 100 << 10, "{usage:?}");
}

#[test]
fn what_the_kernel_knows_is_what_proc_says() {
    faultkit::require!(kernel(6.13));
    let mut child = Command::new("sleep").arg("100").spawn().expect("start");
    let info = child.info().expect("info");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).expect("status");
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().map(|word| word.parse::<u32>().expect(name)).collect::<Vec<_>>()
    };
    let ids = |ids: ns_core::Ids| vec![ids.real, ids.effective, ids.saved, ids.file_system];
    assert_eq!((ids(info.uid), ids(info.gid)), (line("Uid:"), line("Gid:")));
    assert_eq!((vec![info.pid as u32], vec![info.parent as u32]), (line("Tgid:"), line("PPid:")));
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(child.info().expect_err("reaped").kind(), ErrorKind::Gone);
    let null = std::fs::File::open("/dev/null").expect("null");
    assert_eq!(ns_core::ProcessInfo::of(&null).expect_err("no pidfd").kind(), ns_core::ErrorKind::Invalid);
}

#[test]
fn an_id_finds_its_process_and_no_other() {
    faultkit::isolated!(|| {
        let paused = Command::new("sleep").arg("100").spawn_paused().expect("paused");
        let id = paused.id().expect("id");
        let mut child = paused.resume(&mut ()).expect("resume");
        assert_eq!((child.id().expect("id"), id.pid()), (id, child.pid()), "execve changes nothing");
        assert_eq!(Process::open(child.pid()).expect("open").id().expect("id"), id);
        let found: ProcessId = id.to_string().parse().expect("text");
        let process = found.open().expect("alive");
        assert!(!process.has_ended().expect("poll"));
        process.kill().expect("kill");
        assert!(process.wait_end(Duration::from_secs(30)).expect("poll"));
        assert!(found.open().expect("a zombie is still it").has_ended().expect("poll"));
        child.wait().expect("wait");
        assert_eq!(found.open().expect_err("reaped").kind(), ErrorKind::Gone);
        assert_eq!(process.id().expect_err("reaped").kind(), ErrorKind::Gone);
        assert_eq!(process.kill().expect_err("reaped").kind(), ErrorKind::Gone);
        // Linux 6.15 keeps it, older ones do not.
        assert!(process.exit_status().is_none_or(|status| status.signal() == Some(libc::SIGKILL)));
        let null = std::fs::File::open("/dev/null").expect("null");
        assert_eq!(ProcessId::of(&null).expect_err("no pidfd").kind(), ErrorKind::Invalid);
        assert_eq!(Process::open(0).expect_err("no process").kind(), ErrorKind::Invalid);
        assert_eq!(Process::open(i32::MAX).expect_err("no process").kind(), ErrorKind::NotFound);
        let other_boot = id.to_string();
        let (before, _) = other_boot.split_once("boot=").expect("boot");
        let other_boot = format!("{before}boot=00000000-0000-0000-0000-000000000000");
        assert_eq!(
            other_boot.parse::<ProcessId>().expect("text").open().expect_err("rebooted").kind(),
            ErrorKind::Gone
        );
    });
}

mod root {
    use super::*;

    #[test]
    fn a_number_that_is_given_again_is_another_process() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let mut first = Command::new("sleep").arg("100").spawn().expect("start");
            let (id, number) = (first.id().expect("id"), first.pid());
            first.kill().expect("kill");
            first.wait().expect("wait");
            // In this pid namespace of our own the next number can be chosen.
            std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).expect("ns_last_pid");
            let mut second = Command::new("sleep").arg("100").spawn().expect("start");
            assert_eq!(second.pid(), number, "the number was given again");
            assert_eq!(id.open().expect_err("another one").kind(), ErrorKind::Gone);
            assert_eq!(first.signal(libc::SIGTERM).expect_err("another one").kind(), ErrorKind::Gone);
            assert_ne!(second.id().expect("id"), id);
            second.kill().expect("kill");
            second.wait().expect("wait");
        });
    }

    #[test]
    fn the_cgroup_of_a_process_is_the_inode_of_its_directory() {
        faultkit::require!(root, cgroup2, kernel(6.13));
        faultkit::isolated!(|| {
            use std::os::unix::fs::MetadataExt;
            let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            let mount = table.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
            let dir =
                std::path::Path::new(mount.expect("cgroup2")).join(format!("cellkit-test-{}", std::process::id()));
            std::fs::create_dir(&dir).expect("mkdir");
            let group = std::fs::File::open(&dir).expect("group");
            let paused = Command::new("/bin/true").cgroup(&group).spawn_paused().expect("paused");
            let info = ns_core::ProcessInfo::of(&paused).expect("info");
            assert_eq!(info.cgroup, Some(std::fs::metadata(&dir).expect("stat").ino()));
            drop(paused);
            std::fs::remove_dir(&dir).expect("rmdir");
        });
    }
}
