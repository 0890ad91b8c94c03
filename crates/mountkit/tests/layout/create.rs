//! Layers made from directories, by anybody.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use faultkit::TempDir;
use mountkit::layers::{Compression, Create, Created, Digest, Holes, LeftOut, Whiteouts};
use mountkit::{Error, ErrorKind, RootFd};

use crate::sys;

pub(crate) fn plain() -> Create {
    Create::new().whiteouts(Whiteouts::Flattened).compression(Compression::None)
}

#[track_caller]
pub(crate) fn layer_of(dir: &Path, create: &Create) -> (Vec<u8>, Created) {
    let mut layer = Vec::new();
    let created = create.create(&RootFd::open(dir).expect("root"), &mut layer);
    (layer, created.unwrap_or_else(|error| panic!("{error:#}")))
}

#[track_caller]
pub(crate) fn refused(dir: &Path, create: &Create) -> Error {
    create.create(&RootFd::open(dir).expect("root"), io::sink()).expect_err("must be refused")
}

/// Runs `program` with `input`, and answers what it wrote.
#[track_caller]
pub(crate) fn piped(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut pipe = child.stdin.take().expect("pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = pipe.write_all(input);
        });
        child.wait_with_output().expect(program)
    });
    assert!(output.status.success(), "{program} {args:?}: {}", output.status);
    output.stdout
}

/// The names in a plain archive, as GNU tar lists them.
#[track_caller]
pub(crate) fn names(layer: &[u8]) -> Vec<String> {
    let text = piped("tar", &["--list", "--quoting-style=escape", "-f-"], layer);
    String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
}

