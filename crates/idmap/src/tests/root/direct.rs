//! Maps written by somebody who has CAP_SETUID.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::chown;
use std::time::Duration;

use cellkit_core::{ErrorKind, ProcFd, ProcView, StepText};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::etc::Etc;
use crate::tests::laws;
use crate::tests::paused_child::PausedChild;
use crate::{Caller, IdMap, IdMaps, MapPlan, Setgroups, SubIds, Way};

fn proc() -> ProcFd {
    ProcFd::open(ProcView::Processes).expect("proc")
}

fn explicit(maps: IdMaps) -> MapPlan {
    let caller = Caller::current().expect("caller");
    MapPlan::explicit(maps, &caller, &SubIds::default()).expect("plan")
}

#[test]
fn the_automatic_maps_of_root_and_the_steps_that_were_promised() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subuid", "root:300000:65536\n"), ("subgid", "root:400000:65536\n")]);
        let caller = Caller::current().expect("caller");
        assert!(caller.in_initial_user_namespace() && caller.is_privileged());
        let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
        assert_eq!(plan.way(), Way::Direct);
        let child = PausedChild::new();
        let mut made: Vec<(StepText, Duration)> = Vec::new();
        plan.write(&child, &proc(), &mut made).expect("write");
        assert_eq!(made.into_iter().map(|(step, _)| step).collect::<Vec<_>>(), plan.describe());
        assert_eq!(child.map("uid_map"), "0 300000 65536\n");
        assert_eq!(child.map("gid_map"), "0 400000 65536\n");
        assert_eq!(child.file("setgroups"), "allow\n");
    });
}

#[test]
fn setgroups_is_denied_before_the_gid_map_when_asked() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let plan = explicit("100000:100000:10".parse().expect("maps")).deny_setgroups();
        let child = PausedChild::new();
        plan.write(&child, &proc(), &mut ()).expect("write");
        assert_eq!(child.file("setgroups"), "deny\n");
        assert_eq!(child.map("gid_map"), "0 100000 10\n");
        assert_eq!(plan.setgroups(), Setgroups::Deny);
    });
}

#[test]
fn a_file_inside_belongs_to_whom_the_map_says() {
    faultkit::require!(root, program("unshare"), program("nsenter"), program("stat"));
    faultkit::isolated!(|| {
        let mut runner = TestRunner::deterministic();
        let dir = faultkit::TempDir::new();
        for most in [2, 6, 60, 160] {
            // 0 inside has to be somebody, for nsenter.
            let with_root = |map: IdMap| {
                let mut extents = map.extents().to_vec();
                extents.retain(|extent| extent.inside() > 50);
                extents.push(crate::Extent::new(0, 4_000_000_000, 50).expect("extent"));
                IdMap::try_from(extents).expect("map")
            };
            let uid = with_root(laws::any_map(most).new_tree(&mut runner).expect("tree").current());
            let gid = with_root(laws::any_map(most).new_tree(&mut runner).expect("tree").current());
            let child = PausedChild::new();
            explicit(IdMaps::new(uid.clone(), gid.clone())).write(&child, &proc(), &mut ()).expect("write");
            assert_eq!(child.map("uid_map"), uid.to_string());
            assert_eq!(child.map("gid_map"), gid.to_string());
            // The edges of each extent, and the ids beside them.
            let mut words = vec!["stat".to_owned(), "-c".into(), "%u %g".into()];
            let mut expected = String::new();
            let overflow = 65_534;
            let edges = |map: &IdMap| -> Vec<u32> {
                let around =
                    |first: u32, count: u32| [first.saturating_sub(1), first, first + (count - 1), first + count];
                map.extents().iter().flat_map(|e| around(e.outside(), e.count())).filter(|&id| id != u32::MAX).collect()
            };
            for (n, (user, group)) in edges(&uid).into_iter().zip(edges(&gid).into_iter().cycle()).enumerate() {
                let file = dir.path().join(format!("{most}-{n}"));
                fs::write(&file, "").expect("write");
                chown(&file, Some(user), Some(group)).expect("chown");
                words.push(file.to_str().expect("a path").to_owned());
                let inside = |map: &IdMap, id: u32| map.to_inside(id).unwrap_or(overflow);
                expected.push_str(&format!("{} {}\n", inside(&uid, user), inside(&gid, group)));
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(child.inside(&[], &words), expected);
        }
    });
}

#[test]
fn the_kernel_takes_what_the_type_takes_and_refuses_what_it_refuses() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let mut runner = TestRunner::deterministic();
        let strategy = laws::raw_extents(4);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..60 {
            let raw = strategy.new_tree(&mut runner).expect("tree").current();
            if raw.is_empty() {
                continue;
            }
            let text: String = raw.iter().map(|(i, o, c)| format!("{i} {o} {c}\n")).collect();
            let child = PausedChild::new();
            let kernel = fs::write(format!("/proc/{}/uid_map", child.pid()), &text);
            let ours = laws::build(&raw);
            assert_eq!(kernel.is_ok(), ours.is_ok(), "{text:?}: {kernel:?}, {ours:?}");
            if ours.is_ok() {
                taken += 1;
            } else {
                refused += 1;
            }
        }
        assert!(taken > 5 && refused > 5, "{taken} taken, {refused} refused: the sample says nothing");
    });
}

#[test]
fn the_largest_map_is_written() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        // 340 lines within 4095 bytes.
        let text = (0..340_u32).map(|n| format!("{}:{}:1", n * 2, n * 2 + 1)).collect::<Vec<_>>().join(",");
        let map: IdMap = text.parse().expect("map");
        let child = PausedChild::new();
        explicit(IdMaps::new(map.clone(), map.clone())).write(&child, &proc(), &mut ()).expect("write");
        assert_eq!(child.map("uid_map"), map.to_string());
        // 4095 bytes: 204 lines of 20 and one of 15.
        let mut lines: Vec<String> =
            (0..204_u32).map(|n| format!("{}:{}:1", 100_000 + n, 2_000_000_000 + n * 2)).collect();
        lines.push("0:3000000000:1".into());
        let map: IdMap = lines.join(",").parse().expect("map");
        assert_eq!(map.to_string().len(), 4095);
        let child = PausedChild::new();
        explicit(IdMaps::new(map.clone(), map.clone())).write(&child, &proc(), &mut ()).expect("write");
        assert_eq!(child.map("gid_map"), map.to_string());
    });
}

#[test]
fn a_second_map_a_wrong_process_and_a_dead_one() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let plan = explicit("100000:100000:10".parse().expect("maps"));
        let mut child = PausedChild::new();
        plan.write(&child, &proc(), &mut ()).expect("write");
        let error = plan.write(&child, &proc(), &mut ()).expect_err("twice");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "write uid_map"));
        assert!(error.hint().is_some_and(|hint| hint.contains("has the map 0:100000:10 already")), "{error:#}");

        let same = PausedChild::in_no_namespace();
        let before = same.map("uid_map");
        let error = plan.write(&same, &proc(), &mut ()).expect_err("not a new namespace");
        assert!(error.hint().is_some_and(|hint| hint.contains("CLONE_NEWUSER")), "{error:#}");
        assert_eq!(same.map("uid_map"), before);

        child.end();
        let error = plan.write(&child, &proc(), &mut ()).expect_err("dead");
        assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
    });
}
