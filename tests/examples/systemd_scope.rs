use std::process::Command;

use super::{example, stdout};

/// What the command sees of its group, and its limit, read by itself.
const LOOK: &str =
    "cat /proc/self/cgroup; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max; sleep 1000 & exit 7";

fn in_a_scope(more: &[&str], unit: &str, slice: &str, group: &str) {
    let output = example("systemd_scope")
        .args(more)
        .args(["--unit", unit, "--slice", slice, "--memory", "64m", "sh", "-c", LOOK])
        .output()
        .expect("start");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.first().is_some_and(|line| line.starts_with("0::") && line.ends_with(group)), "{text}");
    assert_eq!(lines.get(1), Some(&"67108864"), "{text}");
    // Nothing is left: neither the unit nor what the command had left running.
    let show = ["show", "--value", "--property", "LoadState,ActiveState", unit];
    assert_eq!(stdout(Command::new("systemctl").args(more).args(show)), "not-found\ninactive\n");
}

mod root {
    use super::*;

    #[test]
    fn a_command_in_a_scope_of_the_system() {
        faultkit::require!(systemd, root);
        in_a_scope(&[], "example.scope", "cellkit-x.slice", "/cellkit.slice/cellkit-x.slice/example.scope");
        let code = |args: &[&str]| example("systemd_scope").args(args).status().expect("start").code();
        assert_eq!((code(&[]), code(&["--memory"]), code(&["--no-such", "true"])), (Some(2), Some(2), Some(2)));
        assert_eq!((code(&["true"]), code(&["sh", "-c", "kill -9 $$"])), (Some(0), Some(137)));
    }
}

mod user {
    use super::*;

    #[test]
    fn a_command_in_a_scope_of_the_users_own() {
        faultkit::require!(systemd, user);
        in_a_scope(&["--user"], "example.scope", "cellkit.slice", ".service/cellkit.slice/example.scope");
    }
}