fn small_tree() -> TempDir {
    let dir = TempDir::new();
    fs::create_dir_all(dir.join("etc/z")).expect("mkdir");
    fs::write(dir.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("write");
    fs::hard_link(dir.join("etc/passwd"), dir.join("etc/a-link")).expect("link");
    symlink("../etc/passwd", dir.join("a")).expect("symlink");
    dir
}

#[test]
fn packed_three_ways_it_is_the_same_layer() {
    faultkit::require!(program("tar"), program("gzip"), program("zstd"), program("sha256sum"));
    let dir = small_tree();
    let (tar, created) = layer_of(&dir, &plain());
    assert_eq!(names(&tar), ["./", "a", "etc/", "etc/a-link", "etc/passwd", "etc/z/"]);
    assert_eq!((created.entries, created.left_out.len()), (6, 0));
    assert_eq!((created.digest, created.size), (created.diff_id, created.unpacked_size));
    for (compression, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        let (packed, again) = layer_of(&dir, &plain().compression(compression));
        assert_eq!(piped(program, &["-dc"], &packed), tar);
        assert_eq!((again.diff_id, again.unpacked_size), (created.diff_id, tar.len() as u64));
        let sum = String::from_utf8(piped("sha256sum", &[], &packed)).expect("text");
        assert_eq!(again.digest.hex(), sum.split(' ').next().expect("sum"));
        assert_eq!(again.size, packed.len() as u64);
        assert_eq!(layer_of(&dir, &plain().compression(compression)).0, packed, "made twice");
    }
    assert_eq!(created.diff_id, Digest::sha256_of(&tar));
}

#[test]
fn a_build_made_again_is_the_same_with_a_latest_time() {
    faultkit::require!(program("cp"));
    let (dir, copies) = (small_tree(), TempDir::new());
    let copy = copies.join("copy");
    assert!(Command::new("cp").arg("-dR").args([dir.path(), &copy]).status().expect("cp").success());
    // A copy has times of its own, and a hard link is two files, of which only what they hold is alike.
    for tree in [&copy, dir.path()] {
        fs::remove_file(tree.join("etc/a-link")).expect("rm");
    }
    let latest = UNIX_EPOCH + Duration::from_millis(1_500);
    let of = |dir: &Path, create: Create| layer_of(dir, &create).0;
    assert_ne!(of(&dir, plain()), of(&copy, plain()));
    assert_eq!(of(&dir, plain().clamp_mtime(latest)), of(&copy, plain().clamp_mtime(latest)));
    // What is older stays as old as it is, before 1970 too.
    for (seconds, nanoseconds) in [(1, 250_000_000), (-5, 999_999_999)] {
        sys::set_mtime(&dir.join("etc/passwd"), seconds, nanoseconds);
        let (tar, _) = layer_of(&dir, &plain().clamp_mtime(latest));
        let args = ["--list", "--verbose", "--full-time", "--utc", "-f-", "etc/"];
        let text = String::from_utf8(piped("tar", &args, &tar)).expect("text");
        assert!(text.contains("1970-01-01 00:00:01.5 etc/\n"), "{text}");
        // As GNU tar writes them too; its listing of times before 1970 has the fraction on the wrong side.
        let record = if seconds > 0 { "mtime=1.25\n" } else { "mtime=-4.000000001\n" };
        assert!(String::from_utf8_lossy(&tar).contains(record), "{text}");
    }
    let (tar, _) = layer_of(&dir, &plain().clamp_mtime(UNIX_EPOCH - Duration::from_millis(250)));
    assert!(String::from_utf8_lossy(&tar).contains("mtime=-0.25\n"));
}

#[test]
fn any_name_is_kept_but_those_of_whiteouts() {
    faultkit::require!(program("tar"));
    let dir = TempDir::new();
    let long = "n".repeat(255);
    fs::create_dir_all(dir.join(&long).join(&long).join(&long)).expect("mkdir");
    for name in ["a\nb", "a=b", " ", "-rf", "\u{1b}[1m", "é"] {
        fs::write(dir.join(name), name).expect("write");
    }
    symlink("t".repeat(4000), dir.join("long")).expect("symlink");
    let bytes = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    fs::write(dir.join(Path::new::<std::ffi::OsStr>(bytes)), "bytes").expect("write");
    let (tar, _) = layer_of(&dir, &plain());
    let out = TempDir::new();
    piped("tar", &["-x", "-f-", "-C", out.to_str().expect("text")], &tar);
    assert_eq!(crate::portrait::of(&out), crate::portrait::of(&dir));
    for name in [".wh.x", ".wh..wh..opq", ".wh."] {
        fs::write(dir.join(name), "").expect("write");
        let error = refused(&dir, &plain());
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        fs::remove_file(dir.join(name)).expect("rm");
    }
}

#[test]
fn sockets_are_left_out_and_told_and_nobody_waits_for_a_fifo() {
    faultkit::require!(program("tar"), program("mkfifo"));
    let dir = TempDir::new();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("bind");
    assert!(Command::new("mkfifo").arg(dir.join("fifo")).status().expect("mkfifo").success());
    let (tar, created) = layer_of(&dir, &plain());
    assert_eq!(names(&tar), ["./", "fifo"]);
    assert_eq!((created.left_out, created.left_out_count), (vec![LeftOut::Socket("socket".into())], 1));
    for number in 0..1100 {
        std::os::unix::net::UnixListener::bind(dir.join(format!("s{number}"))).expect("bind");
    }
    let (_, created) = layer_of(&dir, &plain());
    assert_eq!((created.left_out.len(), created.left_out_count), (1000, 1101));
}

/// A file with data at both ends of a large hole.
fn with_a_hole() -> TempDir {
    use std::os::unix::fs::FileExt;
    let dir = TempDir::new();
    let file = fs::File::create(dir.join("sparse")).expect("create");
    file.write_all_at(b"begin", 0).expect("write");
    file.write_all_at(b"end", 24 << 20).expect("write");
    fs::File::create(dir.join("nothing-but-a-hole")).expect("create").set_len(10 << 20).expect("truncate");
    dir
}

#[test]
fn holes_stay_holes_where_asked_for() {
    use std::os::unix::fs::MetadataExt;
    faultkit::require!(program("tar"), program("sha256sum"));
    let (dir, out) = (with_a_hole(), TempDir::new());
    let (tar, created) = layer_of(&dir, &plain().holes(Holes::Kept));
    assert!(created.unpacked_size < 100 << 10, "{created:?}");
    piped("tar", &["-x", "-f-", "-C", out.to_str().expect("text")], &tar);
    assert_eq!(crate::portrait::of(&out), crate::portrait::of(&dir));
    assert!(fs::metadata(out.join("sparse")).expect("stat").blocks() < 1000);
}

#[test]
fn holes_are_zeros_otherwise_and_count() {
    use std::os::unix::fs::FileExt;
    faultkit::require!(program("tar"), program("sha256sum"));
    let dir = with_a_hole();
    let error = refused(&dir, &plain().max_bytes(16 << 20));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
    assert!(format!("{error:#}").contains("\"sparse\"") && format!("{error:#}").contains("16777216"), "{error:#}");
    fs::File::options().write(true).open(dir.join("sparse")).expect("open").set_len(5 << 20).expect("truncate");
    let file = fs::File::options().write(true).open(dir.join("nothing-but-a-hole")).expect("open");
    file.write_all_at(b"middle", 3 << 20).expect("write");
    let (tar, _) = layer_of(&dir, &plain());
    let out = TempDir::new();
    piped("tar", &["-x", "-f-", "-C", out.to_str().expect("text")], &tar);
    assert_eq!(crate::portrait::of(&out), crate::portrait::of(&dir));
}

#[test]
fn limits() {
    let dir = small_tree();
    let error = refused(&dir, &plain().max_entries(5));
    assert!(format!("{error:#}").contains("more than 5 entries"), "{error:#}");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!(layer_of(&dir, &plain().max_entries(6)).1.entries, 6);
    for number in 0..300 {
        fs::write(dir.join(number.to_string()), "").expect("write");
    }
    let error = refused(&dir, &plain().max_entries(100));
    assert!(format!("{error:#}").contains("more than 100 entries"), "{error:#}");
}

#[test]
fn a_file_that_changes_meanwhile_is_an_error() {
    let outside = TempDir::new();
    fs::write(outside.join("secret"), "secret").expect("write");
    type Change = fn(&Path, &Path);
    let changes: [(&str, Change, ErrorKind); 5] = [
        ("grows", |dir, _| fs::write(dir.join("file"), "longer than it was").expect("write"), ErrorKind::Busy),
        ("shrinks", |dir, _| fs::write(dir.join("file"), "").expect("write"), ErrorKind::Busy),
        ("goes", |dir, _| fs::remove_file(dir.join("file")).expect("rm"), ErrorKind::Gone),
        (
            "is a link now, of another kind in the place it was listed at",
            |dir, outside| {
                fs::remove_dir(dir.join("z")).expect("rmdir");
                symlink(outside, dir.join("z")).expect("symlink");
            },
            ErrorKind::Other,
        ),
        ("the directory goes", |dir, _| fs::remove_dir(dir.join("z")).expect("rm"), ErrorKind::Gone),
    ];
    for (what, change, kind) in changes {
        let dir = TempDir::new();
        fs::write(dir.join("before"), vec![b'x'; 1 << 20]).expect("write");
        fs::write(dir.join("file"), vec![b'y'; 1 << 20]).expect("write");
        fs::create_dir(dir.join("z")).expect("mkdir");
        // Once a file's own content is on its way it has been looked at, and so has its name in the directory's list.
        let changed = AtomicBool::new(false);
        let mut written = 0_usize;
        let out = OnWrite(|bytes: &[u8]| {
            written += bytes.len();
            let in_file = written > if what == "goes" { 100_000 } else { (1 << 20) + 8192 };
            if in_file && !changed.swap(true, Ordering::Relaxed) {
                change(&dir, &outside);
            }
        });
        let result = plain().create(&RootFd::open(&dir).expect("root"), out);
        assert!(changed.load(Ordering::Relaxed), "{what}");
        match (result, kind) {
            // What is a link when it is looked at goes into the layer as one.
            (Ok(created), ErrorKind::Other) => assert_eq!(created.entries, 4),
            (Ok(_), _) => panic!("{what}: no error"),
            (Err(error), kind) => assert_eq!(error.kind(), kind, "{what}: {error:#}"),
        }
    }
}

struct OnWrite<F: FnMut(&[u8])>(F);

impl<F: FnMut(&[u8])> Write for OnWrite<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_says_so() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = small_tree();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let error = plain().compression(compression).create(&RootFd::open(&dir).expect("root"), Full);
        let error = error.expect_err("full");
        assert_eq!((error.operation(), error.raw_os_error()), ("write layer", Some(libc::ENOSPC)));
    }
}

/// Somebody keeps exchanging a directory with a link out of the tree, and a file with a link to a secret.
#[test]
fn a_racer_gets_nothing_of_the_outside_into_a_layer() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    fs::write(outside.join("file"), "a secret of the outside").expect("write");
    fs::create_dir(dir.join("d")).expect("mkdir");
    for name in ["d/file", "f"] {
        fs::write(dir.join(name), "inside").expect("write");
    }
    symlink(&*outside, dir.join("d-link")).expect("symlink");
    symlink(outside.join("file"), dir.join("f-link")).expect("symlink");
    let done = AtomicBool::new(false);
    let (mut whole, mut errors) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                sys::exchange(&dir.join("d"), &dir.join("d-link"));
                sys::exchange(&dir.join("f"), &dir.join("f-link"));
            }
        });
        for _ in 0..300 {
            let mut layer = Vec::new();
            match plain().create(&RootFd::open(&dir).expect("root"), &mut layer) {
                Ok(_) => whole += 1,
                Err(error) => {
                    errors += 1;
                    assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::Invalid), "{error:#}");
                }
            }
            assert!(!layer.windows(8).any(|part| part == b"a secret"), "read outside");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(whole > 0 && errors > 0, "there was no race: {whole} whole, {errors} errors");
}
