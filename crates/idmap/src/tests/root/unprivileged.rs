//! An ordinary user: alone, and with the real newuidmap of this machine.
#![forbid(unsafe_code)]

use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Duration;

use cellkit_core::{ErrorKind, ProcFd, ProcView, StepText};

use super::etc::Etc;
use crate::tests::paused_child::PausedChild;
use crate::tests::sys::{as_user, set_no_new_privs};
use crate::{Caller, IdMaps, MapPlan, Setgroups, SubIds, Way};

const ANN: u32 = 12345;

fn proc() -> ProcFd {
    ProcFd::open(ProcView::Processes).expect("proc")
}

fn auto() -> MapPlan {
    let caller = Caller::current().expect("caller");
    MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan")
}

#[test]
fn newuidmap_writes_the_ranges_of_the_files() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[
            ("subuid", "bob:700000:10\nann:300000:1000\n12345:500000:10\n"),
            ("subgid", "ann:400000:65536\n"),
        ]);
        as_user(ANN, ANN, &[], || {
            let caller = Caller::current().expect("caller");
            assert_eq!((caller.name(), caller.uid(), caller.is_privileged()), (Some("ann"), ANN, false));
            let plan = auto();
            assert_eq!((plan.way(), plan.setgroups()), (Way::Helper, Setgroups::Allow), "{plan:?}");
            let child = PausedChild::new();
            let mut made: Vec<(StepText, Duration)> = Vec::new();
            plan.write(&child, &proc(), &mut made).expect("write");
            assert_eq!(made.into_iter().map(|(step, _)| step).collect::<Vec<_>>(), plan.describe());
            assert_eq!(child.map("uid_map"), "0 12345 1\n1 300000 1000\n1001 500000 10\n");
            assert_eq!(child.map("gid_map"), "0 12345 1\n1 400000 65536\n");
            assert_eq!(child.file("setgroups"), "allow\n");

            let plan = plan.deny_setgroups();
            let child = PausedChild::new();
            plan.write(&child, &proc(), &mut ()).expect("write");
            assert_eq!(child.file("setgroups"), "deny\n");
            assert_eq!(child.map("gid_map"), "0 12345 1\n1 400000 65536\n");
        });
    });
}

#[test]
fn our_verdict_on_explicit_maps_is_that_of_newuidmap() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let rows = "ann:300000:1000\nann:301000:1000\n12345:300500:2000\nbob:900000:10\nann:0500:5\n";
        let _etc = Etc::with(&[("subuid", rows), ("subgid", rows)]);
        as_user(ANN, ANN, &[], || {
            let caller = Caller::current().expect("caller");
            let subids = SubIds::of(&caller).expect("subids");
            for (text, allowed) in [
                ("300000:300000:1000", true),
                ("300000:300000:2500", true),
                ("300000:300000:2501", false),
                ("299999:300000:10", false),
                ("300000:299999:10", false),
                ("900000:900000:10", false),
                ("302499:302499:1", true),
                ("302500:302500:1", false),
                ("12345:300000:1", true),
                ("12345:300000:2", false),
                ("12346:300000:1", false),
                ("0:0:1", false),
            ] {
                let planned = MapPlan::explicit(text.parse().expect(text), &caller, &subids);
                assert_eq!(planned.is_ok(), allowed, "{text}: {planned:?}");
                // What the program says, run by hand.
                let child = PausedChild::new();
                let mut parts = text.split(':');
                let (uid, gid, count) = (
                    parts.next().unwrap_or_default(),
                    parts.next().unwrap_or_default(),
                    parts.next().unwrap_or_default(),
                );
                let by_hand = |program: &str, id: &str| {
                    let pid = child.pid().to_string();
                    let output = std::process::Command::new(program).args([&pid, "0", id, count]).output();
                    output.expect(program).status.success()
                };
                assert_eq!(by_hand("newuidmap", uid) && by_hand("newgidmap", gid), allowed, "{text} by hand");
                if let Ok(plan) = planned {
                    let child = PausedChild::new();
                    plan.write(&child, &proc(), &mut ()).expect(text);
                    assert_eq!(child.map("uid_map"), format!("0 {uid} {count}\n"));
                    assert_eq!(child.map("gid_map"), format!("0 {gid} {count}\n"));
                }
            }
        });
    });
}

