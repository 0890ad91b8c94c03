//! Roots for an ordinary user who is nobody else before: there is no root that prepared anything.
#![forbid(unsafe_code)]

use std::fs;

use faultkit::TempDir;
use mountkit::{Overlay, Rootfs, Sys, Tmpfs, Volume};

use crate::child::{Who, inside};
use crate::tree::{census, skeleton};

/// A root as a container of an ordinary user has it.
fn complete(rootfs: Rootfs) -> Rootfs {
    let usr = Volume::bind("/usr", "/usr").read_only();
    rootfs.unprivileged().volume(usr).proc().sys(Sys::Fresh).dev().mask_defaults()
}

#[test]
fn the_hosts_own_root() {
    faultkit::require!(userns);
    faultkit::isolated!(|| {
        let rootfs = Rootfs::overlay_of_host().unprivileged().proc().dev().mask_defaults();
        let said = inside(Who::Myself, &rootfs, ": >/new; : >/usr/new; ls /new /usr/new; id -u; echo x >/dev/null");
        assert_eq!(said, "/new\n/usr/new\n0\n");
        assert!(!fs::exists("/usr/new").expect("stat") && !fs::exists("/new").expect("stat"));
    });
}

#[test]
fn layers_binds_and_a_tmpfs() {
    faultkit::require!(userns);
    faultkit::isolated!(|| {
        let (dir, data) = (TempDir::new(), TempDir::new());
        let [top, base] = ["top", "base"].map(|name| dir.join(name));
        fs::create_dir_all(top.join("etc")).expect("mkdir");
        fs::write(top.join("etc/top"), "of the upper layer\n").expect("write");
        fs::create_dir(&base).expect("mkdir");
        skeleton(&base);
        fs::write(data.join("kept"), "data\n").expect("write");
        let before = census(&dir);
        let rootfs = complete(Rootfs::overlay_of_layers(Overlay::new().lower(&top).lower(&base)))
            .tmpfs("/tmp", Tmpfs::new())
            .volume(Volume::bind(&*data, "/data"))
            .volume(Volume::bind(&*data, "/seen").read_only());
        let script = "cat /etc/top /etc/name /data/kept; echo x >/tmp/x; cat /tmp/x; echo new >/data/new; rm /etc/name; \
            ls /etc; (echo no >/seen/no) 2>/dev/null || echo read-only; test -e /proc/self && test -d /sys/class && id -u";
        let said = inside(Who::Myself, &rootfs, script);
        assert_eq!(said, "of the upper layer\nskeleton\ndata\nx\ntop\nread-only\n0\n");
        assert_eq!(fs::read_to_string(data.join("new")).expect("it stays"), "new\n");
        assert_eq!(census(&dir), before, "nothing was written to the layers");
    });
}
