//! What comes of mounts that are made after the start, on either side.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use faultkit::TempDir;
use mountkit::{Propagation, Rootfs, Volume};

use super::{host, with_usr};
use crate::child::{Who, inside};
use crate::tree::skeleton;

/// A directory with a shared tmpfs on it, and `below` in it.
fn shared() -> (TempDir, String) {
    let dir = TempDir::new();
    let path = dir.to_str().expect("UTF-8").to_owned();
    host("mount", &["-t", "tmpfs", "-o", "mode=755", "shared", &path]);
    host("mount", &["--make-shared", &path]);
    fs::create_dir(dir.join("below")).expect("mkdir");
    (dir, path)
}

fn lines_of(mountinfo: &str, target: &str) -> Vec<String> {
    let at = |line: &&str| line.split(' ').nth(4) == Some(target);
    mountinfo.lines().filter(at).map(str::to_owned).collect()
}

/// Starts `rootfs`; when it runs, mounts a tmpfs with the file `hot` on `place` of the host; answers what `script` then
/// says inside.
fn with_hot_plug(who: Who, rootfs: &Rootfs, place: &Path, script: &str) -> String {
    let go = TempDir::new();
    fs::set_permissions(&*go, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    let rootfs = rootfs.clone().volume(Volume::bind(&*go, "/go"));
    let place = place.to_str().expect("UTF-8");
    let plug = format!(
        "until test -e {go}/ready; do sleep 0.01; done; mount -t tmpfs -o mode=755 hot {place}; : >{place}/hot; : >{go}/plugged",
        go = go.display()
    );
    let mut plug = Command::new("sh").args(["-c", &plug]).stdin(Stdio::null()).spawn().expect("sh");
    let script = format!(": >/go/ready; until test -e /go/plugged; do sleep 0.01; done; {script}");
    let said = inside(who, &rootfs, &script);
    assert!(plug.wait().expect("wait").success());
    host("umount", &[place]);
    said
}

#[test]
fn a_slave_volume_gets_what_the_host_mounts_later_and_a_private_one_does_not() {
    faultkit::require!(root, program("mount"), program("umount"));
    faultkit::isolated!(|| {
        let (dir, path) = shared();
        for who in [Who::Root, Who::Ordinary] {
            for (propagation, expected) in [(Propagation::Slave, "hot\n"), (Propagation::Private, "")] {
                let rootfs = Rootfs::overlay_of_host().proc();
                let rootfs = rootfs.volume(Volume::bind(&*dir, "/vol").propagation(propagation));
                let rootfs = if who == Who::Ordinary { rootfs.unprivileged() } else { rootfs };
                let script = "ls /vol/below; mount -t tmpfs mine /vol/below; cat /proc/self/mountinfo";
                let said = with_hot_plug(who, &rootfs, &dir.join("below"), script);
                let (seen, table) = said.split_at(expected.len());
                assert_eq!(seen, expected, "{who:?} {propagation}: {said}");
                let [volume] = &lines_of(table, "/vol")[..] else { panic!("{said}") };
                assert_eq!(volume.contains(" master:"), propagation == Propagation::Slave, "{said}");
                assert!(!table.contains("shared:"), "{said}");
                // What was mounted inside never came out.
                let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
                assert!(!table.contains(" mine "), "{table}");
            }
        }
        host("umount", &[&path]);
    });
}

#[test]
fn a_shared_volume_gives_the_host_what_the_container_mounts() {
    faultkit::require!(root, program("mount"), program("umount"));
    faultkit::isolated!(|| {
        let (dir, path) = shared();
        let volume = Volume::bind(&*dir, "/vol").propagation(Propagation::Shared);
        inside(Who::Root, &Rootfs::overlay_of_host().volume(volume), "mount -t tmpfs mine /vol/below");
        let below = dir.join("below");
        assert_eq!(host("findmnt", &["-no", "SOURCE", below.to_str().expect("UTF-8")]), "mine\n");
        host("umount", &[below.to_str().expect("UTF-8")]);
        host("umount", &[&path]);
    });
}

#[test]
fn a_slave_root_gets_what_the_host_mounts_in_it_later() {
    faultkit::require!(root, program("mount"), program("umount"));
    faultkit::isolated!(|| {
        let (dir, path) = shared();
        skeleton(&dir);
        for (propagation, expected) in [(Propagation::Slave, "hot\n"), (Propagation::Private, "")] {
            let rootfs = with_usr(Rootfs::bind(&*dir)).propagation(propagation);
            assert_eq!(with_hot_plug(Who::Root, &rootfs, &dir.join("below"), "ls /below"), expected, "{propagation}");
        }
        host("umount", &[&path]);
    });
}

#[test]
fn a_root_is_what_was_asked_for() {
    faultkit::require!(root, program("mount"), program("findmnt"));
    faultkit::isolated!(|| {
        let (dir, path) = shared();
        skeleton(&dir);
        let before = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        for base in [Rootfs::bind(&*dir), Rootfs::overlay(&*dir)] {
            for (propagation, word) in [
                (Propagation::Private, "private"),
                (Propagation::Shared, "shared"),
                (Propagation::Unbindable, "unbindable"),
            ] {
                let rootfs = with_usr(base.clone()).proc().propagation(propagation);
                let script = "findmnt -no PROPAGATION /; mkdir -p /new; mount -t tmpfs mine /new";
                // findmnt says private,unbindable.
                let said = inside(Who::Root, &rootfs, script);
                assert_eq!(said.trim().rsplit(',').next(), Some(word));
                assert_eq!(fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"), before, "{word}");
            }
        }
        host("umount", &[&path]);
    });
}

/// As threats of runtimes have it: two hundred starts on a host whose every mount is shared.
#[test]
fn two_hundred_starts_on_a_shared_host_leave_its_table_as_it_was() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(limit_secs = 240, || {
        host("mount", &["--make-rshared", "/"]);
        let before = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(before.contains("shared:"), "{before}");
        let dir = TempDir::new();
        skeleton(&dir);
        let of_host = super::complete(Rootfs::overlay_of_host());
        let bound = super::complete(with_usr(Rootfs::bind(&*dir)));
        let slave = super::complete(with_usr(Rootfs::bind(&*dir))).propagation(Propagation::Slave);
        let ordinary = super::complete(Rootfs::overlay_of_host().unprivileged());
        for round in 0..50 {
            for (who, rootfs) in
                [(Who::Root, &of_host), (Who::Root, &bound), (Who::Root, &slave), (Who::Ordinary, &ordinary)]
            {
                let said = inside(who, rootfs, "while read -r line; do echo \"$line\"; done </proc/self/mountinfo");
                assert!(lines_of(&said, "/").len() == 1 && !said.contains("shared:"), "{round} {who:?}: {said}");
                assert_eq!(fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"), before, "{round} {who:?}");
            }
        }
        host("mount", &["--make-rprivate", "/"]);
    });
}
