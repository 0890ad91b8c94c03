//! Roots that somebody hostile filled: nothing outside of them changes.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use faultkit::TempDir;
use mountkit::{Rootfs, Sys, Tmpfs, Volume};

use crate::child::{Who, try_inside};
use crate::tree::{census, skeleton};

/// A hostile tree: its name, how it is made (the root, the outside), and what comes of it: an errno or a good start.
type Case = (&'static str, fn(&Path, &Path), Option<i32>);

const CASES: [Case; 16] = [
    ("proc is a link to outside", |root, out| link(out, &root.join("proc")), Some(libc::ELOOP)),
    ("proc is a link inside", |root, _| link(Path::new("/etc"), &root.join("proc")), Some(libc::ELOOP)),
    ("sys is a link to outside", |root, out| link(out, &root.join("sys")), Some(libc::ELOOP)),
    ("dev is a link to outside", |root, out| link(out, &root.join("dev")), Some(libc::ELOOP)),
    ("dev is a link upwards", |root, _| link(Path::new("../../../.."), &root.join("dev")), Some(libc::ELOOP)),
    ("dev is a loop", |root, _| link(Path::new("/dev"), &root.join("dev")), Some(libc::ELOOP)),
    ("dev is a file", |root, _| write(&root.join("dev")), Some(libc::ENOTDIR)),
    ("proc is a file", |root, _| write(&root.join("proc")), Some(libc::ENOTDIR)),
    (
        "the volume's target is a link to outside that is missing inside",
        |root, out| link(out, &root.join("vol")),
        Some(libc::ENOENT),
    ),
    ("the volume's target is a link upwards", |root, _| link(Path::new("../../../../etc"), &root.join("vol")), None),
    ("the volume's target is a file", |root, _| write(&root.join("vol")), Some(libc::ENOTDIR)),
    ("the volume's target is a loop", |root, _| link(Path::new("vol"), &root.join("vol")), Some(libc::ELOOP)),
    (
        "the volume's target is /proc by a link",
        |root, _| link(Path::new("/proc"), &root.join("vol")),
        Some(libc::ENOENT),
    ),
    (
        "the file's target is a link to outside",
        |root, out| link(&out.join("file"), &root.join("filevol")),
        Some(libc::ENOENT),
    ),
    (
        "the file's target is a directory",
        |root, _| fs::create_dir(root.join("filevol")).expect("mkdir"),
        Some(libc::EINVAL),
    ),
    ("the tmpfs' parent is a link to outside", |root, out| link(out, &root.join("deep")), Some(libc::ENOENT)),
];

fn link(target: &Path, path: &Path) {
    symlink(target, path).expect("symlink");
}

fn write(path: &Path) {
    fs::write(path, "").expect("write");
}

fn subject(dir: &Path, source: &Path, bind: bool) -> Rootfs {
    let base = if bind { Rootfs::bind(dir) } else { Rootfs::overlay(dir) };
    super::with_usr(base)
        .proc()
        .sys(Sys::Fresh)
        .dev()
        .console()
        .mask_defaults()
        .volume(Volume::bind(source, "/vol"))
        .volume(Volume::bind(source.join("source"), "/filevol"))
        .tmpfs("/deep/tmp", Tmpfs::new())
}

#[test]
fn outside_is_as_it_was() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let source = TempDir::new();
        write(&source.join("source"));
        for (name, make, expected) in CASES {
            for bind in [false, true] {
                let outside = TempDir::new();
                write(&outside.join("file"));
                // What runtimes were made to remove or to put there.
                for canary in ["ptmx", "console", "null", "fd"] {
                    write(&outside.join(canary));
                }
                let dir = TempDir::new();
                skeleton(&dir);
                make(&dir, &outside);
                let before = (census(&outside), census(&source));
                let outcome = try_inside(Who::Root, &subject(&dir, &source, bind), "stat -fc %T /proc; echo started");
                match (&outcome, expected) {
                    (Ok(said), None) => {
                        assert_eq!((said.status, said.stdout.as_str()), (0, "proc\nstarted\n"), "{name}")
                    }
                    (Err(error), Some(errno)) => {
                        assert_eq!(error.raw_os_error(), Some(errno), "{name}: {error:#}");
                        assert!(error.hint().is_some(), "{name}: {error:#}");
                    }
                    _ => panic!("{name}, bind={bind}: {outcome:?}"),
                }
                assert_eq!((census(&outside), census(&source)), before, "{name}, bind={bind}");
            }
        }
    });
}

#[test]
fn a_volume_that_a_link_leads_to_proc_is_covered_by_the_real_one() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (dir, source) = (TempDir::new(), TempDir::new());
        write(&source.join("source"));
        skeleton(&dir);
        fs::create_dir(dir.join("proc")).expect("mkdir");
        link(Path::new("/proc"), &dir.join("vol"));
        let said = try_inside(Who::Root, &subject(&dir, &source, false), "stat -fc %T /proc; test -d /proc/1")
            .expect("starts");
        assert_eq!((said.status, said.stdout.as_str()), (0, "proc\n"), "{said:?}");
    });
}
