//! Trees made to lead astray, and what each call answers in them: the same with either resolver, and nothing outside
//! changes.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use faultkit::TempDir;
use mountkit::{DirFd, ErrorKind, FileKind, Metadata, MountTarget, Node, OpenOptions, Rename, Result, RootFd, Times};

use crate::{census, roots};

/// What is tried, and the errno that comes of it (0: a refusal without one; `None`: it goes well).
type Case = (&'static str, fn(&RootFd, &Path) -> Result<()>, Option<i32>);

/// In a root with a directory `d`, a file `d/file` and links; the outside is given. Links out are to where it is, as
/// `/...` and as `../../...`; inside the root there is nothing of that name.
const CASES: [Case; 46] = [
    ("read through an absolute link", |r, _| r.read("out/kept", 99).map(drop), Some(libc::ENOENT)),
    ("read through a link upwards", |r, _| r.read("up/kept", 99).map(drop), Some(libc::ENOENT)),
    ("read by an absolute path", |r, o| r.read(o.join("kept"), 99).map(drop), Some(libc::ENOENT)),
    ("read by ..", |r, o| r.read(up(o).join("kept"), 99).map(drop), Some(libc::ENOENT)),
    ("read a loop", |r, _| r.read("loop", 99).map(drop), Some(libc::ELOOP)),
    ("read through a loop", |r, _| r.read("loop/x", 99).map(drop), Some(libc::ELOOP)),
    ("read two links that mean each other", |r, _| r.read("ping", 99).map(drop), Some(libc::ELOOP)),
    ("read a FIFO", |r, _| r.read("fifo", 99).map(drop), Some(0)),
    ("read a link to a FIFO", |r, _| r.read("to-fifo", 99).map(drop), Some(0)),
    ("read a directory", |r, _| r.read("d", 99).map(drop), Some(0)),
    ("read a socket", |r, _| r.read("socket", 99).map(drop), Some(0)),
    ("write to a FIFO", |r, _| r.open_with("fifo", OpenOptions::new().write()).map(drop), Some(0)),
    ("cut a link's file off", |r, _| cut(r, "out").map(drop), Some(libc::ELOOP)),
    ("make where a link leads nowhere", |r, _| cut(r, "dangling").map(drop), Some(libc::ELOOP)),
    ("a directory through a link out", |r, _| r.mkdir("out/made", 0o755), Some(libc::ENOENT)),
    ("a directory where a link is", |r, _| r.mkdir("out", 0o755), Some(libc::EEXIST)),
    ("a directory where a link is, by a slash", |r, _| r.mkdir("out/", 0o755), Some(libc::EEXIST)),
    ("directories through a link out", |r, _| r.mkdir_all("up/a/b", 0o755).map(drop), Some(libc::ENOENT)),
    ("directories through a dangling link", |r, _| r.mkdir_all("dangling/a", 0o755).map(drop), Some(libc::ENOENT)),
    ("a directory called ..", |r, _| r.mkdir("d/..", 0o755), Some(0)),
    ("a directory called .", |r, _| r.mkdir("d/.", 0o755), Some(0)),
    ("the root", |r, _| r.mkdir("/", 0o755), Some(0)),
    ("a file with a slash", |r, _| r.create("new/", 0o644).map(drop), Some(0)),
    ("a link through a link out", |r, _| r.symlink("x", "up/made"), Some(libc::ENOENT)),
    ("a link where a link is", |r, _| r.symlink("x", "out"), Some(libc::EEXIST)),
    ("a node through a link out", |r, _| r.mknod("out/made", Node::Fifo, 0o666), Some(libc::ENOENT)),
    ("a name of a file outside", |r, o| r.link(o.join("kept"), "mine"), Some(libc::ENOENT)),
    ("a name outside", |r, o| r.link("d/file", o.join("made")), Some(libc::ENOENT)),
    ("rename out", |r, _| r.rename("d/file", "out/made", Rename::Replace), Some(libc::ENOENT)),
    ("rename in", |r, _| r.rename("up/kept", "mine", Rename::Replace), Some(libc::ENOENT)),
    ("rename a directory into itself", |r, _| r.rename("d", "d/e/d", Rename::Replace), Some(libc::EINVAL)),
    ("remove a name outside", |r, _| r.unlink("out/kept"), Some(libc::ENOENT)),
    ("remove a directory that is a link", |r, _| r.rmdir("out"), Some(libc::ENOTDIR)),
    ("remove a directory that is a link, by a slash", |r, _| r.rmdir("out/"), Some(libc::ENOTDIR)),
    ("remove all of ..", |r, _| r.remove_all(".."), Some(0)),
    ("remove all through a link out", |r, _| r.remove_all("up/kept"), None),
    ("chmod through a link out", |r, _| r.chmod("out/kept", 0o777), Some(libc::ENOENT)),
    ("chmod a link", |r, _| r.chmod("out", 0o777), Some(libc::EOPNOTSUPP)),
    ("chmod what a link leads to", |r, _| r.chmod("out/", 0o777), Some(libc::ENOENT)),
    ("times of what is outside", |r, _| r.set_times("up/kept", Times::new().modified(zero())), Some(libc::ENOENT)),
    ("an attribute of what is outside", |r, _| r.set_xattr("out/kept", "user.x", "x"), Some(libc::ENOENT)),
    ("a mount outside", |r, _| r.mount_target("out", MountTarget::Directory).map(drop), Some(libc::ENOENT)),
    ("a mount on a link", |r, _| r.mount_target("to-d", MountTarget::RealDirectory).map(drop), Some(libc::ELOOP)),
    ("a file's mount on a directory", |r, _| r.mount_target("to-d", MountTarget::File).map(drop), Some(libc::EISDIR)),
    ("a name too long", |r, _| r.mkdir("n".repeat(256), 0o755), Some(0)),
    ("a path too long", |r, _| r.open_dir("d/../".repeat(1000)).map(drop), Some(0)),
];

fn zero() -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH
}

