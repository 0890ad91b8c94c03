//! Plans from what shall be inside: ids kept, ids wanted, the line that is missing, and plans for others.
#![forbid(unsafe_code)]

use cellkit_core::ErrorKind;
use proptest::collection::vec;
use proptest::prelude::*;

use super::plans::{any_program, no_program};
use crate::newidmap::Search;
use crate::{Caller, Error, IdMap, MapPlan, Setgroups, SubIds, User, WantedIds, Way};

fn subids(user: &impl AsRef<User>, text: &str) -> SubIds {
    SubIds::parse(user, text.as_bytes(), text.as_bytes())
}

fn uid_map(plan: Result<MapPlan, Error>) -> String {
    plan.expect("plan").maps().uid.to_string()
}

/// A line that a hint proposes for this file.
fn proposed(error: &Error, file: &str) -> Option<String> {
    let hint = error.hint().expect("a hint");
    let end = hint.find(&format!("\" to {file}"))?;
    let start = hint.get(..end)?.rfind('"')? + 1;
    Some(format!("{}\n", hint.get(start..end)?))
}

#[test]
fn the_caller_keeps_its_id_and_the_ranges_are_around_it() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let keep = |uid, rows: &str| MapPlan::keep_id_with(uid, uid, &ann, &subids(&ann, rows), &search);
    let usual = "ann:100000:65536\n";
    assert_eq!(uid_map(keep(1000, usual)), "0 100000 1000\n1000 1000 1\n1001 101000 64536\n");
    assert_eq!(uid_map(keep(0, usual)), "0 1000 1\n1 100000 65536\n", "as the automatic one");
    // More than there are below: a hole.
    assert_eq!(uid_map(keep(70_000, usual)), "0 100000 65536\n70000 1000 1\n");
    assert_eq!(uid_map(keep(u32::MAX - 1, usual)), "0 100000 65536\n4294967294 1000 1\n");
    // Rows in pieces, in the order of the file, and the own id among them only once.
    assert_eq!(uid_map(keep(3, "ann:500:2\nann:999:3\n")), "0 500 2\n2 999 1\n3 1000 1\n4 1001 1\n");
    let plan = keep(1000, usual).expect("plan");
    assert_eq!((plan.way(), plan.setgroups(), plan.why_single_id()), (Way::Helper, Setgroups::Allow, None));
    let error = keep(u32::MAX, usual).expect_err("no id");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    // No ranges: the one id is the kept one, and why is said.
    let plan = keep(1000, "").expect("plan");
    assert_eq!((plan.way(), plan.setgroups()), (Way::SingleId, Setgroups::Deny));
    assert_eq!(plan.maps().uid.to_string(), "1000 1000 1\n");
    assert!(!plan.maps().inside_root_is_mapped());
    assert!(plan.why_single_id().expect("why").contains("ann:100000:65536"), "{plan:?}");
    let rows = subids(&ann, usual);
    let plan = MapPlan::keep_id_with(7, 8, &ann, &rows, &no_program()).expect("plan");
    assert_eq!((plan.maps().uid.to_string(), plan.maps().gid.to_string()), ("7 1000 1\n".into(), "8 1000 1\n".into()));
    assert!(plan.why_single_id().expect("why").contains("apt install uidmap"));
}

#[test]
fn root_of_the_machine_keeps_no_id() {
    let root = Caller::machine_root();
    let rows = subids(&root, "root:100000:65536\n");
    let error = MapPlan::keep_id(0, 0, &root, &rows).expect_err("root");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // Root of a namespace is somebody's ordinary user.
    let nested = Caller { initial: false, ..root };
    assert_eq!(uid_map(MapPlan::keep_id(5, 5, &nested, &rows)), "0 100000 5\n5 0 1\n6 100005 65531\n");
}

#[test]
fn a_single_id_needs_no_file_and_no_program() {
    let ann = Caller::ordinary("ann", 1000);
    let plan = MapPlan::single_id(0, 7, &ann).expect("plan");
    assert_eq!((plan.way(), plan.setgroups()), (Way::SingleId, Setgroups::Deny));
    assert_eq!((plan.maps().uid.to_string(), plan.maps().gid.to_string()), ("0 1000 1\n".into(), "7 1000 1\n".into()));
    assert_eq!(plan.why_single_id(), Some("the one id is what was asked for"));
    assert!(MapPlan::single_id(u32::MAX, 0, &ann).is_err());
    let weak = Caller { capabilities: 0, ..Caller::machine_root() };
    let error = MapPlan::single_id(0, 0, &weak).expect_err("uid 0 outside without CAP_SETFCAP");
    assert!(error.to_string().contains("CAP_SETFCAP"), "{error}");
}

