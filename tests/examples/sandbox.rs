use std::process::{Command, Output};

use super::{example, stdout};

/// What a process may do, said by itself.
const LOOK: &str = "ulimit -n; ulimit -c; ls /sys/class/net; id -u; \
                    grep -hE '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status; echo /proc/[0-9]*";

fn comes_out_as_with_timeout() {
    for (limit, script) in [
        ("60", "echo out; echo err >&2; exit 3"),
        ("0.5", "echo begun; exec sleep 100"),
        // Orphans too die at the end of the time.
        ("0.5", "echo begun; sleep 100 & sleep 100 & wait"),
    ] {
        let of = |command: &mut Command| {
            let Output { status, stdout, stderr } = command.args([limit, "sh", "-c", script]).output().expect(script);
            (status.code(), stdout, stderr)
        };
        assert_eq!(of(&mut example("sandbox")), of(&mut Command::new("timeout")), "{script}");
    }
    // Those that timeout(1) has killed are nobody's to reap.
    let mut orphans = 2;
    while orphans > 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        orphans -= faultkit::reap_orphans();
    }
}

/// What LOOK says where there is nothing but what the sandbox leaves, and no process but the one that says it.
const CONFINED: &str = "64\n0\nlo\n0\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
                        CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n\
                        NoNewPrivs:\t1\nSeccomp:\t2\n/proc/1\n";

fn is_confined() {
    assert_eq!(stdout(example("sandbox").args(["60", "sh", "-c", LOOK])), CONFINED);
    let refused = example("sandbox").args(["60", "mount", "-t", "tmpfs", "none", "/mnt"]).output().expect("start");
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(example("sandbox").args(["soon", "true"]).output().expect("start").status.code(), Some(2));
}

mod root {
    use super::*;

    #[test]
    fn without_a_user_namespace() {
        faultkit::require!(root, program("timeout"));
        faultkit::isolated!(|| {
            is_confined();
            comes_out_as_with_timeout();
            stdout(example("sandbox").args(["60", "touch", "/etc/gone-again"]));
            assert!(!std::path::Path::new("/etc/gone-again").exists(), "the host's own /etc");
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn in_a_user_namespace() {
        faultkit::require!(user, userns, program("newuidmap"), program("timeout"));
        faultkit::isolated!(|| {
            is_confined();
            comes_out_as_with_timeout();
        });
    }
}
