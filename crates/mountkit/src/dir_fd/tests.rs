#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use cellkit_core::ErrorKind;
use faultkit::TempDir;

use super::*;
use crate::sys::xattr::{self, Action};
use crate::{FileKind, RootFd};

fn open(dir: &TempDir) -> DirFd {
    RootFd::open(dir).and_then(|root| root.open_dir("/")).expect("the directory")
}

#[track_caller]
fn refused<T>(answer: Result<T>, errno: i32) {
    match answer {
        Ok(_) => panic!("it went well"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno), "{error:#}"),
    }
}

/// A directory with a file, a directory, and links to either, to nothing and outside.
fn with_links() -> (TempDir, TempDir) {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    fs::write(dir.path().join("file"), "content").expect("write");
    fs::create_dir(dir.path().join("sub")).expect("mkdir");
    fs::write(outside.path().join("kept"), "kept").expect("write");
    symlink("file", dir.path().join("to-file")).expect("symlink");
    symlink("sub", dir.path().join("to-sub")).expect("symlink");
    symlink("nothing", dir.path().join("to-nothing")).expect("symlink");
    symlink(&*outside, dir.path().join("out")).expect("symlink");
    (dir, outside)
}

#[test]
fn makes_and_looks() {
    let dir = TempDir::new();
    let path = |name: &str| dir.path().join(name);
    let fd = open(&dir);
    fd.mkdir("d", 0o700).expect("mkdir");
    fd.chmod("d", 0o1751).expect("chmod");
    assert_eq!(fs::metadata(path("d")).expect("stat").mode(), 0o041_751);
    fd.create("f", 0o600).expect("create").write_all(b"abc").expect("write");
    assert_eq!(fs::read(path("f")).expect("read"), b"abc");
    fd.symlink("any\n/thing", "l").expect("symlink");
    assert_eq!(fs::read_link(path("l")).expect("readlink").to_str(), Some("any\n/thing"));
    assert_eq!(fd.read_link("l").expect("readlink").to_str(), Some("any\n/thing"));
    fd.mknod("p", Node::Fifo, 0o600).expect("mknod");
    assert!(fs::symlink_metadata(path("p")).expect("stat").file_type().is_fifo());
    fd.mknod("s", Node::Socket, 0o600).expect("mknod");
    assert!(fs::symlink_metadata(path("s")).expect("stat").file_type().is_socket());
    let sub = fd.open_dir("d").expect("open");
    sub.link(&fd, "l", "l2").expect("a link of a link");
    assert!(fs::symlink_metadata(path("d/l2")).expect("stat").is_symlink());
    sub.link(&fd, "f", "f2").expect("link");
    let found = fd.stat("f").expect("stat");
    let theirs = fs::metadata(path("f")).expect("stat");
    assert_eq!((found.kind(), found.mode(), found.size(), found.links()), (FileKind::Regular, 0o600, 3, 2));
    assert_eq!((found.uid(), found.gid(), found.inode()), (theirs.uid(), theirs.gid(), theirs.ino()));
    assert_eq!(found.modified(), theirs.modified().expect("mtime"));
    assert_eq!(found.allocated(), theirs.blocks() * 512);
    fd.rename("f", &sub, "moved", Rename::Replace).expect("rename");
    refused(sub.rename("moved", &sub, "f2", Rename::Keep), libc::EEXIST);
    sub.rename("moved", &sub, "l2", Rename::Exchange).expect("exchange");
    assert!(fs::symlink_metadata(path("d/moved")).expect("stat").is_symlink());
    fd.unlink("l").expect("unlink");
    refused(fd.rmdir("d"), libc::ENOTEMPTY);
    refused(fd.unlink("d"), libc::EISDIR);
    let mut names: Vec<_> = fd.entries().expect("entries").map(|e| e.expect("entry")).collect();
    names.sort_by(|a, b| a.name().cmp(b.name()));
    let names: Vec<_> = names.iter().map(|e| (e.name().to_str().expect("text"), e.kind())).collect();
    let kinds = [FileKind::Directory, FileKind::Fifo, FileKind::Socket].map(Some);
    assert_eq!(names, [("d", kinds[0]), ("p", kinds[1]), ("s", kinds[2])]);
}

