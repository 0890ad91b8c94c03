//! The trees, and what comes of each.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::root::host;

/// What comes of a start.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// It starts, and everything is where it was asked for.
    Starts,
    /// It fails with this errno, and the error names this place.
    Fails(i32, &'static str),
}
use End::{Fails, Starts};

/// What it is called, how it is made of a root and of the outside, and what comes of it.
pub(super) type Case = (&'static str, fn(&Path, &Path), End);

const PROC: &str = "\"proc\" under";
const SYS: &str = "\"sys\" under";
const DEV: &str = "\"dev\" under";
const VOL: &str = "\"vol\" under";
const FILE: &str = "\"filevol\" under";
const DEEP: &str = "\"deep/tmp\" under";
const USR: &str = "\"usr\" under";

/// Where /proc, /sys and /dev are to be there must be a real directory.
pub(super) const KERNEL: &[Case] = &[
    ("proc is a link to outside", |root, out| link(out, &root.join("proc")), Fails(libc::ELOOP, PROC)),
    ("proc is a link inside", |root, _| link("/etc", &root.join("proc")), Fails(libc::ELOOP, PROC)),
    ("proc is a link upwards", |root, _| link("../../../../..", &root.join("proc")), Fails(libc::ELOOP, PROC)),
    ("proc is a link to nothing", |root, _| link("nowhere", &root.join("proc")), Fails(libc::ELOOP, PROC)),
    ("proc is a loop", |root, _| link("proc", &root.join("proc")), Fails(libc::ELOOP, PROC)),
    ("proc is a link to the root", |root, _| link("/", &root.join("proc")), Fails(libc::ELOOP, PROC)),
    ("proc is a file", |root, _| write(&root.join("proc")), Fails(libc::ENOTDIR, PROC)),
    ("proc is a FIFO", |root, _| fifo(&root.join("proc")), Fails(libc::ENOTDIR, PROC)),
    ("proc is a socket", |root, _| socket(&root.join("proc")), Fails(libc::ENOTDIR, PROC)),
    ("proc is a device", |root, _| device(&root.join("proc")), Fails(libc::ENOTDIR, PROC)),
    ("proc has a self of its own", |root, out| fake_proc(root, out), Starts),
    ("sys is a link to outside", |root, out| link(out, &root.join("sys")), Fails(libc::ELOOP, SYS)),
    ("sys is a link to proc", |root, _| link("proc", &root.join("sys")), Fails(libc::ELOOP, SYS)),
    ("sys is a file", |root, _| write(&root.join("sys")), Fails(libc::ENOTDIR, SYS)),
    ("sys is a FIFO", |root, _| fifo(&root.join("sys")), Fails(libc::ENOTDIR, SYS)),
    ("dev is a link to outside", |root, out| link(out, &root.join("dev")), Fails(libc::ELOOP, DEV)),
    ("dev is a link upwards", |root, _| link("../../../..", &root.join("dev")), Fails(libc::ELOOP, DEV)),
    ("dev is a loop", |root, _| link("/dev", &root.join("dev")), Fails(libc::ELOOP, DEV)),
    ("dev is a file", |root, _| write(&root.join("dev")), Fails(libc::ENOTDIR, DEV)),
    ("dev is a FIFO", |root, _| fifo(&root.join("dev")), Fails(libc::ENOTDIR, DEV)),
    ("dev is a socket", |root, _| socket(&root.join("dev")), Fails(libc::ENOTDIR, DEV)),
    ("dev is a device", |root, _| device(&root.join("dev")), Fails(libc::ENOTDIR, DEV)),
];

/// What is in /dev already is never looked at.
pub(super) const IN_DEV: &[Case] = &[
    ("the console is a link to outside", |root, out| in_dev(root, "console", &out.join("console")), Starts),
    ("a terminal is a link to outside", |root, out| in_dev(root, "pts/0", &out.join("file")), Starts),
    ("pts is a link to outside", |root, out| in_dev(root, "pts", out), Starts),
    ("ptmx is a link to outside", |root, out| in_dev(root, "ptmx", &out.join("ptmx")), Starts),
    ("fd is a link to outside", |root, out| in_dev(root, "fd", &out.join("fd")), Starts),
    ("null is a knob", |root, _| in_dev(root, "null", Path::new("/proc/sys/kernel/core_pattern")), Starts),
    ("shm is a link to outside", |root, out| in_dev(root, "shm", out), Starts),
    ("mqueue is a link upwards", |root, _| in_dev(root, "mqueue", Path::new("../../../../tmp")), Starts),
    ("null is a hard link to outside", |root, out| hard_link_in_dev(root, &out.join("null")), Starts),
    ("null is a FIFO", |root, _| fifo(&dev(root).join("null")), Starts),
    ("dev may not be entered", |root, _| mode(&dev(root), 0), Starts),
];

/// The places of volumes and of a tmpfs are looked up in the root, links and all.
pub(super) const TARGETS: &[Case] = &[
    ("a volume on a link to outside", |root, out| link(out, &root.join("vol")), Fails(libc::ENOENT, VOL)),
    ("a volume on a link upwards", |root, _| link("../../../../etc", &root.join("vol")), Starts),
    ("a volume on a file", |root, _| write(&root.join("vol")), Fails(libc::ENOTDIR, VOL)),
    ("a volume on a FIFO", |root, _| fifo(&root.join("vol")), Fails(libc::ENOTDIR, VOL)),
    ("a volume on a loop", |root, _| link("vol", &root.join("vol")), Fails(libc::ELOOP, VOL)),
    ("a volume on proc by a link", |root, _| link("/proc", &root.join("vol")), Fails(libc::ENOENT, VOL)),
    ("a volume through a magic link", |root, _| link("/proc/self/root", &root.join("vol")), Fails(libc::ENOENT, VOL)),
    ("a volume on the root by a link", |root, _| link("/", &root.join("vol")), Fails(libc::EBUSY, VOL)),
    ("a volume on the root by dots", |root, _| link("etc/../..", &root.join("vol")), Fails(libc::EBUSY, VOL)),
    ("a volume behind 30 links", |root, _| chain(root, 30), Starts),
    ("a volume behind 50 links", |root, _| chain(root, 50), Fails(libc::ELOOP, VOL)),
    ("a volume on a directory that may not be entered", |root, _| mode(&dir(root, "vol"), 0), Starts),
    ("a volume on a sticky directory of somebody else", |root, _| sticky(&dir(root, "vol")), Starts),
    ("a volume on a name that is no text", |root, _| named(root, OsStr::from_bytes(b"\xff\xfe\n")), Starts),
    ("a volume on a name of 255 bytes", |root, _| named(root, OsStr::from_bytes(&[b'x'; 255])), Starts),
    (
        "a file on a link to outside",
        |root, out| link(out.join("file"), &root.join("filevol")),
        Fails(libc::ENOENT, FILE),
    ),
    ("a file on a directory", |root, _| drop(dir(root, "filevol")), Fails(libc::EINVAL, FILE)),
    ("a file on a FIFO", |root, _| fifo(&root.join("filevol")), Starts),
    ("a file on a socket", |root, _| socket(&root.join("filevol")), Starts),
    ("a file on a device", |root, _| device(&root.join("filevol")), Starts),
    ("a file on a hard link to outside", |root, out| hard_link(&out.join("file"), &root.join("filevol")), Starts),
    (
        "a file on a link to the host's passwd",
        |root, _| link("/etc/passwd", &root.join("filevol")),
        Fails(libc::ENOENT, FILE),
    ),
    ("a tmpfs below a link to outside", |root, out| link(out, &root.join("deep")), Fails(libc::ENOENT, DEEP)),
    ("a tmpfs below a file", |root, _| write(&root.join("deep")), Fails(libc::ENOTDIR, DEEP)),
    ("a tmpfs below a loop", |root, _| loop_of_two(root), Fails(libc::ELOOP, DEEP)),
    ("a tmpfs on its parent's parent", |root, _| link("..", &dir(root, "deep").join("tmp")), Fails(libc::EBUSY, DEEP)),
    ("a tmpfs far down", |root, _| far_down(root), Starts),
    ("usr is a link to outside", |root, out| link(out, &root.join("usr")), Fails(libc::ENOENT, USR)),
    ("usr is a file", |root, _| write(&root.join("usr")), Fails(libc::ENOTDIR, USR)),
    ("usr is a link inside", |root, _| link("/etc", &root.join("usr")), Starts),
    ("etc is a link to outside", |root, out| etc_is(root, out), Starts),
    ("etc is a link upwards", |root, _| etc_is(root, Path::new("../../../../../etc")), Starts),
    ("the root may be written by everybody", |root, _| mode(root, 0o1777), Starts),
    ("bin is a link to outside", |root, out| also(root, "opt", out), Starts),
];

fn link(target: impl AsRef<Path>, path: &Path) {
    symlink(target, path).expect("symlink");
}

fn write(path: &Path) {
    fs::write(path, "").expect("write");
}

fn fifo(path: &Path) {
    host("mkfifo", &[path.to_str().expect("UTF-8")]);
}

fn socket(path: &Path) {
    drop(UnixListener::bind(path).expect("bind"));
}

/// /dev/zero, which is harmless if a test ever fails.
fn device(path: &Path) {
    host("mknod", &["-m", "666", path.to_str().expect("UTF-8"), "c", "1", "5"]);
}

fn dir(root: &Path, name: &str) -> std::path::PathBuf {
    let path = root.join(name);
    fs::create_dir(&path).expect("mkdir");
    path
}

fn dev(root: &Path) -> std::path::PathBuf {
    dir(root, "dev")
}

fn in_dev(root: &Path, name: &str, target: &Path) {
    let path = dev(root).join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    link(target, &path);
}

fn hard_link(outside: &Path, path: &Path) {
    fs::hard_link(outside, path).expect("link");
}

fn hard_link_in_dev(root: &Path, outside: &Path) {
    hard_link(outside, &dev(root).join("null"));
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("chmod");
}

fn sticky(path: &Path) {
    chown(path, Some(4321), Some(4321)).expect("chown");
    mode(path, 0o1777);
}

fn chain(root: &Path, length: usize) {
    dir(root, "end");
    link("/end", &root.join("link0"));
    for number in 1..length {
        link(format!("link{}", number - 1), &root.join(format!("link{number}")));
    }
    link(format!("link{}", length - 1), &root.join("vol"));
}

fn named(root: &Path, name: &OsStr) {
    fs::create_dir(root.join(name)).expect("mkdir");
    link(name, &root.join("vol"));
}

fn loop_of_two(root: &Path) {
    link("b", &root.join("deep"));
    link("deep", &root.join("b"));
}

fn far_down(root: &Path) {
    let mut path = root.to_owned();
    for _ in 0..200 {
        path.push("d");
        fs::create_dir(&path).expect("mkdir");
    }
    let target: String = std::iter::repeat_n("d/", 200).collect();
    link(target, &root.join("deep"));
}

fn fake_proc(root: &Path, out: &Path) {
    let proc = dir(root, "proc");
    link(out, &proc.join("self"));
    fs::create_dir_all(proc.join("sys/kernel")).expect("mkdir");
    link(out.join("file"), &proc.join("interrupts"));
}

fn etc_is(root: &Path, target: &Path) {
    fs::remove_dir_all(root.join("etc")).expect("rm");
    link(target, &root.join("etc"));
}

fn also(root: &Path, name: &str, target: &Path) {
    link(target, &root.join(name));
}
