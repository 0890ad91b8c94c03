//! Plans from what shall be inside, written, and seen through the kernel.
#![forbid(unsafe_code)]

use std::os::unix::fs::{PermissionsExt, chown};

use cellkit_core::{ProcFd, ProcView};

use super::etc::Etc;
use crate::tests::paused_child::PausedChild;
use crate::tests::sys::as_user;
use crate::{Caller, MapPlan, SubIds, User, WantedIds, Way};

const ANN: u32 = 12345;

fn written(plan: &MapPlan) -> PausedChild {
    let child = PausedChild::new();
    plan.write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
    child
}

#[test]
fn kept_and_wanted_ids_are_what_stat_shows_inside() {
    faultkit::require!(root, program("unshare"), program("nsenter"), program("stat"), program("newuidmap"));
    faultkit::isolated!(|| {
        let rows = "ann:300000:1000\n12345:500000:1000\n";
        let _etc = Etc::with(&[("subuid", rows), ("subgid", rows)]);
        let dir = faultkit::TempDir::new();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let files: Vec<String> = [ANN, 300_000, 300_999, 500_000, 0]
            .into_iter()
            .map(|id| {
                let path = dir.path().join(id.to_string());
                std::fs::write(&path, "").expect("write");
                chown(&path, Some(id), Some(id)).expect("chown");
                path.to_str().expect("a path").to_owned()
            })
            .collect();
        let seen = |plan: &MapPlan| {
            let mut words = vec!["stat", "-c", "%u:%g"];
            words.extend(files.iter().map(String::as_str));
            written(plan).inside(&["--preserve-credentials"], &words).replace('\n', " ")
        };
        as_user(ANN, ANN, &[], || {
            let caller = Caller::current().expect("caller");
            let subids = SubIds::of(&caller).expect("subids");
            let plan = MapPlan::keep_id(1000, 7, &caller, &subids).expect("plan");
            assert_eq!(plan.way(), Way::Helper);
            assert_eq!(seen(&plan), "1000:7 0:0 999:1000 1001:1001 65534:65534 ");
            let wanted = WantedIds::new().ids(0..=1).ids(70_000..=70_998).uids(80_000..=80_000).gids(80_000..=80_000);
            let plan = MapPlan::wanting(&wanted, &caller, &subids).expect("plan");
            assert_eq!(seen(&plan), "0:0 1:1 70998:70998 80000:80000 65534:65534 ");
            let single = MapPlan::single_id(33, 34, &caller).expect("plan");
            assert_eq!(seen(&single), "33:34 65534:65534 65534:65534 65534:65534 65534:65534 ");
        });
        // Root, for ann: without newuidmap, and the same ids.
        let root = Caller::current().expect("caller");
        let ann = User::find("ann").expect("ann");
        let plan = MapPlan::auto(&root, &SubIds::of(&ann).expect("subids")).expect("plan");
        assert_eq!(plan.way(), Way::Direct);
        assert_eq!(seen(&plan), "0:0 1:1 1000:1000 1001:1001 65534:65534 ");
    });
}
