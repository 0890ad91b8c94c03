//! Ranges from getsubids(1): the real one beside our reading of the same files, and others in bad moods.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cellkit_core::{ErrorKind, ProcFd, ProcView};
use faultkit::TempDir;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::etc::Etc;
use crate::subid::Getsubids;
use crate::tests::paused_child::PausedChild;
use crate::tests::sys::as_user;
use crate::{Caller, Error, IdRange, MapPlan, SubIds, User, Way};

/// A getsubids(1) over the machine's own, in this mount namespace.
struct Fake {
    dir: TempDir,
}

impl Fake {
    fn new(script: &str) -> Self {
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let path = dir.path().join("getsubids");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("getsubids")
    }

    /// Puts it where the real one is, for as long as the answer lives.
    fn mounted(self) -> Mounted {
        assert!(std::env::var_os("CELLKIT_ISOLATED").is_some(), "never in the machine's own mount namespace");
        run("mount", &["--bind", self.path().to_str().expect("a path"), "/usr/bin/getsubids"]);
        Mounted(self)
    }

    fn ask(&self, limit: Duration) -> Result<SubIds, Error> {
        let ann = User { uid: 12345, gid: Some(12345), names: vec!["ann".into()] };
        SubIds::of_with(&ann, &Getsubids { paths: vec![self.path()], limit })
    }
}

struct Mounted(#[expect(dead_code, reason = "its folder lives as long")] Fake);

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["/usr/bin/getsubids"]);
    }
}

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().expect(program).success(), "{program} {args:?}");
}

const SERVICE: (&str, &str) = ("nsswitch.conf", "passwd: files\nsubid: directory files\n");

fn shown(ranges: &[IdRange]) -> Vec<String> {
    ranges.iter().map(ToString::to_string).collect()
}

#[test]
fn the_service_is_asked_with_an_empty_environment_and_the_files_are_not_read() {
    faultkit::require!(root, program("getsubids"), program("unshare"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[SERVICE, ("subuid", "ann:1:1\n"), ("subgid", "ann:1:1\n")]);
        let script = r#"[ -z "$HOME$LANG$CELLKIT_ISOLATED" ] && [ "$(/bin/pwd)" = / ] && ! read line || exit 9
            case "$*" in
            ann) echo '0: ann 300000 1000'; echo '1: ann 300500 1000' ;;
            "-g ann") echo '0: ann 400000 65536' ;;
            *) echo 'Error fetching ranges' >&2; exit 1 ;;
            esac"#;
        let _fake = Fake::new(script).mounted();
        as_user(12345, 12345, &[], || {
            let caller = Caller::current().expect("caller");
            let subids = SubIds::of(&caller).expect("subids");
            assert_eq!(subids.service(), Some("directory"));
            assert_eq!(shown(subids.uids()), ["300000:1000", "301000:500"]);
            assert_eq!(shown(subids.gids()), ["400000:65536"]);
            let plan = MapPlan::auto(&caller, &subids).expect("plan");
            assert_eq!(plan.maps().uid.to_string(), "0 12345 1\n1 300000 1000\n1001 301000 500\n");
        });
        as_user(12346, 12346, &[], || {
            let caller = Caller::current().expect("caller");
            let subids = SubIds::of(&caller).expect("subids");
            let plan = MapPlan::auto(&caller, &subids).expect("plan");
            assert_eq!(plan.way(), Way::SingleId);
            let why = plan.why_single_id().expect("why");
            for part in
                ["\"bob\" has no range of ids in \"directory\"", "decides, not the files", "Error fetching ranges"]
            {
                assert!(why.contains(part), "{why}");
            }
            assert!(!why.contains("/etc/subuid") && !why.contains('\n'), "{why}");
        });
        // One without a name, whom the service cannot be asked about.
        as_user(12399, 12399, &[], || {
            let caller = Caller::current().expect("caller");
            let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
            let why = plan.why_single_id().expect("why");
            assert!(why.contains("uid 12399 has no name in /etc/passwd to ask \"directory\" by"), "{why}");
        });
    });
}

