//! Plans, as pure functions of the caller and the files.
#![forbid(unsafe_code)]

use cellkit_core::ErrorKind;

use crate::newidmap::Search;
use crate::{Caller, IdMap, IdMaps, MapPlan, Setgroups, SubIds, User, Way};

/// Programs that count as fit for use: the test binary's own folder has none, so anything executable does.
pub(super) fn any_program() -> (faultkit::TempDir, Search) {
    let dir = faultkit::TempDir::new();
    for name in ["newuidmap", "newgidmap"] {
        std::fs::write(dir.path().join(name), "").expect("write");
    }
    let search = Search { dirs: vec![dir.path().to_owned()], privileged: false, ..Search::default() };
    (dir, search)
}

pub(super) fn no_program() -> Search {
    Search { dirs: vec!["/nonexistent".into()], ..Search::default() }
}

fn subids(caller: &Caller, text: &str) -> SubIds {
    SubIds::parse(caller, text.as_bytes(), text.as_bytes())
}

fn calls(plan: &MapPlan) -> Vec<String> {
    plan.describe().into_iter().map(|step| step.call.into_owned()).collect()
}

#[test]
fn root_gets_its_range_and_never_itself() {
    let root = Caller::machine_root();
    let plan = MapPlan::auto(&root, &subids(&root, "root:200000:65536\n")).expect("plan");
    assert_eq!(plan.maps().uid.to_string(), "0 200000 65536\n");
    assert_eq!((plan.way(), plan.setgroups(), plan.why_single_id()), (Way::Direct, Setgroups::Allow, None));
    assert_eq!(calls(&plan), ["write uid_map", "write gid_map", "read uid_map", "read gid_map"]);
    // Not even when the files say so.
    let plan = MapPlan::auto(&root, &subids(&root, "root:0:65536\n")).expect("plan");
    assert_eq!(plan.maps().uid.to_string(), "0 1 65535\n");
    assert_eq!(plan.maps().uid.to_inside(0), None);
    assert!(MapPlan::auto(&root, &subids(&root, "root:0:1\n")).is_err());
}

#[test]
fn root_without_a_range_learns_the_line_to_add() {
    let root = Caller::machine_root();
    let error = MapPlan::auto(&root, &subids(&root, "ann:100000:65536\nbob:165536:65536\n")).expect_err("no range");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "id map: \"root\" has no range of ids in /etc/subuid and /etc/subgid");
    assert_eq!(
        error.hint(),
        Some(
            "as root, add the line \"root:231072:65536\" to /etc/subuid and the line \"root:231072:65536\" to /etc/subgid"
        )
    );
    let half = SubIds::parse(&root, b"root:100000:65536\n", b"");
    let error = MapPlan::auto(&root, &half).expect_err("no gids");
    assert!(error.to_string().ends_with("in /etc/subgid"), "{error}");
    // A row that was meant but makes no sense is named.
    let typo = SubIds::parse(&root, b"# x\nroot:0100000:65536\n", b"root:100000\n");
    let error = MapPlan::auto(&root, &typo).expect_err("no range");
    let hint = error.hint().expect("hint");
    assert!(hint.contains("line 2 of /etc/subuid") && hint.contains("line 1 of /etc/subgid"), "{hint}");
}

#[test]
fn an_ordinary_user_is_root_inside_and_has_the_ranges_after_that() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let rows = "1000:300000:1000\nann:100000:65536\nann:100500:70000\nbob:1:5\n";
    let plan = MapPlan::auto_with(&ann, &subids(&ann, rows), &search).expect("plan");
    assert_eq!(plan.maps().uid.to_string(), "0 1000 1\n1 300000 1000\n1001 100000 65536\n66537 165536 4964\n");
    assert_eq!((plan.way(), plan.setgroups(), plan.why_single_id()), (Way::Helper, Setgroups::Allow, None));
    assert_eq!(calls(&plan), ["newuidmap", "newgidmap", "read uid_map", "read gid_map", "read setgroups"]);
    let text = plan.describe().remove(0).to_string();
    assert_eq!(text, "newuidmap(CHILD 0 1000 1 1 300000 1000 1001 100000 65536 66537 165536 4964)");
    let denied = plan.deny_setgroups();
    assert_eq!(denied.setgroups(), Setgroups::Deny);
    assert_eq!(calls(&denied).first().map(String::as_str), Some("write setgroups"));
}

#[test]
fn the_own_id_within_the_own_range_is_mapped_once() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let plan = MapPlan::auto_with(&ann, &subids(&ann, "ann:990:20\n"), &search).expect("plan");
    assert_eq!(plan.maps().uid.to_string(), "0 1000 1\n1 990 10\n11 1001 9\n");
    // A range of nothing but the own id is no range.
    let plan = MapPlan::auto_with(&ann, &subids(&ann, "ann:1000:1\n"), &search).expect("plan");
    assert_eq!(plan.way(), Way::SingleId);
}

