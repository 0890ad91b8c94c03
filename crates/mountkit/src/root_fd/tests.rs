#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cellkit_core::ErrorKind;
use faultkit::TempDir;

use super::*;

fn refused(error: Error, errno: i32) {
    assert_eq!(error.raw_os_error(), Some(errno), "{error:#}");
}

#[test]
fn links_mean_the_root() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    fs::write(outside.join("passwd"), "outside").expect("write");
    fs::create_dir(dir.join("etc")).expect("mkdir");
    fs::write(dir.join("etc/passwd"), "inside").expect("write");
    symlink("/etc", dir.join("absolute")).expect("symlink");
    symlink("../../../../../etc", dir.join("upwards")).expect("symlink");
    symlink(&*outside, dir.join("out")).expect("symlink");
    symlink("loop", dir.join("loop")).expect("symlink");
    let root = RootFd::open(&dir).expect("root");
    for path in ["etc/passwd", "/etc/passwd", "//etc/./passwd", "absolute/passwd", "upwards/passwd"] {
        assert_eq!(root.read(path, 6).expect(path), b"inside");
    }
    refused(root.open_file("out/passwd").expect_err("outside"), libc::ENOENT);
    refused(root.open_file("loop/x").expect_err("a loop"), libc::ELOOP);
    refused(root.mkdir_all("out/made", 0o755).expect_err("outside"), libc::ENOENT);
    refused(root.ensure_file("out/made", 0o644).expect_err("outside"), libc::ENOENT);
    refused(root.ensure_file("/", 0o644).expect_err("the root"), libc::EISDIR);
    assert_eq!(root.read("etc/../../etc/passwd", 6).expect("`..` ends at the root"), b"inside");
    let error = root.mkdir_all("etc/../made", 0o755).expect_err("`..`");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let names: Vec<_> = fs::read_dir(&outside).expect("readdir").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(names, ["passwd"]);
}

#[test]
fn magic_links_are_refused() {
    let root = RootFd::open("/proc").expect("proc");
    refused(root.open_dir("self/root").expect_err("a magic link"), libc::ELOOP);
    refused(root.open_file("self/exe").expect_err("a magic link"), libc::ELOOP);
}

#[test]
fn only_regular_files_of_bounded_size() {
    let dir = TempDir::new();
    fs::write(dir.join("long"), vec![b'x'; 1001]).expect("write");
    let path = dir.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let root = RootFd::open(&dir).expect("root");
    assert_eq!(root.read("long", 1001).expect("exactly").len(), 1001);
    let error = root.read("long", 1000).expect_err("too long");
    assert!(error.to_string().ends_with("it is longer than 1000 bytes"), "{error}");
    assert!(error.to_string().starts_with("read \"long\" under"), "{error}");
    // Must not wait for somebody to write.
    let error = root.open_file("fifo").expect_err("a fifo");
    assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
    assert_eq!(root.open_file(".").expect_err("a directory").kind(), ErrorKind::Invalid);
    let dev = RootFd::open("/dev").expect("dev");
    assert_eq!(dev.open_file("null").expect_err("a device").kind(), ErrorKind::Invalid);
    assert_eq!(dev.read("zero", 10).expect_err("a device").kind(), ErrorKind::Invalid);
}

#[test]
fn what_is_missing_is_made_inside() {
    let dir = TempDir::new();
    fs::create_dir(dir.join("real")).expect("mkdir");
    symlink("/real", dir.join("link")).expect("symlink");
    symlink("/nowhere", dir.join("dangling")).expect("symlink");
    let root = RootFd::open(&dir).expect("root");
    drop(root.mkdir_all("/link/a/b/c", 0o750).expect("made"));
    drop(root.mkdir_all("link/a/b/c", 0o700).expect("exists"));
    assert!(dir.join("real/a/b/c").is_dir());
    assert_eq!(fs::metadata(dir.join("real/a/b/c")).expect("stat").permissions().mode() & 0o7777, 0o750);
    drop(root.ensure_file("link/x/file", 0o600).expect("made"));
    fs::write(dir.join("real/x/file"), "kept").expect("write");
    drop(root.ensure_file("real/x/file", 0o600).expect("exists"));
    assert_eq!(fs::read(dir.join("real/x/file")).expect("read"), b"kept");
    refused(root.mkdir_all("dangling/a", 0o755).expect_err("leads nowhere"), libc::ENOENT);
    refused(root.mkdir_all("real/x/file/a", 0o755).expect_err("a file on the way"), libc::ENOTDIR);
    for mode in [0o10000, u32::MAX] {
        let error = root.mkdir_all("m", mode).expect_err("mode");
        assert!(error.to_string().contains("0o7777"), "{error}");
    }
}

#[test]
fn errors_name_the_path_and_the_root() {
    let dir = TempDir::new();
    let root = RootFd::open(&dir).expect("root");
    let error = root.open_file("no/such").expect_err("missing");
    let shown = format!("openat2 \"no/such\" under {:?}: no such file or directory (ENOENT)", dir.path());
    assert_eq!(error.to_string(), shown);
    for (path, word) in [("", "empty"), ("a\0b", "NUL")] {
        let error = root.open_file(path).expect_err(word);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(word), "{error}");
    }
    refused(RootFd::open(dir.join("no")).expect_err("missing"), libc::ENOENT);
    fs::write(dir.join("file"), "").expect("write");
    refused(RootFd::open(dir.join("file")).expect_err("a file"), libc::ENOTDIR);
    let fd: OwnedFd = root.into();
    let again = RootFd::from(fd);
    assert!(again.open_file("no").expect_err("missing").to_string().contains("under \"fd "));
}

/// Somebody keeps exchanging a directory with a link out of the root: nothing is ever made outside, and a read gives what
/// is inside or an error.
#[test]
fn a_racer_gains_nothing() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    fs::create_dir(dir.join("a")).expect("mkdir");
    fs::write(dir.join("a/file"), "inside").expect("write");
    fs::write(outside.join("file"), "outside").expect("write");
    // The same name inside the root, so that a link followed as the caller's own would find something there too.
    symlink(&*outside, dir.join("b")).expect("symlink");
    let done = AtomicBool::new(false);
    let root = RootFd::open(&dir).expect("root");
    let (mut inside, mut errors) = (0_u32, 0_u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (dir.join("a"), dir.join("b"));
            while !done.load(Ordering::Relaxed) {
                sys::exchange(&a, &b);
            }
        });
        for number in 0..3000 {
            match root.read("a/file", 100) {
                Ok(content) => {
                    assert_eq!(content, b"inside");
                    inside += 1;
                }
                Err(_) => errors += 1,
            }
            let _ = root.mkdir_all(Path::new("a").join(format!("made{number}")), 0o755);
            let _ = root.ensure_file(Path::new("a").join(format!("file{number}")), 0o644);
        }
        done.store(true, Ordering::Relaxed);
    });
    let names: Vec<_> = fs::read_dir(&outside).expect("readdir").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(names, ["file"]);
    assert!(inside > 0 && errors > 0, "there was no race: {inside} inside, {errors} errors");
}
