//! Process numbers that are given to somebody else, at the worst of times.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use cellkit_core::{ErrorKind, ProcFd, sys as core_sys};

use super::fake::{BY_NUMBER, Fake, WRITE, end, number_in};
use crate::tests::paused_child::PausedChild;
use crate::tests::sys::{as_user, ignore_sigchld};
use crate::{Caller, MapPlan, SubIds};

/// Shell that ends the process `$pid`, waits until its number is free, and has it given to a victim: a process without
/// maps in a new user namespace, which newuidmap would take for the child.
const RECYCLE: &str = r#"kill -9 $pid; while [ -e /proc/$pid ]; do :; done
victim=; until [ "$victim" = "$pid" ]; do
    [ -z "$victim" ] || kill -9 $victim
    echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
    unshare --user sleep 1000 </dev/null >/dev/null 2>&1 & victim=$!
done
until [ "$(cat /proc/$pid/comm)" = sleep ]; do :; done
"#;

fn map(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect(file)
}

fn assert_untouched(pid: u32) {
    assert_eq!(map(pid, "comm"), "sleep\n");
    assert_eq!(
        (map(pid, "uid_map"), map(pid, "gid_map"), map(pid, "setgroups")),
        ("".into(), "".into(), "allow\n".into())
    );
}

#[test]
fn a_handle_of_a_process_that_is_gone_leads_to_nobody() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let fake = Fake::new(&format!("touch \"$0.ran\"\n{WRITE}{BY_NUMBER}"));
        let root = Caller::current().expect("caller");
        let direct = MapPlan::explicit("100000:100000:10".parse().expect("maps"), &root, &SubIds::default());
        let direct = direct.expect("plan");
        let mut child = PausedChild::new();
        let (pid, pidfd) = (child.pid(), child.as_fd().try_clone_to_owned().expect("dup"));
        child.end();
        let script = format!("pid={pid}\n{}", RECYCLE.replacen("kill -9 $pid; ", "", 1));
        let recycler = Command::new("sh").args(["-c", &script]).status().expect("sh");
        assert!(recycler.success());
        for proc in [ProcFd::of_the_machine(), ProcFd::open(cellkit_core::ProcView::Processes)] {
            let proc = proc.expect("proc");
            for plan in [direct.clone().deny_setgroups(), fake.plan()] {
                let error = plan.write(&pidfd, &proc, &mut ()).expect_err("gone");
                assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
            }
        }
        assert!(!fake.path("newuidmap.ran").exists());
        assert_untouched(pid);
        end(pid);
    });
}

#[test]
fn a_program_that_knows_descriptors_is_never_given_the_number() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        for usage in ["usage: newuidmap [<pid>|fd:<pidfd>] <uid> <loweruid> <count>", "usage: newuidmap <pid>"] {
            // While it runs, its process dies and the number becomes the victim's. As shadow 4.14 and newer, it answers
            // a descriptor whose process has gone with its usage.
            let fake = Fake::new(&format!(
                "case \"$1\" in fd:0) ;; *) echo \"$1\" > \"$0.number\";; esac\n\
                 if [ ! -e \"$0.done\" ]; then touch \"$0.done\"; read -r pid < \"$0.pid\"\n{RECYCLE}fi\n\
                 case \"$1\" in fd:0) [ -e /proc/self/fd/0/uid_map ] || {{ echo '{usage}' >&2; exit 1; }};; esac\n\
                 {WRITE}{BY_NUMBER}"
            ));
            as_user(0, 0, &[], || {
                // So that the number is free as soon as its process has ended.
                ignore_sigchld();
                let child = PausedChild::new();
                fs::write(fake.path("newuidmap.pid"), format!("{}\n", child.pid())).expect("write");
                let proc = ProcFd::of_the_machine().expect("proc");
                let error = fake.plan().write(&child, &proc, &mut ()).expect_err("gone");
                assert_eq!(error.kind(), ErrorKind::Gone, "{usage}: {error:#}");
                // The number is somebody else's.
                std::mem::forget(child);
            });
            assert!(!fake.path("newuidmap.number").exists(), "{usage}: it was run with the number");
            let pid = number_in(&fake.path("newuidmap.pid"));
            assert_untouched(pid);
            end(pid);
        }
    });
}

#[test]
fn a_program_that_knows_numbers_only_is_run_for_own_children_only() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        // A grandchild: somebody else may wait for it at any time.
        let script = "unshare --user sleep 1000 </dev/null >&2 & echo $!; wait";
        let mut parent = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("sh");
        let mut line = String::new();
        BufReader::new(parent.stdout.take().expect("stdout")).read_line(&mut line).expect("read");
        let pid: u32 = line.trim().parse().expect("a number");
        while map(pid, "comm") != "sleep\n" {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let pidfd = core_sys::pidfd_open(pid as i32).expect("pidfd_open");
        let proc = ProcFd::of_the_machine().expect("proc");

        let numbers = Fake::new(&format!("touch \"$0.ran\"\n{WRITE}{BY_NUMBER}"));
        let error = numbers.plan().write(&pidfd, &proc, &mut ()).expect_err("not a child");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "newuidmap"), "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("shadow 4.14")), "{error:#}");
        assert!(!numbers.path("newuidmap.ran").exists());
        assert_untouched(pid);

        let descriptors =
            format!("{WRITE}[ \"$dir\" = fd:0 ] || exit 7\nprintf '%s' \"$text\" > /proc/self/fd/0/$file");
        Fake::new(&descriptors).plan().write(&pidfd, &proc, &mut ()).expect("write");
        assert_eq!(map(pid, "uid_map").split_whitespace().collect::<Vec<_>>().join(" "), "0 12345 1 1 100000 65536");
        end(pid);
        parent.wait().expect("wait");
    });
}

#[test]
fn what_a_program_is_run_with_is_known_beforehand() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let log = "echo \"$1\" >> \"$0.log\"\n";
        let proc = ProcFd::of_the_machine().expect("proc");
        let ran_with = |script: &str| {
            let (fake, child) = (Fake::new(script), PausedChild::new());
            fake.plan().write(&child, &proc, &mut ()).expect("write");
            let log = |name: &str| fs::read_to_string(fake.path(name)).expect("log");
            let shown = |text: String| text.replace(&child.pid().to_string(), "PID");
            (shown(log("newuidmap.log")), shown(log("newgidmap.log")))
        };
        let one = |text: &str| (text.to_owned(), text.to_owned());
        // An old one has no such words in its file, and is not first run in vain.
        assert_eq!(ran_with(&format!("{log}{WRITE}{BY_NUMBER}")), one("PID\n"));
        let new = format!("{log}{WRITE}[ \"$dir\" = fd:0 ] && printf '%s' \"$text\" > /proc/self/fd/0/$file");
        assert_eq!(ran_with(&new), one("fd:0\n"));
        // One that has the words, and does not understand them after all, says so once.
        let odd = format!("{log}case \"$1\" in fd:*) echo 'usage: x <pid>' >&2; exit 1;; esac\n{WRITE}{BY_NUMBER}");
        assert_eq!(ran_with(&odd), ("fd:0\nPID\n".to_owned(), "PID\n".to_owned()));
    });
}
