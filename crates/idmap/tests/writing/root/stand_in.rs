//! newuidmap as it is since shadow 4.14: given a descriptor.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use cellkit_core::{ErrorKind, ProcFd, ProcView};
use idmap::{Caller, MapPlan, Setgroups, SubIds, Way};

use crate::machine::{ANN, Machine};
use crate::paused_child::PausedChild;
use crate::sys::as_user;

const ROWS: &str = "bob:700000:10\nann:300000:1000\n12345:500000:10\n";

fn proc() -> ProcFd {
    ProcFd::open(ProcView::Processes).expect("proc")
}

fn auto() -> MapPlan {
    let caller = Caller::current().expect("caller");
    MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan")
}

/// A process in a new user namespace that is a child of another process.
struct Grandchild {
    parent: Child,
    pid: u32,
    pidfd: OwnedFd,
}

impl Grandchild {
    fn new() -> Self {
        let script = "unshare --user sleep 1000 </dev/null >&2 & echo $!; wait";
        let mut parent = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("sh");
        let mut line = String::new();
        BufReader::new(parent.stdout.take().expect("stdout")).read_line(&mut line).expect("read");
        let pid: u32 = line.trim().parse().expect("a number");
        let pidfd = cellkit_core::sys::pidfd_open(pid as i32).expect("pidfd_open");
        let this = Self { parent, pid, pidfd };
        while this.file("comm") != "sleep" {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        this
    }

    fn file(&self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/{name}", self.pid)).expect(name);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Grandchild {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg("-9").arg(self.pid.to_string()).status();
        let _ = self.parent.wait();
    }
}

#[test]
fn it_behaves_as_the_real_one() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let tries = |program: &str| {
            let mut seen = Vec::new();
            as_user(ANN, ANN, &[], || {
                for words in [
                    "CHILD 0 300000 1000",
                    "CHILD 0 300000 1001",
                    "CHILD 0 12345 1 1 300000 10",
                    "CHILD 7 12345 1",
                    "CHILD 0 12345 2",
                    "CHILD 0 12346 1",
                    "CHILD 0 700000 1",
                    "CHILD 0 500000 10 10 300000 10",
                    "CHILD 0 300000 10 5 300010 10",
                    "CHILD 0 300000",
                    "CHILD 0 300000 x",
                    "1 0 300000 1",
                    "x 0 300000 1",
                    "",
                ] {
                    let child = PausedChild::new();
                    let words = words.replace("CHILD", &child.pid().to_string());
                    let output = Command::new(program).args(words.split_whitespace()).output().expect(program);
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    // What the two say of the same thing, without the numbers, and of more than one thing at once.
                    let said =
                        ["usage:", "not allowed", "different user", "failed"].iter().find(|w| said.contains(**w));
                    let maps = (child.map("uid_map"), child.map("gid_map"), child.file("setgroups"));
                    seen.push(
                        format!("{words}: {:?} {said:?} {maps:?}", output.status.code())
                            .replace(&child.pid().to_string(), "CHILD"),
                    );
                }
                std::fs::write("/run/seen", seen.join("\n")).expect("write");
            });
            let seen = std::fs::read_to_string("/run/seen").expect("read");
            std::fs::remove_file("/run/seen").expect("rm");
            seen
        };
        std::fs::set_permissions("/run", std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
        let machine = Machine::with(ROWS, ROWS);
        let real = [tries("newuidmap"), tries("newgidmap")];
        drop(machine);
        let _machine = Machine::with(ROWS, ROWS).and_programs(&faultkit::built_example("newuidmap"));
        assert_eq!([tries("newuidmap"), tries("newgidmap")], real);
        assert!(real[0].contains("0 300000 1000\\n") && real[1].contains("not allowed"), "{real:?}");
    });
}

#[test]
fn it_writes_the_maps_of_any_process_of_the_user() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let _machine = Machine::with(ROWS, ROWS).and_programs(&faultkit::built_example("newuidmap"));
        as_user(ANN, ANN, &[], || {
            let plan = auto();
            assert_eq!((plan.way(), plan.setgroups()), (Way::Helper, Setgroups::Allow), "{plan:?}");
            let child = PausedChild::new();
            plan.write(&child, &proc(), &mut ()).expect("write");
            assert_eq!(child.map("uid_map"), "0 12345 1\n1 300000 1000\n1001 500000 10\n");
            assert_eq!(child.file("setgroups"), "allow\n");
            // A number would be refused for a process that is not the caller's child.
            let other = Grandchild::new();
            plan.clone().deny_setgroups().write(&other.pidfd, &proc(), &mut ()).expect("write");
            assert_eq!(other.file("uid_map"), "0 12345 1 1 300000 1000 1001 500000 10");
            assert_eq!(other.file("setgroups"), "deny");
        });
    });
}

#[test]
fn an_older_one_is_run_for_own_children_only() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let usage = Command::new("newuidmap").output().expect("newuidmap").stderr;
        let knows = String::from_utf8_lossy(&usage).contains("fd:");
        let _machine = Machine::with(ROWS, ROWS);
        as_user(ANN, ANN, &[], || {
            let other = Grandchild::new();
            match auto().write(&other.pidfd, &proc(), &mut ()) {
                Ok(()) => assert!(knows, "the real one here was given a number"),
                Err(error) => {
                    assert!(!knows, "{error:#}");
                    assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "newuidmap"), "{error:#}");
                    assert_eq!(other.file("uid_map"), "");
                }
            }
        });
    });
}

#[test]
fn a_dead_process_is_gone_and_not_asked_for_by_number() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let _machine = Machine::with(ROWS, ROWS).and_programs(&faultkit::built_example("newuidmap"));
        as_user(ANN, ANN, &[], || {
            let mut child = PausedChild::new();
            let plan = auto();
            child.end();
            let error = plan.write(&child, &proc(), &mut ()).expect_err("dead");
            assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
        });
    });
}