fn cut(root: &RootFd, path: &str) -> Result<std::fs::File> {
    root.open_with(path, OpenOptions::new().write().truncate().create(0o644))
}

/// `outside`, by more `..` than there are directories above any root.
fn up(outside: &Path) -> std::path::PathBuf {
    Path::new(&"../".repeat(20)).join(outside.strip_prefix("/").expect("absolute"))
}

fn hostile_root() -> (TempDir, TempDir) {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    fs::write(outside.path().join("kept"), "outside").expect("write");
    fs::create_dir_all(dir.path().join("d/e")).expect("mkdir");
    fs::write(dir.path().join("d/file"), "inside").expect("write");
    let link = |target: &Path, name: &str| symlink(target, dir.path().join(name)).expect("symlink");
    link(outside.path(), "out");
    link(&up(outside.path()), "up");
    link(Path::new("d"), "to-d");
    link(Path::new("nowhere"), "dangling");
    link(Path::new("loop"), "loop");
    link(Path::new("pong"), "ping");
    link(Path::new("ping"), "pong");
    link(Path::new("fifo"), "to-fifo");
    let root = RootFd::open(&dir).expect("root");
    root.mknod("fifo", Node::Fifo, 0o644).expect("mknod");
    root.mknod("socket", Node::Socket, 0o644).expect("mknod");
    (dir, outside)
}

#[test]
fn nothing_leads_out() {
    let (dir, outside) = hostile_root();
    let before = (census(dir.path()), census(outside.path()));
    for (name, attempt, expected) in CASES {
        for (resolver, root) in roots(dir.path()) {
            match (attempt(&root, outside.path()), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(0)) => {
                    assert_eq!(error.kind(), ErrorKind::Invalid, "{name}, {resolver:?}: {error:#}")
                }
                (Err(error), Some(errno)) => {
                    assert_eq!(error.raw_os_error(), Some(errno), "{name}, {resolver:?}: {error:#}");
                }
                (answer, _) => panic!("{name}, {resolver:?}: {answer:?}"),
            }
        }
    }
    assert_eq!((census(dir.path()), census(outside.path())), before);
}

