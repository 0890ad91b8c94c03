//! A cgroup that is delegated to an ordinary user: limits apply, are seen, and nothing of it is left.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use faultkit::OrdinaryUser;

use crate::run::{Running, assert_no_records, host, nothing_is_left, program_for, say};

/// The controllers of `wanted` that there are.
fn delegated(user: &OrdinaryUser, wanted: &[&str]) -> PathBuf {
    let top = Path::new("/sys/fs/cgroup/delegated");
    fs::create_dir(top).expect("mkdir");
    for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
        chown(top.join(name), Some(user.uid()), Some(user.gid())).expect("chown");
    }
    let offered = fs::read_to_string(top.join("cgroup.controllers")).expect("controllers");
    for name in wanted.iter().filter(|name| offered.split_whitespace().any(|offer| offer == **name)) {
        fs::write(top.join("cgroup.subtree_control"), format!("+{name}")).expect("enable");
    }
    let session = top.join("session");
    fs::create_dir(&session).expect("mkdir");
    for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
        chown(session.join(name), Some(user.uid()), Some(user.gid())).expect("chown");
    }
    session
}

/// `cellrun box ARGS` by the user, in the group.
fn boxed_in(group: &Path, user: &OrdinaryUser, args: &[&str]) -> Command {
    let script = format!(
        "echo $$ >{}/cgroup.procs; exec setpriv --reuid {1} --regid {1} --clear-groups env -i PATH=/usr/bin:/bin \
         XDG_RUNTIME_DIR={2} {3} box --net none \"$@\"",
        group.display(),
        user.uid(),
        user.runtime_dir().display(),
        program_for(user).display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).args(args).current_dir(user.home()).stdin(Stdio::null());
    command
}

#[test]
fn limits_apply_and_are_seen() {
    faultkit::require!(root, userns, cgroup2("pids"), program("setpriv"));
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let session = delegated(&user, &["pids", "memory"]);
        let mut command = boxed_in(
            &session,
            &user,
            &[
                "--pids",
                "20",
                "--",
                "sh",
                "-c",
                "cat /sys/fs/cgroup/pids.max; cat /proc/self/cgroup; echo ready; read line || true",
            ],
        );
        let mut running = Running::start(&mut command);
        assert_eq!((running.line(), running.line()), ("20".into(), "0::/".into()));
        running.until("ready");
        let groups: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup/delegated")
            .expect("ls")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() && *path != session)
            .collect();
        let [group] = groups.as_slice() else { panic!("one group: {groups:?}") };
        assert_eq!(fs::read_to_string(group.join("pids.max")).expect("pids.max"), "20\n");
        assert_eq!(fs::metadata(group).expect("group").uid(), user.uid());
        assert_eq!(running.end().ok(), "");
        assert!(!group.exists());

        let forks = "for (1 .. 60) { $pid = fork; last unless defined $pid; unless ($pid) { sleep 100; exit } $n++ } print \"$n forks\\n\"";
        let said = say(&mut boxed_in(&session, &user, &["--pids", "20", "--", "perl", "-e", forks]));
        assert_eq!(said.ok(), "19 forks\n");
        let notes = say(&mut boxed_in(&session, &user, &["--explain", "--", "true"])).ok();
        assert!(!notes.contains("no cgroup of its own"), "{notes}");

        host("rmdir /sys/fs/cgroup/delegated/session /sys/fs/cgroup/delegated");
        assert_no_records(&user.runtime_dir().join("cellrun"));
        nothing_is_left();
    });
}
