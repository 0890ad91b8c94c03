//! A switch of the whole machine, which other tests must not meet: alone in its program, and only in a virtual machine.

mod root {
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use idmap::probe;

    const SWITCH: &str = "/proc/sys/kernel/unprivileged_userns_clone";
    /// Set for the program that asks as an ordinary user.
    const ASKING: &str = "CELLKIT_IDMAP_ASKING";

    #[test]
    fn user_namespaces_for_root_only() {
        if std::env::var_os(ASKING).is_some() {
            print!("{}", probe().expect("probe"));
            return;
        }
        faultkit::require!(root, vm);
        let here = probe().expect("probe");
        let before = fs::read_to_string(SWITCH).expect("Debian's kernels have it");
        assert_eq!(here.get("kernel.unprivileged_userns_clone").map(|seen| &*seen.detail), Some(before.trim()));
        let asked = || {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["--exact", "root::user_namespaces_for_root_only", "--nocapture"]).env(ASKING, "1");
            let output = command.uid(12345).gid(12345).output().expect("a user");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        fs::write(SWITCH, "0").expect("sysctl");
        let (for_root, for_user) = (probe().expect("probe"), asked());
        fs::write(SWITCH, "1").expect("sysctl");
        assert!(for_root.can_make(), "{for_root}");
        let line = for_user.lines().find(|line| line.contains("user namespace  ")).unwrap_or_default();
        assert!(line.trim_start().starts_with("NO") && line.contains("EPERM"), "{for_user}");
        assert!(for_user.contains("→ they are for root only: as root, sysctl -w kernel.unprivileged_userns_clone=1"));
        assert!(!asked().contains("sysctl -w kernel.unprivileged_userns_clone=1"));
    }
}
