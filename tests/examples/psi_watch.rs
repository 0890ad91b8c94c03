use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use cgroupfs::{CgroupName, Hierarchy, Limits};

use super::example;

mod root {
    use super::*;

    #[test]
    fn a_group_that_waits_for_a_processor() {
        faultkit::require!(root, cgroup2, kernel(6.5));
        faultkit::isolated!(|| {
            let place = Hierarchy::detect().expect("hierarchy").place().expect("place");
            let name = CgroupName::new("stalled").expect("name");
            let group = place.create(&name, &Limits::new(), &mut ()).expect("create");
            let mut watcher = example("psi_watch")
                .args([group.path_in_hierarchy().to_str().expect("text"), "cpu", "some 100000 2000000"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("start");
            let mut lines = BufReader::new(watcher.stdout.take().expect("stdout")).lines().map_while(Result::ok);
            assert_eq!(lines.next().as_deref(), Some("waiting for some 100000 2000000"));

            // One more than there are processors always waits.
            let processors = std::thread::available_parallelism().expect("processors").get();
            let busy = format!(
                "echo $$ > \"$0/cgroup.procs\"; for i in $(seq {processors}); do while :; do :; done & done; while :; do :; done"
            );
            let mut child = Command::new("sh").args(["-c", &busy]).arg(group.path()).spawn().expect("sh");
            let line = lines.next().expect("it stalls");
            let path = group.path().to_owned();
            let said = line.strip_prefix(&format!("{} stalls on cpu: ", path.display())).expect(&line);
            let said: u64 = said.strip_suffix(" us so far").and_then(|usec| usec.parse().ok()).expect(&line);
            let pressure = fs::read_to_string(path.join("cpu.pressure")).expect("cpu.pressure");
            let total = pressure.lines().next().and_then(|line| line.split_once("total=")).expect("total").1;
            assert!((100_000..=total.parse().expect("number")).contains(&said), "{said} {pressure}");

            // It ends with the group.
            group.remove(Duration::from_secs(60)).expect("remove");
            child.wait().expect("wait");
            assert_eq!(lines.last(), Some(format!("{}: removed", path.display())));
            assert!(watcher.wait().expect("wait").success());
            faultkit::reap_orphans();
        });
    }

    #[test]
    fn usage() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let code = |args: &[&str]| example("psi_watch").args(args).output().expect("start").status.code();
            assert_eq!(code(&["no/path"]), Some(2));
            assert_eq!(code(&["/", "disk"]), Some(1));
            assert_eq!(code(&["/", "cpu", "some 1 1"]), Some(1));
        });
    }
}