#[test]
fn every_reason_for_a_single_id_is_said() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let rows = "ann:100000:65536\n";
    let foreign_group = Caller { ids: crate::sys::Ids { real_gid: 7, gid: 7, ..ann.ids }, ..ann.clone() };
    let half_setuid = Caller { ids: crate::sys::Ids { real_uid: 7, ..ann.ids }, ..ann.clone() };
    let stuck = Caller { no_new_privs: true, ..ann.clone() };
    let nobody = Caller { user: User { uid: 1000, gid: None, names: vec![] }, ..ann.clone() };
    for (caller, rows, search, reason) in [
        (&ann, "", &search, "add the line \"ann:100000:65536\" to /etc/subuid and the line"),
        (&nobody, "", &search, "add the line \"1000:100000:65536\" to /etc/subuid"),
        (&ann, rows, &no_program(), "apt install uidmap"),
        (&foreign_group, rows, &search, "newgrp"),
        (&half_setuid, rows, &search, "real ids"),
        (&stuck, rows, &search, "no_new_privs"),
    ] {
        let plan = MapPlan::auto_with(caller, &subids(caller, rows), search).expect("plan");
        assert_eq!((plan.way(), plan.setgroups()), (Way::SingleId, Setgroups::Deny), "{reason}");
        assert_eq!(plan.maps().uid.to_string(), format!("0 {} 1\n", caller.uid()));
        assert_eq!(plan.maps().gid.to_string(), format!("0 {} 1\n", caller.gid()));
        let why = plan.why_single_id().expect("why");
        assert!(why.contains(reason) && !why.contains('\n'), "{why}");
        let steps = plan.describe();
        assert_eq!(calls(&plan), ["write setgroups", "write uid_map", "write gid_map", "read uid_map", "read gid_map"]);
        assert!(steps.iter().any(|step| step.reason.contains(reason)), "{steps:?}");
    }
}

#[test]
fn an_explicit_map_is_taken_or_refused_as_by_newuidmap() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let rows = subids(&ann, "ann:100000:1000\nann:101000:1000\n");
    let plan = |text: &str| MapPlan::explicit_with(text.parse().expect(text), &ann, &rows, &search);
    assert_eq!(plan("100000:100000:2000").expect("two rows that touch").way(), Way::Helper);
    let single = plan("1000:1000:1").expect("the own id");
    assert_eq!((single.way(), single.setgroups()), (Way::SingleId, Setgroups::Deny));
    let error = plan("100000:99999:2001").expect_err("both ends beyond");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "uid_map \"0:100000:2001\": uids 102000 and gids 99999 are not the caller's to map");
    assert_eq!(
        error.hint(),
        Some("as root, add the line \"ann:102000:1\" to /etc/subuid and the line \"ann:99999:1\" to /etc/subgid")
    );
    let error = plan("1000:1000:2").expect_err("the own id and the next");
    assert!(error.to_string().contains("uids 1000 to 1001"), "{error}");
    let error = MapPlan::explicit_with("100000:100000:9".parse().expect("maps"), &ann, &rows, &no_program());
    assert_eq!(error.expect_err("no fallback").kind(), ErrorKind::NotFound);
}

#[test]
fn a_gid_map_without_subordinate_gids_denies_setgroups() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let maps = IdMaps::new("0:100000:10".parse().expect("map"), "0:1000:1".parse().expect("map"));
    let plan = MapPlan::explicit_with(maps, &ann, &subids(&ann, "ann:100000:10\n"), &search).expect("plan");
    assert_eq!((plan.way(), plan.setgroups()), (Way::Helper, Setgroups::Deny));
}

