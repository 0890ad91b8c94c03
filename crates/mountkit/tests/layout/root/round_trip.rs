//! A layer that is made is what an applied one was made of.

use std::fs;
use std::path::Path;

use faultkit::TempDir;
use mountkit::RootFd;
use mountkit::layers::{Apply, Compression, Create, Devices, Holes, Owner, Whiteouts};

use super::create::{capability, overlay, run, sh, stage};
use crate::create::{layer_of, plain};
use crate::{portrait, sys};

#[track_caller]
fn apply(apply: &Apply, layer: &[u8], dir: &Path) {
    let applied = apply.apply(layer, &RootFd::open(dir).expect("root"));
    let applied = applied.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(applied.skipped, []);
}

fn flattened() -> Apply {
    Apply::new().whiteouts(Whiteouts::Flattened).devices(Devices::Create)
}

/// All that a layer can hold.
fn everything(dir: &Path) {
    sh(
        "cd $1; mkdir -p a/b d; chmod 1777 d; chmod 2755 a; echo x >a/file; chmod 4711 a/file; ln a/file a/hard
         ln -s /etc/passwd a/link; ln a/link d/hard-link-of-a-link; mknod a/null c 1 3; mknod a/disk b 300 70000
         mkfifo a/fifo; : >empty; truncate -s 1M sparse; echo end >>sparse
         mkdir $(printf %0200d 1) $(printf %0200d 1)/$(printf %0200d 2); chown 3:4 a/b; chown -h 5:6 a/link",
        dir,
    );
    sys::set_attribute(&dir.join("a/file"), c"security.capability", &capability());
    sys::set_mtime(&dir.join("a/link"), 1_234_567_890, 987_654_321);
    sys::set_mtime(&dir.join("a"), -1, 1);
}

#[test]
fn what_is_made_of_a_tree_becomes_that_tree() {
    faultkit::require!(root, program("mknod"), program("sha256sum"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        everything(&dir);
        for holes in [Holes::Filled, Holes::Kept] {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let (layer, created) = layer_of(&dir, &plain().holes(holes).compression(compression));
                assert_eq!(created.left_out, []);
                let out = TempDir::new();
                apply(&flattened().expect(created.digest).expect_diff_id(created.diff_id), &layer, &out);
                assert_eq!(portrait::of(&out), portrait::of(&dir), "{holes:?} {compression:?}");
                assert_eq!(layer_of(&out, &plain().holes(Holes::Filled)).1.diff_id, layer_of(&dir, &plain()).1.diff_id);
            }
        }
    });
}

/// What programs saw in an overlay is what its lower directory becomes by the layer of the upper one.
#[test]
fn the_layer_of_an_upper_directory_makes_of_a_lower_one_what_the_overlay_showed() {
    faultkit::require!(root, program("cp"), program("sha256sum"));
    faultkit::isolated!(|| {
        let dir = stage();
        sh("cd $1/lower; mkdir -p deep/er/and/deeper; echo 5 >deep/er/five; ln -s five deep/er/link", &dir);
        overlay(&dir, ",redirect_dir=nofollow,metacopy=off");
        sh(
            "cd $1/merged; rm d/one; rm -r e; mkdir e; echo new >e/new; rm four; mkdir four; echo 5 >four/five
             chmod 700 d/sub; echo more >>d/two; rm -r deep/er/and; : >deep/er/and; rm deep/er/link; mkdir deep/er/link
             ln d/two d/also-two; chown 9:9 deep; mknod null c 1 3; mkfifo fifo",
            &dir,
        );
        let shown = portrait::of(&dir.join("merged"));
        run("umount", &[dir.join("merged").to_str().expect("text")]);
        let (layer, created) = layer_of(&dir.join("upper"), &Create::new());
        assert_eq!(created.left_out, []);
        sh("cp -a $1/lower $1/copy", &dir);
        apply(&flattened(), &layer, &dir.join("copy"));
        assert_eq!(portrait::of(&dir.join("copy")), shown);

        // And as a layer of an overlay again, it is the same once more.
        sh("mkdir $1/again", &dir);
        apply(&Apply::new().devices(Devices::Create), &layer, &dir.join("again"));
        let (again, _) = layer_of(&dir.join("again"), &plain().whiteouts(Whiteouts::OverlayTrusted));
        let (first, _) = layer_of(&dir.join("upper"), &plain().whiteouts(Whiteouts::OverlayTrusted));
        assert!(again == first, "two ways to the same layer");
        run("umount", &[dir.to_str().expect("text")]);
    });
}

#[test]
fn shifted_owners_are_shifted_back() {
    faultkit::require!(root, program("mknod"));
    faultkit::isolated!(|| {
        let (dir, shifted) = (TempDir::new(), TempDir::new());
        everything(&dir);
        let (layer, created) = layer_of(&dir, &plain());
        let owner = Owner::Shifted { uids: vec![(0, 1000, 1), (1, 100_000, 999)], gids: vec![(0, 200_000, 1000)] };
        apply(&flattened().owner(owner.clone()), &layer, &shifted);
        use std::os::unix::fs::MetadataExt;
        let stat = fs::metadata(shifted.join("a/b")).expect("stat");
        assert_eq!((stat.uid(), stat.gid()), (100_002, 200_004));
        let (back, of_shifted) = layer_of(&shifted, &plain().owner(owner.clone()));
        assert_eq!(of_shifted.diff_id, created.diff_id, "{} and {} bytes", back.len(), layer.len());
        std::os::unix::fs::chown(shifted.join("empty"), Some(0), Some(200_000)).expect("chown");
        let error = crate::create::refused(&shifted, &plain().owner(owner));
        assert!(error.to_string().contains("\"empty\"") && error.to_string().contains("0:200000"), "{error:#}");
        // What belongs to the caller alone is root's.
        let (_, mine) = layer_of(&shifted, &plain().owner(Owner::Caller));
        assert_eq!(mine.entries, created.entries);
    });
}
