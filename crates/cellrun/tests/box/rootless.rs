//! Boxes of the user who runs the tests.

use std::fs;
use std::os::unix::fs::MetadataExt;

use faultkit::TempDir;

use crate::run::{Said, assert_no_records, cellrun, say};
use crate::status::value;

/// A runtime folder of the test's own: `XDG_RUNTIME_DIR`.
struct Runtime(TempDir);

impl Runtime {
    fn new() -> Self {
        Self(TempDir::new())
    }

    #[track_caller]
    fn boxed(&self, args: &[&str]) -> Said {
        say(cellrun(["box"]).args(args).env("XDG_RUNTIME_DIR", self.0.path()))
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        let state = self.0.join("cellrun");
        assert!(state.exists(), "the records were somewhere else");
        assert_no_records(&state);
    }
}

#[test]
fn a_box_of_ones_own() {
    faultkit::require!(user, userns);
    faultkit::isolated!(|| {
        let runtime = Runtime::new();
        // Not what pasta gives where it is installed.
        let said = runtime.boxed(&["--net", "none", "--", "sh", "-c", "id -u; echo $$; ls /sys/class/net"]).ok();
        assert_eq!(said, "0\n1\nlo\n");
        let status = runtime.boxed(&["--", "cat", "/proc/self/status"]).ok();
        assert_eq!(value(&status, "NoNewPrivs"), "1");
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let map = runtime.boxed(&["--", "cat", "/proc/self/uid_map"]).ok();
        assert_eq!(map.split_whitespace().take(2).collect::<Vec<_>>(), ["0", &uid.to_string()]);

        let volume = TempDir::new();
        runtime.boxed(&["-v", &format!("{}:/vol", volume.display()), "--", "touch", "/vol/made"]).ok();
        let meta = fs::metadata(volume.join("made")).expect("made");
        assert_eq!((meta.uid(), meta.gid()), (uid, gid));
        runtime.nothing_is_left();
    });
}

#[test]
fn statuses_and_errors() {
    faultkit::require!(user, userns);
    faultkit::isolated!(|| {
        let runtime = Runtime::new();
        assert_eq!(runtime.boxed(&["--", "sh", "-c", "exit 7"]).status, 7);
        for (args, status) in [
            (&["--", "nosuch"][..], 127),
            (&["--", "/etc/passwd"], 126),
            (&["--rootfs", "/nosuch", "--", "true"], 125),
            (&["--net", "bridge", "--", "true"], 125),
            (&["--userns", "host", "--", "true"], 125),
            (&["--memory", "0", "--", "true"], 125),
        ] {
            let said = runtime.boxed(args);
            assert_eq!(said.status, status, "{said:?}");
            said.failure();
        }
        runtime.nothing_is_left();
    });
}

#[test]
fn explain_makes_nothing() {
    faultkit::require!(user, userns);
    faultkit::isolated!(|| {
        let runtime = Runtime::new();
        let said = runtime.boxed(&["--explain", "--", "true"]).ok();
        assert!(said.contains("CLONE_NEWUSER"), "{said}");
        assert!(!runtime.0.join("cellrun").exists());
    });
}
