//! A step that fails says what it was about, and leaves nothing.
#![forbid(unsafe_code)]

use faultkit::TempDir;
use mountkit::{ErrorKind, Rootfs, Tmpfs, Volume};

use super::{host, with_usr};
use crate::child::{Who, run, try_inside};
use crate::tree::skeleton;

#[test]
fn what_went_away_after_the_plan_was_made() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        let lower = dir.join("etc");
        let steps = with_usr(Rootfs::overlay(&lower)).steps().expect("steps");
        let volume = Rootfs::overlay_of_host().volume(Volume::bind(&lower, "/vol")).steps().expect("steps");
        std::fs::remove_dir_all(&lower).expect("rmdir");
        let error = run(Who::Root, steps, "true").expect_err("no lower directory");
        assert_eq!((error.operation(), error.kind()), ("fsconfig", ErrorKind::NotFound), "{error:#}");
        assert!(error.to_string().contains("etc\""), "{error}");
        let error = run(Who::Root, volume, "true").expect_err("no source");
        assert_eq!((error.operation(), error.kind()), ("open_tree", ErrorKind::NotFound), "{error:#}");
    });
}

#[test]
fn a_scratch_that_is_full_and_stacks_that_are_too_deep() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let said = try_inside(
            Who::Root,
            &Rootfs::overlay_of_host().tmpfs("/small", Tmpfs::new().size(4096)),
            "yes | dd of=/small/file bs=512 count=128 iflag=fullblock 2>/log; stat -c %s /small/file",
        );
        assert_eq!(said.expect("starts").stdout, "4096\n");
        // An overlay on an overlay on an overlay.
        let dir = TempDir::new();
        let path = |name: &str| {
            let path = dir.join(name);
            std::fs::create_dir(&path).expect("mkdir");
            path.into_os_string().into_string().expect("UTF-8")
        };
        host("mount", &["-t", "tmpfs", "layers", dir.to_str().expect("UTF-8")]);
        let (a, b, one, two) = (path("a"), path("b"), path("one"), path("two"));
        host("mount", &["-t", "overlay", "one", "-o", &format!("lowerdir={a}:{b}"), &one]);
        host("mount", &["-t", "overlay", "two", "-o", &format!("lowerdir={one}:{b}"), &two]);
        let error = try_inside(Who::Root, &with_usr(Rootfs::overlay(&two)), "true").expect_err("too deep");
        assert_eq!((error.operation(), error.raw_os_error()), ("fsconfig", Some(libc::EINVAL)), "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("two deep")), "{error:#}");
        for mount in [&two, &one, dir.to_str().expect("UTF-8")] {
            host("umount", &[mount]);
        }
    });
}

#[test]
fn proc_in_a_container_whose_own_is_covered() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        // As in a container: a part of every /proc the child can see is covered. Ours lies on the host's own.
        host("mount", &["--move", "/proc", "/mnt"]);
        for covered in ["/proc/sys", "/mnt/sys"] {
            host("mount", &["-t", "tmpfs", "mask", covered]);
        }
        let outcome = try_inside(Who::Ordinary, &Rootfs::overlay_of_host().unprivileged().proc(), "true");
        for covered in ["/proc/sys", "/mnt/sys"] {
            host("umount", &[covered]);
        }
        host("mount", &["--move", "/mnt", "/proc"]);
        let error = outcome.expect_err("the kernel would have to show what is covered");
        assert_eq!((error.operation(), error.raw_os_error()), ("fsmount", Some(libc::EPERM)), "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("covered")), "{error:#}");
    });
}
