//! `UsernsFd` of an ordinary user: with a single id, and with the real newuidmap of this machine.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use cellkit_core::ErrorKind;

use super::etc::Etc;
use crate::tests::sys::{as_user, in_user_namespace, nest, set_dumpable};
use crate::{Caller, IdMaps, MapPlan, Setgroups, SubIds, UsernsFd, Way};

const ANN: u32 = 12345;

fn auto() -> MapPlan {
    let caller = Caller::current().expect("caller");
    MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan")
}

/// Runs a program of util-linux's nsenter(1) in it, as its root.
fn inside(userns: &UsernsFd, words: &[&str]) -> String {
    let path = format!("--user=/proc/{}/fd/{}", std::process::id(), userns.as_fd().as_raw_fd());
    let output = Command::new("nsenter").arg(path).args(words).output().expect("nsenter");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn children() -> String {
    let pid = std::process::id();
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children")
}

#[test]
fn newuidmap_maps_the_ranges_of_one_with_no_process() {
    faultkit::require!(root, program("nsenter"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subuid", "ann:300000:1000\n"), ("subgid", "ann:400000:65536\n")]);
        as_user(ANN, ANN, &[], || {
            set_dumpable();
            let plan = auto();
            assert_eq!(plan.way(), Way::Helper);
            let userns = UsernsFd::new(&plan).expect("userns");
            assert_eq!(children(), "");
            assert_eq!(inside(&userns, &["cat", "/proc/self/uid_map"]), "0 12345 1 1 300000 1000");
            assert_eq!(inside(&userns, &["cat", "/proc/self/gid_map"]), "0 12345 1 1 400000 65536");
            assert_eq!(inside(&userns, &["id", "-u"]), "0");
            assert_eq!(inside(&userns, &["cat", "/proc/self/setgroups"]), "allow");
            assert_eq!((userns.owner_uid().expect("owner"), userns.setgroups()), (ANN, Some(Setgroups::Allow)));

            let userns = UsernsFd::new(&plan.deny_setgroups()).expect("userns");
            assert_eq!(inside(&userns, &["--preserve-credentials", "cat", "/proc/self/setgroups"]), "deny");
        });
    });
}

#[test]
fn a_single_id_needs_no_program() {
    faultkit::require!(root, program("nsenter"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subuid", ""), ("subgid", "")]);
        as_user(ANN, ANN, &[], || {
            set_dumpable();
            let userns = UsernsFd::new(&auto()).expect("userns");
            assert_eq!(inside(&userns, &["--preserve-credentials", "id", "-u"]), "0");
            assert_eq!(inside(&userns, &["--preserve-credentials", "cat", "/proc/self/uid_map"]), "0 12345 1");
            assert_eq!((userns.owner_uid().expect("owner"), userns.setgroups()), (ANN, Some(Setgroups::Deny)));
            // What is not the user's to map is refused before there is a child.
            let maps = IdMaps::contiguous(100_000, 100_000, 10).expect("maps");
            assert_eq!(UsernsFd::with_maps(&maps).expect_err("not ann's").kind(), ErrorKind::Invalid);
        });
    });
}

#[test]
fn a_process_that_dropped_its_privileges_is_told_what_is_in_the_way() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subuid", ""), ("subgid", "")]);
        as_user(ANN, ANN, &[], || {
            let error = UsernsFd::new(&auto()).expect_err("its files are root's");
            assert_eq!(error.kind(), ErrorKind::Permission, "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("PR_SET_DUMPABLE")), "{error:#}");
            assert_eq!(children(), "");
        });
    });
}

#[test]
fn no_more_than_the_limit_and_no_deeper_than_32() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        // Of a namespace of our own: the machine's limit stays.
        in_user_namespace("0 100000 1000\n", "allow", || {
            set_dumpable();
            let maps = IdMaps::contiguous(0, 0, 1).expect("maps");
            let first = UsernsFd::with_maps(&maps).expect("the first");
            std::fs::write("/proc/sys/user/max_user_namespaces", "1").expect("write");
            let error = UsernsFd::with_maps(&maps).expect_err("one too many");
            assert_eq!((error.operation(), error.raw_os_error()), ("clone", Some(libc::ENOSPC)), "{error:#}");
            assert_eq!(error.kind(), ErrorKind::Limit);
            assert!(error.hint().is_some_and(|hint| hint.contains("max_user_namespaces")), "{error:#}");
            drop(first);
            // The kernel gives a namespace back a moment after its last user has gone.
            let deadline = Instant::now() + Duration::from_secs(10);
            while let Err(error) = UsernsFd::with_maps(&maps) {
                assert!(Instant::now() < deadline, "{error:#}");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    });
}

#[test]
fn the_kernel_ends_nesting_and_so_it_is_said() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        as_user(0, 0, &[], || {
            let mut depth = 0;
            let error = loop {
                match UsernsFd::with_maps(&IdMaps::contiguous(0, 0, 1).expect("maps")) {
                    Ok(_) => nest(),
                    Err(error) => break error,
                }
                depth += 1;
                assert!(depth < 64, "the kernel has no limit");
            };
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error:#}");
            assert!((20..=33).contains(&depth), "{depth}");
            assert!(error.hint().is_some_and(|hint| hint.contains("32 levels deep")), "{error:#}");
        });
    });
}
