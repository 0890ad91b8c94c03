//! What a process's maps are, to readers in several places.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use cellkit_core::{ErrorKind, ProcFd, ProcView};
use idmap::{IdMap, IdMaps};

use crate::sys::{Waiting, become_user, fchown, pipe};

fn read(process: impl AsFd) -> idmap::Result<IdMaps> {
    IdMaps::of_process(process, &ProcFd::open(ProcView::Processes).expect("proc"))
}

fn map(text: &str) -> IdMap {
    text.parse().expect("a map")
}

fn write(child: &Waiting, text: &str) {
    for file in ["uid_map", "gid_map"] {
        child.write(file, &map(text).to_string()).expect(file);
    }
}

fn pidfd(pid: i32) -> OwnedFd {
    cellkit_core::sys::pidfd_open(pid).expect("pidfd_open")
}

#[test]
fn from_above_it_is_the_way_down_and_from_within_the_step_to_the_parent() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let parent = "0:100000:1000,1000:200000:1000";
        let nested = "0:5:1,1:900:100,101:1000:50,200:1500:7,300:1600:7,400:1700:7";
        // A number goes up, and a word comes down when it has been looked at.
        let (mut numbers, mut number) = pipe();
        let (mut words, mut word) = pipe();
        let mut child = Waiting::new(|| {
            become_user(0, 0);
            let grandchild = Waiting::new(|| {
                become_user(0, 0);
                let me = pidfd(std::process::id() as i32);
                assert_eq!(read(me).expect("its own").uid, map(nested), "within: to the parent");
            });
            assert_eq!(read(&grandchild).expect("unwritten"), IdMaps::default(), "not written is empty");
            write(&grandchild, nested);
            assert_eq!(read(&grandchild).expect("from the parent").uid, map(nested));
            number.write_all(&grandchild.pid().to_ne_bytes()).expect("number");
            words.read_exact(&mut [0]).expect("word");
            grandchild.go();
        });
        assert_eq!(read(&child).expect("unwritten"), IdMaps::default());
        write(&child, parent);
        let maps = read(&child).expect("the child");
        assert_eq!((&maps.uid, &maps.gid, &maps.projid), (&map(parent), &map(parent), &None));
        child.write("projid_map", "0 7 1\n").expect("projid_map");
        assert_eq!(read(&child).expect("the child").projid, Some(map("0:7:1")));

        child.start();
        let mut bytes = [0; 4];
        numbers.read_exact(&mut bytes).expect("number");
        let from_here = read(pidfd(i32::from_ne_bytes(bytes))).expect("the grandchild");
        assert_eq!(from_here.uid, map(nested).through(&map(parent)), "from two above: all the way");
        assert_eq!(from_here.relative_to(&maps).gid, map(nested));
        word.write_all(&[1]).expect("word");
        child.end();
        assert_eq!(read(&child).expect_err("dead").kind(), ErrorKind::Gone);
    });
}

/// What the theory of operation of `IdMaps::of_process` warns of.
#[test]
fn from_beside_the_kernel_says_where_extents_begin_and_no_more() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (readers, theirs) = ("0:1000:50,50:5000:50", "0:1000:100");
        let (target, stranger) = (Waiting::new(|| {}), Waiting::new(|| {}));
        write(&target, theirs);
        write(&stranger, "0:900:10");
        let dir = faultkit::TempDir::new();
        let file = File::create_new(dir.path().join("file")).expect("a file");
        assert_eq!(fchown(&file, 1060, 1060), Ok(()));
        let me = pidfd(std::process::id() as i32);
        let reader = Waiting::new(|| {
            become_user(0, 0);
            let text = fs::read_to_string(format!("/proc/{}/uid_map", target.pid())).expect("uid_map");
            assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "0", "100"], "the kernel's own words");
            let guess = read(&target).expect("a map");
            assert_eq!(guess.uid.to_outside(60), Some(60), "as if id 60 here were their id 60");
            // But their 60 is 1060 of the machine, who is nobody here, and 60 here is somebody else.
            assert_eq!(file.metadata().expect("fstat").uid(), 65_534);

            for beyond in [stranger.as_fd(), me.as_fd()] {
                let error = read(beyond).expect_err("ids that do not exist here");
                assert_eq!(error.kind(), ErrorKind::Parse);
                let hint = error.hint().expect("hint");
                assert!(error.to_string().contains("uid_map") && hint.contains("relative_to"), "{error:#}");
            }
        });
        write(&reader, readers);
        // From above, where both are exact.
        let (one, other) = (read(&target).expect("target"), read(&reader).expect("reader"));
        assert_eq!(one.relative_to(&other).uid, map("0:0:50"));
        assert!(read(&stranger).expect("stranger").relative_to(&other).uid.is_empty());
        reader.go();
    });
}
