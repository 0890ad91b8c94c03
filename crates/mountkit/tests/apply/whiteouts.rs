//! What a layer removes, in the three forms, in either order.

use std::process::Command;

use mountkit::layers::{Apply, Owner, Whiteouts};

use crate::tar::{Member, archive, dir, file, hardlink, symlink};
use crate::{Ground, tree};

fn flattened() -> Apply {
    Apply::new().whiteouts(Whiteouts::Flattened).owner(Owner::Caller)
}

/// A lower layer with something of everything.
fn lower() -> Vec<u8> {
    archive([
        dir("etc"),
        file("etc/passwd", "lower"),
        file("etc/group", "lower"),
        dir("usr"),
        dir("usr/lib"),
        file("usr/lib/a/deep/file", "lower"),
        file("usr/lib/b", "lower"),
        symlink("lib", "usr/lib"),
        hardlink("linked", "usr/lib/b"),
    ])
}

/// What is left when layers are applied one after the other to one folder.
fn left(layers: &[Vec<u8>]) -> Vec<String> {
    let ground = Ground::new();
    for layer in layers {
        if let Err(error) = ground.apply(&flattened(), layer) {
            panic!("{error:#}");
        }
    }
    ground.outside_is_untouched();
    tree::listing(&ground.layer())
}

/// The entries in this order and in the other one leave the same.
#[track_caller]
fn either_order(upper: &[Member], wanted: &[&str]) {
    let turned: Vec<_> = upper.iter().rev().cloned().collect();
    for upper in [upper.to_vec(), turned] {
        assert_eq!(left(&[lower(), archive(upper)]), wanted);
    }
}

#[test]
fn flattened_they_remove_what_lower_layers_brought() {
    let rest = ["lib link:usr/lib", "linked file:lower", "usr dir", "usr/lib dir", "usr/lib/b file:lower"];
    either_order(&[file(".wh.etc", ""), file("usr/lib/.wh.a", "")], &rest);
    // Of nothing, and below nothing.
    let lower_only = left(&[lower()]);
    let lower_only: Vec<_> = lower_only.iter().map(String::as_str).collect();
    either_order(&[file(".wh.none", ""), file("no/such/.wh.dir", ""), file("none/.wh..wh..opq", "")], &lower_only);
}

#[test]
fn flattened_they_leave_what_their_own_layer_brought() {
    let usr = ["lib link:usr/lib", "linked file:lower", "usr dir", "usr/lib dir"];
    let usr_all =
        [&usr[..], &["usr/lib/a dir", "usr/lib/a/deep dir", "usr/lib/a/deep/file file:lower", "usr/lib/b file:lower"]]
            .concat();
    // A directory that is removed and brought again.
    either_order(
        &[file(".wh.etc", ""), dir("etc"), file("etc/new", "upper")],
        &[&["etc dir", "etc/new file:upper"], &usr_all[..]].concat(),
    );
    // The same, said otherwise.
    either_order(
        &[file("etc/.wh..wh..opq", ""), dir("etc"), file("etc/new", "upper")],
        &[&["etc dir", "etc/new file:upper"], &usr_all[..]].concat(),
    );
    // A file over a file.
    either_order(
        &[file("etc/.wh.passwd", ""), file("etc/passwd", "upper")],
        &[&["etc dir", "etc/group file:lower", "etc/passwd file:upper"], &usr_all[..]].concat(),
    );
    // Deep below what goes, without entries for the directories.
    either_order(
        &[file(".wh.usr", ""), file("usr/lib/a/new", "upper"), file(".wh.etc", "")],
        &[
            "lib link:usr/lib",
            "linked file:lower",
            "usr dir",
            "usr/lib dir",
            "usr/lib/a dir",
            "usr/lib/a/new file:upper",
        ],
    );
    // Everything goes but its own.
    either_order(&[file(".wh..wh..opq", ""), file("only", "upper")], &["only file:upper"]);
}

