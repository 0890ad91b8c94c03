use std::fs;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn a_chroot_is_left_and_a_pivoted_root_is_not() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let before = (fs::read("/proc/self/mountinfo").expect("mountinfo"), names());
            let said = stdout(&mut example("pivot_root"));
            assert_eq!(said, "chroot: escaped, and read \"secret\"\npivot_root: still inside\n");
            assert_eq!((fs::read("/proc/self/mountinfo").expect("mountinfo"), names()), before);
        });
    }

    /// The same by other means: what the two kinds of process see is asked from outside, of `/proc/PID/root`, with a shell
    /// and chroot(1) in place of the example's own calls.
    #[test]
    fn a_shell_leaves_a_chroot_too() {
        faultkit::require!(root, program("chroot"), program("unshare"), program("python3"));
        faultkit::isolated!(|| {
            let host = faultkit::TempDir::new();
            fs::create_dir_all(host.join("jail/sub")).expect("mkdir");
            fs::write(host.join("secret"), "").expect("write");
            let secret = host.join("secret");
            let script = format!(
                "import os\nos.chroot({jail:?}); os.chdir('/'); os.chroot('/sub')\nfor _ in range(64): os.chdir('..')\n\
                 os.chroot('.'); print(os.path.exists({secret:?}))",
                jail = host.join("jail"),
            );
            assert_eq!(stdout(std::process::Command::new("python3").args(["-c", &script])), "True\n");
        });
    }
}

mod user {
    use super::*;

    #[test]
    fn without_privileges_it_says_so_and_leaves_nothing() {
        faultkit::require!(user);
        let dir = faultkit::TempDir::new();
        let output = example("pivot_root").env("TMPDIR", dir.path()).output().expect("start");
        assert!(!output.status.success());
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
        assert_eq!(fs::read_dir(dir.path()).expect("readdir").count(), 0);
    }
}

/// What is in the folder for temporary files.
fn names() -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(std::env::temp_dir()).expect("readdir");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    names
}
