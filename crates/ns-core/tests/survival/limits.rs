//! Limits of every kind, met on the way: each is an error that names it, and nothing is left.

use std::fs::File;

use ns_core::{Command, ErrorKind, Namespaces, Stdio};

use crate::sys;

/// Every number of descriptors that are still free, from none up to where the start succeeds.
#[test]
fn descriptors_run_out_at_every_place() {
    faultkit::isolated!(|| {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
        let used = std::fs::read_dir("/proc/self/fd").expect("fd").count() as u64 - 1;
        let with_limit = |limit: u64, work: &dyn Fn() -> ns_core::Result<()>| {
            setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("limit");
            let outcome = work();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("limit");
            outcome
        };
        let start = || {
            let command = Command::new("/bin/true").stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null);
            command.new_session().spawn()?.wait().map(|status| assert!(status.success()))
        };
        let mut failures = 0;
        // The payload's own loader needs a few: its failure is its own.
        for spare in 0..12 {
            match with_limit(used + spare, &start) {
                Ok(()) => break,
                Err(error) => {
                    failures += 1;
                    // The plan says it of the numbers that it needs itself, the kernel of the rest.
                    let planned =
                        error.kind() == ErrorKind::Invalid && error.to_string().contains("the limit on open files");
                    let met = (error.raw_os_error(), error.kind()) == (Some(libc::EMFILE), ErrorKind::Limit);
                    assert!(planned || met, "{error:#}");
                }
            }
        }
        assert!((4..12).contains(&failures), "{failures} failures");
    });
}

#[test]
fn processes_of_a_user_run_out() {
    faultkit::isolated!(|| {
        use nix::sys::resource::{Resource, setrlimit};
        sys::in_a_fork(|| {
            if nix::unistd::geteuid().is_root() {
                // Root is exempt. Nobody else is this user.
                nix::unistd::setresuid(54321.into(), 54321.into(), 54321.into()).expect("setresuid");
            }
            setrlimit(Resource::RLIMIT_NPROC, 0, 0).expect("limit");
            let error = Command::new("/bin/true").spawn().expect_err("no process is free");
            assert_eq!((error.operation(), error.raw_os_error()), ("clone3", Some(libc::EAGAIN)), "{error:#}");
            assert!(error.hint().expect("hint").contains("ulimit -u"), "{error:#}");
            assert!(error.can_retry());
        });
    });
}

mod root {
    use super::*;

    #[test]
    fn tasks_of_a_group_run_out() {
        faultkit::require!(root, cgroup2("pids"));
        faultkit::isolated!(|| {
            let dir = crate::cgroup2().join(format!("cellkit-test-{}", std::process::id()));
            std::fs::create_dir(&dir).expect("mkdir");
            std::fs::write(dir.join("pids.max"), "0").expect("pids.max");
            let group = File::open(&dir).expect("group");
            let error = Command::new("/bin/true").cgroup(&group).spawn().expect_err("no task is free");
            assert_eq!((error.operation(), error.raw_os_error()), ("clone3", Some(libc::EAGAIN)), "{error:#}");
            assert!(error.hint().expect("hint").contains("pids.max"), "{error:#}");
            std::fs::write(dir.join("pids.max"), "1").expect("pids.max");
            let mut child = Command::new("/bin/true").cgroup(&group).spawn().expect("one is");
            assert!(child.wait().expect("wait").success());
            std::fs::remove_dir(&dir).expect("rmdir");
        });
    }
}

mod rootless {
    use super::*;

    /// A user namespace of the test's own, whose limits it may set.
    fn in_a_user_namespace(work: impl FnOnce()) {
        sys::in_a_fork(|| {
            nest().expect("a user namespace");
            work();
        });
    }

    /// One user namespace deeper, as the same user.
    fn nest() -> nix::Result<()> {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?;
        std::fs::write("/proc/self/setgroups", "deny").expect("setgroups");
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).expect("uid_map");
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).expect("gid_map");
        Ok(())
    }

    #[test]
    fn namespaces_of_each_kind_run_out() {
        faultkit::require!(userns);
        faultkit::isolated!(|| {
            for (kind, file) in [
                (Namespaces::USER, "user"),
                (Namespaces::PID, "pid"),
                (Namespaces::NET, "net"),
                (Namespaces::UTS, "uts"),
                (Namespaces::IPC, "ipc"),
                (Namespaces::CGROUP, "cgroup"),
                (Namespaces::MOUNT, "mnt"),
            ] {
                in_a_user_namespace(|| {
                    std::fs::write(format!("/proc/sys/user/max_{file}_namespaces"), "0").expect(file);
                    let error = Command::new("/bin/true").namespaces(kind).spawn_paused().expect_err("none is free");
                    assert_eq!((error.operation(), error.raw_os_error()), ("clone3", Some(libc::ENOSPC)), "{error:#}");
                    assert_eq!(error.kind(), ErrorKind::Limit);
                    assert!(error.hint().expect("hint").contains("/proc/sys/user/max_"), "{error:#}");
                });
            }
        });
    }

    #[test]
    fn user_namespaces_are_nested_too_deep() {
        faultkit::require!(userns);
        faultkit::isolated!(|| {
            sys::in_a_fork(|| {
                let mut depth = 0;
                while nest().is_ok() {
                    depth += 1;
                    assert!(depth < 100, "there is no limit");
                }
                let nested = Command::new("/bin/true").namespaces(Namespaces::USER);
                let error = nested.spawn_paused().expect_err("too deep");
                assert_eq!(error.operation(), "clone3", "{error:#}");
                // EUSERS before Linux 4.9.
                assert_eq!((error.raw_os_error(), error.kind()), (Some(libc::ENOSPC), ErrorKind::Limit), "{error:#}");
                assert!(error.hint().expect("hint").contains("nested too deep"), "{error:#}");
                // Where it stands, what needs no namespace starts as ever.
                assert!(Command::new("/bin/true").spawn().expect("start").wait().expect("wait").success());
            });
        });
    }
}
