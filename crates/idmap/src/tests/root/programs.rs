//! newuidmap in all its bad moods: programs made for it, found by a search that only tests can change.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cellkit_core::{ErrorKind, ProcFd, ProcView};
use faultkit::TempDir;

use super::fake::{Fake, WRITE};
use crate::newidmap::{Program, Search};
use crate::tests::paused_child::PausedChild;
use crate::tests::sys::{as_user, ignore_sigchld};
use crate::{Caller, IdKind, MapPlan};

#[test]
fn an_honest_program_gets_a_number_an_empty_environment_and_slash() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let fake = Fake::new(&format!("{WRITE}printf '%s' \"$text\" > /proc/$dir/$file"));
        let (child, result) = fake.write();
        result.expect("write");
        assert_eq!(child.map("uid_map"), "0 12345 1\n1 100000 65536\n");
        assert_eq!(child.map("gid_map"), "0 12345 1\n1 200000 65536\n");
    });
}

#[test]
fn no_descriptor_is_inherited_that_any_program_would_not_inherit() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        // What the harness around this test left open without close-on-exec reaches every program.
        let script = "/bin/ls /proc/$$/fd >&2; exit 1";
        let open = |said: &str| said.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let plain = TempDir::new();
        let path = plain.path().join("plain");
        fs::write(&path, script).expect("write");
        let output = std::process::Command::new("/bin/sh").arg(&path).stdin(Stdio::null()).output().expect("sh");
        let expected = open(&String::from_utf8_lossy(&output.stderr));
        assert!(expected.len() >= 4, "0, 1, 2 and the script: {expected:?}");
        assert_eq!(open(Fake::new(script).fails().kernel_text().expect("said")), expected);
    });
}

#[test]
fn a_new_program_gets_a_descriptor_and_an_old_one_the_number() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let through_fd = format!("{WRITE}[ \"$dir\" = fd:0 ] || exit 7\nprintf '%s' \"$text\" > /proc/self/fd/0/$file");
        let refuses_fd = format!(
            "case \"$1\" in fd:*) echo 'usage: x <pid>' >&2; exit 1;; esac\n{WRITE}printf '%s' \"$text\" > /proc/$dir/$file"
        );
        for script in [through_fd, refuses_fd] {
            let fake = Fake::new(&script);
            as_user(12345, 12345, &[], || {
                // Not a private procfs, so that the descriptor is one of the procfs the program sees. The own id is all
                // that a script without privilege can write.
                let ann = Caller::ordinary("ann", 12345);
                let maps = "12345:12345:1".parse().expect("maps");
                let find = |kind| Program::find(kind, &fake.search).expect("program");
                let plan = MapPlan::helper(maps, &ann, find(IdKind::Uid), find(IdKind::Gid));
                let proc = ProcFd::open(ProcView::Processes).expect("proc");
                assert!(!proc.is_private());
                let child = PausedChild::new();
                plan.write(&child, &proc, &mut ()).expect("write");
                assert_eq!(child.map("uid_map"), "0 12345 1\n");
                assert_eq!(child.map("gid_map"), "0 12345 1\n");
                assert_eq!(child.file("setgroups"), "deny\n");
            });
        }
    });
}

#[test]
fn exit_statuses_signals_and_what_was_said_are_kept() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let error = Fake::new("echo 'newuidmap: uid range [0-1) -> [5-6) not allowed' >&2; exit 1").fails();
        assert!(error.to_string().ends_with("newuidmap\": it refused, with exit status 1"), "{error}");
        assert_eq!(error.kernel_text(), Some("newuidmap: uid range [0-1) -> [5-6) not allowed"));
        assert!(error.hint().is_some_and(|hint| hint.contains("/etc/subuid")), "{error:#}");
        let error = Fake::new("kill -9 $$").fails();
        assert!(error.to_string().ends_with("it was killed by signal 9"), "{error}");
        let error = Fake::new("exit 77").fails();
        assert!(error.to_string().ends_with("exit status 77"), "{error}");
        assert_eq!(error.kernel_text(), None);
        assert!(error.hint().is_some_and(|hint| hint.contains("it said nothing")), "{error:#}");
    });
}