#[test]
fn what_is_done_is_done_inside() {
    for number in [0, 1] {
        let (dir, outside) = hostile_root();
        let before = census(outside.path());
        let path = |name: &str| dir.path().join(name);
        let (_, root) = roots(dir.path()).into_iter().nth(number).expect("two");
        // The place that the links out mean inside the root.
        let inside = root.mkdir_all(outside.path(), 0o755).expect("mkdir");
        inside.create("kept", 0o600).expect("create");
        assert_eq!(root.read("out/kept", 9).expect("read"), b"");
        assert_eq!(root.read("up/kept", 9).expect("read"), b"");
        root.chmod("out/kept", 0o604).expect("chmod");
        root.mkdir("to-d/../up/made/", 0o700).expect("mkdir");
        root.symlink("../x", "to-d/e/link").expect("symlink");
        assert_eq!(fs::read_link(path("d/e/link")).expect("readlink").to_str(), Some("../x"));
        root.rename("to-d/file", "out/moved", Rename::Keep).expect("rename");
        root.link("up/moved", "to-d/again").expect("link");
        assert_eq!(root.stat("d/again").expect("stat").links(), 2);
        assert_eq!(root.read_link("to-d").expect("readlink").to_str(), Some("d"));
        assert_eq!(root.stat("to-d").expect("stat").kind(), FileKind::Symlink);
        assert_eq!(root.stat("to-d/").expect("stat").kind(), FileKind::Directory);
        assert_eq!(root.stat("/").expect("stat").inode(), fs::metadata(dir.path()).expect("stat").ino());
        assert_eq!(root.stat("d/../..").expect("stat").inode(), root.stat(".").expect("stat").inode());
        let place = root.mount_target("to-fifo", MountTarget::File).expect("place");
        assert_eq!(Metadata::of(place).expect("stat").kind(), FileKind::Fifo);
        root.set_times("d/..", Times::new().modified(zero())).expect("times of the root");
        assert_eq!(fs::metadata(dir.path()).expect("stat").mtime(), 0);
        let (parent, name) = root.parent("to-d/e//").expect("parent");
        assert_eq!(
            (parent.stat(".").expect("stat").inode(), name.to_str()),
            (root.stat("d").expect("d").inode(), Some("e"))
        );
        root.remove_all("out").expect("the link");
        assert_eq!(root.stat("up").expect("still a link").kind(), FileKind::Symlink);
        root.remove_all("to-d/e").expect("the directory");
        root.remove_all("to-d/e").expect("gone");
        root.unlink("up").expect("unlink");
        assert_eq!(census(outside.path()), before);
    }
}

#[test]
fn names_of_any_bytes() {
    let dir = TempDir::new();
    for (_, root) in roots(dir.path()) {
        let names: [&[u8]; 6] = [b"\n", b"\xff\xfe", b" ", b"-rf", b"...", &[b'x'; 255]];
        for name in names {
            let name = std::ffi::OsStr::from_bytes(name);
            root.mkdir(name, 0o755).expect("mkdir");
            let sub = root.open_dir(name).expect("open");
            sub.create(name, 0o600).expect("create");
            assert_eq!(sub.entries().expect("entries").next().expect("one").expect("entry").name(), name);
            assert!(dir.path().join(name).join(name).is_file());
            let error = root.mkdir(name, 0o755).expect_err("exists");
            assert!(!error.to_string().contains('\n'), "{error}");
            root.remove_all(name).expect("removed");
        }
        assert_eq!(root.open_dir("/").and_then(|all| all.entries().map(Iterator::count)).expect("entries"), 0);
    }
}

/// A thousand directories deep, with 200-byte names: far more than any path can be.
#[test]
fn a_tree_deeper_than_a_path() {
    let dir = TempDir::new();
    let name = "n".repeat(200);
    for (_, root) in roots(dir.path()) {
        let mut at = root.open_dir("/").expect("open");
        for _ in 0..1000 {
            at.mkdir(&name, 0o755).expect("mkdir");
            at = DirFd::from(std::os::fd::OwnedFd::from(at.open_dir(&name).expect("open")));
        }
        at.symlink("/", "to-root").expect("symlink");
        // From down there the root is the root still, and the way back up is as long as it is.
        let deep = RootFd::from(at);
        assert_eq!(deep.stat("../../x").expect_err("missing").kind(), ErrorKind::NotFound);
        assert_eq!(deep.stat("to-root/to-root/..").expect("stat"), deep.stat(".").expect("stat"));
        drop(deep);
        root.remove_all(&name).expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("readdir").count(), 0);
    }
}
