//! A directory of the host as the writable root: what the start makes in it is gone afterwards.

use std::path::Path;

use super::tree;
use crate::run::{Running, cellrun, host, nothing_is_left, say};

/// All that is in the directory, as find(1) lists it.
fn census(dir: &Path) -> String {
    host(&format!("find {} -mindepth 1 -printf '%P %y %m %U:%G %s %l\\n' | sort", dir.display()))
}

fn options(dir: &Path) -> Vec<String> {
    let path = dir.to_str().expect("UTF-8");
    let more = ["-v", "/etc/passwd:/deep/er/users:ro", "--tmpfs", "/srv/web/cache/of/mine"];
    let options = ["--net", "none", "--rootfs", path, "--writable"].into_iter().chain(tree::USR).chain(more);
    options.map(str::to_owned).collect()
}

#[test]
fn is_as_before_after_a_run_and_after_a_failed_start() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = tree::make();
        let before = census(&dir);
        let script = "test -d /proc/self && test -s /deep/er/users";
        say(cellrun(["box"]).args(options(&dir)).args(["--", "sh", "-c", script])).ok();
        assert_eq!(census(&dir), before);
        // Of a user namespace they are somebody else's.
        let userns = ["--userns", "100000:100000:65536"];
        host(&format!("chown 100000:100000 {0} {0}/srv/web", dir.display()));
        let before = census(&dir);
        say(cellrun(["box"]).args(options(&dir)).args(userns).args(["--", "sh", "-c", script])).ok();
        assert_eq!(census(&dir), before);

        for failing in [&["-v", "/etc:/etc/passwd/x", "--", "true"][..], &["--", "/no/such/program"]] {
            let said = say(cellrun(["box"]).args(options(&dir)).args(failing));
            assert!([125, 127].contains(&said.status), "{said:#?}");
            assert_eq!(census(&dir), before, "{failing:?}");
        }
        // What the container made itself is the container's.
        say(cellrun(["box"]).args(options(&dir)).args(["--", "sh", "-c", "echo kept >/kept; mkdir /mine"])).ok();
        assert_eq!(host(&format!("cat {0}/kept; ls -d {0}/mine {0}/proc 2>&1 | wc -l", dir.display())), "kept\n2\n");
        nothing_is_left();
    });
}

#[test]
fn is_as_before_after_sigkill_and_recover() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = tree::make();
        let before = census(&dir);
        for name in ["k1", "k2"] {
            let mut running = Running::start(cellrun(["box", "--name", name]).args(options(&dir)).args([
                "--",
                "sh",
                "-c",
                "echo ready; sleep 4242",
            ]));
            running.until("ready");
            assert_ne!(census(&dir), before);
            running.kill();
            assert_eq!(say(&mut cellrun(["recover"])).ok(), format!("{name}\n"));
            assert_eq!(census(&dir), before);
        }
        nothing_is_left();
    });
}

#[test]
fn nobody_takes_the_mounts_of_another_container_away() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = tree::make();
        let before = census(&dir);
        let start = |name: &str| {
            let script = "echo ready; read line; test -d /proc/self && test -s /deep/er/users && echo there";
            let mut running =
                Running::start(cellrun(["box", "--name", name]).args(options(&dir)).args(["--", "sh", "-c", script]));
            running.until("ready");
            running
        };
        let (first, mut second) = (start("first"), start("second"));
        assert_eq!(first.end().status, 0);
        second.write("\n");
        second.until("there");
        assert_eq!(second.end().status, 0);
        // The second found them there, and they are not its own.
        assert_ne!(census(&dir), before);
        nothing_is_left();
    });
}
