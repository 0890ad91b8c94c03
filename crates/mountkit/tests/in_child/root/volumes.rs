//! Volumes with everything that can be asked of them.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use faultkit::TempDir;
use mountkit::{Atime, MountAttr, Rootfs, Tmpfs, Volume};

use super::host;
use crate::child::{Who, inside, try_inside};

/// A source with a tmpfs mounted in it.
fn source() -> (TempDir, String) {
    let source = TempDir::new();
    let below = source.join("below");
    fs::create_dir(&below).expect("mkdir");
    let below = below.into_os_string().into_string().expect("UTF-8");
    host("mount", &["-t", "tmpfs", "-o", "mode=777", "below", &below]);
    (source, below)
}

#[test]
fn options_as_findmnt_sees_them() {
    faultkit::require!(root, program("mount"), program("findmnt"));
    faultkit::isolated!(|| {
        let (dir, below) = source();
        let options = "findmnt -rno VFS-OPTIONS /vol; findmnt -rno VFS-OPTIONS /vol/below || echo alone";
        let volume = || Volume::bind(&*dir, "/vol");
        for (volume, on_it, on_below) in [
            (volume(), "nodev", "rw,nodev"),
            (volume().devices(), "rw", "rw,relatime"),
            (volume().read_only(), "ro,nodev", "ro,nodev"),
            (volume().read_only_topmost(), "ro,nodev", "rw,nodev"),
            (volume().attrs(MountAttr::INERT), "nosuid,nodev,noexec", "rw,nosuid,nodev,noexec"),
            (volume().without_mounts_below(), "nodev", "alone"),
            (volume().atime(Atime::Never), "noatime", "rw,nodev,noatime"),
        ] {
            let said = inside(Who::Root, &Rootfs::overlay_of_host().proc().volume(volume.clone()), options);
            let lines: Vec<_> = said.lines().collect();
            assert!(lines[0].contains(on_it) && lines[1].starts_with(on_below), "{volume:?}: {said}");
        }
        // A user namespace may set them too.
        let rootfs = Rootfs::overlay_of_host().unprivileged().proc();
        let rootfs = rootfs.volume(volume().read_only().attrs(MountAttr::INERT));
        let said = inside(Who::Ordinary, &rootfs, options);
        assert_eq!(said.matches("ro,nosuid,nodev,noexec").count(), 2, "{said}");
        host("umount", &[&below]);
    });
}

/// A user namespace that maps 0 to 1000, held by a process that sleeps.
struct Namespace(std::process::Child);

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "sh", "-c", "echo up; read -r line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut said).expect("it is up");
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", child.id()), "0 1000 10\n").expect(map);
        }
        Self(child)
    }

    fn fd(&self) -> std::os::fd::OwnedFd {
        fs::File::open(format!("/proc/{}/ns/user", self.0.id())).expect("open").into()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn an_idmapped_volume_shows_other_owners_and_has_no_set_user_id() {
    // tmpfs, where temporary files may be, takes id maps from 6.3 on.
    faultkit::require!(root, kernel(6.3), program("unshare"), program("findmnt"));
    faultkit::isolated!(|| {
        let namespace = Namespace::new();
        let dir = TempDir::new();
        fs::write(dir.join("file"), "").expect("write");
        let script = "stat -c %u /vol /vol/file; findmnt -rno VFS-OPTIONS /vol";
        let rootfs = Rootfs::overlay_of_host().proc().volume(Volume::bind(&*dir, "/vol").idmap(namespace.fd()));
        let said = inside(Who::Root, &rootfs, &format!("{script}; chown 1005 /vol/file"));
        assert!(said.starts_with("1000\n1000\nrw,nosuid,nodev"), "{said}");
        assert!(said.contains("idmapped"), "{said}");
        assert_eq!(fs::metadata(dir.join("file")).expect("stat").uid(), 5, "1005 inside is 5 on the disk");
        // With the caller's privileges for a child that has none: its one id is 12345, which is not in the map.
        let rootfs = Rootfs::overlay_of_host().unprivileged().proc();
        let rootfs = rootfs.volume(Volume::bind(&*dir, "/vol").idmap(namespace.fd()));
        let said = inside(Who::Ordinary, &rootfs, "stat -c %u /vol; findmnt -rno VFS-OPTIONS /vol");
        assert!(said.starts_with("65534\nrw,nosuid,nodev"), "{said}");
        assert!(said.contains("idmapped"), "{said}");
    });
}

#[test]
fn a_file_system_that_takes_no_id_map_says_so() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let namespace = Namespace::new();
        let rootfs = Rootfs::overlay_of_host().volume(Volume::bind("/proc/sys", "/vol").idmap(namespace.fd()));
        let error = try_inside(Who::Root, &rootfs, "true").expect_err("proc takes none");
        assert_eq!((error.operation(), error.raw_os_error()), ("mount_setattr", Some(libc::EINVAL)), "{error:#}");
        assert!(error.to_string().contains("/proc/sys"), "{error:#}");
    });
}

#[test]
fn a_device_asked_for_is_that_device_and_works() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        host("mkdir", &["-p", "/dev/shm"]);
        for (path, number) in [("/dev/shm/cellkit-one", "5"), ("/dev/cellkit-two", "5")] {
            host("mknod", &["-m", "666", path, "c", "1", number]);
        }
        let rootfs = Rootfs::overlay_of_host().proc().dev().device("/dev/cellkit-two").shm_size(1 << 16);
        let script = "head -c 2 /dev/cellkit-two | od -An -tx1; stat -c %a /dev/cellkit-two; \
                      chmod 600 /dev/cellkit-two 2>&1; findmnt -bno SIZE /dev/shm";
        for who in [Who::Root, Who::Ordinary] {
            let rootfs = if who == Who::Ordinary { rootfs.clone().unprivileged() } else { rootfs.clone() };
            let said = inside(who, &rootfs, script);
            assert!(said.starts_with(" 00 00\n666\n") && said.ends_with("65536\n"), "{said}");
            assert!(said.contains("Read-only"), "{said}");
        }
        for path in ["/dev/shm/cellkit-one", "/dev/cellkit-two"] {
            host("rm", &[path]);
        }
    });
}

#[test]
fn nodes_that_are_made_work_too() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let rootfs = Rootfs::overlay_of_host().proc().dev().device_nodes(mountkit::DeviceNodes::Made);
        let rootfs = rootfs.tmpfs("/scratch", Tmpfs::new());
        let script = "stat -c '%n %F %t:%T %a' /dev/null /dev/zero /dev/tty; head -c 2 /dev/zero | od -An -tx1; \
                      findmnt -rno TARGET /dev/null || echo none";
        let said = inside(Who::Root, &rootfs, script);
        assert_eq!(
            said,
            "/dev/null character special file 1:3 666\n/dev/zero character special file 1:5 666\n\
             /dev/tty character special file 5:0 666\n 00 00\nnone\n"
        );
        assert_eq!(fs::metadata("/dev/null").expect("stat").mode() & 0o777, 0o666, "the host's is another");
    });
}
