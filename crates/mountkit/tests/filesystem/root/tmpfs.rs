//! tmpfs, and its options changed afterwards.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use mountkit::{ErrorKind, HugePages, MountAttr, Reconfigure, Tmpfs};

use crate::place::{Place, findmnt};

const ENOSPC: i32 = 28;

#[test]
fn every_option_has_its_effect() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        let tmpfs = Tmpfs::new().size(1 << 20).nr_inodes(4).mode(0o2750).uid(1001).gid(1002).source("scratch");
        let tmpfs = tmpfs.attrs(MountAttr::NOEXEC | MountAttr::NOSYMFOLLOW).clear(MountAttr::NODEV);
        place.with(tmpfs.mount().expect("mount"), |at| {
            assert_eq!(findmnt("VFS-OPTIONS", at), "rw,nosuid,noexec,relatime,nosymfollow");
            assert_eq!((findmnt("SOURCE", at), findmnt("FSTYPE", at)), ("scratch".into(), "tmpfs".into()));
            let root = fs::metadata(at).expect("stat");
            assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o2750, 1001, 1002));
            // The root is one of the four.
            for name in ["a", "b", "c"] {
                fs::write(at.join(name), "").expect("write");
            }
            assert_eq!(fs::write(at.join("d"), "").expect_err("full").raw_os_error(), Some(ENOSPC));
            let mut file = fs::File::create(at.join("a")).expect("create");
            file.write_all(&vec![0; 1 << 20]).expect("as much as fits");
            assert_eq!(file.write(&[0]).expect_err("full").raw_os_error(), Some(ENOSPC));
        });
    });
}

#[test]
fn a_share_of_the_memory() {
    faultkit::require!(root, program("df"));
    faultkit::isolated!(|| {
        let place = Place::new();
        let kib = place.with(Tmpfs::new().size_percent(10).mount().expect("mount"), |at| {
            let output = Command::new("df").args(["-k", "--output=size"]).arg(at).output().expect("df");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            text.lines().nth(1).and_then(|line| line.trim().parse::<f64>().ok()).expect("a number")
        });
        let meminfo = fs::read_to_string("/proc/meminfo").expect("meminfo");
        let total = meminfo.lines().next().and_then(|line| line.split_whitespace().nth(1)).expect("MemTotal");
        let share = kib / total.parse::<f64>().expect("a number");
        assert!((0.09..0.11).contains(&share), "{share}");
    });
}

#[test]
fn what_only_some_kernels_have_is_there_or_unsupported_by_name() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        match Tmpfs::new().no_swap().mount() {
            Ok(mount) => place.with(mount, |at| assert!(findmnt("FS-OPTIONS", at).contains("noswap"))),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(error.to_string().contains("noswap") && error.to_string().contains("6.4"), "{error}");
            }
        }
        match Tmpfs::new().huge(HugePages::WithinSize).mount() {
            Ok(mount) => place.with(mount, |at| assert!(findmnt("FS-OPTIONS", at).contains("huge=within_size"))),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}"),
        }
    });
}

#[test]
fn noswap_is_there_where_it_is_promised() {
    faultkit::require!(root, kernel(6.4));
    faultkit::isolated!(|| drop(Tmpfs::new().no_swap().mount().expect("Linux 6.4 has it")));
}

#[test]
fn a_file_system_gets_other_options() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        let mount = Tmpfs::new().size(1 << 20).mount().expect("mount");
        Reconfigure::new().set("size", "2097152").apply(&mount).expect("before it is visible");
        place.with(mount, |at| {
            assert!(findmnt("FS-OPTIONS", at).contains("size=2048k"));
            let root = fs::File::open(at).expect("open");
            Reconfigure::new().set("size", "1048576").apply(&root).expect("and after");
            assert!(findmnt("FS-OPTIONS", at).contains("size=1024k"));
            let busy = fs::File::create(at.join("file")).expect("create");
            let error = Reconfigure::new().flag("ro").apply(&root).expect_err("a file is open for writing");
            assert_eq!((error.operation(), error.kind()), ("fsconfig", ErrorKind::Busy), "{error:#}");
            drop(busy);
            Reconfigure::new().flag("ro").apply(&root).expect("now it may be");
            assert!(fs::write(at.join("file"), "x").is_err());
            let error = Reconfigure::new().set("size", "1").set("x", "y").apply(&root).expect_err("no such option");
            assert_eq!(error.kernel_text(), Some("tmpfs: Unknown parameter 'x'"));
            fs::create_dir(at.join("dir")).expect_err("read-only");
        });
        let error = Reconfigure::new().flag("ro").apply(&fs::File::open(place.path()).expect("open"));
        let error = error.expect_err("no root of a mount");
        assert_eq!((error.operation(), error.kind()), ("fspick", ErrorKind::Invalid), "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("root of a mount")), "{error:#}");
    });
}
