//! The reaper in front of a payload: counted in /proc, signalled from outside, with callers that ignore what they can.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use ns_core::{CapabilitySet, Child, Command, ExitStatus, Namespaces, Stdio};

use crate::{output, sh, sys};

const PASSED_ON: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGTERM,
    libc::SIGWINCH,
];

/// Starts it, and waits for its first line.
fn start(command: Command) -> (Child, BufReader<File>) {
    let mut child = command.stdout(Stdio::Pipe).spawn().expect("start");
    let pipe = std::os::fd::OwnedFd::from(child.take_stdout().expect("a pipe"));
    let mut lines = BufReader::new(File::from(pipe));
    assert_eq!(line(&mut lines), "ready");
    (child, lines)
}

fn line(lines: &mut BufReader<File>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("read");
    line.trim_end().to_owned()
}

/// One field of `/proc/PID/stat`, counted from 3, the state.
fn stat(pid: i32, field: usize) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = text.rsplit_once(") ").expect("stat");
    rest.split(' ').nth(field - 3).expect("field").to_owned()
}

/// Waits until the process is in this state.
pub(crate) fn until_state(pid: i32, state: &str) {
    let begun = Instant::now();
    while stat(pid, 3) != state {
        assert!(begun.elapsed() < Duration::from_secs(30), "{pid} is {} and not {state}", stat(pid, 3));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Traps each signal of the list, says its number, and ends when told so by the last.
fn trapper() -> String {
    let traps: Vec<String> = PASSED_ON.iter().map(|signal| format!("trap 'echo {signal}' {signal}; ")).collect();
    format!("{}trap 'exit 21' ALRM; echo ready; while :; do sleep 0.01; done", traps.concat())
}

fn signals_are_passed_on(command: Command) {
    let (mut child, mut lines) = start(command);
    for signal in PASSED_ON {
        child.signal(signal).expect("signal");
        assert_eq!(line(&mut lines), signal.to_string());
    }
    child.signal(libc::SIGALRM).expect("signal");
    assert_eq!(child.wait().expect("wait"), ExitStatus::Exited(21));
}

#[test]
fn a_subreaper_passes_signals_on_and_ends_as_its_payload() {
    faultkit::isolated!(|| {
        signals_are_passed_on(sh(&trapper()).subreaper());
        assert_eq!(sh("kill -KILL $$").subreaper().status().expect("start").shell_code(), 137);
        assert_eq!(sh("exit 7").subreaper().status().expect("start").code(), Some(7));
    });
}

#[test]
fn a_subreaper_is_the_parent_of_orphans_and_leaves_no_zombie() {
    faultkit::isolated!(|| {
        // The orphan names its parent when it has long lost the first; the reaper is the payload's parent.
        let script = "echo $PPID; (sh -c 'sleep 0.2; cut -d\" \" -f4 /proc/$$/stat' &) ; sleep 0.8";
        let output = sh(script).subreaper().output().expect("start");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], lines[1], "{text}");
        let script = "for i in 1 2 3 4 5 6 7 8 9; do (: &) ; done; sleep 0.1; \
                      for s in /proc/[0-9]*/stat; do cut -d' ' -f3,4 $s 2>/dev/null; done | grep -c \"^Z $PPID\"";
        let output = sh(script).subreaper().output().expect("start");
        assert_eq!(output.stdout, b"0\n");
    });
}

#[test]
fn a_stopped_payload_stops_a_subreaper_and_both_go_on() {
    faultkit::isolated!(|| {
        let (mut child, mut lines) = start(sh("echo ready; kill -STOP $$; echo on; exit 3").subreaper());
        until_state(child.pid(), "T");
        child.signal(libc::SIGCONT).expect("signal");
        assert_eq!(line(&mut lines), "on");
        assert_eq!(child.wait().expect("wait").code(), Some(3));
    });
}

#[test]
fn a_killed_subreaper_takes_its_payload_along() {
    faultkit::isolated!(|| {
        let (mut child, mut lines) = start(sh("echo ready; echo $$; exec sleep 100").subreaper());
        let payload: i32 = line(&mut lines).parse().expect("number");
        let payload = ns_core::Process::open(payload).expect("open");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(payload.wait_end(Duration::from_secs(30)).expect("poll"));
        faultkit::reap_orphans();
    });
}