#[test]
fn privilege_may_map_whatever_exists_but_uid_0_only_with_setfcap() {
    let root = Caller::machine_root();
    let none = SubIds::default();
    let maps: IdMaps = "0:0:4294967295".parse().expect("maps");
    assert_eq!(MapPlan::explicit(maps.clone(), &root, &none).expect("plan").way(), Way::Direct);
    let without = Caller { capabilities: !(1 << crate::caller::CAP_SETFCAP), ..root.clone() };
    let error = MapPlan::explicit(maps.clone(), &without, &none).expect_err("uid 0");
    assert!(error.to_string().contains("CAP_SETFCAP"), "{error}");
    assert!(MapPlan::explicit("1:0:10".parse().expect("maps"), &without, &none).is_ok(), "gid 0 is no matter");
    // In a namespace that has ids 0 to 65535 in two extents.
    let own: IdMap = "0:100000:1000,1000:300000:64536".parse().expect("map");
    let nested = Caller { initial: false, own_uids: Some(own.clone()), own_gids: Some(own), ..root };
    let error = MapPlan::explicit(maps, &nested, &none).expect_err("more than there is");
    assert!(error.to_string().contains("uids 0 to 4294967294 do not all exist"), "{error}");
    let across = "500:500:1000".parse::<IdMaps>().expect("maps");
    assert!(MapPlan::explicit(across, &nested, &none).is_err(), "the kernel wants it in one extent");
    // Its root is not the machine's: without ranges it still gets a container.
    let plan = MapPlan::auto(&nested, &none).expect("plan");
    assert_eq!(plan.way(), Way::SingleId);
    // With ranges they are cut to what exists, at the bounds of the map above.
    let rows = subids(&nested, "root:500:1000\nroot:65000:1000\n");
    let plan = MapPlan::auto(&nested, &rows).expect("plan");
    assert_eq!(plan.maps().uid.to_string(), "0 500 500\n500 1000 500\n1000 65000 536\n");
    let far = subids(&nested, "root:100000:65536\n");
    let plan = MapPlan::auto(&nested, &far).expect("plan");
    assert!(plan.why_single_id().expect("why").contains("hold no id, beside its own, that exists"), "{plan:?}");
    // A namespace without maps can give none.
    let unmapped = Caller { own_uids: None, own_gids: None, ..nested };
    assert!(MapPlan::auto(&unmapped, &none).is_err());
}

#[test]
fn what_one_write_cannot_hold_is_refused_before_it() {
    let root = Caller::machine_root();
    let long = (0..200_u32).map(|n| format!("{}:{}:1", 1_000_000_000 + n * 2, 2_000_000_000 + n * 2));
    let map: IdMap = long.collect::<Vec<_>>().join(",").parse().expect("a map");
    assert!(map.to_string().len() > 4095);
    let error = MapPlan::explicit(IdMaps::new(map.clone(), map), &root, &SubIds::default()).expect_err("too long");
    assert!(error.to_string().contains("bytes of text"), "{error}");
    // The automatic one takes what fits.
    let rows: String = (0..1000_u32).map(|n| format!("root:{}:1\n", 2_000_000_000 + n * 2)).collect();
    let plan = MapPlan::auto(&root, &subids(&root, &rows)).expect("plan");
    assert!(plan.maps().uid.to_string().len() <= 4095 && plan.maps().uid.count() > 200, "{:?}", plan.maps().uid);
}

#[test]
fn a_million_rows_are_read_in_linear_time_and_give_a_bounded_answer() {
    let ann = Caller::ordinary("ann", 1000);
    let mut text = "bob:7:7\n".repeat(900_000);
    text.extend((0..100_000_u32).rev().map(|n| format!("ann:{}:1\n", 1_000_000_000 + n * 2)));
    let begun = std::time::Instant::now();
    let rows = SubIds::parse(&ann, text.as_bytes(), b"ann:5000:5");
    assert_eq!(rows.uids().len(), 100_000);
    let (_dir, search) = any_program();
    let plan = MapPlan::auto_with(&ann, &rows, &search).expect("plan");
    assert!(plan.maps().uid.extents().len() <= 340);
    // Some seconds without optimization; pair by pair it would be an hour.
    assert!(begun.elapsed().as_secs() < 100, "{:?}", begun.elapsed());
    // The next free range is above everybody's.
    assert_eq!(rows.free_range(65_536).map(|range| range.to_string()), Some("1000199999:65536".into()));
}

#[test]
fn rows_that_are_none() {
    let ann = Caller::ordinary("ann", 1000);
    for row in [
        "ann:1:",
        "ann::1",
        "ann:1:1:1",
        "ann:-1:5",
        "ann:+1:5",
        "ann:0x10:5",
        "ann: 1:5",
        "ann:1:0",
        "ann:4294967295:1",
        "ann:4294967290:7",
        "ann:99999999999:1",
        "ann:010:5",
        "ann",
        "Ann:1:5",
        "annn:1:5",
        "01000:1:5",
        ":1:5",
    ] {
        assert_eq!(subids(&ann, row).uids(), [], "{row}");
    }
    let last = subids(&ann, "\n\nann:4294967290:5");
    assert_eq!(last.uids().iter().map(ToString::to_string).collect::<Vec<_>>(), ["4294967290:5"]);
    assert_eq!(last.free_range(65_536), None, "nothing is left to propose");
    assert_eq!(subids(&ann, "1000:5:5\n").uids().len(), 1, "by number");
}