#[test]
fn no_link_is_followed() {
    let (dir, outside) = with_links();
    let fd = open(&dir);
    refused(fd.open_dir("to-sub"), libc::ENOTDIR);
    refused(fd.open_dir("out"), libc::ENOTDIR);
    assert_eq!(fd.open_file("to-file").expect_err("a link").kind(), ErrorKind::Invalid);
    refused(fd.mkdir("to-nothing", 0o755), libc::EEXIST);
    refused(fd.create("to-nothing", 0o644), libc::EEXIST);
    refused(fd.open_with("to-nothing", OpenOptions::new().write().create(0o644)), libc::ELOOP);
    refused(fd.open_with("to-file", OpenOptions::new().write().truncate().create(0o644)), libc::ELOOP);
    refused(fd.rmdir("out"), libc::ENOTDIR);
    refused(fd.chmod("to-file", 0o600), libc::EOPNOTSUPP);
    let name = Name::new("fchmodat", OsStr::new("to-file")).expect("name");
    refused(fd.chmod_by_proc(&name, 0o600), libc::EOPNOTSUPP);
    fd.set_times("to-file", Times::new().modified(SystemTime::UNIX_EPOCH)).expect("times");
    assert_eq!(fd.stat("to-file").expect("stat").modified(), SystemTime::UNIX_EPOCH);
    assert_ne!(fd.stat("file").expect("stat").modified(), SystemTime::UNIX_EPOCH);
    fd.remove_all("out").expect("the link");
    fd.unlink("to-file").expect("the link");
    assert_eq!(fs::read(dir.path().join("file")).expect("read"), b"content");
    assert_eq!(fs::read(outside.path().join("kept")).expect("read"), b"kept");
}

#[test]
fn one_name_is_wanted() {
    let (dir, _outside) = with_links();
    let fd = open(&dir);
    for name in ["", "..", "sub/x", "/", "a\0"] {
        assert_eq!(fd.mkdir(name, 0o755).expect_err(name).kind(), ErrorKind::Invalid);
        assert_eq!(fd.stat(name).expect_err(name).kind(), ErrorKind::Invalid);
        assert_eq!(fd.remove_all(name).expect_err(name).kind(), ErrorKind::Invalid);
    }
    for error in [
        fd.mkdir(".", 0o755).expect_err("made"),
        fd.remove_all(".").expect_err("removed"),
        fd.rename(".", &fd, "x", Rename::Replace).expect_err("moved"),
        fd.open_with(".", OpenOptions::new().write().create(0o600)).expect_err("made"),
    ] {
        assert!(error.to_string().contains("directory itself"), "{error}");
    }
    fd.chmod(".", 0o700).expect("itself");
    assert_eq!(fs::metadata(dir.path()).expect("stat").mode() & 0o7777, 0o700);
    assert_eq!(fd.open_dir(".").and_then(|same| same.stat(".")).expect("itself").kind(), FileKind::Directory);
    for mode in [0o10000, u32::MAX] {
        assert!(fd.mkdir("m", mode).expect_err("a mode").to_string().contains("0o7777"));
    }
    let error = fd.chown("file", u32::MAX, None).expect_err("no id");
    assert!(error.to_string().contains("None"), "{error}");
    assert_eq!(fd.symlink("", "l").expect_err("empty").kind(), ErrorKind::Invalid);
    assert_eq!(fd.symlink("x".repeat(4096), "l").expect_err("long").kind(), ErrorKind::Invalid);
    fd.symlink("x".repeat(4095), "l").expect("as long as can be");
    assert_eq!(fd.read_link("l").expect("readlink").as_os_str().len(), 4095);
}

