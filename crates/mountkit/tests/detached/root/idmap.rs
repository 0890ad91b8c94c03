//! Idmapped mounts, with the owners that stat(1) sees as the judge.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use faultkit::TempDir;
use mountkit::{Bind, ErrorKind, Filesystem, Mount, MountAttr, Proc, RootFd, Tmpfs};

use super::{dir_with, line_of};

/// A user namespace with a map, held by a process that waits in it.
pub(crate) struct UserNamespace {
    child: Child,
    pub(crate) fd: fs::File,
}

impl UserNamespace {
    /// One that maps `count` ids from 0 inside to those from `outside`.
    pub(crate) fn new(outside: u32, count: u32) -> Self {
        Self::with_map(&format!("0 {outside} {count}\n"))
    }

    fn with_map(map: &str) -> Self {
        let mut unshare = Command::new("unshare");
        // It waits without becoming another program.
        unshare.args(["--user", "sh", "-c", "echo; read end"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = unshare.spawn().expect("unshare");
        // It is there when it says so.
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut byte).expect("read");
        let proc = Path::new("/proc").join(child.id().to_string());
        if !map.is_empty() {
            fs::write(proc.join("uid_map"), map).expect("uid_map");
            fs::write(proc.join("gid_map"), map).expect("gid_map");
        }
        let fd = fs::File::open(proc.join("ns/user")).expect("open");
        Self { child, fd }
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with an ext4 mounted on `disk`, which kernels can idmap, and an empty folder `to`.
struct Disk {
    dir: TempDir,
    mount: Option<Mount>,
    device: String,
}

impl Disk {
    fn new() -> Self {
        let dir = dir_with(&["disk", "to"]);
        let image = dir.join("image");
        fs::File::create(&image).expect("create").set_len(16 << 20).expect("truncate");
        super::host("mkfs.ext4", &["-q", image.to_str().expect("UTF-8")]);
        let device = super::host("losetup", &["--find", "--show", image.to_str().expect("UTF-8")]).trim().to_owned();
        let mount = Filesystem::new("ext4").source(&device).mount().expect("mount");
        let mount = mount.attach(&RootFd::open(&*dir).expect("root"), "disk").expect("attach");
        Self { dir, mount: Some(mount), device }
    }

    fn root(&self) -> RootFd {
        RootFd::open(&*self.dir).expect("root")
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(mount) = self.mount.take() {
            let _ = mount.detach();
        }
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
        let _ = Command::new("udevadm").arg("settle").status();
    }
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = Command::new("stat").args(["-c", "%u %g"]).arg(path).output().expect("stat");
    let text = String::from_utf8(stat.stdout).expect("UTF-8");
    let ids = text.trim().split_once(' ').unwrap_or_else(|| panic!("{path:?}: {text}"));
    (ids.0.parse().expect("a uid"), ids.1.parse().expect("a gid"))
}

/// A program run as `uid`, and what it said.
fn as_uid(uid: u32, program: &Path, args: &[&str]) -> (bool, String) {
    let id = uid.to_string();
    let ids = ["--reuid", &id, "--regid", &id, "--clear-groups"];
    // setpriv(1) itself keeps its capabilities until it executes something.
    let shell = ["sh", "-c", "exec \"$0\" \"$@\""];
    let output = Command::new("setpriv").args(ids).args(shell).arg(program).args(args).output().expect("setpriv");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn owners_are_others_in_both_directions() {
    faultkit::require!(root, program("mkfs.ext4"), program("losetup"), program("unshare"), program("setpriv"));
    faultkit::isolated!(|| {
        let disk = Disk::new();
        for (name, uid) in [("of-root", 0), ("of-1000", 1000), ("of-nobody-there", 70_000)] {
            fs::write(disk.path("disk").join(name), "").expect("write");
            chown(disk.path("disk").join(name), Some(uid), Some(uid)).expect("chown");
        }
        let userns = UserNamespace::new(100_000, 65_536);
        let bind = Bind::new(disk.path("disk")).idmap(&userns.fd);
        let mount = bind.mount().expect("idmap");
        drop(userns); // the map is the mount's from here on
        let mount = mount.attach(&disk.root(), "to").expect("attach");
        let to = disk.path("to");
        assert_eq!(owner(&to.join("of-root")), (100_000, 100_000));
        assert_eq!(owner(&to.join("of-1000")), (101_000, 101_000));
        assert_eq!(owner(&to.join("of-nobody-there")), (65_534, 65_534));
        // What is made through it.
        fs::set_permissions(disk.path("disk"), fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(as_uid(101_000, Path::new("/usr/bin/touch"), &[to.join("made").to_str().expect("UTF-8")]).0);
        assert_eq!((owner(&disk.path("disk/made")), owner(&to.join("made"))), ((1000, 1000), (101_000, 101_000)));
        // Who is not in the map makes nothing: neither root nor anybody.
        assert_eq!(fs::write(to.join("by-root"), "").expect_err("0 is not in it").raw_os_error(), Some(75));
        assert!(line_of(&to).is_some_and(|line| line.contains(" rw,nosuid,relatime") && line.contains("idmapped")));
        mount.unmount().expect("umount");
    });
}

#[test]
fn a_set_user_id_program_made_by_a_container_gains_nobody_anything() {
    faultkit::require!(root, program("mkfs.ext4"), program("losetup"), program("unshare"), program("setpriv"));
    faultkit::isolated!(|| {
        let disk = Disk::new();
        let userns = UserNamespace::new(100_000, 65_536);
        let mount = Bind::new(disk.path("disk")).idmap(&userns.fd).mount().expect("idmap");
        let mount = mount.attach(&disk.root(), "to").expect("attach");
        // Container root, uid 100000 outside, makes a program that is root's on the disk.
        let program = disk.path("to/id");
        let (source, target) = ("/usr/bin/id", program.to_str().expect("UTF-8"));
        assert!(as_uid(100_000, Path::new("/bin/cp"), &[source, target]).0);
        assert!(as_uid(100_000, Path::new("/bin/chmod"), &["4755", target]).0);
        let on_disk = fs::metadata(disk.path("disk/id")).expect("stat");
        assert_eq!((on_disk.uid(), on_disk.mode() & 0o7777), (0, 0o4755));
        // Another user, through the mount: nosuid.
        assert_eq!(as_uid(1000, &program, &["-u"]), (true, "1000".into()));
        // Through the disk it would be root's power: so whoever keeps it closes the way there.
        assert_eq!(as_uid(1000, &disk.path("disk/id"), &["-u"]), (true, "0".into()));
        fs::set_permissions(&*disk.dir, fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(!as_uid(1000, &disk.path("disk/id"), &["-u"]).0);
        fs::set_permissions(&*disk.dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        mount.unmount().expect("umount");

        // With the word for it, the program has the power of the id that the map shows.
        let bind = Bind::new(disk.path("disk")).idmap(&userns.fd).set_user_id();
        let mount = bind.mount().expect("idmap").attach(&disk.root(), "to").expect("attach");
        assert_eq!(as_uid(1000, &program, &["-u"]), (true, "100000".into()));
        mount.unmount().expect("umount");
        let error = Bind::new(disk.path("disk")).idmap(&userns.fd).clear(MountAttr::NOSUID).mount();
        let error = error.expect_err("not in passing");
        assert!(error.to_string().contains("set_user_id()"), "{error}");
    });
}

#[test]
fn all_of_a_tree_or_nothing_of_it() {
    faultkit::require!(root, program("mkfs.ext4"), program("losetup"), program("unshare"));
    faultkit::isolated!(|| {
        let disk = Disk::new();
        let userns = UserNamespace::new(100_000, 65_536);
        fs::create_dir(disk.path("disk/below")).expect("mkdir");
        let second = Disk::new();
        let below = Bind::new(second.path("disk")).mount().expect("clone");
        let below = below.attach(&disk.root(), "disk/below").expect("attach");
        let bind = Bind::new(disk.path("disk")).recursive().idmap(&userns.fd);
        let mount = bind.mount().expect("idmap").attach(&disk.root(), "to").expect("attach");
        for place in ["to", "to/below"] {
            assert_eq!(owner(&disk.path(place)), (100_000, 100_000));
            assert!(line_of(&disk.path(place)).is_some_and(|line| line.contains("nosuid")));
        }
        mount.detach().expect("detach");
        below.unmount().expect("umount");
        // procfs has no idmapped mounts: the whole tree is refused, and the hint says so.
        let proc = Proc::new().mount().expect("mount").attach(&disk.root(), "disk/below").expect("attach");
        let error = bind.mount().expect_err("procfs below");
        assert_eq!((error.operation(), error.kind()), ("mount_setattr", ErrorKind::Invalid), "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("mounted below it, cannot be idmapped")));
        proc.unmount().expect("umount");
    });
}

#[test]
fn each_refusal_says_what_is_in_the_way() {
    faultkit::require!(root, program("mkfs.ext4"), program("losetup"), program("unshare"));
    faultkit::isolated!(|| {
        let disk = Disk::new();
        let userns = UserNamespace::new(100_000, 65_536);
        // No user namespace, or the one of the machine.
        let plain = fs::File::open("/dev/null").expect("open");
        let own = fs::File::open("/proc/self/ns/user").expect("open");
        for (fd, why) in [(&plain, "this is none"), (&own, "first user namespace")] {
            let error = Bind::new(disk.path("disk")).idmap(fd).mount().expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
        // A mount that has been seen.
        let mount = Bind::new(disk.path("disk")).mount().expect("clone").attach(&disk.root(), "to").expect("attach");
        let again = mountkit::DetachedMount::from(std::os::fd::OwnedFd::from(mount));
        let error = again.idmap(&userns.fd).expect_err("attached");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.hint().is_some_and(|hint| hint.contains("attached before")), "{error:#}");
        drop(again);
        Mount::open(&disk.root(), "to").expect("open").unmount().expect("umount");
        // One that has a map.
        let mapped = Bind::new(disk.path("disk")).idmap(&userns.fd).mount().expect("idmap");
        let error = mapped.idmap(&userns.fd).expect_err("it has one");
        assert_eq!((error.operation(), error.kind()), ("mount_setattr", ErrorKind::Permission));
        assert!(error.hint().is_some_and(|hint| hint.contains("has one already")), "{error:#}");
        // A file system that cannot.
        let proc = Proc::new().mount().expect("mount");
        let error = proc.idmap(&userns.fd).expect_err("procfs");
        assert!(error.hint().is_some_and(|hint| hint.contains("cannot be idmapped")), "{error:#}");
        // A namespace without maps: refused, or everybody is nobody.
        let unmapped = UserNamespace::with_map("");
        match Bind::new(disk.path("disk")).idmap(&unmapped.fd).mount() {
            Ok(mount) => {
                let mount = mount.attach(&disk.root(), "to").expect("attach");
                assert_eq!(owner(&disk.path("to")), (65_534, 65_534));
                mount.unmount().expect("umount");
            }
            Err(error) => assert!(error.hint().is_some_and(|hint| hint.contains("no maps yet")), "{error:#}"),
        }
    });
}

#[test]
fn another_map_for_a_mount_that_has_one() {
    faultkit::require!(root, program("mkfs.ext4"), program("losetup"), program("unshare"));
    faultkit::isolated!(|| {
        let disk = Disk::new();
        let (first, second) = (UserNamespace::new(100_000, 65_536), UserNamespace::new(200_000, 65_536));
        let mount = Bind::new(disk.path("disk")).idmap(&first.fd).mount().expect("idmap");
        let mount = mount.attach(&disk.root(), "to").expect("attach");
        assert_eq!(owner(&disk.path("to")), (100_000, 100_000));
        match Bind::new(disk.path("to")).idmap(&second.fd).mount() {
            Ok(other) => {
                let other = other.attach(&disk.root(), "to").expect("attach");
                assert_eq!(owner(&disk.path("to")), (200_000, 200_000), "not one after the other");
                other.unmount().expect("umount");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Permission, "{error:#}");
                assert!(error.hint().is_some_and(|hint| hint.contains("6.15")), "{error:#}");
            }
        }
        mount.unmount().expect("umount");
    });
}

#[test]
fn another_map_is_there_where_it_is_promised() {
    faultkit::require!(root, kernel(6.15), program("unshare"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["to"]);
        let root = RootFd::open(&*dir).expect("root");
        let (first, second) = (UserNamespace::new(100_000, 1), UserNamespace::new(200_000, 1));
        let tmpfs = Tmpfs::new().mount().expect("mount");
        tmpfs.idmap(&first.fd).expect("tmpfs can be idmapped since 6.3");
        let tmpfs = tmpfs.attach(&root, "to").expect("attach");
        let other = Bind::new(dir.join("to")).idmap(&second.fd).mount().expect("Linux 6.15 has it");
        let other = other.attach(&root, "to").expect("attach");
        assert_eq!(owner(&dir.join("to")), (200_000, 200_000));
        other.unmount().expect("umount");
        tmpfs.unmount().expect("umount");
    });
}