mod root {
    use super::*;

    fn init(script: &str) -> Command {
        sh(script).namespaces(Namespaces::PID | Namespaces::MOUNT).init()
    }

    #[test]
    fn every_signal_of_a_person_is_passed_on() {
        faultkit::require!(root);
        faultkit::isolated!(|| signals_are_passed_on(init(&trapper())));
    }

    #[test]
    fn ten_thousand_orphans_leave_no_zombie() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            // Counted by another program, in a procfs of the namespace, until the last has ended.
            let orphans = crate::fewer_where_emulated(10_000);
            let script = format!(
                "mount -t proc proc /proc
                i=0; while [ $i -lt {orphans} ]; do (: &) ; i=$((i+1)); done
                left() {{ cat /proc/[0-9]*/stat 2>/dev/null | cut -d' ' -f3 | grep -c Z; }}
                n=0; while [ $(left) != 0 ] && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done
                echo $(left) $(ls -d /proc/[0-9]* | wc -l)"
            );
            let (status, text) = output(init(&script).capabilities(CapabilitySet::FULL)).expect("start");
            assert!(status.success(), "{status}");
            let (zombies, processes) = text.trim().split_once(' ').expect("two numbers");
            assert_eq!(zombies, "0");
            // The reaper, the shell, and what its pipe runs.
            assert!(processes.parse::<u32>().expect("number") <= 6, "{text}");
        });
    }

    /// Signals of a lower number than SIGCHLD are taken first: a flood of them must not keep the end of the payload back.
    #[test]
    fn a_flood_of_signals_does_not_hide_the_end_of_the_payload() {
        faultkit::require!(root);
        faultkit::isolated!(limit_secs = 60, || {
            let mut child = sys::with_a_flood_for_pid_1(init("sleep 0.3; exit 9")).spawn().expect("start");
            let status = child.wait_timeout(Duration::from_secs(20)).expect("wait");
            child.kill().ok();
            child.wait().expect("wait");
            assert_eq!(status.and_then(ExitStatus::code), Some(9));
        });
    }

    #[test]
    fn it_sleeps_while_nothing_happens_also_beside_a_stopped_payload() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let (mut child, mut lines) = start(init("echo ready; kill -STOP $$; echo on; exit 5"));
            let used = || (stat(child.pid(), 14), stat(child.pid(), 15));
            let children = format!("/proc/{0}/task/{0}/children", child.pid());
            let payload = std::fs::read_to_string(children).expect("children").trim().parse().expect("one");
            until_state(payload, "T");
            let before = used();
            std::thread::sleep(Duration::from_millis(400));
            assert_eq!(used(), before, "not a clock tick");
            assert_eq!(stat(child.pid(), 3), "S");
            child.signal(libc::SIGCONT).expect("signal");
            assert_eq!(line(&mut lines), "on");
            assert_eq!(child.wait().expect("wait").code(), Some(5));
        });
    }

    #[test]
    fn stopped_and_woken_from_outside_it_goes_on() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let (mut child, _lines) = start(init("echo ready; exec sleep 100"));
            for _ in 0..50 {
                child.signal(libc::SIGSTOP).expect("signal");
                until_state(child.pid(), "T");
                child.signal(libc::SIGCONT).expect("signal");
            }
            child.signal(libc::SIGTERM).expect("signal");
            assert_eq!(child.wait().expect("wait").shell_code(), 143);
        });
    }

    #[test]
    fn a_caller_that_ignores_everything_has_a_reaper_all_the_same() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let code = sys::in_a_fork(|| {
                for signal in 1..32 {
                    sys::ignore(signal);
                }
                let mut child = init("(: &) ; exit 6").spawn().expect("start");
                // Ours is reaped by the kernel: on Linux before 6.15 its status is not known.
                match child.wait_timeout(Duration::from_secs(30)) {
                    Ok(status) => status.expect("it ended").shell_code(),
                    Err(error) => error.raw_os_error().expect("errno"),
                }
            });
            assert!([6, libc::ECHILD].contains(&code), "{code}");
        });
    }
}
