//! A test's body as root of a user namespace that an ordinary user made.
#![forbid(unsafe_code)]

const MARK: &str = "MOUNTKIT_OVERLAY_IN_USER_NAMESPACE";

/// Whether this process is there.
pub(crate) fn is_here() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs the test of this name once more, there. From a process with one thread: another one that starts a program
/// meanwhile would hold the copy of this one open for writing.
#[track_caller]
pub(crate) fn run_again(test: &str) {
    let user = faultkit::ordinary_user();
    let program = user.copy_of(std::env::current_exe().expect("this program"));
    let mut command = user.command("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--propagation", "private"]).arg(program);
    let output = command.args([test, "--exact", "--nocapture"]).env(MARK, "1").output().expect("unshare");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}
