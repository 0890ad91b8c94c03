//! A tmpfs that begins with what is there.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use faultkit::TempDir;
use mountkit::{Rootfs, Tmpfs};

use super::{host, with_usr};
use crate::child::{Who, inside, try_inside};
use crate::tree::{census, skeleton};

/// All that a directory can hold.
fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("a/b/c")).expect("mkdir");
    fs::write(dir.join("a/b/c/deep"), "deep\n").expect("write");
    fs::write(dir.join("file"), "x".repeat(300_000)).expect("write");
    fs::write(dir.join("empty"), "").expect("write");
    symlink("/outside/../a", dir.join("link")).expect("symlink");
    symlink("file", dir.join("a/short")).expect("symlink");
    host("mkfifo", &["-m", "640", dir.join("fifo").to_str().expect("UTF-8")]);
    host("mknod", &[dir.join("zero").to_str().expect("UTF-8"), "c", "1", "5"]);
    fs::hard_link(dir.join("file"), dir.join("second name")).expect("link");
    for number in 0..300 {
        fs::write(dir.join(format!("a/{number}-{}", "n".repeat(number % 200))), number.to_string()).expect("write");
    }
    let sparse = fs::File::create(dir.join("sparse")).expect("create");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 1 << 20).expect("write");
    crate::sys::set_attribute(&dir.join("a"), c"trusted.kept", b"value");
    fs::set_permissions(dir.join("a/b"), fs::Permissions::from_mode(0o2751)).expect("chmod");
    fs::set_permissions(dir.join("empty"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    chown(dir.join("empty"), Some(11), Some(22)).expect("chown");
    fs::set_permissions(dir.join("empty"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    std::os::unix::fs::lchown(dir.join("link"), Some(33), Some(44)).expect("lchown");
    host("touch", &["-h", "-d", "2001-02-03 04:05:06.789", dir.join("link").to_str().expect("UTF-8")]);
    host("touch", &["-d", "2001-02-03 04:05:06.789", dir.join("file").to_str().expect("UTF-8")]);
    host("touch", &["-d", "2002-02-03 04:05:06.789", dir.join("a/b").to_str().expect("UTF-8")]);
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).expect("chmod");
}

/// Names, kinds, modes, owners, sizes, times and links, as find(1) and sha1sum(1) see them. What is said has to fit into
/// a pipe.
const LOOK: &str = "cd /data && find . -maxdepth 1 ! -name zero -printf '%p %y %m %U:%G %T@ %l\\n' | sort; find a | wc -l; \
                    find a -printf '%p %y %m %U:%G %T@ %l\\n' | sort | sha1sum; \
                    find . -type f | sort | xargs -d '\\n' sha1sum | sha1sum";

#[test]
fn everything_is_there_and_the_original_is_left_alone() {
    faultkit::require!(root, program("find"), program("getfattr"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        fs::create_dir(dir.join("data")).expect("mkdir");
        fill(&dir.join("data"));
        let before = census(&dir.join("data"));
        let base = || with_usr(Rootfs::overlay(&*dir)).proc();
        let original = inside(Who::Root, &base(), LOOK);
        assert!(original.contains("\n305\n") && original.contains("./fifo p 640 0:0"), "{original}");
        let copy = || base().read_only().tmpfs_copy_up("/data", Tmpfs::new().size(8 << 20));
        assert_eq!(inside(Who::Root, &copy(), LOOK), original);
        // The device is left out, a hole stays one, attributes are kept, and what is written stays in the tmpfs.
        let script = "cd /data; stat -fc %T .; ls zero 2>/dev/null; stat -c '%s %b' sparse; getfattr -n trusted.kept --only-values a; \
                      echo; echo changed >file; rm -r a; touch /etc/x 2>/dev/null || echo the rest is read-only";
        let said = inside(Who::Root, &copy(), script);
        let lines: Vec<_> = said.lines().collect();
        let [kind, sparse, value, rest] = lines[..] else { panic!("{said}") };
        assert_eq!((kind, value, rest), ("tmpfs", "value", "the rest is read-only"));
        let (size, blocks) = sparse.split_once(' ').expect("two numbers");
        assert_eq!(size.parse(), Ok((1 << 20) + 3));
        assert!(blocks.parse::<u64>().expect("a number") < 200, "{sparse}");
        assert_eq!(census(&dir.join("data")), before);
    });
}

/// setfattr(1) of an attribute of the user's own; whether the file system takes it.
fn set_user_attribute(path: &Path) -> bool {
    let set = std::process::Command::new("setfattr").args(["-n", "user.kept", "-v", "mine"]).arg(path).output();
    set.expect("setfattr").status.success()
}

#[test]
fn attributes_of_users_are_there_where_tmpfs_takes_them() {
    faultkit::require!(root, program("setfattr"), program("getfattr"));
    faultkit::isolated!(|| {
        let (dir, tmpfs) = (TempDir::new(), TempDir::new());
        skeleton(&dir);
        fs::create_dir_all(dir.join("data/sub")).expect("mkdir");
        fs::write(dir.join("data/file"), "content\n").expect("write");
        let set = ["data", "data/sub", "data/file"].iter().all(|path| set_user_attribute(&dir.join(path)));
        // Before Linux 6.6 it does not.
        host("mount", &["-t", "tmpfs", "none", tmpfs.to_str().expect("UTF-8")]);
        fs::write(tmpfs.join("file"), "").expect("write");
        let taken = set_user_attribute(&tmpfs.join("file"));
        host("umount", &[tmpfs.to_str().expect("UTF-8")]);
        let rootfs = with_usr(Rootfs::overlay(&*dir)).tmpfs_copy_up("/data", Tmpfs::new());
        let script =
            "cd /data; cat file; getfattr --absolute-names -d . sub file | grep -c '^user.kept=\"mine\"$' || true";
        let expected = if set && taken { "content\n3\n" } else { "content\n0\n" };
        assert_eq!(inside(Who::Root, &rootfs, script), expected, "set: {set}, taken: {taken}");
    });
}

#[test]
fn in_a_user_namespace_and_where_nothing_is() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        fs::create_dir_all(dir.join("data/sub")).expect("mkdir");
        fs::write(dir.join("data/sub/file"), "content\n").expect("write");
        host("chown", &["-R", "12345:12345", dir.to_str().expect("UTF-8")]);
        let rootfs = with_usr(Rootfs::overlay(&*dir)).unprivileged();
        let rootfs = rootfs.tmpfs_copy_up("/data", Tmpfs::new()).tmpfs_copy_up("/new", Tmpfs::new());
        let script = "cat /data/sub/file; stat -c '%u %a' /data/sub; stat -fc %T /data /new; : >/new/x";
        assert_eq!(inside(Who::Ordinary, &rootfs, script), "content\n0 755\ntmpfs\ntmpfs\n");
    });
}