#[test]
fn a_gid_map_of_the_own_gid_alone_goes_without_setgroups() {
    faultkit::require!(root, program("unshare"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subuid", "ann:300000:1000\n"), ("subgid", "")]);
        as_user(ANN, ANN, &[], || {
            let caller = Caller::current().expect("caller");
            let maps = IdMaps::new("5:300000:1000".parse().expect("uids"), "0:12345:1".parse().expect("gids"));
            let plan = MapPlan::explicit(maps, &caller, &SubIds::of(&caller).expect("subids")).expect("plan");
            assert_eq!((plan.way(), plan.setgroups()), (Way::Helper, Setgroups::Deny));
            let child = PausedChild::new();
            plan.write(&child, &proc(), &mut ()).expect("write");
            assert_eq!(child.map("uid_map"), "5 300000 1000\n");
            assert_eq!(child.map("gid_map"), "0 12345 1\n");
            assert_eq!(child.file("setgroups"), "deny\n");
        });
    });
}

#[test]
fn without_ranges_it_is_the_own_id_and_setgroups_is_denied() {
    faultkit::require!(root, program("unshare"), program("nsenter"), program("stat"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subgid", "ann:300000:10\n")]);
        let dir = faultkit::TempDir::new();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let file = |name: &str, uid: u32, gid: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").expect("write");
            chown(&path, Some(uid), Some(gid)).expect("chown");
            path.to_str().expect("a path").to_owned()
        };
        let (mine, theirs) = (file("mine", ANN, ANN), file("theirs", 0, 300_000));
        as_user(ANN, ANN, &[], || {
            let plan = auto();
            assert_eq!((plan.way(), plan.setgroups()), (Way::SingleId, Setgroups::Deny));
            let why = plan.why_single_id().expect("why");
            assert!(why.contains("add the line \"ann:300010:65536\" to /etc/subuid"), "{why}");
            assert!(!why.contains("to /etc/subgid"), "{why}");
            let child = PausedChild::new();
            plan.write(&child, &proc(), &mut ()).expect("write");
            assert_eq!(child.map("uid_map"), "0 12345 1\n");
            assert_eq!(child.map("gid_map"), "0 12345 1\n");
            assert_eq!(child.file("setgroups"), "deny\n");
            let shown = child.inside(&["--preserve-credentials"], &["stat", "-c", "%u %g", &mine, &theirs]);
            assert_eq!(shown, "0 0\n65534 65534\n");
        });
    });
}

#[test]
fn no_new_privs_is_seen_before_newuidmap_fails() {
    faultkit::require!(root, program("unshare"), program("newuidmap"));
    faultkit::isolated!(|| {
        let _etc = Etc::with(&[("subuid", "ann:300000:10\n"), ("subgid", "ann:300000:10\n")]);
        as_user(ANN, ANN, &[], || {
            assert_eq!(auto().way(), Way::Helper);
            let planned_before = auto();
            set_no_new_privs();
            let plan = auto();
            assert_eq!(plan.way(), Way::SingleId);
            assert!(plan.why_single_id().expect("why").contains("no_new_privs"));
            // A plan from before it meets the real program without its privilege.
            let child = PausedChild::new();
            let error = planned_before.write(&child, &proc(), &mut ()).expect_err("no privilege");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Other, "newuidmap"));
            assert!(error.kernel_text().is_some_and(|said| said.contains("newuidmap:")), "{error:#}");
            assert_eq!(child.map("uid_map"), "");
        });
    });
}

#[test]
fn files_that_changed_since_the_plan_are_named_with_what_newuidmap_said() {
    faultkit::require!(root, program("unshare"), program("newuidmap"));
    faultkit::isolated!(|| {
        let files = [("subuid", "ann:300000:10\n"), ("subgid", "ann:300000:10\n")];
        let etc = Etc::with(&files);
        let caller =
            Caller { ids: crate::sys::Ids { real_uid: ANN, uid: ANN, real_gid: ANN, gid: ANN }, ..caller_ann() };
        let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
        assert_eq!(plan.way(), Way::Helper, "{plan:?}");
        drop(etc);
        for (files, hint) in [
            (vec![("subuid", "bob:300000:10\n"), ("subgid", "")], "a range is not in /etc/subuid"),
            // shadow 4.13 says nothing here, its successors which file it is.
            (vec![], "both /etc/subuid and /etc/subgid"),
        ] {
            let _etc = Etc::with(&files);
            as_user(ANN, ANN, &[], || {
                let child = PausedChild::new();
                let error = plan.write(&child, &proc(), &mut ()).expect_err("refused");
                assert_eq!(error.to_string(), "newuidmap \"/usr/bin/newuidmap\": it refused, with exit status 1");
                assert!(error.hint().is_some_and(|text| text.contains(hint)), "{hint}: {error:?}");
                assert_eq!(child.map("uid_map"), "");
            });
        }
    });
}

