//! newuidmap and newgidmap that do what they should not: each is a typed error, in time, and nothing of them is left.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cellkit_core::{ErrorKind, Observer, ProcFd, ProcView, StepText};

use super::fake::{BY_NUMBER, Fake, WRITE, end, number_in};
use crate::tests::paused_child::PausedChild;
use crate::{Caller, MapPlan, SubIds};

fn proc() -> ProcFd {
    ProcFd::open(ProcView::Processes).expect("proc")
}

#[test]
fn half_a_line_a_megabyte_and_what_is_no_text() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let error = Fake::new("printf 'newuidmap: write to uid_m' >&2; exit 1").fails();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Other, "newuidmap"));
        assert_eq!(error.kernel_text(), Some("newuidmap: write to uid_m"));

        let error = Fake::new("head -c 1048576 /dev/zero | tr '\\0' x >&2; exit 1").fails();
        assert_eq!(error.kernel_text().map(str::len), Some(4096));

        let error = Fake::new("printf 'be\\033[2J\\007\\377\\000fore\\nafter' >&2; exit 1").fails();
        let said = error.kernel_text().expect("said");
        assert!(said.starts_with("be") && said.ends_with("after") && !said.contains(char::is_control), "{said:?}");
        assert!(!format!("{error:#}").lines().next().unwrap_or_default().contains(char::is_control));
    });
}

#[test]
fn half_a_map_is_never_taken_for_the_whole() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let error = Fake::new("echo '0 12345 1' > /proc/$1/uid_map; exit 0").fails_at("read uid_map");
        assert!(error.to_string().contains("holds 0:12345:1, not 0:12345:1,1:100000:65536"), "{error}");
        let error = Fake::new("echo '0 12345 1' > /proc/$1/uid_map; exit 1").fails();
        assert!(error.hint().is_some_and(|hint| hint.contains("has the map 0:12345:1 already")), "{error:#}");
    });
}

impl Fake {
    /// For a newuidmap whose lie is found out only when the maps are read: newgidmap is honest.
    fn fails_at(&self, operation: &str) -> crate::Error {
        self.replace("newgidmap", format!("#!/bin/sh\n{WRITE}{BY_NUMBER}").as_bytes());
        let (_child, result) = self.write();
        let error = result.expect_err("a bad program");
        assert_eq!(error.operation(), operation, "{error:#}");
        error
    }
}

#[test]
fn a_program_that_stops_itself_is_killed_in_time() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        // SIGTSTP stops nobody in an orphaned process group.
        for script in ["kill -STOP $$", "kill -TSTP $$; exec sleep 1000", "echo asleep >&2; kill -STOP $$"] {
            // Long enough for a shell on a busy machine to say its word.
            let error = Fake::new(script).limit(Duration::from_secs(3)).fails();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::TimedOut, "newuidmap"), "{error:#}");
            if script.starts_with("echo") {
                assert_eq!(error.kernel_text(), Some("asleep"));
            }
        }
    });
}

#[test]
fn signals_are_named() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        for signal in [6, 9, 11, 15, 31] {
            let error = Fake::new(&format!("echo first words >&2; kill -{signal} $$; sleep 1000")).fails();
            assert!(error.to_string().ends_with(&format!("it was killed by signal {signal}")), "{error}");
            assert_eq!(error.kernel_text(), Some("first words"));
        }
    });
}

#[test]
fn an_honest_program_with_a_grandchild_that_listens_on_is_not_waited_for() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let fake = Fake::new(&format!("{WRITE}{BY_NUMBER}sleep 1000 & echo $! > \"$0.left\"; exit 0"));
        let begun = Instant::now();
        let (child, result) = fake.write();
        result.expect("write");
        assert!(begun.elapsed() < Duration::from_secs(5), "within the limit of one program");
        assert_eq!(child.map("gid_map"), "0 12345 1\n1 200000 65536\n");
        for name in ["newuidmap.left", "newgidmap.left"] {
            end(number_in(&fake.path(name)));
        }
    });
}

