//! Terminals of the caller's own devpts: controlling ones, with job control.

use std::fs::File;
use std::io::{Read, Write};

use ns_core::{Child, Command, ExitStatus, Stdio};

use crate::sh;

/// Reads until `text` has come, and answers all that was read.
fn until(terminal: &mut File, text: &str) -> String {
    let mut all = String::new();
    let mut chunk = [0; 512];
    while !all.contains(text) {
        match terminal.read(&mut chunk) {
            Ok(length) if length > 0 => all.push_str(&String::from_utf8_lossy(&chunk[..length])),
            // EIO: the last process that had it open has gone.
            end => panic!("{text:?} did not come, but {all:?} and {end:?}"),
        }
    }
    all
}

fn start(command: Command) -> (Child, File) {
    let mut child = command.terminal().terminal_size(33, 77).spawn().expect("start");
    let terminal = child.take_terminal().expect("a terminal");
    assert!(child.take_terminal().is_none(), "taken");
    (child, File::from(terminal))
}

#[test]
fn it_is_a_terminal_of_this_size_and_the_controlling_one() {
    let script = "tty; stty size; echo \"$(ps -o sid=,tpgid= -p $$)\" $$; echo here >/dev/tty; echo end";
    let (mut child, mut terminal) = start(sh(script));
    let said = until(&mut terminal, "end");
    assert!(child.wait().expect("wait").success());
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{said}");
    assert_eq!(lines[1], "33 77");
    let numbers: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!((numbers[0], numbers[1]), (numbers[2], numbers[2]), "leader of its session, in the foreground");
    assert_eq!(lines[3], "here");
}

#[test]
fn ctrl_c_interrupts() {
    let (mut child, mut terminal) = start(sh("echo ready; exec sleep 100"));
    until(&mut terminal, "ready");
    terminal.write_all(b"\x03").expect("write");
    assert_eq!(child.wait().expect("wait").signal(), Some(libc::SIGINT));
}

#[test]
fn ctrl_z_stops_the_job_in_the_foreground_and_the_shell_goes_on() {
    let job = "sh -c 'echo ready; read x; echo \"got $x\"'";
    let (mut child, mut terminal) = start(sh(&format!("set -m; {job}; echo status $?; fg; echo status $?")));
    until(&mut terminal, "ready");
    terminal.write_all(b"\x1a").expect("write");
    // 128 and SIGTSTP: the shell saw its job stop, had the terminal back, and gave it away once more.
    until(&mut terminal, "status 148");
    terminal.write_all(b"line\n").expect("write");
    let said = until(&mut terminal, "status 0");
    assert!(said.contains("got line"), "{said}");
    assert!(child.wait().expect("wait").success());
}

#[test]
fn a_hang_up_ends_the_session() {
    let (mut child, mut terminal) = start(sh("echo ready; exec sleep 100"));
    until(&mut terminal, "ready");
    drop(terminal);
    assert_eq!(child.wait().expect("wait"), ExitStatus::Signaled { signal: libc::SIGHUP, core_dumped: false });
}

#[test]
fn what_was_said_otherwise_is_not_the_terminal() {
    let command = sh("tty; tty <&2; echo error >&2; read x; echo \"$x\" >&2");
    let mut child = command.terminal().stdout(Stdio::Pipe).spawn().expect("start");
    let mut terminal = File::from(child.take_terminal().expect("a terminal"));
    until(&mut terminal, "error");
    terminal.write_all(b"typed\n").expect("write");
    until(&mut terminal, "typed\r\ntyped");
    let mut said = String::new();
    child.take_stdout().expect("stdout").read_to_string(&mut said).expect("read");
    assert_eq!(said.matches("/dev/pts/").count(), 2, "{said}");
    assert!(child.wait().expect("wait").success());
}

#[test]
fn every_start_of_a_plan_has_a_terminal_of_its_own() {
    faultkit::isolated!(|| {
        let plan = Command::new("tty").terminal().plan().expect("plan");
        let mut names = std::collections::BTreeSet::new();
        let mut children: Vec<_> = (0..4).map(|_| plan.spawn().expect("start")).collect();
        // Open until the end, or a child is hung up on.
        let mut terminals: Vec<_> =
            children.iter_mut().map(|child| File::from(child.take_terminal().expect("a terminal"))).collect();
        for terminal in &mut terminals {
            names.insert(until(terminal, "\n"));
        }
        assert_eq!(names.len(), 4, "{names:?}");
        for mut child in children {
            assert!(child.wait().expect("wait").success());
        }
    });
}

mod root {
    use super::*;

    #[test]
    fn the_payloads_user_owns_it_and_can_open_it_again() {
        faultkit::require!(root);
        let (mut child, mut terminal) = start(sh("stat -c %u $(tty); echo again >$(tty); echo end").user(1234, 1234));
        let said = until(&mut terminal, "end");
        assert!(said.starts_with("1234\r\nagain\r\n"), "{said}");
        assert!(child.wait().expect("wait").success());
    }

    #[test]
    fn it_works_in_new_namespaces_and_behind_a_reaper() {
        faultkit::require!(root);
        use ns_core::Namespaces;
        let command = sh("echo ready; exec sleep 100").namespaces(Namespaces::PID | Namespaces::MOUNT).init();
        let (mut child, mut terminal) = start(command);
        until(&mut terminal, "ready");
        terminal.write_all(b"\x03").expect("write");
        assert_eq!(child.wait().expect("wait").shell_code(), 130);
    }
}
