//! Boxes of the user who runs the tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use faultkit::TempDir;

use crate::run::{assert_no_records, boxed, cellrun, say};
use crate::status::value;

/// Where this user's records are.
fn state() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/tmp/cellrun-{}", nix::unistd::geteuid())),
        |dir| PathBuf::from(dir).join("cellrun"),
    )
}

#[test]
fn a_box_of_ones_own() {
    faultkit::require!(user, userns);
    faultkit::isolated!(|| {
        let said = boxed(&["--", "sh", "-c", "id -u; echo $$; ls /sys/class/net"]).ok();
        assert_eq!(said, "0\n1\nlo\n");
        let status = boxed(&["--", "cat", "/proc/self/status"]).ok();
        assert_eq!(value(&status, "NoNewPrivs"), "1");
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let map = boxed(&["--", "cat", "/proc/self/uid_map"]).ok();
        assert_eq!(map.split_whitespace().take(2).collect::<Vec<_>>(), ["0", &uid.to_string()]);

        let volume = TempDir::new();
        boxed(&["-v", &format!("{}:/vol", volume.display()), "--", "touch", "/vol/made"]).ok();
        let meta = fs::metadata(volume.join("made")).expect("made");
        assert_eq!((meta.uid(), meta.gid()), (uid, gid));
        assert_no_records(&state());
    });
}

#[test]
fn statuses_and_errors() {
    faultkit::require!(user, userns);
    faultkit::isolated!(|| {
        assert_eq!(boxed(&["--", "sh", "-c", "exit 7"]).status, 7);
        for (args, status) in [
            (&["--", "nosuch"][..], 127),
            (&["--", "/etc/passwd"], 126),
            (&["--rootfs", "/nosuch", "--", "true"], 125),
            (&["--net", "bridge", "--", "true"], 125),
            (&["--userns", "host", "--", "true"], 125),
            (&["--memory", "0", "--", "true"], 125),
        ] {
            let said = boxed(args);
            assert_eq!(said.status, status, "{said:?}");
            said.failure();
        }
        assert_no_records(&state());
    });
}

#[test]
fn explain_makes_nothing() {
    faultkit::require!(user, userns);
    faultkit::isolated!(|| {
        let said = say(&mut cellrun(["box", "--explain", "--", "true"])).ok();
        assert!(said.contains("CLONE_NEWUSER"), "{said}");
        assert!(!state().exists());
    });
}
