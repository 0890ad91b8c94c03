//! The host's own root for a child of an ordinary user.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use faultkit::TempDir;
use mountkit::{ErrorKind, Rootfs};

use super::{complete, host};
use crate::child::{Who, inside, run, try_inside};
use crate::tree::skeleton;

#[test]
fn every_entry_of_the_host_is_there_and_can_be_changed() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let rootfs = complete(Rootfs::overlay_of_host().unprivileged());
        let script =
            "set -e; ls -A / | sort; : >/new; : >/usr/new; mkdir /opt/new; ls -d /new /usr/new /opt/new; id -u";
        let said = inside(Who::Ordinary, &rootfs, script);
        let mut names: Vec<_> = fs::read_dir("/")
            .expect("readdir")
            .map(|entry| entry.expect("entry"))
            .filter(|entry| {
                let kind = entry.file_type().expect("type");
                kind.is_dir() || kind.is_file() || kind.is_symlink()
            })
            .map(|entry| entry.file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        let expected: Vec<_> = names.iter().map(String::as_str).chain(["/new", "/opt/new", "/usr/new", "0"]).collect();
        let mut lines: Vec<_> = said.lines().collect();
        // sort(1) and ls(1) order by the locale, which is C here.
        assert_eq!(lines.split_off(names.len()).len(), 4, "{said}");
        lines.sort_unstable();
        assert_eq!(lines, expected[..names.len()], "{said}");
        assert!(!fs::exists("/usr/new").expect("stat") && !fs::exists("/new").expect("stat"));
    });
}

#[test]
fn a_directory_with_mounts_below_is_seen_read_only_and_an_unreadable_one_is_empty() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        host("mount", &["-t", "tmpfs", "-o", "mode=755", "srv", "/srv"]);
        fs::write("/srv/file", "srv\n").expect("write");
        fs::create_dir("/srv/below").expect("mkdir");
        let rootfs = Rootfs::overlay_of_host().unprivileged().proc();
        let script = "cat /srv/file; touch /srv/new && echo writable; ls /srv/below; ls -A /root; stat -c '%a %u' /root; : >/root/mine";
        // A mount of its own, but with none below it: an overlay.
        assert_eq!(
            inside(Who::Ordinary, &rootfs, script),
            "srv\nwritable\nbelow-is-empty\n700 0\n".replace("below-is-empty\n", "")
        );
        host("mount", &["-t", "tmpfs", "-o", "mode=755", "below", "/srv/below"]);
        fs::write("/srv/below/deep", "").expect("write");
        let said = inside(Who::Ordinary, &rootfs, &format!("({script}) 2>/dev/null"));
        assert_eq!(said, "srv\ndeep\n700 0\n");
        host("umount", &["/srv/below"]);
        host("umount", &["/srv"]);
    });
}

#[test]
fn read_only_means_every_part() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let rootfs = Rootfs::overlay_of_host().unprivileged().read_only().dev();
        let script = "touch /new-1 /usr/new-1 /etc/new-1 /var/new-1 2>&1; touch /tmp/a /run/a /dev/shm/a && echo fine";
        let said = inside(Who::Ordinary, &rootfs, script);
        assert_eq!(said.matches("Read-only").count(), 4, "{said}");
        assert!(said.ends_with("fine\n"), "{said}");
    });
}

#[test]
fn an_overlay_of_a_directory_with_mounts_below_is_refused_by_name() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        let below = dir.join("etc");
        let rootfs = super::with_usr(Rootfs::overlay(&*dir)).unprivileged();
        let early = rootfs.steps().expect("nothing is mounted yet");
        host("mount", &["-t", "tmpfs", "below", below.to_str().expect("UTF-8")]);
        let error = rootfs.steps().expect_err("mounts below");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("mounts below"), "{error}");
        // When it is mounted after the plan was made, the kernel refuses.
        let error = run(Who::Ordinary, early, "true").expect_err("the kernel refuses");
        assert_eq!((error.operation(), error.raw_os_error()), ("fsconfig", Some(libc::EINVAL)), "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("mounts below")), "{error:#}");
        let rootfs = super::with_usr(Rootfs::bind(&*dir)).unprivileged();
        let error =
            try_inside(Who::Ordinary, &rootfs, "true").expect_err("root's directory: /usr cannot be made in it");
        assert_eq!((error.operation(), error.raw_os_error()), ("openat2", Some(libc::EACCES)), "{error:#}");
        host("umount", &[below.to_str().expect("UTF-8")]);
    });
}

#[test]
fn a_bind_of_an_own_directory_is_written_to() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        chown(&*dir, Some(12345), Some(12345)).expect("chown");
        let rootfs = complete(super::with_usr(Rootfs::bind(&*dir)).unprivileged());
        inside(Who::Ordinary, &rootfs, "echo mine >/new");
        assert_eq!(fs::read_to_string(dir.join("new")).expect("read"), "mine\n");
    });
}

#[test]
fn attributes_planted_in_a_layer_redirect_nothing() {
    // Before, a tmpfs (where temporary files may be) takes no user attributes.
    faultkit::require!(root, kernel(6.6));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        fs::create_dir_all(dir.join("secret")).expect("mkdir");
        fs::write(dir.join("secret/file"), "secret\n").expect("write");
        fs::create_dir(dir.join("trap")).expect("mkdir");
        fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o755)).expect("chmod");
        let trap = dir.join("trap");
        crate::sys::set_attribute(&trap, c"trusted.overlay.redirect", b"/secret");
        crate::sys::set_attribute(&trap, c"user.overlay.redirect", b"/secret");
        let script = "ls /trap; cat /secret/file; while read -r line; do case $line in *' / / '*) echo \"$line\"; esac; \
                      done </proc/self/mountinfo";
        // With a single layer there is little to redirect to, so the kernel's own view of the options counts as well.
        let judge = |said: String| {
            let (content, options) = said.split_once('\n').expect("two lines");
            assert_eq!(content, "secret", "{said}");
            assert!(options.contains(" - overlay "), "{said}");
            for bad in ["redirect_dir=on", "redirect_dir=follow", "metacopy=on", "index=on"] {
                assert!(!options.split([',', ' ']).any(|option| option == bad), "{said}");
            }
        };
        let rootfs = super::with_usr(Rootfs::overlay(&*dir)).proc();
        judge(inside(Who::Root, &rootfs, script));
        judge(inside(Who::Ordinary, &rootfs.unprivileged(), script));
    });
}
