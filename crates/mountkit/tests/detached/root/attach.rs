//! Where a mount may be put.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;

use mountkit::{Attach, Bind, ErrorKind, Mount, RootFd, Tmpfs};

use super::{dir_with, host, line_of, table, text};

#[test]
fn directories_on_directories_and_files_on_files() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["from", "to"]);
        fs::write(dir.join("file"), "content").expect("write");
        fs::write(dir.join("place"), "").expect("write");
        symlink("to", dir.join("link")).expect("symlink");
        let root = RootFd::open(&*dir).expect("root");
        for (source, target, why) in
            [("from", "place", "a directory cannot be mounted"), ("file", "to", "a file cannot be mounted")]
        {
            let mount = Bind::new(dir.join(source)).mount().expect("clone");
            let error = mount.attach(&root, target).expect_err(why);
            assert_eq!((error.operation(), error.kind()), ("move_mount", ErrorKind::Invalid));
            assert!(error.to_string().contains(why) && error.to_string().contains(target), "{error}");
        }
        let error = Bind::new(dir.join("from")).mount().expect("clone").attach(&root, "no").expect_err("missing");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!table().contains(text(&dir)));
        Bind::new(dir.join("file")).mount().expect("clone").attach(&root, "place").expect("a file on a file");
        assert_eq!(fs::read_to_string(dir.join("place")).expect("read"), "content");
        // A link is followed, inside the root.
        Bind::new(dir.join("from")).mount().expect("clone").attach(&root, "link").expect("attach");
        assert!(line_of(&dir.join("to")).is_some());
        host("umount", &[text(&dir.join("place"))]);
        host("umount", &[text(&dir.join("to"))]);
    });
}

#[test]
fn a_target_is_looked_up_in_the_root_only() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["root", "root/inside", "outside"]);
        symlink(dir.join("outside"), dir.join("root/out")).expect("symlink");
        symlink("../../../../inside", dir.join("root/up")).expect("symlink");
        let root = RootFd::open(dir.join("root")).expect("root");
        let tmpfs = || Tmpfs::new().mount().expect("mount");
        assert_eq!(tmpfs().attach(&root, "out").expect_err("outside").kind(), ErrorKind::NotFound);
        assert_eq!(tmpfs().attach(&root, "../../outside").expect_err("dots").kind(), ErrorKind::NotFound);
        tmpfs().attach(&root, "up").expect("up ends at the root");
        assert!(line_of(&dir.join("root/inside")).is_some() && line_of(&dir.join("outside")).is_none());
        host("umount", &[text(&dir.join("root/inside"))]);
        // The root itself is a place too.
        tmpfs().attach(&root, "/").expect("attach");
        assert!(line_of(&dir.join("root")).is_some());
        host("umount", &[text(&dir.join("root"))]);
    });
}

#[test]
fn on_a_descriptor() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["to"]);
        let place = fs::File::open(dir.join("to")).expect("open");
        // Whatever its name is by now.
        fs::rename(dir.join("to"), dir.join("moved")).expect("rename");
        Tmpfs::new().mount().expect("mount").attach_to(&Attach::on(&place)).expect("attach");
        assert!(line_of(&dir.join("moved")).is_some());
        host("umount", &[text(&dir.join("moved"))]);
    });
}

#[test]
fn beneath_what_is_there_and_seen_after_it() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["v1", "v2", "current"]);
        let root = RootFd::open(&*dir).expect("root");
        for version in ["v1", "v2"] {
            fs::write(dir.join(version).join("version"), version).expect("write");
        }
        let bind = |version: &str| Bind::new(dir.join(version)).mount().expect("clone");
        let beneath = Attach::at(&root, "current").beneath();
        let error = bind("v2").attach_to(&beneath).expect_err("nothing is there");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("nothing is mounted there"), "{error}");
        let first = bind("v1").attach(&root, "current").expect("attach");
        let seen = || fs::read_to_string(dir.join("current/version")).expect("read");
        match bind("v2").attach_to(&beneath) {
            Ok(second) => {
                assert_eq!(seen(), "v1");
                // What is beneath cannot be unmounted: something is mounted on top of it.
                let error = second.detach().expect_err("not the top");
                assert_eq!(error.kind(), ErrorKind::Busy, "{error:#}");
                first.unmount().expect("the top");
                assert_eq!(seen(), "v2");
                Mount::open(&root, "current").expect("open").unmount().expect("umount");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(error.to_string().contains("6.5"), "{error}");
                first.unmount().expect("umount");
            }
        }
        assert!(!table().contains(text(&dir)));
    });
}

