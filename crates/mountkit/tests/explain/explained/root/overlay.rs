//! Overlays that the kernel refuses, mostly without a word to the caller.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use mountkit::{Error, Reason};

use super::{Scratch, host};
use crate::because;
use crate::calls::{attach, make};

fn overlay(lower: &str, upper: Option<(&Path, &Path)>, more: &[(&str, &str)]) -> Result<std::os::fd::OwnedFd, Error> {
    let mut options: Vec<(&str, Option<&Path>)> = vec![("lowerdir", Some(Path::new(lower)))];
    if let Some((upper, work)) = upper {
        options.extend([("upperdir", Some(upper)), ("workdir", Some(work))]);
    }
    options.extend(more.iter().map(|(key, value)| (*key, Some(Path::new(*value)))));
    let first = PathBuf::from(lower.split(':').next().expect("a layer"));
    make("overlay", &options, Some(&first))
}

/// Layers, joined as the option has them.
fn layers(scratch: &Scratch, names: &[&str]) -> String {
    names
        .iter()
        .map(|name| scratch.dir(name).into_os_string().into_string().expect("UTF-8"))
        .collect::<Vec<_>>()
        .join(":")
}

#[test]
fn upper_and_work() {
    faultkit::require!(root, program("mount"), program("dmesg"));
    faultkit::isolated!(|| {
        host("dmesg", &[]);
        let scratch = Scratch::new();
        let lower = layers(&scratch, &["lower"]);
        let (upper, work, other) = (scratch.dir("upper"), scratch.dir("work"), scratch.tmpfs("other", &[]));
        let error = overlay(&lower, Some((&upper, &other)), &[]).expect_err("two mounts");
        because(&error, libc::EINVAL, Reason::OverlayUpper, "put both below one mount");
        let error = overlay(&lower, Some((&upper, &upper)), &[]).expect_err("one directory");
        because(&error, libc::EINVAL, Reason::OverlayUpper, "two directories beside each other");
        let error = overlay(&lower, None, &[]).expect_err("one layer");
        because(&error, libc::EINVAL, Reason::OverlayLayers, "bind it read-only instead");
        let mount = overlay(&lower, Some((&upper, &work)), &[("index", "on")]).expect("an overlay");
        let error = overlay(&lower, Some((&upper, &work)), &[("index", "on")]).expect_err("in use");
        because(&error, libc::EBUSY, Reason::InUse, "of its own");
        let merged = scratch.dir("merged");
        attach(&mount, &merged).expect("attach");
        let (upper, work) = (scratch.dir("merged/upper"), scratch.dir("merged/work"));
        let error = overlay(&lower, Some((&upper, &work)), &[]).expect_err("an overlay on an overlay");
        because(&error, libc::EINVAL, Reason::OverlayUpper, "cannot hold what an overlay writes");
        let read_only = scratch.tmpfs("read_only", &["-o", "ro"]);
        let error = overlay(&lower, Some((&read_only, &read_only)), &[]).expect_err("read-only");
        because(&error, libc::EINVAL, Reason::ReadOnly, "can be written to");
    });
}

#[test]
fn layers_and_options() {
    faultkit::require!(root, program("mount"), program("dmesg"));
    faultkit::isolated!(|| {
        host("dmesg", &[]);
        let scratch = Scratch::new();
        let both = layers(&scratch, &["a", "b"]);
        let (a, _) = both.split_once(':').expect("two");
        let error = overlay(&format!("{a}:{a}/in"), None, &[]).expect_err("missing");
        because(&error, libc::ENOENT, Reason::Missing, "failed to resolve");
        scratch.dir("a/in");
        let error = overlay(&format!("{a}/in:{a}"), None, &[]).expect_err("in one another");
        because(&error, libc::ELOOP, Reason::OverlayOverlap, "in another one");
        let error = overlay(&both, None, &[("nosuch", "1")]).expect_err("no such option");
        because(&error, libc::EINVAL, Reason::Options, "no such option");
        let lower: Vec<_> = ["a", "b"].map(|name| scratch.dir(name)).into_iter().collect();
        let options =
            [("lowerdir", Some(Path::new(&both))), ("redirect_dir", Some(Path::new("on"))), ("userxattr", None)];
        let error = make("overlay", &options, Some(&lower[0])).expect_err("two that contradict each other");
        because(&error, libc::EINVAL, Reason::Options, "leave one of them out");
    });
}

#[test]
fn the_five_hundred_first_layer() {
    // `lowerdir+`, without which an option cannot hold as many.
    faultkit::require!(root, kernel(6.7), program("mount"), program("dmesg"));
    faultkit::isolated!(|| {
        host("dmesg", &[]);
        let scratch = Scratch::new();
        let paths: Vec<_> = (0..501).map(|number| scratch.dir(&format!("{number}"))).collect();
        let options: Vec<_> = paths.iter().map(|path| ("lowerdir+", Some(&**path))).collect();
        let error = make("overlay", &options, Some(&paths[500])).expect_err("one too many");
        because(&error, libc::EINVAL, Reason::OverlayLayers, "500 layers at most");
    });
}

#[test]
fn a_third_one_on_two() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let both = layers(&scratch, &["a", "b"]);
        let (one, two) = (layers(&scratch, &["one"]), layers(&scratch, &["two"]));
        attach(&overlay(&both, None, &[]).expect("one"), Path::new(&one)).expect("attach");
        attach(&overlay(&format!("{one}:{both}"), None, &[]).expect("two"), Path::new(&two)).expect("attach");
        let error = overlay(&format!("{two}:{both}"), None, &[]).expect_err("three");
        because(&error, libc::EINVAL, Reason::OverlayDepth, "two");
    });
}

#[test]
fn a_file_system_that_is_not_there_and_options_that_are_not() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let error = make("nosuchfs", &[], None).expect_err("no such file system");
        because(&error, libc::ENODEV, Reason::NoFileSystem, "modprobe nosuchfs");
        let error = make("tmpfs", &[("sizze", Some(Path::new("1")))], None).expect_err("no such option");
        because(&error, libc::EINVAL, Reason::Options, "sizze");
        let error = make("tmpfs", &[("size", Some(Path::new("many")))], None).expect_err("no number");
        because(&error, libc::EINVAL, Reason::Options, "another kind of value");
    });
}