#[test]
fn whatever_it_does_is_a_typed_error_in_time() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[SERVICE]);
        let minute = Duration::from_secs(60);
        for (script, kind, part) in [
            ("echo no such module >&2; exit 2", ErrorKind::Other, "it refused, with exit status 2"),
            ("echo out of memory >&2; exit 1", ErrorKind::Other, "it refused, with exit status 1"),
            ("echo '0: ann 1 1'; kill -9 $$", ErrorKind::Other, "it was killed by signal 9"),
            ("printf '0: ann 100000 65'", ErrorKind::Parse, "ends within a line"),
            ("echo '0: bob 100000 65536'", ErrorKind::Parse, "is not \"0: ann START COUNT\""),
            ("echo; echo '\x1b[31m'", ErrorKind::Parse, "line 1 of its answer"),
            ("/usr/bin/head -c 2000000 /dev/zero", ErrorKind::Parse, "longer than 1 MiB"),
            ("/usr/bin/yes '0: ann 1 1' | /usr/bin/head -n 200000", ErrorKind::Parse, "longer than 1 MiB"),
        ] {
            let error = Fake::new(script).ask(minute).expect_err(script);
            assert_eq!((error.kind(), error.operation()), (kind, "getsubids"), "{script}: {error:#}");
            assert!(error.to_string().contains(part) && !error.to_string().contains('\n'), "{script}: {error}");
        }
        let error = Fake::new("echo no such module >&2; exit 2").ask(minute).expect_err("refused");
        assert_eq!(error.kernel_text(), Some("no such module"));
        let begun = Instant::now();
        let error = Fake::new("trap '' TERM; echo '0: ann 1 1'; while :; do :; done").ask(Duration::from_millis(300));
        assert_eq!(error.expect_err("a hang").kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() < minute, "{:?}", begun.elapsed());
        let nowhere = Getsubids { paths: vec!["/nonexistent/getsubids".into()], limit: minute };
        let error = SubIds::of_with(&User::find("ann").expect("ann"), &nowhere).expect_err("missing");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, "execve getsubids"));
        assert!(error.hint().is_some_and(|hint| hint.contains("nsswitch.conf")), "{error:#}");
    });
}

#[test]
fn where_the_module_is_missing_the_real_programs_use_the_files_and_so_do_we() {
    faultkit::require!(root, program("getsubids"), program("newuidmap"), program("unshare"));
    faultkit::isolated!(|| {
        let rows = "12345:500000:10\nann:300000:1000\n";
        let _etc = Etc::with(&[SERVICE, ("subuid", rows), ("subgid", rows)]);
        as_user(12345, 12345, &[], || {
            let caller = Caller::current().expect("caller");
            let subids = SubIds::of(&caller).expect("subids");
            assert_eq!(
                (subids.service(), shown(subids.uids())),
                (Some("directory"), shown(SubIds::parse(&caller, rows.as_bytes(), b"").uids()))
            );
            let plan = MapPlan::auto(&caller, &subids).expect("plan");
            assert_eq!(plan.way(), Way::Helper, "{plan:?}");
            let child = PausedChild::new();
            plan.write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
            assert_eq!(child.map("uid_map"), "0 12345 1\n1 500000 10\n11 300000 1000\n");
        });
    });
}

/// Rows that all versions read alike, of people without a second name.
fn rows() -> impl Strategy<Value = String> {
    let owner = proptest::sample::select(vec!["ann", "bob", "12345", "12346", "#ann", "Ann", "+ann"]);
    let start = prop_oneof![4 => 1..300_u32, 1 => (u32::MAX - 30)..=u32::MAX];
    let row = (owner, start, 0..40_u32).prop_map(|(owner, start, count)| {
        let count = if u64::from(start) + u64::from(count) > 1 << 32 { 1 } else { count };
        format!("{owner}:{start}:{count}\n")
    });
    let no_row = proptest::sample::select(vec!["\n", "# x\n", "ann:5\n", "ann:5:7\r\n", "ann::\n", "ann:x:y\n"]);
    let line = prop_oneof![6 => row, 1 => no_row.prop_map(str::to_owned)];
    proptest::collection::vec(line, 0..10).prop_map(|lines| lines.concat())
}

#[test]
fn our_reading_of_the_files_is_that_of_the_real_program() {
    faultkit::require!(root, program("getsubids"));
    faultkit::isolated!(limit_secs = 600, || {
        let mut runner = TestRunner::default();
        let rounds = if std::env::var_os("CELLKIT_VM").is_some() { 20 } else { 100 };
        let mut seen = 0;
        for _ in 0..rounds {
            let text = rows().new_tree(&mut runner).expect("rows").current();
            let _etc = Etc::with(&[("subuid", &text), ("subgid", &text)]);
            for name in ["ann", "bob"] {
                let user = User::find(name).expect(name);
                let subids = SubIds::of(&user).expect("subids");
                for (args, ours) in [(vec![name], subids.uids()), (vec!["-g", name], subids.gids())] {
                    let output = Command::new("getsubids").args(&args).output().expect("getsubids");
                    let theirs: BTreeSet<u32> = String::from_utf8(output.stdout)
                        .expect("text")
                        .lines()
                        .flat_map(|line| {
                            let words: Vec<u64> =
                                line.split(' ').skip(2).map(|word| word.parse().expect("a number")).collect();
                            (words[0]..words[0] + words[1]).filter_map(|id| u32::try_from(id).ok())
                        })
                        .filter(|&id| id != u32::MAX)
                        .collect();
                    let ours: BTreeSet<u32> = ours.iter().flat_map(|range| range.start()..=range.last()).collect();
                    assert_eq!(ours, theirs, "{args:?} of\n{text}");
                    seen += ours.len();
                }
            }
        }
        assert!(seen > rounds * 10, "{seen} ids in all");
    });
}
