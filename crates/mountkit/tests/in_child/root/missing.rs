//! What a start makes in a writable root directory, known before and removed after.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use faultkit::TempDir;
use mountkit::{MissingTargets, Rootfs, Tmpfs, Volume};

use super::{host, with_usr};
use crate::child::{Who, inside, try_inside};
use crate::tree::{census, skeleton};

/// A root with a volume of each kind, deep places, and links on the way to one.
fn rootfs(dir: &Path) -> Rootfs {
    with_usr(Rootfs::bind(dir))
        .proc()
        .dev()
        .volume(Volume::bind("/etc/passwd", "/srv/made/users"))
        .volume(Volume::bind("/etc", "/link/a/b"))
        .tmpfs("/tmp/x", Tmpfs::new())
        .tmpfs("/tmp/x/in/the/tmpfs", Tmpfs::new())
        .volume(Volume::bind("/etc", "/dev/below"))
}

fn tree() -> TempDir {
    let dir = TempDir::new();
    skeleton(&dir);
    for sub in ["srv/web", "tmp"] {
        fs::create_dir_all(dir.join(sub)).expect("mkdir");
    }
    symlink("/srv/web", dir.join("link")).expect("symlink");
    dir
}

const MISSING: [&str; 8] = ["dev", "link/a", "link/a/b", "proc", "srv/made", "srv/made/users", "tmp/x", "usr"];

#[test]
fn what_was_made_is_removed_and_nothing_else() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = tree();
        let rootfs = rootfs(&dir);
        let before = census(&dir);
        let missing = rootfs.missing_targets().expect("missing");
        assert_eq!(census(&dir), before, "it looks only");
        let paths: Vec<&str> = missing.paths().map(|path| path.to_str().expect("UTF-8")).collect();
        assert_eq!(paths, MISSING);
        assert_eq!(missing.root(), &*dir);
        assert!(missing.to_string().starts_with(&format!("\"dev\" in {:?}\n", &*dir)), "{missing}");

        inside(Who::Root, &rootfs, "true");
        let after: Vec<String> = census(&dir).into_iter().filter(|line| !before.contains(line)).collect();
        assert_eq!(after.len(), 8, "all of it was made, and nothing else: {after:?}");
        assert!(rootfs.missing_targets().expect("missing").is_empty());
        // As written down and read again.
        let again = MissingTargets::new(missing.root(), missing.paths()).expect("as written down");
        assert_eq!(again, missing);
        again.remove().expect("remove");
        assert_eq!(census(&dir), before);
        missing.remove().expect("what is gone is no error");
    });
}

#[test]
fn a_start_that_failed_on_the_way() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = tree();
        let before = census(&dir);
        let rootfs = rootfs(&dir).volume(Volume::bind("/etc", "/etc/name/below"));
        let missing = rootfs.missing_targets().expect("missing");
        let error = try_inside(Who::Root, &rootfs, "true").expect_err("a file is in the way");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{error:#}");
        assert_ne!(census(&dir), before, "some of it was made");
        missing.remove().expect("remove");
        assert_eq!(census(&dir), before);
    });
}

#[test]
fn what_is_somebodys_by_now_stays() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (dir, outside) = (tree(), TempDir::new());
        let rootfs = rootfs(&dir);
        let missing = rootfs.missing_targets().expect("missing");
        // In the place of what was missing: content, another kind, a link out and one inside to an empty directory, a mount.
        for made in ["dev", "proc", "tmp/x", "innocent/users", "srv/web/a/b"] {
            fs::create_dir_all(dir.join(made)).expect("mkdir");
        }
        fs::create_dir_all(outside.join("users")).expect("mkdir");
        fs::write(dir.join("dev/null"), "").expect("write");
        fs::write(dir.join("usr"), "content").expect("write");
        symlink("../innocent", dir.join("srv/made")).expect("symlink");
        host("mount", &["-t", "tmpfs", "none", dir.join("proc").to_str().expect("UTF-8")]);
        host("mount", &["-t", "tmpfs", "none", dir.join("srv/web/a").to_str().expect("UTF-8")]);
        fs::create_dir(dir.join("srv/web/a/b")).expect("mkdir");
        let before = census(&dir);
        missing.clone().remove().expect("none is an error");
        let gone: Vec<String> = {
            let after = census(&dir);
            before.into_iter().filter(|line| !after.contains(line)).collect()
        };
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert!(gone[0].contains("/tmp/x\""), "{gone:?}");

        fs::remove_file(dir.join("srv/made")).expect("unlink");
        symlink(&*outside, dir.join("srv/made")).expect("symlink");
        missing.remove().expect("remove");
        assert!(outside.join("users").is_dir(), "no link leads out");
        for mounted in ["proc", "srv/web/a"] {
            host("umount", &[dir.join(mounted).to_str().expect("UTF-8")]);
        }
    });
}

#[test]
fn errors_are_told_and_the_rest_is_removed() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = tree();
        let rootfs = rootfs(&dir);
        let missing = rootfs.missing_targets().expect("missing");
        inside(Who::Root, &rootfs, "true");
        let web = dir.join("srv/web");
        let web = web.to_str().expect("UTF-8");
        host("mount", &["--bind", web, web]);
        host("mount", &["-o", "remount,bind,ro", web]);
        let error = missing.clone().remove().expect_err("a read-only mount");
        assert_eq!((error.operation(), error.raw_os_error()), ("unlinkat", Some(libc::EROFS)));
        assert_eq!(rootfs.missing_targets().expect("missing").paths().len(), 6, "the others are gone");
        host("umount", &[web]);
        missing.remove().expect("remove");
    });
}

#[test]
fn a_root_that_nothing_is_made_in() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = tree();
        for rootfs in [Rootfs::overlay(&*dir).proc(), Rootfs::overlay_of_host().proc(), Rootfs::bind(&*dir).read_only()]
        {
            assert!(rootfs.missing_targets().expect("missing").is_empty());
        }
        for path in ["", "/", "..", "a/../b"] {
            assert!(MissingTargets::new(&*dir, [path]).is_err(), "{path:?}");
        }
        let gone = MissingTargets::new(dir.join("gone"), ["a"]).expect("a list");
        gone.remove().expect("a root that is gone");
    });
}