#[test]
fn wanted_ids_find_their_way() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let rows = subids(&ann, "ann:100000:65536\n");
    let plan = |wanted: &WantedIds| MapPlan::wanting_with(wanted, &ann, &rows, &search);
    let all = plan(&WantedIds::new().ids(0..=65_535)).expect("plan");
    assert_eq!((all.way(), all.maps().uid.to_string()), (Way::Helper, "0 1000 1\n1 100000 65535\n".into()));
    // One id more than that is there too.
    assert!(plan(&WantedIds::new().ids(0..=65_536)).is_ok());
    let sparse = WantedIds::new().ids(0..=0).ids(33..=33).uids(1000..=1000).caller(1000, 1000);
    assert_eq!(uid_map(plan(&sparse)), "0 100000 1\n33 100001 1\n1000 1000 1\n");
    // Without 0 the caller is the lowest.
    assert_eq!(uid_map(plan(&WantedIds::new().ids(500..=501))), "500 1000 1\n501 100000 1\n");
    // One id of each kind needs nobody's help.
    let one = plan(&WantedIds::new().ids(5..=5)).expect("plan");
    assert_eq!((one.way(), one.maps().uid.to_string()), (Way::SingleId, "5 1000 1\n".into()));
    let no_help = MapPlan::wanting_with(&WantedIds::new().ids(5..=5), &ann, &SubIds::default(), &no_program());
    assert_eq!(no_help.expect("plan").way(), Way::SingleId);
    // No fallback where help is needed and missing.
    let error =
        MapPlan::wanting_with(&WantedIds::new().ids(0..=5), &ann, &rows, &no_program()).expect_err("no program");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Every second id is more than a map can say.
    let many = (0..341).fold(WantedIds::new(), |wanted, n| wanted.ids(n * 2..=n * 2));
    assert!(plan(&many).expect_err("too many runs").to_string().contains("340"));
}

#[test]
fn what_is_missing_is_a_line_to_add() {
    let ann = Caller::ordinary("ann", 1000);
    let (_dir, search) = any_program();
    let wanted = WantedIds::new().ids(0..=65_535);
    let error = MapPlan::wanting_with(&wanted, &ann, &subids(&ann, "bob:100000:65536\n"), &search).expect_err("none");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "id map: \"ann\" needs 65535 more uids and 65535 more gids than there are to map");
    assert_eq!(
        error.hint(),
        Some(
            "as root, add the line \"ann:165536:65536\" to /etc/subuid and the line \"ann:165536:65536\" to /etc/subgid"
        )
    );
    let half = SubIds::parse(&ann, b"ann:100000:65536\n", b"ann:100000:5\n");
    let error = MapPlan::wanting_with(&wanted, &ann, &half, &search).expect_err("few gids");
    assert_eq!(error.to_string(), "id map: \"ann\" needs 65530 more gids than there are to map");
    assert_eq!(proposed(&error, "/etc/subuid"), None);
    // More than one step.
    let error = MapPlan::wanting_with(&WantedIds::new().ids(0..=70_000), &ann, &subids(&ann, ""), &search);
    assert_eq!(proposed(&error.expect_err("none"), "/etc/subuid").as_deref(), Some("ann:100000:131072\n"));
    // More than there are in the world.
    let all = WantedIds::new().ids(0..=u32::MAX - 1);
    let error = MapPlan::wanting_with(&all, &ann, &subids(&ann, "ann:100000:65536\n"), &search).expect_err("all");
    assert!(error.hint().is_some_and(|hint| hint.contains("subuid(5)")), "{error:#}");
}

#[test]
fn privilege_plans_for_others_with_their_ranges() {
    let root = Caller::machine_root();
    let ann = User { uid: 1000, gid: Some(100), names: vec!["ann".into()] };
    let rows = subids(&ann, "ann:100000:65536\nroot:500000:65536\n");
    let plan = MapPlan::auto(&root, &rows).expect("plan");
    assert_eq!(plan.way(), Way::Direct);
    assert_eq!(plan.maps().uid.to_string(), "0 1000 1\n1 100000 65536\n");
    assert_eq!(plan.maps().gid.to_string(), "0 100 1\n1 100000 65536\n");
    assert_eq!(uid_map(MapPlan::keep_id(1000, 100, &root, &rows)), "0 100000 1000\n1000 1000 1\n1001 101000 64536\n");
    let wanted = WantedIds::new().ids(0..=10);
    assert_eq!(uid_map(MapPlan::wanting(&wanted, &root, &rows)), "0 1000 1\n1 100000 10\n");
    // There is no falling back for somebody else.
    let error = MapPlan::auto(&root, &subids(&ann, "")).expect_err("no range");
    assert!(error.hint().is_some_and(|hint| hint.contains("\"ann:100000:65536\" to /etc/subuid")), "{error:#}");
    let stranger = User { uid: 7777, gid: None, names: vec![] };
    let error = MapPlan::auto(&root, &subids(&stranger, "7777:100000:5\n")).expect_err("no group");
    assert!(error.to_string().contains("no known group"), "{error}");
    // Without privilege another's ranges are of no use.
    let bob = Caller::ordinary("bob", 1001);
    for plan in
        [MapPlan::auto(&bob, &rows), MapPlan::keep_id(0, 0, &bob, &rows), MapPlan::wanting(&wanted, &bob, &rows)]
    {
        let error = plan.expect_err("ann's");
        assert!(error.to_string().contains("the ranges are those of \"ann\""), "{error}");
    }
    let error = MapPlan::explicit("100000:100000:5".parse().expect("maps"), &bob, &rows).expect_err("ann's");
    assert!(error.to_string().contains("not the caller's to map"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("\"ann\"")), "{error:#}");
    // Root who asks whether ann's map is allowed is told that the verdict is about root.
    let error =
        "100000:100000:5".parse::<crate::IdMaps>().expect("maps").verify(&root, &rows).expect_err("root's verdict");
    assert!(error.hint().is_some_and(|hint| hint.contains("ask as \"ann\"")), "{error:#}");
}

