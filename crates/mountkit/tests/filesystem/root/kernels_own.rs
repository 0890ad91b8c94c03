//! proc, sysfs, devpts, mqueue, cgroup2, hugetlbfs, binfmt_misc.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use mountkit::{
    Atime, BinfmtMisc, Cgroup2, Devpts, ErrorKind, HidePid, HugePageSize, Hugetlbfs, MountAttr, Mqueue, Proc, Sysfs,
};

use crate::place::{Place, findmnt};

const INERT: &str = "rw,nosuid,nodev,noexec,relatime";

#[test]
fn proc_shows_as_much_as_it_is_told_to() {
    faultkit::require!(root, program("findmnt"), program("setpriv"));
    faultkit::isolated!(|| {
        let place = Place::new();
        place.with(Proc::new().mount().expect("mount"), |at| {
            assert_eq!((findmnt("FSTYPE", at), findmnt("VFS-OPTIONS", at)), ("proc".into(), INERT.into()));
            assert!(at.join("sys/kernel").exists());
        });
        place.with(Proc::new().only_processes().mount().expect("mount"), |at| {
            assert!(!at.join("sys").exists() && at.join("self/status").exists());
            assert!(findmnt("FS-OPTIONS", at).contains("subset=pid"));
        });
        for (hidepid, of_nobody, of_group) in [
            (HidePid::Off, "seen,read", "seen,read"),
            (HidePid::NoAccess, "seen", "seen,read"),
            (HidePid::Invisible, "", "seen,read"),
            (HidePid::Ptraceable, "", ""),
        ] {
            let proc = Proc::new().hidepid(hidepid).gid(777).mount().expect("mount");
            place.with(proc, |at| {
                // This process is root's.
                let script = format!(
                    "cd {at:?}/{}; seen=; [ -d . ] && seen=seen; \
                    cat status >/dev/null && seen=$seen,read; echo $seen",
                    std::process::id()
                );
                let look = |gid: &str| {
                    let ids = ["--reuid", "65534", "--regid", gid, "--clear-groups", "sh", "-c"];
                    let script = format!("if [ -d {at:?}/{0} ]; then {script}; else echo; fi", std::process::id());
                    let output = Command::new("setpriv").args(ids).arg(script).output().expect("setpriv");
                    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
                };
                assert_eq!((look("65534").as_str(), look("777").as_str()), (of_nobody, of_group), "{hidepid:?}");
            });
        }
    });
}

#[test]
fn sysfs_shows_the_network_namespace() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        let sysfs = Sysfs::new().attrs(MountAttr::RDONLY).atime(Atime::Never).mount().expect("mount");
        place.with(sysfs, |at| {
            let expected = "ro,nosuid,nodev,noexec,noatime".to_owned();
            assert_eq!((findmnt("FSTYPE", at), findmnt("VFS-OPTIONS", at)), ("sysfs".into(), expected));
            let names: Vec<_> = fs::read_dir(at.join("class/net")).expect("readdir").flatten().collect();
            assert!(names.iter().any(|entry| entry.file_name() == "lo"));
        });
    });
}

#[test]
fn each_devpts_counts_from_0() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        let devpts = Devpts::new().ptmxmode(0o640).mode(0o621).uid(1001).gid(1002).max(1).mount().expect("mount");
        place.with(devpts, |at| {
            assert_eq!(findmnt("VFS-OPTIONS", at), "rw,nosuid,noexec,relatime");
            assert_eq!(fs::metadata(at.join("ptmx")).expect("stat").mode() & 0o7777, 0o640);
            let open = || fs::OpenOptions::new().read(true).write(true).open(at.join("ptmx"));
            let terminal = open().expect("a terminal");
            let first = fs::metadata(at.join("0")).expect("number 0");
            assert!(first.file_type().is_char_device());
            assert_eq!((first.mode() & 0o7777, first.uid(), first.gid()), (0o621, 1001, 1002));
            assert!(open().is_err(), "one is the most");
            drop(terminal);
        });
        // Its ptmx is for nobody unless told so.
        place.with(Devpts::new().mount().expect("mount"), |at| {
            assert_eq!(fs::metadata(at.join("ptmx")).expect("stat").mode() & 0o7777, 0);
        });
    });
}

