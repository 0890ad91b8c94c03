//! A test's body as root of a user namespace that an ordinary user made.
#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt;

const MARK: &str = "MOUNTKIT_IN_USER_NAMESPACE";

/// Whether this process is there.
pub(crate) fn is_here() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs the test of this name once more, there. From a process with one thread: another one that starts a program
/// meanwhile would hold the copy of this one open for writing.
#[track_caller]
pub(crate) fn run_again(test: &str) {
    run_again_with(&[], test);
}

/// The same, with what else unshare(1) makes, such as `--net`.
#[track_caller]
pub(crate) fn run_again_with(more: &[&str], test: &str) {
    let program = std::env::current_exe().expect("this program");
    let root = std::fs::metadata("/proc/self").expect("stat").uid() == 0;
    // Root has to become one first, who may not reach what cargo builds; an ordinary user is one.
    let user = root.then(faultkit::ordinary_user);
    let (mut command, program) = match &user {
        Some(user) => (user.command("unshare"), user.copy_of(program)),
        None => (std::process::Command::new("unshare"), program),
    };
    command.args(["--user", "--map-root-user", "--mount", "--propagation", "private"]).args(more).arg(program);
    let output = command.args([test, "--exact", "--nocapture"]).env(MARK, "1").output().expect("unshare");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}