#[test]
fn what_does_not_fit_is_an_error_with_the_place() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        // Disks take no attributes as long as these.
        host("mount", &["-t", "tmpfs", "none", dir.to_str().expect("UTF-8")]);
        skeleton(&dir);
        fs::create_dir(dir.join("data")).expect("mkdir");
        fs::write(dir.join("data/file"), "x".repeat(1 << 20)).expect("write");
        let rootfs = with_usr(Rootfs::overlay(&*dir));
        let error = try_inside(Who::Root, &rootfs.clone().tmpfs_copy_up("/data", Tmpfs::new().size(65536)), "true");
        let error = error.expect_err("too small");
        assert_eq!((error.operation(), error.raw_os_error()), ("copy_up", Some(libc::ENOSPC)), "{error:#}");
        assert!(error.to_string().contains("\"data\" under") && error.hint().is_some(), "{error:#}");
        crate::sys::set_attribute(&dir.join("data/file"), c"trusted.long", &[b'x'; 5000]);
        let whole = rootfs.clone().tmpfs_copy_up("/data", Tmpfs::new());
        let error = try_inside(Who::Root, &whole, "true").expect_err("an attribute too long");
        assert_eq!((error.operation(), error.raw_os_error()), ("copy_up", Some(libc::ERANGE)), "{error:#}");
        crate::sys::set_attribute(&dir.join("data/file"), c"trusted.long", &[b'x'; 4000]);
        try_inside(Who::Root, &whole, "true").expect("as long as it may be");
        let deep: String = std::iter::repeat_n("d/", 70).collect();
        fs::create_dir_all(dir.join("data").join(deep)).expect("mkdir");
        let error = try_inside(Who::Root, &whole, "true").expect_err("too deep");
        assert_eq!((error.operation(), error.raw_os_error()), ("copy_up", Some(libc::ELOOP)), "{error:#}");
        assert_eq!(fs::metadata(dir.join("data/file")).expect("stat").size(), 1 << 20);
        host("umount", &[dir.to_str().expect("UTF-8")]);
    });
}
