#![forbid(unsafe_code)]

mod attach;
mod bind;
mod faults;
mod handover;
mod idmap;
mod mount;
mod propagation;

use std::fs;
use std::path::Path;
use std::process::Command;

use faultkit::TempDir;
use mountkit::{Atime, Bind, MountAttr, MountChange, Propagation, RootFd, Tmpfs};

/// The line of the calling thread's mountinfo for what is mounted last on `target`.
pub(crate) fn line_of(target: &Path) -> Option<String> {
    table()
        .lines()
        .rfind(|line| line.split(' ').nth(4).is_some_and(|field| Path::new(field) == target))
        .map(String::from)
}

/// The calling thread's mountinfo.
pub(crate) fn table() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo")
}

/// Another program, which must succeed.
#[track_caller]
pub(crate) fn host(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A folder with empty folders of these names in it.
pub(crate) fn dir_with(names: &[&str]) -> TempDir {
    let dir = TempDir::new();
    for name in names {
        fs::create_dir(dir.join(name)).expect("mkdir");
    }
    dir
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn is_seen_when_attached_and_with_its_attributes() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["from", "to"]);
        let mount = Bind::new(dir.join("from")).attrs(MountAttr::RDONLY | MountAttr::NOSUID);
        let mount = mount.atime(Atime::Never).mount().expect("clone");
        assert_eq!(line_of(&dir.join("to")), None);
        mount.attach(&RootFd::open(&*dir).expect("root"), "to").expect("attach");
        let line = line_of(&dir.join("to")).expect("it is mounted");
        let options = line.split(' ').nth(5).expect("options");
        assert!(options.starts_with("ro,nosuid,noatime"), "{line}");
        fs::write(dir.join("to/file"), "").expect_err("read-only");
        host("umount", &[text(&dir.join("to"))]);
    });
}

#[test]
fn dropped_is_gone_and_gives_up_what_it_held() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["disk"]);
        let everywhere = || {
            let mut tables = Vec::new();
            for entry in fs::read_dir("/proc").expect("proc").flatten() {
                tables.extend(fs::read(entry.path().join("mountinfo")));
            }
            tables
        };
        let before = everywhere();
        // A file system that holds a file of another one, so that it can be seen whether it has been let go of.
        let image = dir.join("image");
        fs::File::create(&image).expect("create").set_len(8 << 20).expect("truncate");
        host("mount", &["-t", "tmpfs", "held", text(&dir.join("disk"))]);
        fs::write(dir.join("disk/file"), "").expect("write");
        let mount = Bind::new(dir.join("disk")).mount().expect("clone");
        host("umount", &[text(&dir.join("disk"))]);
        // It is in no table, and is held all the same.
        assert_eq!(everywhere(), before);
        let held = mount.root().expect("root").open_file("file").expect("it is still there");
        drop(mount);
        drop(held);
        assert_eq!(everywhere(), before);
    });
}

#[test]
fn the_file_system_below_goes_with_the_last_holder() {
    faultkit::require!(root, program("mkfs.ext4"), program("losetup"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        let image = dir.join("image");
        fs::File::create(&image).expect("create").set_len(8 << 20).expect("truncate");
        host("mkfs.ext4", &["-q", text(&image)]);
        let device = host("losetup", &["--find", "--show", text(&image)]).trim().to_owned();
        let mount = mountkit::Filesystem::new("ext4").source(&device).mount().expect("mount");
        // With autoclear the device lets go of the file when nobody has it open, and not before.
        host("losetup", &["--detach", &device]);
        let backing = Path::new("/sys/block").join(device.trim_start_matches("/dev/")).join("loop/backing_file");
        assert!(fs::read_to_string(&backing).is_ok(), "the mount holds the device");
        drop(mount);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while fs::read_to_string(&backing).is_ok() {
            assert!(std::time::Instant::now() < deadline, "{device} is still held");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
}

#[test]
fn is_filled_before_anybody_sees_it() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["etc"]);
        let etc = Tmpfs::new().mode(0o755).mount().expect("mount");
        etc.root().expect("root").mkdir_all("ssl/certs", 0o755).expect("mkdir");
        etc.change(&MountChange::new().set(MountAttr::RDONLY | MountAttr::NOEXEC)).expect("change");
        etc.attach(&RootFd::open(&*dir).expect("root"), "etc").expect("attach");
        assert!(dir.join("etc/ssl/certs").is_dir());
        fs::create_dir(dir.join("etc/more")).expect_err("read-only");
        host("umount", &[text(&dir.join("etc"))]);
    });
}

#[test]
fn a_change_is_made_of_all_or_of_the_topmost() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["from", "to"]);
        host("mount", &["-t", "tmpfs", "outer", text(&dir.join("from"))]);
        fs::create_dir(dir.join("from/inner")).expect("mkdir");
        host("mount", &["-t", "tmpfs", "-o", "noexec", "inner", text(&dir.join("from/inner"))]);
        let tree = Bind::new(dir.join("from")).recursive().mount().expect("clone");
        tree.set(MountAttr::RDONLY).expect("set");
        tree.change(&MountChange::new().set(MountAttr::NODEV).clear(MountAttr::NOEXEC).recursive()).expect("change");
        tree.set_propagation(Propagation::Shared).expect("propagation");
        tree.attach(&RootFd::open(&*dir).expect("root"), "to").expect("attach");
        let (outer, inner) = (line_of(&dir.join("to")), line_of(&dir.join("to/inner")));
        let (outer, inner) = (outer.expect("mounted"), inner.expect("mounted"));
        assert!(outer.contains(" ro,nodev,relatime shared:"), "{outer}");
        assert!(inner.contains(" rw,nodev,relatime - tmpfs inner"), "{inner}");
        host("umount", &["-R", text(&dir.join("to"))]);
        host("umount", &["-R", text(&dir.join("from"))]);
    });
}
