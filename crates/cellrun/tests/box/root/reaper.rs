//! `--init`: a PID 1 that is not the payload.

use nix::sys::signal::Signal;

use crate::run::{Running, boxed, inside, nothing_is_left};

#[test]
fn reaps_two_hundred_orphans() {
    faultkit::require!(root, program("perl"), program("pgrep"));
    faultkit::isolated!(|| {
        // Each grandchild outlives its parent, and so is nobody's but PID 1's. They are counted when all have ended.
        let orphans = "for i in $(seq 200); do (sleep 0.1 &) ; done; while pgrep -x sleep -r S >/dev/null; do :; done
            sleep 0.2; cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z' || true";
        // A PID 1 that waits for its one child leaves them all.
        let wait_for_one = "system 'sh', '-c', $ARGV[0]";
        let said = boxed(&["--net", "none", "--", "perl", "-e", wait_for_one, orphans]).ok();
        assert_eq!(said, "200\n");
        let said = boxed(&["--net", "none", "--init", "--", "perl", "-e", wait_for_one, orphans]).ok();
        assert_eq!(said, "0\n");
        nothing_is_left();
    });
}

#[test]
fn is_pid_1_and_ends_as_the_payload_ends() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let said = inside(&["--init"], "echo $$ $PPID; ls /proc/1/fd");
        // A process that another user namespace could not read: the reaper is not dumpable; root may look.
        assert!(said.starts_with("2 1\n"), "{said}");
        let status = |script: &str| boxed(&["--net", "none", "--init", "--", "sh", "-c", script]).status;
        assert_eq!(status("exit 7"), 7);
        assert_eq!(status("kill -KILL $$"), 137);
        assert_eq!(status("kill -SEGV $$"), 139);
        // What the payload leaves behind ends with it.
        assert_eq!(status("sleep 1000 & exit 3"), 3);
        nothing_is_left();
    });
}

#[test]
fn passes_signals_on() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let start = |script: &str| {
            let mut sleeper = Running::boxed(&["--net", "none", "--init", "--", "sh", "-c", script]);
            sleeper.until("ready");
            sleeper
        };
        let plain = start("echo ready; exec sleep 1000");
        plain.signal(Signal::SIGTERM);
        assert_eq!(plain.end().status, 143);
        let plain = start("echo ready; exec sleep 1000");
        plain.signal(Signal::SIGINT);
        assert_eq!(plain.end().status, 130);
        for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGUSR1, "USR1"), (Signal::SIGHUP, "HUP")] {
            let trap = start(&format!("trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done"));
            trap.signal(signal);
            let said = trap.end();
            assert_eq!((said.status, said.out.as_str()), (5, "got\n"), "{name}: {said:?}");
        }
        nothing_is_left();
    });
}