#[test]
fn opening_says_what_it_wants() {
    let (dir, _outside) = with_links();
    let fd = open(&dir);
    for options in [
        OpenOptions::new(),
        OpenOptions::new().read().truncate(),
        OpenOptions::new().read().create(0o644),
        OpenOptions::new().read().write().create(0o644).expect(FileKind::Fifo),
        OpenOptions::new().read().expect(FileKind::Symlink),
    ] {
        assert_eq!(fd.open_with("file", options).expect_err("refused").kind(), ErrorKind::Invalid);
    }
    let mut file = fd.open_with("file", OpenOptions::new().append()).expect("append");
    file.write_all(b" and more").expect("write");
    assert_eq!(fs::read(dir.path().join("file")).expect("read"), b"content and more");
    drop(fd.open_with("file", OpenOptions::new().write().truncate().create(0o600)).expect("truncate"));
    assert_eq!(fs::read(dir.path().join("file")).expect("read"), b"");
    refused(fd.open_with("file", OpenOptions::new().write().create_new(0o600)), libc::EEXIST);
    let mut both = fd.open_with("new", OpenOptions::new().read().write().create(0o640)).expect("create");
    both.write_all(b"x").expect("write");
    let mut text = String::new();
    fd.open_file("new").expect("open").read_to_string(&mut text).expect("read");
    assert_eq!(text, "x");
    fd.mknod("fifo", Node::Fifo, 0o600).expect("mknod");
    let error = fd.open_file("fifo").expect_err("a fifo");
    assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
    drop(fd.open_with("fifo", OpenOptions::new().read().expect(FileKind::Fifo)).expect("asked for"));
    let error = fd.open_with("file", OpenOptions::new().read().expect(FileKind::Directory)).expect_err("a file");
    assert!(error.to_string().ends_with("it is a regular file, and a directory is wanted"), "{error}");
    fd.open_with(".", OpenOptions::new().read().expect(FileKind::Directory)).expect("open").sync_all().expect("fsync");
}

#[test]
fn times_are_exact() {
    let (dir, _outside) = with_links();
    let fd = open(&dir);
    let early = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
    let late = SystemTime::UNIX_EPOCH + Duration::new(2_000_000_000, 123_456_789);
    fd.set_times("file", Times::new().accessed(late).modified(early)).expect("set");
    let theirs = fs::metadata(dir.path().join("file")).expect("stat");
    assert_eq!((theirs.atime(), theirs.atime_nsec()), (2_000_000_000, 123_456_789));
    assert_eq!((theirs.mtime(), theirs.mtime_nsec()), (-2, 500_000_000));
    fd.set_times("file", Times::new().modified(late)).expect("set");
    let found = fd.stat("file").expect("stat");
    assert_eq!((found.accessed(), found.modified()), (late, late));
    assert!(found.changed() > late || found.changed() > SystemTime::UNIX_EPOCH);
}

