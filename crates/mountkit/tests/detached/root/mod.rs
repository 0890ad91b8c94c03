#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use faultkit::TempDir;
use mountkit::{Atime, Bind, MountAttr, RootFd};

/// The line of the calling thread's mountinfo for what is mounted on `target`.
fn line_of(target: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    table.lines().find(|line| line.split(' ').nth(4).is_some_and(|field| Path::new(field) == target)).map(String::from)
}

#[test]
fn is_seen_when_attached_and_with_its_attributes() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        for name in ["from", "to"] {
            fs::create_dir(dir.join(name)).expect("mkdir");
        }
        let mount = Bind::new(dir.join("from")).attrs(MountAttr::RDONLY | MountAttr::NOSUID);
        let mount = mount.atime(Atime::Never).mount().expect("clone");
        assert_eq!(line_of(&dir.join("to")), None);
        mount.attach(&RootFd::open(&*dir).expect("root"), "to").expect("attach");
        let line = line_of(&dir.join("to")).expect("it is mounted");
        let options = line.split(' ').nth(5).expect("options");
        assert!(options.starts_with("ro,nosuid,noatime"), "{line}");
        fs::write(dir.join("to/file"), "").expect_err("read-only");
        assert!(std::process::Command::new("umount").arg(dir.join("to")).status().expect("umount").success());
    });
}

#[test]
fn dropped_is_gone() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        let before = fs::read("/proc/thread-self/mountinfo").expect("mountinfo");
        drop(Bind::new(&*dir).mount().expect("clone"));
        assert_eq!(fs::read("/proc/thread-self/mountinfo").expect("mountinfo"), before);
    });
}