#[test]
fn mqueue_is_the_one_of_the_ipc_namespace() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        place.with(Mqueue::new().mount().expect("mount"), |at| {
            assert_eq!((findmnt("FSTYPE", at), findmnt("VFS-OPTIONS", at)), ("mqueue".into(), INERT.into()));
            let name = format!("cellkit-test-{}", std::process::id());
            fs::write(at.join(&name), "").expect("a queue is made as a file is");
            assert!(fs::read_to_string(at.join(&name)).expect("read").starts_with("QSIZE:"));
            fs::remove_file(at.join(&name)).expect("unlink");
        });
    });
}

#[test]
fn cgroup2_of_another_namespace_leaves_the_machines_options_alone() {
    faultkit::require!(root, cgroup2, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        let options = || {
            let text = Command::new("findmnt").args(["-nr", "-t", "cgroup2", "-o", "FS-OPTIONS"]).output();
            String::from_utf8(text.expect("findmnt").stdout).expect("UTF-8")
        };
        let before = options();
        let cgroup2 = Cgroup2::new().memory_localevents().attrs(MountAttr::RDONLY).mount().expect("mount");
        place.with(cgroup2, |at| {
            assert_eq!(findmnt("FSTYPE", at), "cgroup2");
            assert_eq!(findmnt("VFS-OPTIONS", at), "ro,nosuid,nodev,noexec,relatime");
            assert!(!findmnt("FS-OPTIONS", at).contains("memory_localevents"));
            // The root of the namespace: the group that the test is below.
            assert!(at.join("cgroup.procs").exists() && at.join("test").is_dir());
        });
        assert_eq!(options(), before);
    });
}

#[test]
fn options_of_cgroup2_that_a_kernel_lacks_are_unsupported_by_name() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        // In this namespace they have no effect, but are looked at.
        let known = Cgroup2::new().nsdelegate().memory_recursiveprot().memory_localevents().mount();
        drop(known.expect("Linux 5.15 has these"));
        for (cgroup2, name, since) in [
            (Cgroup2::new().favordynmods(), "favordynmods", "6.0"),
            (Cgroup2::new().memory_hugetlb_accounting(), "memory_hugetlb_accounting", "6.6"),
            (Cgroup2::new().pids_localevents(), "pids_localevents", "6.11"),
        ] {
            if let Err(error) = cgroup2.mount() {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(error.to_string().contains(name) && error.to_string().contains(since), "{error}");
            }
        }
    });
}

#[test]
fn hugetlbfs_has_its_page_size_and_limits() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        let pages = Hugetlbfs::new().pagesize(HugePageSize::MIB_2).size(4 << 20).nr_inodes(7).mode(0o1770).gid(107);
        match pages.mount() {
            Ok(mount) => place.with(mount, |at| {
                assert_eq!(findmnt("FSTYPE", at), "hugetlbfs");
                let options = findmnt("FS-OPTIONS", at);
                for option in ["gid=107", "mode=1770", "pagesize=2M", "size=4194304", "nr_inodes=7"] {
                    assert!(options.split(',').any(|word| word.eq_ignore_ascii_case(option)), "{option}: {options}");
                }
            }),
            // Built without it.
            Err(error) => assert_eq!((error.operation(), error.kind()), ("fsopen", ErrorKind::NotFound), "{error:#}"),
        }
        let odd = Hugetlbfs::new().pagesize(HugePageSize::new(1 << 44).expect("a power of two")).mount();
        assert!(matches!(odd.expect_err("no such pages").kind(), ErrorKind::Invalid | ErrorKind::NotFound));
    });
}

#[test]
fn binfmt_misc_is_mounted_where_the_kernel_has_it() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let place = Place::new();
        match BinfmtMisc::new().mount() {
            Ok(mount) => place.with(mount, |at| {
                assert_eq!((findmnt("FSTYPE", at), findmnt("VFS-OPTIONS", at)), ("binfmt_misc".into(), INERT.into()));
                assert!(at.join("register").exists());
            }),
            Err(error) => assert_eq!((error.operation(), error.kind()), ("fsopen", ErrorKind::NotFound), "{error:#}"),
        }
    });
}
