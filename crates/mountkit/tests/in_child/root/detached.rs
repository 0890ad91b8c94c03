//! Trees that the parent made, attached in the child.
#![forbid(unsafe_code)]

use std::fs;

use faultkit::TempDir;
use mountkit::{Bind, MountAttr, Rootfs, Tmpfs};

use super::with_usr;
use crate::child::{Who, inside, run};
use crate::tree::skeleton;

#[test]
fn one_is_attached_in_the_child_of_another_user_namespace_too() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        fs::write(dir.join("file"), "content\n").expect("write");
        let before = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        for who in [Who::Root, Who::Ordinary] {
            let data = Bind::new(&*dir).attrs(MountAttr::RDONLY | MountAttr::NOEXEC).mount().expect("bind");
            let file = Bind::new(dir.join("file")).mount().expect("bind of a file");
            let rootfs = Rootfs::overlay_of_host().proc().mount(data, "/deep/data").mount(file, "/etc/one");
            let rootfs = if who == Who::Ordinary { rootfs.unprivileged() } else { rootfs };
            let said = inside(who, &rootfs, "cat /deep/data/file /etc/one; findmnt -rno VFS-OPTIONS /deep/data");
            assert!(said.starts_with("content\ncontent\nro,"), "{said}");
            assert!(said.contains("noexec"), "{said}");
        }
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"), before);
    });
}

#[test]
fn one_is_the_root() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        for who in [Who::Root, Who::Ordinary] {
            for read_only in [false, true] {
                for place in ["usr", "proc", "dev", "tmp", "etc"] {
                    fs::create_dir_all(dir.join(place)).expect("mkdir");
                }
                let root = Bind::new(&*dir).mount().expect("bind");
                let rootfs = with_usr(Rootfs::from(root)).proc().dev().tmpfs("/tmp", Tmpfs::new());
                let rootfs = if read_only { rootfs.read_only() } else { rootfs };
                let rootfs = if who == Who::Ordinary { rootfs.unprivileged() } else { rootfs };
                let said =
                    inside(who, &rootfs, "cat /etc/name; findmnt -rno VFS-OPTIONS /; touch /etc/new 2>/dev/null; pwd");
                let expected = if read_only { "skeleton\nro" } else { "skeleton\nrw" };
                assert!(said.starts_with(expected) && said.contains("nodev") && said.ends_with("/\n"), "{said}");
                // uid 12345 may not write to root's directory.
                assert_eq!(fs::exists(dir.join("etc/new")).expect("stat"), who == Who::Root && !read_only);
                let _ = fs::remove_file(dir.join("etc/new"));
            }
        }
    });
}

#[test]
fn a_second_start_with_the_same_tree_is_an_error_that_names_it() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        let data = Bind::new(&*dir).mount().expect("bind");
        let rootfs = Rootfs::overlay_of_host().mount(data, "/data");
        inside(Who::Root, &rootfs, "true");
        let error = run(Who::Root, rootfs.steps().expect("steps"), "true").expect_err("it is attached already");
        assert_eq!((error.operation(), error.raw_os_error()), ("move_mount", Some(libc::EINVAL)), "{error:#}");
        assert!(error.to_string().contains("\"data\""), "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("one start")), "{error:#}");
    });
}

#[test]
fn a_terminal_is_on_the_console() {
    faultkit::require!(root, program("script"));
    faultkit::isolated!(|| {
        let master = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/pts/ptmx")
            .or_else(|_| fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx"));
        let (_master, terminal, name) = crate::sys::terminal(master.expect("a pseudo terminal"));
        let number = fs::metadata(&name).map(|metadata| std::os::unix::fs::MetadataExt::rdev(&metadata));
        let rootfs = Rootfs::overlay_of_host().proc().dev().mask_defaults().console_of(terminal);
        let said =
            inside(Who::Root, &rootfs, "stat -c '%F %Hr %Lr' /dev/console; test -t 0 </dev/console && echo a terminal");
        let number = number.expect("stat");
        let expected = format!("character special file {} {}\na terminal\n", libc::major(number), libc::minor(number));
        assert_eq!(said, expected);
    });
}
