//! How a box ends: exit statuses, and signals to cellrun.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::{Running, boxed, nothing_is_left, time_to_start};

fn start(script: &str) -> Running {
    let mut running = Running::boxed(&["--net", "none", "--", "sh", "-c", script]);
    running.until("ready");
    running
}

#[test]
fn statuses() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        for status in [0, 1, 7, 125, 255] {
            let said = boxed(&["--net", "none", "--", "sh", "-c", &format!("echo out; echo err >&2; exit {status}")]);
            assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (status, "out\n", "err\n"));
        }
        // PID 1 cannot kill itself; a signal from outside can.
        let running = start("echo ready; exec sleep 1000");
        kill(Pid::from_raw(running.payload()), Signal::SIGKILL).expect("kill");
        assert_eq!(running.end().status, 137);
        // What PID 1 leaves ends with it.
        let said = boxed(&["--net", "none", "--", "sh", "-c", "sleep 1000 & sleep 1000 & exit 4"]);
        assert_eq!(said.status, 4);
        for (command, status) in [("nosuch", 127), ("/nosuch", 127), ("/etc/passwd", 126), ("/usr", 126)] {
            let said = boxed(&["--net", "none", "--", command]);
            assert_eq!(said.status, status, "{command}");
            assert!(said.failure().starts_with("execve"), "{said:?}");
        }
        assert_eq!(boxed(&["--net", "none", "-w", "/nosuch", "--", "true"]).status, 125);
        nothing_is_left();
    });
}

#[test]
fn signals_to_cellrun() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // The kernel drops a signal to a PID 1 without a handler: a plain program must end all the same.
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1] {
            let plain = start("echo ready; exec sleep 1000");
            plain.becomes("sleep");
            plain.signal(signal);
            assert_eq!(plain.end().status, 128 + signal as i32, "{signal}");
            let trap = start(&format!(
                "trap 'echo got; exit 5' {}; echo ready; while :; do sleep 0.05; done",
                signal.as_str().trim_start_matches("SIG")
            ));
            trap.signal(signal);
            let said = trap.end();
            assert_eq!((said.status, said.out.as_str()), (5, "got\n"), "{signal}: {said:?}");
        }
        // What ends nobody ends nobody here; a signal that the payload ignores on purpose is ignored.
        let mut deaf = start("trap '' TERM; echo ready; read line; echo $line");
        deaf.signal(Signal::SIGTERM);
        deaf.signal(Signal::SIGWINCH);
        deaf.signal(Signal::SIGCONT);
        std::thread::sleep(std::time::Duration::from_millis(50));
        deaf.write("still here\n");
        let said = deaf.end();
        assert_eq!((said.status, said.out.as_str()), (0, "still here\n"), "{said:?}");
        nothing_is_left();
    });
}

#[test]
fn a_signal_at_any_moment_ends_it_and_leaves_nothing() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        // Killed before it took the signals, when nothing was made; or ended in order.
        let mut in_order = 0;
        for net in ["bridge", "none"] {
            let time = time_to_start(&["--net", net]);
            for tenth in 0..10 {
                let running = Running::boxed(&["--net", net, "--", "sleep", "1000"]);
                std::thread::sleep(time * tenth / 8);
                running.signal(Signal::SIGTERM);
                let said = running.end();
                assert!(said.status == -15 || said.status == 143, "after {tenth}/8 of {time:?}: {said:?}");
                in_order += u32::from(said.status == 143);
            }
        }
        assert!(in_order >= 5, "the signals came too early to mean anything");
        nothing_is_left();
    });
}
