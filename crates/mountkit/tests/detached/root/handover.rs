//! Mounts that are handed to another process, which attaches them in a mount namespace of its own.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mountkit::{Bind, DetachedMount, ErrorKind, MountAttr, RootFd, Tmpfs};

use super::{dir_with, host, table, text};

/// Where the other process finds the socket and the place; it runs [`the_other_process`].
const SOCKET: &str = "CELLKIT_TEST_SOCKET";

/// Says that it clears `ro` before.
const CLEARS: &str = "CELLKIT_TEST_CLEARS";

/// Not a test of its own: the process that takes what is sent, attaches it on the folder `at` beside the socket, and tells
/// its mount table.
#[test]
#[ignore = "run by another test, in another mount namespace"]
fn the_other_process() {
    let Some(socket) = std::env::var_os(SOCKET).map(PathBuf::from) else { return };
    let mut stream = UnixStream::connect(&socket).expect("connect");
    let mount = DetachedMount::receive(&stream).expect("receive");
    if std::env::var_os(CLEARS).is_some() {
        mount.clear(MountAttr::RDONLY).expect("what was sent is not locked");
    }
    let dir = RootFd::open(socket.parent().expect("a folder")).expect("root");
    mount.attach(&dir, "at").expect("attach");
    stream.write_all(table().as_bytes()).expect("tell");
}

/// Sends `mount` to a process that `program` starts, and answers its mount table.
#[track_caller]
fn table_of_receiver(program: &[&str], dir: &Path, mount: DetachedMount) -> String {
    let socket = dir.join("socket");
    let listener = UnixListener::bind(&socket).expect("bind");
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(std::env::current_exe().expect("exe"));
    command.args(["root::handover::the_other_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let child = command.env(SOCKET, &socket).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
    let (mut stream, _) = listener.accept().expect("accept");
    mount.send(&stream).expect("send");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("read");
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(&socket).expect("unlink");
    told
}

fn line(table: &str, target: &Path) -> String {
    let found = table.lines().find(|line| line.split(' ').nth(4).is_some_and(|field| Path::new(field) == target));
    found.unwrap_or_else(|| panic!("{target:?} is not in\n{table}")).to_owned()
}

#[test]
fn another_process_attaches_it_in_its_own_mount_namespace() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["at"]);
        let before = table();
        let mount = Tmpfs::new().source("sent").attrs(MountAttr::RDONLY).mount().expect("mount");
        let told = table_of_receiver(&["unshare", "--mount", "--propagation", "private"], &dir, mount);
        let line = line(&told, &dir.join("at"));
        assert!(line.contains(" ro,nosuid,nodev,") && line.contains("tmpfs sent"), "{line}");
        assert_eq!(table(), before, "and nowhere else");
    });
}

#[test]
fn a_process_of_a_user_namespace_attaches_what_it_could_not_have_made() {
    faultkit::require!(root, program("unshare"), program("setpriv"), userns);
    faultkit::isolated!(|| {
        let dir = dir_with(&["at", "source"]);
        fs::write(dir.join("source/file"), "").expect("write");
        let mount = Bind::new(dir.join("source")).attrs(MountAttr::RDONLY).mount().expect("clone");
        let unshare = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"];
        let told = table_of_receiver(&unshare, &dir, mount);
        assert!(line(&told, &dir.join("at")).contains(" ro,"), "{told}");
        // As `send` says: its attributes are not locked by that.
        let mount = Bind::new(dir.join("source")).attrs(MountAttr::RDONLY).mount().expect("clone");
        let clears = format!("{CLEARS}=1");
        let told = table_of_receiver(&[&["env", &clears], &unshare[..]].concat(), &dir, mount);
        assert!(line(&told, &dir.join("at")).contains(" rw,"), "{told}");
    });
}

#[test]
fn what_is_no_mount_is_refused_and_closed() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["plain"]);
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        // Something else: bytes without a descriptor, a descriptor that is no mount, nothing at all.
        (&ours).write_all(b"x").expect("write");
        assert_eq!(DetachedMount::receive(&theirs).expect_err("a byte").kind(), ErrorKind::Invalid);
        let plain = fs::File::open(dir.join("plain")).expect("open");
        DetachedMount::from(std::os::fd::OwnedFd::from(plain)).send(&ours).expect("send");
        let error = DetachedMount::receive(&theirs).expect_err("a plain directory");
        assert!(error.to_string().contains("not the root of a mount"), "{error}");
        // A mount of the receiver's own, which it would move.
        let attached = Tmpfs::new().mount().expect("mount").attach(&RootFd::open(&dir).expect("root"), "plain");
        let attached = std::os::fd::OwnedFd::from(attached.expect("attach"));
        DetachedMount::from(attached).send(&ours).expect("send");
        let error = DetachedMount::receive(&theirs).expect_err("an attached mount");
        assert!(error.to_string().contains("is attached"), "{error}");
        assert!(table().contains("/plain "), "it is where it was");
        host("umount", &[text(&dir.join("plain"))]);
        drop(ours);
        assert_eq!(DetachedMount::receive(&theirs).expect_err("the end").kind(), ErrorKind::Gone);
        let error = Tmpfs::new().mount().expect("mount").send(&theirs).expect_err("nobody is there");
        assert_eq!((error.operation(), error.raw_os_error()), ("sendmsg", Some(32)));
    });
}

#[test]
fn a_copy_is_a_mount_of_its_own() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["a", "b"]);
        let root = RootFd::open(&*dir).expect("root");
        let first = Tmpfs::new().mount().expect("mount");
        match first.try_clone() {
            Ok(second) => {
                second.set(MountAttr::RDONLY).expect("set");
                first.attach(&root, "a").expect("attach");
                second.attach(&root, "b").expect("attach");
                fs::write(dir.join("a/file"), "").expect("writable");
                assert!(dir.join("b/file").exists());
                fs::write(dir.join("b/file"), "").expect_err("read-only");
                host("umount", &[text(&dir.join("a"))]);
                host("umount", &[text(&dir.join("b"))]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(error.to_string().contains("6.15"), "{error}");
            }
        }
    });
}

#[test]
fn a_copy_is_there_where_it_is_promised() {
    faultkit::require!(root, kernel(6.15));
    faultkit::isolated!(|| drop(Tmpfs::new().mount().expect("mount").try_clone().expect("Linux 6.15 has it")));
}