fn caller_ann() -> Caller {
    Caller::ordinary("ann", ANN)
}

#[test]
fn the_kernel_refuses_what_a_user_does_not_own() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        // A plan made by root, written by ann: the verdict is then the kernel's alone.
        let root = Caller::current().expect("caller");
        let plan =
            MapPlan::explicit("300000:300000:10".parse().expect("maps"), &root, &SubIds::default()).expect("plan");
        let own = MapPlan::explicit(format!("{ANN}:{ANN}:1").parse().expect("maps"), &root, &SubIds::default());
        let own = own.expect("plan");
        as_user(ANN, ANN, &[], || {
            let child = PausedChild::new();
            let error = plan.write(&child, &proc(), &mut ()).expect_err("not ann's");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "write uid_map"));
            assert!(error.hint().is_some_and(|hint| hint.contains("only their own id")), "{error:#}");
            // Without "deny" the own gid is refused too.
            let child = PausedChild::new();
            let error = own.write(&child, &proc(), &mut ()).expect_err("setgroups is not denied");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "write gid_map"));
            assert!(error.hint().is_some_and(|hint| hint.contains("\"deny\" was written")), "{error:#}");
            // With it, it is taken.
            let child = PausedChild::new();
            own.clone().deny_setgroups().write(&child, &proc(), &mut ()).expect("write");
            assert_eq!(child.map("gid_map"), "0 12345 1\n");
        });
    });
}

#[test]
fn somebody_elses_child_is_not_ours_to_map() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let child = PausedChild::new();
        as_user(ANN, ANN, &[], || {
            let caller = Caller::current().expect("caller");
            let plan = MapPlan::explicit(format!("{ANN}:{ANN}:1").parse().expect("maps"), &caller, &SubIds::default());
            let error = plan.expect("plan").write(&child, &proc(), &mut ()).expect_err("root's child");
            assert_eq!(error.kind(), ErrorKind::Permission, "{error:#}");
        });
        assert_eq!(child.map("uid_map"), "");
        assert_eq!(child.file("setgroups"), "allow\n");
    });
}

#[test]
fn a_group_that_shuts_the_user_out_cannot_be_dropped() {
    faultkit::require!(root, program("unshare"), program("nsenter"), program("setpriv"), program("newuidmap"));
    faultkit::isolated!(|| {
        let files = [("subuid", "ann:300000:10\n"), ("subgid", "ann:300000:10\n")];
        let dir = faultkit::TempDir::new();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        // Everybody may read it but group 777.
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "secret").expect("write");
        chown(&secret, Some(0), Some(777)).expect("chown");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o604)).expect("chmod");
        let secret = secret.to_str().expect("a path").to_owned();
        let read_without_groups = |plan: &MapPlan| {
            let child = PausedChild::new();
            plan.write(&child, &proc(), &mut ()).expect("write");
            let words = ["setpriv", "--clear-groups", "cat", &secret];
            let output = child.try_inside(&["--preserve-credentials"], &words);
            String::from_utf8(output.stdout).expect("text")
        };
        let etc = Etc::with(&files);
        as_user(ANN, ANN, &[777], || {
            assert!(std::fs::read(&secret).is_err(), "shut out to begin with");
            let plan = auto();
            assert_eq!(plan.way(), Way::Helper);
            // The administrator gave ann gids, and with them the right to drop groups: as documented.
            assert_eq!(read_without_groups(&plan), "secret");
            assert_eq!(read_without_groups(&plan.deny_setgroups()), "");
        });
        drop(etc);
        let _etc = Etc::with(&[]);
        as_user(ANN, ANN, &[777], || {
            let plan = auto();
            assert_eq!(plan.way(), Way::SingleId);
            assert_eq!(read_without_groups(&plan), "");
        });
    });
}