#[test]
fn the_accounts_of_the_machine_are_not_proposed() {
    let ann = Caller::ordinary("ann", 1000);
    let of = SubIds::of(&ann).expect("subids");
    let proposed = of.free_range(65_536);
    let passwd = std::fs::read_to_string("/etc/passwd").expect("passwd");
    let uids = passwd.lines().filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok());
    for uid in uids {
        assert!(proposed.is_none_or(|range| !range.contains(uid)), "{proposed:?} has {uid}");
    }
}

proptest! {
    /// Whatever is wanted and whatever there is: either a plan with exactly the wanted ids, or a line that leads to it.
    #[test]
    fn the_proposed_line_makes_the_plan(
        raw in vec((0..90_000_u32, 0..9_u32), 1..6),
        rows in vec((0..3_usize, 0..400_u32, 1..9_u32), 0..6),
        me in proptest::option::of((0..90_000_u32, 0..90_000_u32)),
    ) {
        let ann = Caller::ordinary("ann", 100);
        let (_dir, search) = any_program();
        let mut wanted = raw.iter().fold(WantedIds::new(), |wanted, &(first, more)| wanted.ids(first..=first + more));
        if let Some((uid, gid)) = me {
            wanted = wanted.caller(uid, gid);
        }
        let text: String = rows.iter().map(|(who, start, count)| {
            format!("{}:{start}:{count}\n", ["ann", "100", "bob"][*who])
        }).collect();
        check_wanted(&ann, &wanted, &raw, me, text, &search)?;
    }

    /// Each id of the ranges is inside once, and the caller where it wants to be.
    #[test]
    fn a_kept_id_is_kept_and_no_id_is_lost(target in 0..40_u32, rows in vec((0..60_u32, 1..9_u32), 1..6)) {
        let ann = Caller::ordinary("ann", 30);
        let (_dir, search) = any_program();
        let text: String = rows.iter().map(|(start, count)| format!("ann:{start}:{count}\n")).collect();
        let subids = subids(&ann, &text);
        let plan = MapPlan::keep_id_with(target, target, &ann, &subids, &search).expect("plan");
        let map = &plan.maps().uid;
        prop_assert_eq!(map.to_outside(target), Some(30));
        let each = subids.uids().iter().flat_map(|range| range.start()..=range.last());
        let theirs: Vec<u32> = each.filter(|&id| id != 30).collect();
        // From 0 on, around the kept one.
        let inside = (0..).filter(|&id| id != target);
        let ours: Vec<u32> = inside.take(theirs.len()).filter_map(|id| map.to_outside(id)).collect();
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(map.count() as usize, theirs.len() + 1);
    }
}

fn check_wanted(
    ann: &Caller,
    wanted: &WantedIds,
    raw: &[(u32, u32)],
    me: Option<(u32, u32)>,
    mut text: String,
    search: &Search,
) -> Result<(), TestCaseError> {
    let plan = match MapPlan::wanting_with(wanted, ann, &subids(ann, &text), search) {
        Ok(plan) => plan,
        Err(error) => {
            let (uids, gids) = (proposed(&error, "/etc/subuid"), proposed(&error, "/etc/subgid"));
            prop_assert!(uids.is_some() || gids.is_some(), "{error:#}");
            // The same file stands for both.
            text.push_str(&uids.or(gids).unwrap_or_default());
            MapPlan::wanting_with(wanted, ann, &subids(ann, &text), search).expect("the line was the one")
        }
    };
    let pick = |map: &IdMap, me: Option<u32>| {
        let mut ids: Vec<u32> = raw.iter().flat_map(|&(first, more)| first..=first + more).chain(me).collect();
        ids.sort_unstable();
        ids.dedup();
        let mapped: Vec<u32> =
            map.extents().iter().flat_map(|extent| extent.inside()..extent.inside() + extent.count()).collect();
        let place = me.unwrap_or(ids[0]);
        (mapped == ids, map.to_inside(100) == Some(place))
    };
    prop_assert_eq!(pick(&plan.maps().uid, me.map(|me| me.0)), (true, true), "{}", plan.maps().uid);
    prop_assert_eq!(pick(&plan.maps().gid, me.map(|me| me.1)), (true, true), "{}", plan.maps().gid);
    Ok(())
}
