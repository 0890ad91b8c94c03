//! `/dev` works.
#![forbid(unsafe_code)]

use mountkit::Rootfs;

use crate::child::{Who, inside};

const SCRIPT: &str = "set -e
cd /dev
stat -c '%n %F %t:%T %a' null zero full random urandom tty
for link in ptmx fd stdin stdout stderr; do echo $link $(readlink $link); done
echo lost >null; head -c 4 zero | od -An -tx1; test $(head -c 16 urandom | wc -c) = 16; test $(head -c 16 random | wc -c) = 16
dd if=zero of=full bs=1 count=1 2>&1 | grep -o 'No space'
: <>ptmx && ls pts
stat -c '%n %a' . shm mqueue pts/ptmx console; test ! -s console; : >console
: >shm/name; echo through the fd | cat fd/0";

const EXPECTED: &str = "null character special file 1:3 666
zero character special file 1:5 666
full character special file 1:7 666
random character special file 1:8 666
urandom character special file 1:9 666
tty character special file 5:0 666
ptmx pts/ptmx
fd /proc/self/fd
stdin /proc/self/fd/0
stdout /proc/self/fd/1
stderr /proc/self/fd/2
 00 00 00 00
No space
ptmx
. 755
shm 1777
mqueue 1777
pts/ptmx 666
console 600
through the fd
";

#[test]
fn of_a_privileged_child() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let rootfs = Rootfs::overlay_of_host().proc().dev().console();
        assert_eq!(inside(Who::Root, &rootfs, SCRIPT), EXPECTED);
        assert!(inside(Who::Root, &rootfs, "cat /proc/self/mountinfo").contains("gid=5,mode=620,ptmxmode=666"));
        let other = rootfs.tty_gid(7);
        assert!(inside(Who::Root, &other, "cat /proc/self/mountinfo").contains("gid=7,mode=620,ptmxmode=666"));
    });
}

#[test]
fn of_an_unprivileged_child() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let rootfs = Rootfs::overlay_of_host().unprivileged().proc().dev().console();
        assert_eq!(inside(Who::Ordinary, &rootfs, SCRIPT), EXPECTED);
        let error = crate::child::try_inside(Who::Ordinary, &rootfs.tty_gid(5), "true").expect_err("5 is not mapped");
        assert_eq!((error.operation(), error.raw_os_error()), ("fsconfig", Some(libc::EINVAL)), "{error:#}");
    });
}

#[test]
fn terminals_are_the_containers_own() {
    faultkit::require!(root, program("script"));
    faultkit::isolated!(|| {
        let rootfs = Rootfs::overlay_of_host().proc().dev();
        let said = inside(Who::Root, &rootfs, "script -qc 'tty; ls /dev/pts' /dev/null");
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["/dev/pts/0", "0", "ptmx"], "{said}");
    });
}

#[test]
fn a_device_of_the_host_that_is_another_is_refused() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        super::host("mount", &["--bind", "/dev/zero", "/dev/full"]);
        let rootfs = Rootfs::overlay_of_host().unprivileged().dev();
        let error = crate::child::try_inside(Who::Ordinary, &rootfs, "true").expect_err("not full");
        super::host("umount", &["/dev/full"]);
        assert_eq!((error.operation(), error.raw_os_error()), ("statx", Some(libc::ENODEV)), "{error:#}");
        assert!(error.to_string().contains("\"/dev/full\""), "{error}");
    });
}

#[test]
fn nodes_made_or_brought_open_no_device_and_the_hosts_keep_their_mode() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        crate::tree::skeleton(&dir);
        crate::root::host("mknod", &[dir.join("brought").to_str().expect("UTF-8"), "c", "1", "5"]);
        // All of them nodes of /dev/zero, which is harmless if a test ever fails.
        let script = "for dir in / /dev /dev/shm /tmp /vol; do mknod $dir/made c 1 5 2>&1; head -c 1 $dir/made 2>&1 | od -An -tx1; \
                      rm -f $dir/made; done; head -c 1 /brought 2>&1 | od -An -tx1; chmod 600 /dev/null 2>&1; chown 1 /dev/zero 2>&1; \
                      echo written >/dev/null && stat -c %a:%u /dev/null /dev/zero";
        let volume = faultkit::TempDir::new();
        for rootfs in [mountkit::Rootfs::overlay(&*dir), mountkit::Rootfs::bind(&*dir)] {
            let rootfs = crate::root::with_usr(rootfs).dev().tmpfs("/tmp", mountkit::Tmpfs::new());
            let rootfs = rootfs.volume(mountkit::Volume::bind(&*volume, "/vol"));
            let said = inside(Who::Root, &rootfs, script);
            assert!(!said.contains("00"), "a device was read: {said}");
            assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
            assert!(said.ends_with("666:0\n666:0\n"), "{said}");
        }
        // A device that is a volume of its own was asked for.
        let rootfs = crate::root::with_usr(mountkit::Rootfs::overlay(&*dir))
            .volume(mountkit::Volume::bind("/dev/zero", "/zero"));
        assert_eq!(inside(Who::Root, &rootfs, "head -c 1 /zero | od -An -tx1").trim(), "00");
    });
}
