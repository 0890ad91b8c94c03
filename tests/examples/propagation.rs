use std::process::Command;

use super::{example, stdout};

mod root {
    use super::*;

    /// The same with mount(8), umount(8) and findmnt(8).
    const WITH_TOOLS: &str = r#"set -e
        mount -t tmpfs room /tmp; mkdir /tmp/original /tmp/copy
        mount -t tmpfs original /tmp/original; mount --make-shared /tmp/original
        mkdir /tmp/original/one /tmp/original/two
        appears() {
            mount -t tmpfs new "$1"
            if findmnt "$2" >/dev/null; then echo yes; else echo no; fi
            umount "$1"
        }
        for type in private shared slave unbindable; do
            mount --bind /tmp/original /tmp/copy; mount --make-$type /tmp/copy
            arrives=$(appears /tmp/original/one /tmp/copy/one)
            back=$(appears /tmp/copy/two /tmp/original/two)
            mkdir -p /tmp/third
            if mount --bind /tmp/copy /tmp/third 2>/dev/null; then may=yes; umount /tmp/third; else may=no; fi
            echo $type $arrives $back $may
            umount /tmp/copy
        done"#;

    #[test]
    fn as_the_tools_say() {
        faultkit::require!(root, program("unshare"), program("findmnt"), program("mount"));
        faultkit::isolated!(|| {
            let args = ["--mount", "--propagation", "private", "sh", "-c", WITH_TOOLS];
            let theirs = stdout(Command::new("unshare").args(args));
            let ours = stdout(&mut example("propagation"));
            let lines = ours.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            assert_eq!(lines.collect::<Vec<_>>(), theirs.lines().collect::<Vec<_>>(), "{ours}");
            assert!(theirs.contains("shared yes yes yes") && theirs.contains("slave yes no yes"), "{theirs}");
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        faultkit::require!(user);
        let output = example("propagation").output().expect("start");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("unshare") && said.contains("EPERM"), "{said}");
    }
}
