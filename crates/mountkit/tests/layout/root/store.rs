//! A store whose user is killed, or whose calls fail, at any moment; and an overlay of what it has.

use std::fs;
use std::process::Command;

use faultkit::{End, Failure, Fault, Run, Sweep, TempDir};
use mountkit::layers::{Apply, Store};

use crate::made::Made;
use crate::store::{APP, BASE, image_of, names, paths};

#[test]
fn an_overlay_of_an_image() {
    faultkit::require!(root, program("tar"), program("gzip"), program("mount"));
    faultkit::isolated!(|| {
        let (made, temp) = (Made::image(&[BASE, APP]), TempDir::new());
        let store = Store::open(temp.join("store")).expect("store");
        let unpacked = store.unpack(&image_of(&made), &Apply::new()).unwrap_or_else(|error| panic!("{error:#}"));
        let lower: Vec<_> = paths(&unpacked).iter().map(|path| path.display().to_string()).collect();
        let merged = temp.join("merged");
        fs::create_dir(&merged).expect("mkdir");
        let options = format!("lowerdir={}", lower.join(":"));
        let mounted = Command::new("mount").args(["-t", "overlay", "-o", &options, "none"]).arg(&merged).status();
        assert!(mounted.expect("mount").success());
        assert_eq!(fs::read(merged.join("srv/app")).expect("read"), b"1");
        assert_eq!(fs::read(merged.join("bin/sh")).expect("read"), b"#!");
        assert!(!merged.join("etc/passwd").exists());
        assert!(Command::new("umount").arg(&merged).status().expect("umount").success());
    });
}

/// What is in the store and not part of a whole layer.
fn halves(dir: &std::path::Path) -> Vec<String> {
    let mut names = names(dir);
    names.retain(|name| !["diff", "lock", "whole"].contains(&name.as_str()));
    names
}

fn unpack(counted: &faultkit::Counted<'_>, dir: &std::path::Path, made: &Made) -> Result<(), Failure> {
    let image = image_of(made);
    let all = || Store::open(dir)?.unpack(&image, &Apply::new()).map(drop);
    counted
        .run(all)
        .map_err(|error| Failure::new(error.operation().to_owned(), error.raw_os_error(), format!("{error:#}")))
}

#[test]
fn who_is_killed_at_any_call_leaves_nothing_that_the_next_one_does_not_mend() {
    faultkit::require!(root, program("tar"), program("gzip"));
    faultkit::isolated!(limit_secs = 300, || {
        let (made, temp) = (Made::image(&[BASE, APP]), TempDir::new());
        let dir = temp.join("store");
        let mended = || {
            let store = Store::open(&dir).expect("store");
            // Before anything is unpacked: what there is, is whole.
            assert_eq!(halves(&dir), Vec::<String>::new());
            let unpacked = store.unpack(&image_of(&made), &Apply::new()).unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(fs::read(paths(&unpacked)[0].join("srv/app")).expect("read"), b"1");
            assert_eq!(fs::read(paths(&unpacked)[1].join("etc/passwd")).expect("read"), b"root");
            drop(unpacked);
            store.prune().expect("prune");
            assert_eq!(names(&dir), Vec::<String>::new());
        };
        let sweep = Sweep::new(|counted| {
            let result = unpack(counted, &dir, &made);
            if result.is_ok() {
                mended();
            }
            result
        });
        // In the emulated machine every sixteenth call.
        let stride = if std::env::var_os("CELLKIT_VM").is_some() { 16 } else { 3 };
        let swept = sweep.recover(mended).stride(stride).each(Fault::Kill, |_| Ok(()));
        assert!(swept.runs > 10, "{swept:?}");
    });
}

#[test]
fn what_fails_at_any_call_is_an_error_and_leaves_no_half_layer() {
    faultkit::require!(root, program("tar"), program("gzip"));
    faultkit::isolated!(limit_secs = 300, || {
        let (made, temp) = (Made::image(&[BASE]), TempDir::new());
        let dir = temp.join("store");
        let sweep = Sweep::new(|counted| {
            let result = unpack(counted, &dir, &made);
            let store = Store::open(&dir).expect("store");
            assert_eq!(halves(&dir), Vec::<String>::new());
            store.prune().expect("prune");
            assert_eq!(names(&dir), Vec::<String>::new());
            fs::remove_dir_all(&dir).expect("rm");
            result
        });
        let mut ignored = Vec::new();
        let honest = |run: &Run| match &run.end {
            End::Returned(Err(failure)) if failure.errno == Some(libc::EIO) => Ok(()),
            End::Returned(Ok(())) => {
                ignored.push(run.call.name.clone());
                Ok(())
            }
            other => Err(format!("{other:?}")),
        };
        let of_the_runtime = ["close", "getrandom", "rt_sigprocmask", "mmap", "mprotect"];
        let swept = sweep
            .spare(
                "threads made and directories closed: the standard library panics, or the C library does not look",
                |call| of_the_runtime.contains(&call.name.as_str()),
            )
            .each(Fault::Fail(libc::EIO), honest);
        assert!(swept.runs > 30, "{swept:?}");
        // The name of a thread, and how many processors there are to use: it goes without.
        ignored.retain(|name| !["prctl", "sched_getaffinity"].contains(&name.as_str()));
        assert_eq!(ignored, Vec::<String>::new());
    });
}