#[test]
fn flattened_below_a_link_of_a_lower_layer() {
    let mut wanted = left(&[lower()]);
    wanted.retain(|line| !line.starts_with("usr/lib/b"));
    wanted.insert(wanted.len(), "usr/lib/new file:upper".into());
    let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
    either_order(&[file("lib/.wh.b", ""), file("lib/new", "upper")], &wanted);
    // By both names of the directory.
    either_order(
        &[file("usr/lib/.wh..wh..opq", ""), file("lib/new", "upper"), file(".wh.etc", "")],
        &["lib link:usr/lib", "linked file:lower", "usr dir", "usr/lib dir", "usr/lib/new file:upper"],
    );
}

#[test]
fn flattened_types_change() {
    let upper = archive([
        file("usr", "now a file"),
        dir("etc/passwd"),
        symlink("etc/group", "passwd"),
        dir("lib"),
        file("lib/x", ""),
    ]);
    assert_eq!(
        left(&[lower(), upper]),
        [
            "etc dir",
            "etc/group link:passwd",
            "etc/passwd dir",
            "lib dir",
            "lib/x file:",
            "linked file:lower",
            "usr file:now a file",
        ]
    );
}

#[test]
fn for_an_overlay_they_are_written_down() {
    let ground = Ground::new();
    let layer = archive([
        file(".wh.gone", ""),
        dir("opaque"),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/new", ""),
        // Both orders of a directory that is removed and brought again.
        file(".wh.first", ""),
        dir("first"),
        dir("second"),
        file(".wh.second", ""),
        // And without an entry of its own.
        file(".wh.third", ""),
        file("third/new", ""),
        // A file hides by itself.
        file(".wh.file", ""),
        file("file", "upper"),
        file("other", "upper"),
        file(".wh.other", ""),
        file("not/there/.wh.before", ""),
    ]);
    let applied = ground.apply_as_i_may(&layer).expect("applied");
    assert_eq!((applied.whiteouts, applied.hides_all_below), (8, false));
    assert_eq!(
        tree::listing(&ground.layer()),
        [
            "file file:upper",
            "first dir",
            "gone whiteout",
            "not dir",
            "not/there dir",
            "not/there/before whiteout",
            "opaque dir",
            "opaque/new file:",
            "other file:upper",
            "second dir",
            "third dir",
            "third/new file:",
        ]
    );
    let opaque = crate::run("getfattr", &["-R", "-h", "-d", "-m", "overlay", "."], &ground.layer());
    let mut opaque: Vec<_> = opaque.lines().filter_map(|line| line.strip_prefix("# file: ")).collect();
    opaque.sort_unstable();
    assert_eq!(opaque, ["first", "opaque", "second", "third"]);
}

#[test]
fn a_layer_that_hides_all_below() {
    let ground = Ground::new();
    let applied = ground.apply_as_i_may(&archive([file(".wh..wh..opq", ""), file("f", "")])).expect("applied");
    assert!(applied.hides_all_below);
}

/// Mounts an overlay in a new user namespace and lists what is in it: what the kernel makes of our whiteouts.
#[test]
fn an_overlay_of_an_ordinary_user_shows_them() {
    // tmpfs, which the folder for temporary files may be on, has user attributes since then.
    faultkit::require!(userns, kernel(6.6), program("unshare"), program("find"));
    let ground = faultkit::TempDir::new();
    let apply = crate::as_i_may().whiteouts(Whiteouts::OverlayUser);
    for (name, layer) in [("lower", lower()), ("upper", removing())] {
        std::fs::create_dir(ground.join(name)).expect("mkdir");
        let root = mountkit::RootFd::open(ground.join(name)).expect("open");
        if let Err(error) = apply.apply(&layer[..], &root) {
            panic!("{error:#}");
        }
    }
    std::fs::create_dir(ground.join("merged")).expect("mkdir");
    let script =
        "mount -t overlay overlay -o userxattr,lowerdir=upper:lower merged && cd merged && find . -mindepth 1 | sort";
    let output = Command::new("unshare")
        .args(["-Urm", "--propagation", "private", "sh", "-c", script])
        .current_dir(&*ground)
        .output()
        .expect("unshare");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), MERGED);
}