#[test]
fn attributes_by_every_way() {
    let (dir, _outside) = with_links();
    let fd = open(&dir);
    // tmpfs has those of users since Linux 6.6, and those of root long before.
    let of_users = fd.set_xattr("file", "user.a", "").is_ok();
    if !of_users {
        faultkit::require!(root);
    }
    let space = if of_users { "user" } else { "trusted" };
    let key = |name: &str| format!("{space}.{name}");
    let c = |name: &str| CString::new(key(name)).expect("no NUL");
    let long = vec![7; 3000];
    fd.set_xattr("file", key("a"), "value").expect("set");
    fd.set_xattr("sub", key("long"), &long).expect("set");
    fd.set_xattr(".", key("here"), "").expect("set");
    assert_eq!(fd.get_xattr("file", key("a")).expect("get").as_deref(), Some(&b"value"[..]));
    assert_eq!(fd.get_xattr("sub", key("long")).expect("get"), Some(long.clone()));
    assert_eq!(fd.get_xattr(".", key("here")).expect("get"), Some(Vec::new()));
    assert_eq!(fd.get_xattr("file", key("none")).expect("get"), None);
    let keys = |name: &str| {
        let keys = fd.list_xattrs(name).expect("list");
        keys.into_iter().filter(|key| key.as_bytes().starts_with(space.as_bytes())).collect::<Vec<_>>()
    };
    assert_eq!(keys("file"), [key("a").as_str()]);
    assert_eq!(keys("sub"), [key("long").as_str()]);
    // A link has no user attributes, and those of what it leads to are not its own.
    assert_eq!(fd.get_xattr("to-file", key("a")).expect("get"), None);
    refused(fd.set_xattr("to-file", "user.a", "x"), libc::EPERM);

    // And the ways of older kernels.
    let name = |name: &str| Name::or_the_dir("x", OsStr::new(name)).expect("name");
    let mut buffer = [0; 4096];
    for way in [0, 1] {
        let act = |on: &str, action: &mut Action<'_>| match way {
            0 => fd.attributes_before_6_13(&name(on), action),
            _ => xattr::from_own_dir(fd.raw(), name(on).as_c_str(), action),
        };
        assert_eq!(act("file", &mut Action::Set(&c("b"), b"old")), Ok(0));
        assert_eq!(act("file", &mut Action::Get(&c("b"), &mut buffer)), Ok(3));
        assert_eq!(&buffer[..3], b"old");
        assert_eq!(act("sub", &mut Action::Get(&c("long"), &mut [0; 10])), Err(Errno(libc::ERANGE)));
        assert_eq!(act("to-file", &mut Action::Get(&c("a"), &mut buffer)), Err(Errno(libc::ENODATA)));
        assert_eq!(act("to-file", &mut Action::Set(c"user.a", b"x")), Err(Errno(libc::EPERM)));
        assert_eq!(act("gone", &mut Action::List(&mut buffer)), Err(Errno(libc::ENOENT)));
        let listed = act(".", &mut Action::List(&mut buffer)).expect("list");
        assert!(buffer[..listed].split(|&b| b == 0).any(|found| found == key("here").as_bytes()));
        assert_eq!(act("file", &mut Action::Remove(&c("b"))), Ok(0));
        assert_eq!(act("file", &mut Action::Remove(&c("b"))), Err(Errno(libc::ENODATA)));
    }
    fd.remove_xattr("file", key("a")).expect("remove");
    refused(fd.remove_xattr("file", key("a")), libc::ENODATA);
    assert_eq!(fd.get_xattr("file", "").expect_err("no key").kind(), ErrorKind::Invalid);
    assert_eq!(fd.get_xattr("file", "user.\0").expect_err("no key").kind(), ErrorKind::Invalid);
    refused(fd.get_xattr("nothing", key("a")), libc::ENOENT);
}

