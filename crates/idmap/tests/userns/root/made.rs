//! What a namespace is when it has been made.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use cellkit_core::{ErrorKind, ProcFd, ProcView, StepText};
use faultkit::TempDir;
use idmap::{IdMaps, Setgroups, UsernsFd};

use super::{children, inside, plan};
use crate::sys;

fn maps() -> IdMaps {
    IdMaps::contiguous(100_000, 200_000, 65_536).expect("maps")
}

#[test]
fn nsenter_finds_the_maps_and_no_process_is_left() {
    faultkit::require!(root, program("nsenter"));
    faultkit::isolated!(|| {
        let userns = UsernsFd::with_maps(&maps()).expect("userns");
        assert!(children().is_empty(), "{:?}", children());
        assert_eq!(inside(&userns, &["cat", "/proc/self/uid_map"]), "0 100000 65536");
        assert_eq!(inside(&userns, &["cat", "/proc/self/gid_map"]), "0 200000 65536");
        assert_eq!(inside(&userns, &["cat", "/proc/self/setgroups"]), "allow");
        assert_eq!(inside(&userns, &["id", "-u"]), "0");
        assert_eq!(userns.maps(), Some(&maps()));
        assert_eq!(userns.setgroups(), Some(Setgroups::Allow));
        assert_eq!(userns.owner_uid().expect("owner"), 0);
        let link = fs::read_link(format!("/proc/self/fd/{}", userns.as_fd().as_raw_fd())).expect("link");
        assert_eq!(link.to_str(), Some(userns.id().to_string().as_str()));
        let stat = fs::File::from(OwnedFd::from(userns.try_clone().expect("dup"))).metadata().expect("fstat");
        assert_eq!((stat.dev(), stat.ino()), (userns.id().dev(), userns.id().inode()));
        // What a child of it makes is, from outside, of the ids that the maps say.
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        inside(
            &userns,
            &["setpriv", "--reuid=7", "--regid=8", "--clear-groups", "touch", &format!("{}/f", dir.path().display())],
        );
        let made = fs::metadata(dir.path().join("f")).expect("stat");
        assert_eq!((made.uid(), made.gid()), (100_007, 200_008));
        assert!(userns.try_clone().expect("dup") == userns && userns != UsernsFd::with_maps(&maps()).expect("another"));
    });
}

#[test]
fn setgroups_is_as_planned() {
    faultkit::require!(root, program("nsenter"));
    faultkit::isolated!(|| {
        let userns = UsernsFd::new(&plan("100000:100000:10").deny_setgroups()).expect("userns");
        assert_eq!(inside(&userns, &["--preserve-credentials", "cat", "/proc/self/setgroups"]), "deny");
        assert_eq!(userns.setgroups(), Some(Setgroups::Deny));
    });
}

#[test]
fn setns_joins_it() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let userns = UsernsFd::with_maps(&maps()).expect("userns");
        let child = sys::Forked::new(|| {
            sys::setns(userns.as_fd(), libc::CLONE_NEWUSER);
            assert_eq!(fs::read_link("/proc/self/ns/user").expect("link").to_str(), Some(&*userns.id().to_string()));
            // Joined, one has all capabilities and the ids of nobody, until they are changed.
            assert_eq!(fs::metadata("/proc/self").expect("stat").uid(), 65_534);
            sys::become_root();
            assert_eq!(fs::metadata("/proc/self").expect("stat").uid(), 0);
        });
        assert_eq!(child.wait(), 0);
    });
}

#[test]
fn a_kernel_or_filter_without_clone3_makes_them_too() {
    faultkit::require!(root, program("nsenter"));
    faultkit::isolated!(|| {
        let child = sys::Forked::new(|| {
            // As the filters of older container engines do.
            sys::refuse(libc::SYS_clone3, libc::ENOSYS);
            let userns = UsernsFd::with_maps(&maps()).expect("userns");
            assert!(children().is_empty());
            drop(userns);
            sys::refuse(libc::SYS_clone, libc::EPERM);
            let error = UsernsFd::with_maps(&maps()).expect_err("filtered");
            assert_eq!((error.operation(), error.kind()), ("clone", ErrorKind::Permission));
            assert!(error.hint().is_some_and(|hint| hint.contains("seccomp")), "{error:#}");
        });
        assert_eq!(child.wait(), 0);
    });
}

#[test]
fn where_pidfds_have_no_requests_the_procfs_has_the_namespace() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sys::Forked::new(|| {
            // As before Linux 6.11.
            sys::refuse_ioctl(0xff09, libc::ENOTTY);
            let userns = UsernsFd::with_maps(&maps()).expect("userns");
            let link = fs::read_link(format!("/proc/self/fd/{}", userns.as_fd().as_raw_fd())).expect("link");
            assert_eq!(link.to_str(), Some(userns.id().to_string().as_str()));
            assert_ne!(link, fs::read_link("/proc/self/ns/user").expect("link"));
        });
        assert_eq!(child.wait(), 0);
    });
}

#[test]
fn what_was_done_is_what_was_said() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let plan = plan("100000:100000:10").deny_setgroups();
        let proc = ProcFd::open(ProcView::Processes).expect("proc");
        let mut made: Vec<(StepText, Duration)> = Vec::new();
        drop(UsernsFd::make(&plan, &proc, &mut made).expect("userns"));
        let made: Vec<_> = made.into_iter().map(|(step, _)| step).collect();
        assert_eq!(made, UsernsFd::describe(&plan));
        let calls: Vec<_> = made.iter().map(|step| step.call.to_string()).collect();
        assert_eq!(calls.first().map(String::as_str), Some("clone"), "{calls:?}");
        assert_eq!(calls.last().map(String::as_str), Some("waitid"), "{calls:?}");
    });
}

#[test]
fn only_user_namespaces_are_taken() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let open = |path: &str| OwnedFd::from(fs::File::open(path).expect(path));
        let own = UsernsFd::try_from(open("/proc/self/ns/user")).expect("a user namespace");
        assert_eq!((own.maps(), own.setgroups()), (None, None));
        assert_eq!(own.id().to_string(), fs::read_link("/proc/self/ns/user").expect("link").to_string_lossy());
        for (path, word) in [("/proc/self/ns/mnt", "another kind"), ("/dev/null", "no namespace")] {
            let error = UsernsFd::from_fd(open(path)).expect_err(path);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
    });
}

#[test]
fn it_lives_as_long_as_the_handle_and_no_longer() {
    faultkit::require!(root, program("lsns"));
    faultkit::isolated!(|| {
        let userns = UsernsFd::with_maps(&maps()).expect("userns");
        let inode = userns.id().inode().to_string();
        // lsns looks at the descriptors of processes since util-linux 2.38.
        let seen = || {
            let output = Command::new("lsns").args(["-n", "-t", "user", "-o", "NS"]).output().expect("lsns");
            String::from_utf8_lossy(&output.stdout).split_whitespace().any(|ns| ns == inode)
        };
        assert!(!seen(), "a process is in it");
        let links = || {
            let fds = fs::read_dir("/proc/self/fd").expect("fd").filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
            fds.filter(|link| link.to_string_lossy() == format!("user:[{inode}]")).count()
        };
        assert_eq!(links(), 1);
        drop(userns);
        assert_eq!(links(), 0);
    });
}