#[test]
fn a_lie_is_found_out_by_reading_the_map() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let error = Fake::new("exit 0").fails();
        assert_eq!(error.operation(), "read uid_map");
        assert!(error.to_string().ends_with("the kernel holds none, not 0:12345:1,1:100000:65536"), "{error}");
        // Part of the map, and another map, with success.
        for (map, shown) in [("0 12345 1", "0:12345:1"), ("0 0 65537", "0:0:65537")] {
            let error =
                Fake::new(&format!("case $0 in *uidmap) echo '{map}' > /proc/$1/uid_map;; esac; exit 0")).fails();
            assert!(error.to_string().contains(&format!("holds {shown}, not")), "{error}");
        }
    });
}

#[test]
fn a_program_that_hangs_is_killed_in_time_and_reaped() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        for script in ["echo asking the directory >&2; exec sleep 1000", "trap '' TERM INT HUP; while :; do :; done"] {
            let fake = Fake::new(script).limit(Duration::from_secs(3));
            let begun = Instant::now();
            let error = fake.fails();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::TimedOut, "newuidmap"), "{error:#}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
            if script.starts_with("echo") {
                assert_eq!(error.kernel_text(), Some("asking the directory"));
            }
            // That it is gone, and no zombie, is the ledger's to see.
        }
    });
}

#[test]
fn a_flood_of_words_and_an_open_pipe_hold_nobody_up() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let flood = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789012345678901234567890; \
                     i=$((i+1)); done >&2; exit 1";
        let error = Fake::new(flood).fails();
        let said = error.kernel_text().expect("said").len();
        assert!((4000..=4096).contains(&said), "{said} bytes are kept");
        // A grandchild keeps standard error open.
        let begun = Instant::now();
        let error = Fake::new("sleep 1000 & echo $! >&2; exit 3").fails();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let grandchild = error.kernel_text().expect("said").to_owned();
        assert!(std::process::Command::new("kill").arg(&grandchild).status().expect("kill").success());
        while fs::metadata(format!("/proc/{grandchild}")).is_ok() {
            faultkit::reap_orphans();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn a_child_that_dies_meanwhile_is_gone() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let fake = Fake::new("kill -9 $1; until grep -q '^State:.Z' /proc/$1/status; do :; done; exit 0");
        let mut child = PausedChild::new();
        let proc = ProcFd::open(ProcView::Processes).expect("proc");
        let error = fake.plan().write(&child, &proc, &mut ()).expect_err("dead");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Gone, "read uid_map"), "{error:#}");
        child.end();
        let error = fake.plan().write(&child, &proc, &mut ()).expect_err("dead");
        assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
    });
}

#[test]
fn a_caller_that_ignores_its_children_is_served_all_the_same() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let honest = Fake::new(&format!("{WRITE}printf '%s' \"$text\" > /proc/$dir/$file"));
        let refuses = Fake::new("echo no >&2; exit 1");
        let hangs = Fake::new("exec sleep 1000").limit(Duration::from_millis(300));
        as_user(0, 0, &[], || {
            ignore_sigchld();
            let (child, result) = honest.write();
            result.expect("write");
            assert_eq!(child.map("gid_map"), "0 12345 1\n1 200000 65536\n");
            // Nobody can know the exit status; the map tells.
            assert_eq!(refuses.fails().operation(), "read uid_map");
            assert_eq!(hangs.fails().kind(), ErrorKind::TimedOut);
        });
    });
}

#[test]
fn programs_unfit_for_use_are_refused_before_they_run() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let fake = Fake::new("exit 0");
        let strict = Search { privileged: true, ..fake.search.clone() };
        let find = |search: &Search| Program::find(IdKind::Uid, search);
        assert!(find(&fake.search).is_ok());
        let error = find(&strict).expect_err("no privilege");
        assert!(error.to_string().contains("neither setuid root nor has it file capabilities"), "{error}");
        let path = strict.dirs.last().expect("a folder").join("newuidmap");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("chmod");
        let found = find(&strict);
        // The folder for temporary files may be on a nosuid mount: that is the next thing to be refused.
        if let Err(error) = found {
            assert!(error.to_string().contains("nosuid"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4644)).expect("chmod");
        assert_eq!(find(&strict).expect_err("no x").kind(), ErrorKind::Permission);
        std::os::unix::fs::chown(&path, Some(12345), None).expect("chown");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("chmod");
        assert!(find(&strict).is_err(), "setuid of somebody else");
        let missing = Search { dirs: vec!["/nonexistent".into()], ..Search::default() };
        let error = find(&missing).expect_err("missing");
        assert_eq!(
            error.to_string(),
            "execve newuidmap \"/nonexistent/newuidmap\": no such file or directory (ENOENT)"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("apt install uidmap")), "{error:#}");
    });
}
