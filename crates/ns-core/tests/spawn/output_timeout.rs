//! Output with a limit on the time: the child's own, and what others do to its pipes.

use std::time::Duration;

use ns_core::{Command, Namespaces, Stdio};

use crate::sh;

const SHORT: Duration = Duration::from_millis(200);

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

#[test]
fn what_ends_in_time_is_left_alone() {
    for limit in [Duration::from_secs(60), Duration::MAX] {
        let output = sh("echo out; echo err >&2; exit 3").output_timeout(limit).expect("output");
        assert_eq!((output.status.code(), output.timed_out), (Some(3), false));
        assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
    }
    let megabyte = vec![b'x'; 1 << 20];
    let child =
        sh("tee /dev/stderr").stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe).spawn().expect("start");
    let output = child.wait_with_output_timeout(&megabyte, Duration::from_secs(60)).expect("output");
    assert!(output.stdout == megabyte && output.stderr == megabyte && !output.timed_out);
}

#[test]
fn what_does_not_is_killed_and_reaped_and_what_it_wrote_is_there() {
    faultkit::isolated!(|| {
        for script in ["echo $$; exec sleep 100", "echo $$; exec >&- 2>&-; exec sleep 100"] {
            let output = sh(script).output_timeout(SHORT).expect("output");
            assert_eq!((output.status.signal(), output.timed_out), (Some(libc::SIGKILL), true), "{script}");
            let pid = String::from_utf8_lossy(&output.stdout).trim().parse::<i32>().expect(script);
            assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{script}");
        }
        // No time at all, and an input that nobody reads.
        assert!(Command::new("sleep").arg("100").output_timeout(Duration::ZERO).expect("output").timed_out);
        let child = Command::new("sleep").arg("100").stdin(Stdio::Pipe).spawn().expect("start");
        let output = child.wait_with_output_timeout(&vec![b'x'; 1 << 20], SHORT).expect("output");
        assert_eq!((output.status.signal(), output.timed_out), (Some(libc::SIGKILL), true));
    });
}

#[test]
fn a_flood_does_not_hide_the_limit() {
    faultkit::isolated!(|| {
        let output = sh("exec yes").output_timeout(SHORT).expect("output");
        assert_eq!((output.status.signal(), output.timed_out), (Some(libc::SIGKILL), true));
        assert!(output.stdout.starts_with(b"y\ny\n"));
    });
}

#[test]
fn a_daemon_that_keeps_the_pipes_is_not_waited_for() {
    faultkit::isolated!(|| {
        for daemon in ["sleep 100", "yes"] {
            let output = sh(&format!("{daemon} & echo $! >&2; exit 3")).output_timeout(SHORT).expect("output");
            assert_eq!((output.status.code(), output.timed_out), (Some(3), true), "{daemon}");
            let pid = String::from_utf8_lossy(&output.stderr).lines().next().and_then(|line| line.parse::<i32>().ok());
            let pid = pid.expect("its number");
            // `yes` may have found out that its reader has gone.
            if daemon != "yes" {
                assert!(runs(pid));
            }
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            while runs(pid) {
                std::thread::sleep(Duration::from_millis(1));
            }
            faultkit::reap_orphans();
        }
    });
}

#[test]
fn a_terminal_does_not_hang_up_before_the_end() {
    faultkit::isolated!(|| {
        let child = sh("exec >&- 2>&-; sleep 0.1; exit 3").terminal().stdout(Stdio::Pipe).spawn().expect("start");
        assert_eq!(child.wait_with_output().expect("output").status.code(), Some(3));
    });
}

mod root {
    use super::*;

    #[test]
    fn a_pid_namespace_goes_as_a_whole() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let script = "sleep 100 & yes >/dev/null & echo begun; wait";
            let output = sh(script).namespaces(Namespaces::PID).output_timeout(SHORT).expect("output");
            assert_eq!((output.status.signal(), output.timed_out), (Some(libc::SIGKILL), true));
            assert_eq!(output.stdout, b"begun\n");
        });
    }
}
