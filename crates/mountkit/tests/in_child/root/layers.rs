//! An overlay of many layers, made by the child.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use faultkit::TempDir;
use mountkit::{ErrorKind, Overlay, Rootfs};

use super::with_usr;
use crate::child::{Who, inside, try_inside};
use crate::tree::{census, skeleton};

/// Layers of odd and long names, the last of which is a skeleton, each with a file of its own.
fn layers(dir: &TempDir, count: usize) -> Vec<PathBuf> {
    let name = |number: usize| {
        let mut name = format!("a:b,c\\d {number} ").into_bytes();
        name.resize(if number % 2 == 0 { 255 } else { 40 }, 0xff);
        dir.join(OsString::from_vec(name))
    };
    let layers: Vec<PathBuf> = (0..count).map(name).collect();
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir_all(layer.join("etc")).expect("mkdir");
        fs::write(layer.join(format!("etc/layer{number}")), "x").expect("write");
        fs::write(layer.join("etc/top"), format!("{number}")).expect("write");
        // An ordinary user's, as his container's are.
        for name in ["", "etc", &format!("etc/layer{number}"), "etc/top"] {
            chown(layer.join(name), Some(12345), Some(12345)).expect("chown");
        }
    }
    skeleton(layers.last().expect("one"));
    layers
}

const SCRIPT: &str =
    "cat /etc/top; echo; ls /etc | grep -c layer; echo new > /etc/new; rm /etc/layer0; ls /etc | grep -c layer; true";

#[test]
fn every_layer_is_there_for_root_and_for_an_ordinary_user() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        for count in [1, 2, 40, 97, 98, 300] {
            let dir = TempDir::new();
            let layers = layers(&dir, count);
            let before = census(&dir);
            for who in [Who::Root, Who::Ordinary] {
                let rootfs = with_usr(Rootfs::overlay_of_layers(Overlay::new().lowers(&layers)));
                let rootfs = if who == Who::Ordinary { rootfs.unprivileged() } else { rootfs };
                let said = inside(who, &rootfs, SCRIPT);
                assert_eq!(said, format!("0\n{count}\n{}\n", count - 1).as_str(), "{count} layers for {who:?}");
            }
            assert_eq!(census(&dir), before, "nothing was written to the layers");
        }
    });
}

#[test]
fn what_is_written_stays_in_the_upper_directory() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        for count in [2, 120] {
            let dir = TempDir::new();
            let layers = layers(&dir, count);
            let (upper, work) = (dir.join("state:1/up,per"), dir.join("state:1/w\\ork"));
            for made in [&upper, &work] {
                fs::create_dir_all(made).expect("mkdir");
            }
            let rootfs = || with_usr(Rootfs::overlay_of_layers(Overlay::new().lowers(&layers).upper(&upper, &work)));
            inside(Who::Root, &rootfs(), "echo new > /etc/new");
            assert_eq!(fs::read_to_string(upper.join("etc/new")).expect("it stays"), "new\n");
            assert_eq!(inside(Who::Root, &rootfs(), "cat /etc/new; cat /etc/top"), "new\n0", "and the next one has it");
        }
    });
}

#[test]
fn what_cannot_be_is_known_before_the_start() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        let layers = layers(&dir, 2);
        for (overlay, word) in [
            (Overlay::new(), "lower directory"),
            (Overlay::new().lowers(vec![&layers[0]; 501]), "501"),
            (Overlay::new().lower(&layers[0]).lower(&layers[0]), "twice"),
            (Overlay::new().lower(&layers[0]).lower(layers[0].join("etc")), "inside"),
            (Overlay::new().lower_fd(fs::File::open(&layers[0]).expect("open")), "by their paths"),
        ] {
            let error = try_inside(Who::Root, &Rootfs::overlay_of_layers(overlay), "true").expect_err(word);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            assert!(error.to_string().contains(word), "{error}");
        }
    });
}
