//! A caller that is itself in a user namespace: root there, and nobody on the machine.
#![forbid(unsafe_code)]

use cellkit_core::{ErrorKind, ProcFd, ProcView};

use super::etc::Etc;
use crate::tests::paused_child::PausedChild;
use crate::tests::sys::in_user_namespace;
use crate::{Caller, MapPlan, Setgroups, SubIds, Way};

#[test]
fn root_of_a_namespace_gives_away_what_it_has() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let rows = "root:65000:1000\nroot:500:1000\n";
        let _etc = Etc::with(&[("subuid", rows), ("subgid", rows)]);
        // Ids 0 to 65535, in two extents that do not touch outside.
        let own = "0 100000 1000\n1000 300000 64536\n";
        in_user_namespace(own, "allow", || {
            let caller = Caller::current().expect("caller");
            assert_eq!((caller.uid(), caller.in_initial_user_namespace(), caller.is_privileged()), (0, false, true));
            let subids = SubIds::of(&caller).expect("subids");
            let plan = MapPlan::auto(&caller, &subids).expect("plan");
            assert_eq!(plan.way(), Way::Direct);
            let child = PausedChild::new();
            plan.write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
            assert_eq!(child.map("uid_map"), "0 65000 536\n536 500 500\n1036 1000 500\n");

            // What does not exist here, the kernel refuses too: with our verdict, and without.
            for text in ["65000:65000:1000", "999:999:2"] {
                let error = MapPlan::explicit(text.parse().expect("maps"), &caller, &subids).expect_err(text);
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
                let child = PausedChild::new();
                let line = format!("0 {}", text.split_once(':').expect("a colon").1.replace(':', " "));
                let refused = std::fs::write(format!("/proc/{}/uid_map", child.pid()), line);
                assert_eq!(refused.expect_err(text).raw_os_error(), Some(libc::EPERM));
            }
        });
    });
}

#[test]
fn root_of_a_namespace_with_one_id_still_gets_a_container() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subuid", "root:100000:65536\n"), ("subgid", "")]);
        in_user_namespace("0 12345 1\n", "allow", || {
            let caller = Caller::current().expect("caller");
            let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
            assert_eq!((plan.way(), plan.setgroups()), (Way::SingleId, Setgroups::Deny));
            let child = PausedChild::new();
            plan.write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
            assert_eq!(child.map("uid_map"), "0 0 1\n");
            assert_eq!(child.file("setgroups"), "deny\n");
            // A namespace made inside inherits the answer.
            let below = child.inside(&[], &["unshare", "--user", "cat", "/proc/self/setgroups"]);
            assert_eq!(below, "deny\n");
        });
    });
}

#[test]
fn a_namespace_without_setgroups_gives_none_to_those_below() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let rows = "root:1000:1000\n";
        let _etc = Etc::with(&[("subuid", rows), ("subgid", rows)]);
        for (setgroups, expected) in [("allow", Setgroups::Allow), ("deny", Setgroups::Deny)] {
            in_user_namespace("0 100000 65536\n", setgroups, || {
                let caller = Caller::current().expect("caller");
                assert_eq!(caller.setgroups(), expected);
                let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
                assert_eq!((plan.way(), plan.setgroups()), (Way::Direct, expected));
                let child = PausedChild::new();
                plan.write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
                assert_eq!(child.file("setgroups"), format!("{setgroups}\n"));
            });
        }
    });
}
