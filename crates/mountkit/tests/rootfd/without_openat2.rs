//! All of these tests once more where a seccomp filter hides openat2: with ENOSYS, as most do, and with EPERM, as old
//! container runtimes did.
#![forbid(unsafe_code)]

use std::process::Command;

/// Set in the process that has no openat2.
pub(crate) const MARK: &str = "MOUNTKIT_WITHOUT_OPENAT2";

#[test]
fn everything_is_the_same() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--skip", "without_openat2", "--skip", "root::"]).env(MARK, errno.to_string());
        crate::sys::take_away(&mut command, &[libc::SYS_openat2], errno);
        let output = command.output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "errno {errno}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("test racer::") && text.contains("test hostile::"), "nothing was run: {text}");
    }
}
