//! The program on the host, which the root of a container can reach and must not be able to change.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::run::*;

/// A copy that nobody else runs, or opening it for writing would be ETXTBSY.
fn own_copy(dir: &Path) -> std::path::PathBuf {
    let copy = dir.join("cellrun");
    fs::copy(program(), &copy).expect("copy");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("chmod");
    copy
}

/// Writes to what `/proc/PID/exe` was, as whoever kept it open can once nobody runs it any more.
fn write_again(held: &File) -> std::io::Result<usize> {
    OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", held.as_raw_fd()))?.write(b"x")
}

/// `/proc/PID/exe`, opened without reading it.
fn hold(pid: i32) -> File {
    let exe = format!("/proc/{pid}/exe");
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(exe).expect("exe")
}

#[test]
fn what_a_container_can_reach_cannot_be_written() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let copy = own_copy(dir.path());
        let before = fs::read(&copy).expect("read");
        // This test can fail: a program that is not sealed can be written once it has ended.
        let mut plain = Command::new("sleep").arg("0.1").spawn().expect("sleep");
        let sleep = dir.path().join("sleep");
        fs::copy(fs::read_link(format!("/proc/{}/exe", plain.id())).expect("exe"), &sleep).expect("copy");
        plain.wait().expect("wait");
        let mut plain = Command::new(&sleep).arg("0.1").spawn().expect("sleep");
        let held = hold(plain.id() as i32);
        plain.wait().expect("wait");
        assert!(write_again(&held).is_ok(), "the attack works");

        // PID 1 of this container is cellrun's reaper, and so runs cellrun.
        let mut command = Command::new(&copy);
        command.args(["box", "--net", "none", "--init", "--cap-add", "SYS_PTRACE", "--", "sh", "-c"]);
        let mut running = Running::start(command.arg("wc -c < /proc/1/exe; read line; true"));
        assert_eq!(running.line(), before.len().to_string(), "it can be reached from inside");
        let held = [hold(running.pid()), hold(running.payload())];
        assert_eq!(running.end().status, 0);
        for held in &held {
            assert_eq!(write_again(held).expect_err("written").raw_os_error(), Some(libc::EROFS));
        }

        // An image that has the program itself as its entry.
        let entry = dir.path().join("entry");
        fs::write(&entry, "#!/proc/self/exe\n").expect("write");
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o755)).expect("chmod");
        let volume = format!("{}:/mnt", dir.path().display());
        let said = say(Command::new(&copy).args(["box", "--net", "none", "-v", &volume, "--", "/mnt/entry"]));
        assert_eq!(said.status, 125);
        assert!(said.err.contains("cellrun: ") && said.err.contains("/mnt/entry"), "it ran inside: {said:?}");
        assert_eq!(fs::read(&copy).expect("read"), before);
        nothing_is_left();
    });
}

#[test]
fn without_privileges_it_is_a_copy_in_memory() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        // One of root's own, which nobody else may write, need not be copied.
        let copy = own_copy(user.home());
        std::os::unix::fs::chown(user.home(), Some(user.uid()), Some(user.gid())).expect("chown");
        let mut command = user.command(&copy);
        let mut running =
            Running::start(command.args(["box", "--net", "none", "--", "sh", "-c", "echo ready; read line; true"]));
        running.until("ready");
        assert_eq!(fs::read_link(format!("/proc/{}/exe", running.pid())).expect("exe"), copy);
        assert_eq!(running.end().status, 0);
        // One of the user's has to be.
        std::os::unix::fs::chown(&copy, Some(user.uid()), Some(user.gid())).expect("chown");
        let mut command = user.command(copy);
        let mut running =
            Running::start(command.args(["box", "--init", "--", "sh", "-c", "echo ready; read line; true"]));
        running.until("ready");
        let held = [hold(running.pid()), hold(running.payload())];
        for pid in [running.pid(), running.payload()] {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).expect("exe");
            assert!(exe.starts_with("/memfd:sealed (deleted)"), "{exe:?}");
        }
        assert_eq!(running.end().status, 0);
        for held in &held {
            assert_eq!(write_again(held).expect_err("written").raw_os_error(), Some(libc::EPERM));
        }
    });
}

#[test]
fn roots_program_needs_no_copy_for_an_ordinary_user() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let dir = faultkit::TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let roots = own_copy(dir.path());
        let before = fs::read(&roots).expect("read");
        // To who may write it, a program in use would be ETXTBSY.
        let attack = "id -u; for exe in /mnt/cellrun /proc/1/exe; do (echo x >> $exe); done; chmod 777 /mnt/cellrun; \
                      ls -ln /mnt/cellrun >&2; read line; true";
        let volume = format!("{}:/mnt", dir.path().display());
        let mut command = user.command(&roots);
        let mut running =
            Running::start(command.args(["box", "--net", "none", "-v", &volume, "--init", "--", "sh", "-c", attack]));
        assert_eq!(running.line(), "0", "root in there");
        let exe = fs::read_link(format!("/proc/{}/exe", running.pid())).expect("exe");
        assert_eq!(exe, roots, "nothing was copied");
        let said = running.end();
        for exe in ["/mnt/cellrun", "/proc/1/exe"] {
            assert!(said.err.contains(&format!("{exe}: Permission denied")), "{said:?}");
        }
        assert!(said.err.contains("changing permissions of '/mnt/cellrun': Operation not permitted"), "{said:?}");
        assert!(said.err.contains("-rwxr-xr-x 1 65534 65534 "), "whose owner has no number in there: {said:?}");
        assert_eq!(fs::read(&roots).expect("read"), before);
        // Where others may write it, or it is the user's, it is a copy.
        for (mode, owner) in [(0o775, 0), (0o757, 0), (0o755, user.uid())] {
            std::os::unix::fs::chown(&roots, Some(owner), Some(0)).expect("chown");
            fs::set_permissions(&roots, fs::Permissions::from_mode(mode)).expect("chmod");
            let mut command = user.command(&roots);
            let mut running =
                Running::start(command.args(["box", "--net", "none", "--", "sh", "-c", "echo; read line"]));
            running.line();
            let exe = fs::read_link(format!("/proc/{}/exe", running.pid())).expect("exe");
            assert!(exe.starts_with("/memfd:sealed (deleted)"), "{mode:o}, {owner}: {exe:?}");
            running.end();
        }
        nothing_is_left();
    });
}