#[test]
fn a_mode_by_the_way_of_older_kernels() {
    let (dir, _outside) = with_links();
    let fd = open(&dir);
    fd.mknod("fifo", Node::Fifo, 0o600).expect("mknod");
    for (name, mode) in [("file", 0o4711), ("sub", 0o2755), ("fifo", 0o622), (".", 0o711)] {
        fd.chmod_by_proc(&Name::or_the_dir("fchmodat", OsStr::new(name)).expect("name"), mode).expect(name);
        assert_eq!(fs::symlink_metadata(dir.path().join(name)).expect("stat").mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn a_tree_is_removed_and_nothing_else() {
    let (dir, outside) = with_links();
    let fd = open(&dir);
    symlink(&*outside, dir.path().join("sub/out")).expect("symlink");
    fs::create_dir_all(dir.path().join("sub/a/b/c")).expect("mkdir");
    for number in 0..3000 {
        fs::write(dir.path().join(format!("sub/a/{number}")), "").expect("write");
        fs::create_dir(dir.path().join(format!("sub/a/b/{number}"))).expect("mkdir");
    }
    fs::write(dir.path().join("sub/a/b/7/file"), "").expect("write");
    fd.remove_all("sub").expect("removed");
    fd.remove_all("sub").expect("gone already");
    fd.remove_all("file").expect("a file");
    let left: Vec<_> = fs::read_dir(dir.path()).expect("readdir").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(fs::read(outside.path().join("kept")).expect("read"), b"kept");
}

#[test]
fn a_very_deep_tree_is_removed() {
    let dir = TempDir::new();
    let fd = open(&dir);
    let depth = 3000;
    // Down to the bottom, with something beside the way at every level.
    let mut at = fd.open_dir(".").expect("open");
    for number in 0..depth {
        at.mkdir("d", 0o755).expect("mkdir");
        at.mkdir("beside", 0o755).expect("mkdir");
        if number % 7 == 0 {
            at.create("file", 0o600).expect("create");
            at.open_dir("beside").and_then(|beside| beside.mkdir("below", 0o755)).expect("mkdir");
        }
        at = DirFd::from(OwnedFd::from(at.open_dir("d").expect("open")));
    }
    drop(at);
    fd.remove_all("d").expect("removed");
    assert_eq!(fd.entries().expect("entries").count(), 2);
    refused(fd.stat("d"), libc::ENOENT);
}

#[test]
fn errors_name_the_path_and_the_root() {
    let dir = TempDir::new();
    let root = RootFd::open(&dir).expect("root");
    root.mkdir_all("a/b", 0o755).expect("mkdir");
    let sub = root.open_dir("a").and_then(|a| a.open_dir("b")).expect("open");
    let error = sub.unlink("no\nne").expect_err("missing");
    let expected = format!("unlinkat \"a/b/no\\nne\" under {:?}: no such file or directory (ENOENT)", dir.path());
    assert_eq!(error.to_string(), expected);
    let top = root.open_dir("/").expect("open");
    let same = DirFd::from(OwnedFd::from(top));
    assert!(same.stat("x").expect_err("missing").to_string().contains("\"x\" under \"fd "));
}

#[test]
fn a_file_is_there_whole_whatever_had_its_name() {
    let (dir, outside) = with_links();
    let path = |name: &str| dir.path().join(name);
    let fd = open(&dir);
    fd.write("new", "one", 0o640).expect("write");
    assert_eq!(fs::metadata(path("new")).expect("stat").mode() & 0o077, 0o040);
    // What is open already stays as it is, and so do other names of the file.
    let mut old = fs::File::open(path("new")).expect("open");
    fs::hard_link(path("new"), outside.path().join("same")).expect("link");
    fd.write("new", "two", 0o600).expect("write");
    let mut content = String::new();
    old.read_to_string(&mut content).expect("read");
    assert_eq!((content.as_str(), fs::read(path("new")).expect("read")), ("one", b"two".to_vec()));
    assert_eq!(fs::read(outside.path().join("same")).expect("read"), b"one");

    // Neither followed nor waited for.
    symlink(outside.path().join("kept"), path("trap")).expect("symlink");
    fd.write("trap", "mine", 0o600).expect("write");
    assert!(fs::symlink_metadata(path("trap")).expect("stat").is_file());
    assert_eq!(fs::read(outside.path().join("kept")).expect("read"), b"kept");
    fd.mknod("fifo", Node::Fifo, 0o600).expect("mknod");
    fd.write("fifo", "", 0o600).expect("write");
    assert_eq!(fs::metadata(path("fifo")).expect("stat").len(), 0);
    let long = "x".repeat(255);
    fd.write(&long, "long", 0o600).expect("write");

    let names = || fs::read_dir(dir.path()).expect("read").count();
    let before = names();
    let error = fd.write("sub", "x", 0o600).expect_err("a directory");
    assert!(error.to_string().starts_with("renameat2 \"/sub\" under"), "{error}");
    refused(Err::<(), _>(error), libc::EISDIR);
    for (name, mode) in [("a/b", 0o600), ("..", 0o600), (".", 0o600), ("", 0o600), ("a", 0o10600)] {
        assert_eq!(fd.write(name, "x", mode).expect_err(name).kind(), ErrorKind::Invalid);
    }
    assert_eq!(names(), before, "nothing is left");
}