#[test]
fn beneath_is_there_where_it_is_promised() {
    faultkit::require!(root, kernel(6.5));
    faultkit::isolated!(|| {
        let dir = dir_with(&["to"]);
        let root = RootFd::open(&*dir).expect("root");
        Tmpfs::new().source("top").mount().expect("mount").attach(&root, "to").expect("attach");
        let beneath = Tmpfs::new().source("beneath").mount().expect("mount");
        beneath.attach_to(&Attach::at(&root, "to").beneath()).expect("Linux 6.5 has it");
        let lines: Vec<_> =
            table().lines().filter(|line| line.contains(text(&dir.join("to")))).map(String::from).collect();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        host("umount", &[text(&dir.join("to"))]);
        assert!(line_of(&dir.join("to")).is_some_and(|line| line.contains("tmpfs beneath")));
        host("umount", &[text(&dir.join("to"))]);
    });
}

#[test]
fn a_shared_place_is_refused_unless_its_peers_are_meant() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["host", "peer"]);
        let (host_dir, peer) = (dir.join("host"), dir.join("peer"));
        host("mount", &["-t", "tmpfs", "shared", text(&host_dir)]);
        host("mount", &["--make-shared", text(&host_dir)]);
        host("mount", &["--bind", text(&host_dir), text(&peer)]);
        fs::create_dir(host_dir.join("data")).expect("mkdir");
        let root = RootFd::open(&host_dir).expect("root");
        let before = table();
        let tmpfs = || Tmpfs::new().source("leak").mount().expect("mount");
        let error = tmpfs().attach(&root, "data").expect_err("it would appear at the peer");
        assert_eq!((error.operation(), error.kind()), ("move_mount", ErrorKind::Invalid));
        assert!(error.to_string().contains("shared") && error.hint().is_some_and(|hint| hint.contains("with_peers")));
        assert_eq!(table(), before);
        tmpfs().attach_to(&Attach::at(&root, "data").with_peers()).expect("asked for");
        assert!(line_of(&host_dir.join("data")).is_some() && line_of(&peer.join("data")).is_some());
        host("umount", &[text(&host_dir.join("data"))]);
        assert_eq!(table(), before);
        // A slave passes nothing on.
        host("mount", &["--make-slave", text(&peer)]);
        tmpfs().attach(&RootFd::open(&peer).expect("root"), "data").expect("a slave");
        assert!(line_of(&host_dir.join("data")).is_none() && line_of(&peer.join("data")).is_some());
        drop(root);
        for place in [peer.join("data"), peer.clone(), host_dir.clone()] {
            host("umount", &[text(&place)]);
        }
    });
}

#[test]
fn a_tree_is_put_together_before_any_of_it_is_seen() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["at"]);
        let outer = Tmpfs::new().source("outer").mount().expect("mount");
        let inside = outer.root().expect("root");
        inside.mkdir_all("inner", 0o755).expect("mkdir");
        let before = table();
        match Tmpfs::new().source("inner").mount().expect("mount").attach(&inside, "inner") {
            Ok(inner) => {
                drop(inner); // or it would be in use
                assert_eq!(table(), before);
                outer.attach(&RootFd::open(&*dir).expect("root"), "at").expect("attach");
                assert!(line_of(&dir.join("at/inner")).is_some_and(|line| line.contains("tmpfs inner")));
                drop(inside);
                host("umount", &["-R", text(&dir.join("at"))]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(error.to_string().contains("6.15"), "{error}");
            }
        }
    });
}

#[test]
fn a_tree_put_together_is_there_where_it_is_promised() {
    faultkit::require!(root, kernel(6.15));
    faultkit::isolated!(|| {
        let outer = Tmpfs::new().mount().expect("mount");
        outer.root().expect("root").mkdir_all("inner", 0o755).expect("mkdir");
        let inner = Tmpfs::new().mount().expect("mount");
        drop(inner.attach(&outer.root().expect("root"), "inner").expect("Linux 6.15 has it"));
    });
}