#[test]
fn a_program_that_changes_after_it_was_checked() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let fake = Fake::new(&format!("{WRITE}{BY_NUMBER}"));
        let plan = fake.plan();
        let write = || {
            let child = PausedChild::new();
            let error = plan.write(&child, &proc(), &mut ()).expect_err("another program");
            (error.kind(), error.raw_os_error(), error.operation().to_owned(), error)
        };
        fake.replace("newuidmap", b"#!/bin/sh\nexit 0\n");
        assert_eq!(write().2, "read uid_map");

        // What no kernel can run, nothing at all, and what may not be run.
        let path = fake.replace("newuidmap", b"\x7fELF and no more");
        let (_, errno, operation, _) = write();
        assert_eq!((errno, operation.as_str()), (Some(libc::ENOEXEC), "execve newuidmap"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let (kind, _, operation, error) = write();
        assert_eq!((kind, operation.as_str()), (ErrorKind::Permission, "execve newuidmap"));
        assert!(error.hint().is_some_and(|hint| hint.contains("noexec")), "{error:#}");
        fs::remove_file(&path).expect("rm");
        let (kind, errno, operation, error) = write();
        assert_eq!((kind, errno), (ErrorKind::NotFound, Some(libc::ENOENT)));
        assert_eq!(operation, "execve newuidmap");
        assert!(error.hint().is_some_and(|hint| hint.contains("apt install uidmap")), "{error:#}");
        std::os::unix::fs::symlink("newuidmap", &path).expect("symlink");
        assert_eq!(write().1, Some(libc::ELOOP));
        // That the second one goes is no better than that the first does.
        fake.replace("newuidmap", format!("#!/bin/sh\n{WRITE}{BY_NUMBER}").as_bytes());
        fs::remove_file(fake.path("newgidmap")).expect("rm");
        assert_eq!(write().2, "execve newgidmap");
    });
}

/// Ends the child after the step of this number.
struct Reaper<'a> {
    child: &'a mut PausedChild,
    after: usize,
    made: usize,
}

impl Observer for Reaper<'_> {
    fn made(&mut self, _step: StepText, _took: Duration) {
        self.made += 1;
        if self.made == self.after {
            self.child.end();
        }
    }
}

#[test]
fn a_child_that_dies_after_any_step_is_gone_at_the_next() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let fake = Fake::new(&format!("{WRITE}{BY_NUMBER}"));
        let root = Caller::current().expect("caller");
        let maps: crate::IdMaps = "100000:100000:10".parse().expect("maps");
        let maps = maps.with_projid("0:0:10".parse().expect("map"));
        let direct = MapPlan::explicit(maps, &root, &SubIds::default()).expect("plan");
        for plan in [direct.deny_setgroups(), fake.plan(), fake.plan().deny_setgroups()] {
            let steps = plan.describe();
            for (after, step) in steps.iter().enumerate().skip(1) {
                let mut child = PausedChild::new();
                let pidfd = std::os::fd::AsFd::as_fd(&child).try_clone_to_owned().expect("dup");
                let mut reaper = Reaper { child: &mut child, after, made: 0 };
                let error = plan.write(&pidfd, &proc(), &mut reaper).expect_err("dead");
                assert_eq!(error.kind(), ErrorKind::Gone, "{after}: {error:#}");
                assert_eq!(reaper.made, after, "nothing goes on after an error");
                let said = format!("{error:#}");
                assert!(said.contains(step.call.as_ref()), "after {after}, at {step}: {said}");
            }
        }
    });
}

#[test]
fn a_child_that_dies_between_the_two_programs() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let died =
            "kill -9 $1; until grep -q '^State:.Z' /proc/$1/status; do :; done; echo no such process >&2; exit 1";
        let fake = Fake::newgidmap(died);
        let child = PausedChild::new();
        let error = fake.plan().write(&child, &proc(), &mut ()).expect_err("dead");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Gone, "newgidmap"), "{error:#}");
        assert!(format!("{error:#}").contains("it refused, with exit status 1"), "{error:#}");
    });
}

#[test]
fn setgroups_that_newgidmap_denied_unasked_is_noticed() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let fake = Fake::newgidmap(&format!("echo deny > /proc/$1/setgroups\n{WRITE}{BY_NUMBER}"));
        let (child, result) = fake.write();
        let error = result.expect_err("denied");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Other, "read setgroups"), "{error:#}");
        assert_eq!(child.file("setgroups"), "deny\n");
        let child = PausedChild::new();
        fake.plan().deny_setgroups().write(&child, &proc(), &mut ()).expect("as asked for");
    });
}
