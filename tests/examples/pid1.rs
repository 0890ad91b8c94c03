use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn zombies_with_and_without_a_reaper() {
        faultkit::require!(root, program("unshare"), program("ps"));
        faultkit::isolated!(|| {
            assert_eq!(stdout(&mut example("pid1")), "without a reaper: 5 zombies\nwith a reaper: 0 zombies\n");
            // unshare(1) has no reaper, and ps(1) counts as the example does.
            let orphans = "for i in 1 2 3 4 5; do (sleep 1 &) ; done; exec sleep 100 >/dev/null";
            let mut child = Command::new("unshare")
                .args(["--pid", "--fork", "--kill-child", "sh", "-c", orphans])
                .stdout(Stdio::piped())
                .spawn()
                .expect("unshare");
            let mut pipe = child.stdout.take().expect("a pipe");
            // unshare itself holds the pipe open: what ends is looked for.
            let zombies = || {
                let listed = stdout(Command::new("ps").args(["-eo", "stat="]));
                listed.lines().filter(|state| state.starts_with('Z')).count()
            };
            let counted = (0..300).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                zombies() == 5
            });
            assert!(counted, "{} zombies", zombies());
            child.kill().expect("kill");
            child.wait().expect("wait");
            pipe.read_to_end(&mut Vec::new()).expect("read");
            // Its PID 1 ends with it and is this process's to reap.
            while stdout(Command::new("ps").args(["-eo", "comm="])).lines().any(|name| name.starts_with("sleep")) {
                faultkit::reap_orphans();
            }
        });
    }
}
