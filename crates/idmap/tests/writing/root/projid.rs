//! Maps of project ids, which the kernel lets anybody write.
#![forbid(unsafe_code)]

use cellkit_core::{ErrorKind, ProcFd, ProcView};
use idmap::{Caller, IdMap, MapPlan, SubIds, Way};

use crate::machine::{ANN, Machine};
use crate::paused_child::PausedChild;
use crate::sys::{as_user, in_user_namespace};

fn proc() -> ProcFd {
    ProcFd::open(ProcView::Processes).expect("proc")
}

fn map(text: &str) -> IdMap {
    text.parse().expect("map")
}

#[test]
fn anybody_maps_any_that_exist_whatever_the_way() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let _machine = Machine::with("ann:300000:1000\n", "ann:300000:1000\n");
        let check = |ids: &str, way: Way| {
            let caller = Caller::current().expect("caller");
            let maps: idmap::IdMaps = ids.parse().expect("maps");
            // Not the caller's, and not in any file: 0 among them.
            let maps = maps.with_projid(map("0:0:1,5:1000000:4000000"));
            let subids = SubIds::of(&caller).expect("subids");
            let plan = MapPlan::explicit(maps, &caller, &subids).expect("plan");
            assert_eq!(plan.way(), way);
            let child = PausedChild::new();
            plan.write(&child, &proc(), &mut ()).expect("write");
            assert_eq!(child.map("projid_map"), "0 0 1\n5 1000000 4000000\n");
            assert!(!child.map("gid_map").is_empty());
            // A second time it is refused, as the kernel does.
            let error = plan.write(&child, &proc(), &mut ()).expect_err("twice");
            assert_ne!(error.operation(), "write projid_map", "the uids come first: {error:#}");
        };
        check("100000:100000:10", Way::Direct);
        as_user(ANN, ANN, &[], || {
            check("12345:12345:1", Way::SingleId);
            check("300000:300000:1000", Way::Helper);
        });
    });
}

#[test]
fn without_a_map_the_file_stays_as_it_is() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let caller = Caller::current().expect("caller");
        let plan = MapPlan::explicit("1:1:1".parse().expect("maps"), &caller, &SubIds::default()).expect("plan");
        let child = PausedChild::new();
        plan.write(&child, &proc(), &mut ()).expect("write");
        assert_eq!(child.map("projid_map"), "");
    });
}

#[test]
fn a_namespace_without_project_ids_has_none_to_give() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let caller = Caller::current().expect("caller");
        let maps: idmap::IdMaps = "0:0:10".parse().expect("maps");
        let from_outside = MapPlan::explicit(maps.clone().with_projid(map("0:7:1")), &caller, &SubIds::default());
        let from_outside = from_outside.expect("plan");
        in_user_namespace("0 100000 65536\n", "allow", || {
            let caller = Caller::current().expect("caller");
            let error = MapPlan::explicit(maps.with_projid(map("0:7:1")), &caller, &SubIds::default());
            let error = error.expect_err("none here");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "projid_map"));
            assert!(error.hint().is_some_and(|hint| hint.contains("/proc/self/projid_map")), "{error:#}");
            // Without that verdict, the kernel's.
            let child = PausedChild::new();
            let error = from_outside.write(&child, &proc(), &mut ()).expect_err("none here");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "write projid_map"), "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("exist in the namespace above")), "{error:#}");
        });
    });
}
