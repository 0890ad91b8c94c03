//! A full disk, and every system call failing.

use std::process::Command;

use faultkit::{Counted, End, Failure, Fault, Sweep};
use mountkit::layers::{Apply, Whiteouts};
use mountkit::{ErrorKind, RootFd};

use super::owners::CAPABILITY;
use crate::run;
use crate::tar::{archive, dir, file, hardlink, symlink};

#[test]
fn a_full_disk() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let place = faultkit::TempDir::new();
        run("mount", &["-t", "tmpfs", "-o", "size=1m,nr_inodes=50", "tmpfs", "."], &place);
        let large = archive([dir("d"), file("d/small", "x"), file("d/large", vec![1; 4 << 20])]);
        let many = archive((0..60).map(|number| file(format!("f{number}"), "")));
        for (layer, entry) in [(large, "d/large"), (many, "f4")] {
            let root = RootFd::open(&place).expect("open");
            let error = Apply::new().whiteouts(Whiteouts::Flattened).apply(&layer[..], &root).expect_err("full");
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Limit, Some(libc::ENOSPC)), "{error:#}");
            assert!(error.to_string().contains(entry), "{error:#}");
            run("sh", &["-c", "rm -rf ./*"], &place);
        }
        run("umount", &[place.to_str().expect("UTF-8")], &std::env::temp_dir());
    });
}

/// An access control list: 2, then tag, permissions and number of each entry.
const LIST: [u8; 28] =
    [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255];

/// Some of everything. Attributes of users are not: tmpfs has them since Linux 6.6 only.
fn layer() -> Vec<u8> {
    archive([
        dir("d").mode(0o700).owner(1, 1).xattr("system.posix_acl_access", LIST),
        file("d/f", "content").owner(2, 2).mode(0o4755),
        hardlink("d/h", "d/f"),
        symlink("d/l", "f").owner(3, 3),
        file("d/f", "again").xattr("security.capability", CAPABILITY),
        file("d/.wh.gone", ""),
        file("e/.wh..wh..opq", ""),
        file("e/sparse", "abc").pax("GNU.sparse.size", "9000").pax("GNU.sparse.map", "4096,3"),
    ])
}

#[test]
fn whatever_call_fails_it_is_said() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 600, || {
        let bytes = layer();
        let body = |counted: &Counted<'_>| {
            let place = faultkit::TempDir::new();
            let root = RootFd::open(&place).map_err(|e| Failure::new("open", e.raw_os_error(), &e))?;
            counted
                .run(|| Apply::new().apply(&bytes[..], &root))
                .map(drop)
                .map_err(|error| Failure::new(error.operation().to_owned(), error.raw_os_error(), format!("{error:#}")))
        };
        for errno in [libc::EIO, libc::ENOMEM] {
            let swept = Sweep::new(body)
                .spare("memory and threads of the standard library", |call| !CALLS.contains(&call.name.as_str()))
                .each(Fault::Fail(errno), |run| match &run.end {
                    End::Returned(Err(failure)) if failure.errno == Some(errno) => Ok(()),
                    other => Err(format!("{other:?}")),
                });
            assert!(swept.runs > 20, "{swept:?}");
        }
    });
}

#[test]
fn whatever_call_fails_without_the_newest_ones_it_is_said() {
    // Which an older kernel has not got.
    faultkit::require!(root, kernel(6.13));
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "root::faults::whatever_call_fails_it_is_said"]);
    // setxattrat(2) and its like, which the C library has no names for yet.
    crate::sys::take_away(&mut command, &[463, 464, 465, 466], libc::ENOSYS);
    let output = command.output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "nothing was run: {text}");
}

/// Those of the library.
const CALLS: [&str; 21] = [
    "openat",
    "openat2",
    "mkdirat",
    "symlinkat",
    "linkat",
    "mknodat",
    "unlinkat",
    "fchownat",
    "fchown",
    "fchmod",
    "fchmodat2",
    "fchmodat",
    "write",
    "pwrite64",
    "ftruncate",
    "utimensat",
    "statx",
    "getdents64",
    "setxattrat",
    "syscall 463",
    "fsetxattr",
];
