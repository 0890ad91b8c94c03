//! Everything here needs root: it makes mount namespaces.
#![forbid(unsafe_code)]

use mountkit::{Rootfs, Sys, TmpfsOptions, Volume};

use crate::child::{Who, inside};

fn full() -> Rootfs {
    Rootfs::overlay_of_host().proc().sys(Sys::Fresh).dev().cgroup().mask_defaults()
}

#[test]
fn first() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let rootfs = full().volume(Volume::bind("/usr", "/vol").read_only()).tmpfs("/scratch", TmpfsOptions::new());
        if false {
            for step in rootfs.steps().unwrap().describe() {
                println!("{step}  # {}", step.reason);
            }
        }
        println!(
            "{}",
            inside(
                Who::Root,
                &rootfs,
                "findmnt -rno TARGET,FSTYPE,VFS-OPTIONS,PROPAGATION; ls -la / /dev; cat /proc/self/mountinfo"
            )
        );
        println!(
            "{}",
            inside(
                Who::Ordinary,
                &rootfs.unprivileged(),
                "findmnt -rno TARGET,FSTYPE,VFS-OPTIONS,PROPAGATION; ls -la / /dev; cat /proc/self/mountinfo"
            )
        );
    });
}
