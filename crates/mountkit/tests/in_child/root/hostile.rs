//! Roots that somebody hostile filled: nothing outside of them changes, and each starts as asked or fails by the place.
#![forbid(unsafe_code)]

mod cases;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use faultkit::TempDir;
use mountkit::{Rootfs, Sys, Tmpfs, Volume};

use super::host;
use crate::child::{Who, try_inside};
use crate::tree::{census, skeleton};
use cases::{Case, End};

/// What a root that came up says of itself.
const LOOK: &str = "stat -fc %T /proc /sys /deep/tmp; stat -c %t:%T /dev/null; cat /vol/source /filevol; pwd; \
                    test -e /dev/pts/ptmx && test ! -s /proc/interrupts && test -d /proc/1 && echo started";
const LOOKED: &str = "proc\nsysfs\ntmpfs\n1:3\nsource\nsource\n/\nstarted\n";

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

fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("mountinfo")
}

fn try_each(all: &[Case]) {
    let source = TempDir::new();
    fs::write(source.join("source"), "source\n").expect("write");
    for (name, make, expected) in all {
        for (who, bind) in [(Who::Root, false), (Who::Root, true), (Who::Ordinary, false), (Who::Ordinary, true)] {
            let outside = TempDir::new();
            // What runtimes were made to remove, to write or to put there.
            for canary in ["file", "ptmx", "console", "null", "fd", "passwd"] {
                fs::write(outside.join(canary), canary).expect("write");
            }
            let dir = TempDir::new();
            skeleton(&dir);
            make(&dir, &outside);
            let rootfs = subject(&dir, &source, bind);
            let rootfs = if who == Who::Ordinary {
                // Else it could make nothing in it. Owners are part of the census, and hard links lead outside.
                host("chown", &["-hR", "12345:12345", dir.to_str().expect("UTF-8")]);
                rootfs.unprivileged()
            } else {
                rootfs
            };
            let before = (census(&outside), census(&source), mountinfo());
            let outcome = try_inside(who, &rootfs, LOOK);
            let what = format!("{name}, {who:?}, bind={bind}");
            match (&outcome, expected) {
                (Ok(said), End::Starts) => {
                    assert_eq!((said.stdout.as_str(), said.status), (LOOKED, 0), "{what}: {}", said.stderr);
                }
                (Err(error), End::Fails(errno, place)) => {
                    assert_eq!(error.raw_os_error(), Some(*errno), "{what}: {error:#}");
                    assert!(error.to_string().contains(place), "{what}: {error:#}");
                    assert!(error.hint().is_some(), "{what}: {error:#}");
                }
                _ => panic!("{what}: {outcome:?}"),
            }
            assert!((census(&outside), census(&source), mountinfo()) == before, "{what}: outside is not as it was");
        }
    }
}

/// With those below, more than sixty trees, each four times.
#[test]
fn proc_sys_and_dev_must_be_real_directories_and_outside_is_as_it_was() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 240, || try_each(cases::KERNEL));
}

#[test]
fn what_is_in_dev_already_matters_to_nobody() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 240, || try_each(cases::IN_DEV));
}

#[test]
fn targets_of_mounts_are_looked_up_inside_and_outside_is_as_it_was() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 240, || try_each(cases::TARGETS));
}

#[test]
fn links_in_a_volume_lead_nowhere_else() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (outside, source, dir) = (TempDir::new(), TempDir::new(), TempDir::new());
        fs::write(outside.join("file"), "").expect("write");
        skeleton(&dir);
        for (name, target) in [("abs", outside.to_str().expect("UTF-8")), ("up", "../../../../.."), ("in", "/etc")] {
            symlink(target, source.join(name)).expect("symlink");
        }
        let before = (census(&outside), census(&source), mountinfo());
        let with = |target: &str| {
            super::with_usr(Rootfs::overlay(&*dir)).volume(Volume::bind(&*source, "/vol")).tmpfs(target, Tmpfs::new())
        };
        let error = try_inside(Who::Root, &with("/vol/abs/x"), "true").expect_err("it is not there in the root");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error:#}");
        let said = try_inside(Who::Root, &with("/vol/in/x"), "stat -fc %T /etc/x").expect("inside");
        assert_eq!(said.stdout, "tmpfs\n");
        let said = try_inside(Who::Root, &with("/vol/up/x"), "stat -fc %T /x").expect("inside");
        assert_eq!(said.stdout, "tmpfs\n");
        assert!((census(&outside), census(&source), mountinfo()) == before);
    });
}

#[test]
fn a_volume_that_a_link_leads_to_proc_is_covered_by_the_real_one() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (dir, source) = (TempDir::new(), TempDir::new());
        fs::write(source.join("source"), "source\n").expect("write");
        skeleton(&dir);
        fs::create_dir(dir.join("proc")).expect("mkdir");
        symlink("/proc", dir.join("vol")).expect("symlink");
        let said = try_inside(Who::Root, &subject(&dir, &source, false), "stat -fc %T /proc; test -d /proc/1")
            .expect("starts");
        assert_eq!((said.status, said.stdout.as_str()), (0, "proc\n"), "{said:?}");
    });
}