/// Over [`lower`].
fn removing() -> Vec<u8> {
    archive([
        file("etc/.wh.passwd", ""),
        file(".wh.lib", ""),
        dir("usr"),
        dir("usr/lib"),
        file("usr/lib/.wh..wh..opq", ""),
        file("usr/lib/new", ""),
    ])
}

const MERGED: &str = "./etc\n./etc/group\n./linked\n./usr\n./usr/lib\n./usr/lib/new\n";

mod root {
    use super::*;

    #[test]
    fn an_overlay_of_root_shows_them() {
        faultkit::require!(root, program("mount"), program("find"));
        faultkit::isolated!(|| {
            let ground = faultkit::TempDir::new();
            // An overlay's upper layer cannot be on an overlay; lower ones can.
            for (name, layer) in [("lower", lower()), ("upper", removing())] {
                std::fs::create_dir(ground.join(name)).expect("mkdir");
                let root = mountkit::RootFd::open(ground.join(name)).expect("open");
                Apply::new().apply(&layer[..], &root).expect("applied");
            }
            std::fs::create_dir(ground.join("merged")).expect("mkdir");
            crate::run("mount", &["-t", "overlay", "overlay", "-o", "lowerdir=upper:lower", "merged"], &ground);
            let found = crate::run("sh", &["-c", "cd merged && find . -mindepth 1 | sort"], &ground);
            crate::run("umount", &["merged"], &ground);
            assert_eq!(found, MERGED);
        });
    }
}

/// Gives one part of a layer, waits for a file that comes of it, makes another one, and gives the rest.
struct Halting {
    parts: [std::io::Cursor<Vec<u8>>; 2],
    awaited: std::path::PathBuf,
    planted: std::path::PathBuf,
}

impl std::io::Read for Halting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let [first, second] = &mut self.parts;
        let read = first.read(buffer)?;
        if read > 0 {
            return Ok(read);
        }
        while !self.awaited.exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if !self.planted.exists() && second.position() == 0 {
            std::fs::write(&self.planted, "")?;
        }
        second.read(buffer)
    }
}

/// A layer that says it a million times is not a million looks at a million names.
#[test]
fn a_directory_is_emptied_once() {
    for (again, dir_is_named) in
        [("d/.wh..wh..opq", false), ("d/.wh..wh..opq", true), (".wh.d", true), (".wh.d", false)]
    {
        let ground = Ground::new();
        ground.apply(&flattened(), &archive([file("d/old", ""), file("d/sub/old", "")])).expect("the lower layer");
        // More than is read at once.
        let padding = file("padding", vec![b'x'; 400 << 10]);
        let named = dir_is_named.then(|| dir("d"));
        let first =
            named.into_iter().chain([file("d/.wh..wh..opq", ""), file("d/sub/new", ""), file("d/new", ""), padding]);
        let mut first = archive(first);
        // Without the end of an archive.
        first.truncate(first.len() - 1024);
        let reader = Halting {
            parts: [first, archive([file(again, "")])].map(std::io::Cursor::new),
            awaited: ground.layer().join("d/new"),
            planted: ground.layer().join("d/planted"),
        };
        flattened().apply(reader, &mountkit::RootFd::open(ground.layer()).expect("open")).expect("applied");
        let mut left = tree::listing(&ground.layer());
        left.retain(|line| !line.starts_with("padding"));
        let wanted = ["d dir", "d/new file:", "d/planted file:", "d/sub dir", "d/sub/new file:"];
        assert_eq!(left, wanted, "{again} {dir_is_named}");
    }
}
