//! Laws of the values, and naive programs that must agree with them.
#![forbid(unsafe_code)]

use proptest::collection::vec;
use proptest::prelude::*;

use crate::subid::missing;
use crate::{Caller, ErrorKind, Extent, IdKind, IdMap, SubIds};

/// Extents close enough together to overlap now and then, and some at the end of the ids.
pub(super) fn raw_extents(most: usize) -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    let id = prop_oneof![8 => 0..400_u32, 1 => (u32::MAX - 60)..=u32::MAX];
    vec((id.clone(), id, 0..20_u32), 0..most)
}

/// A map whatever the extents were: those that do not fit the earlier ones are left out.
pub(super) fn any_map(most: usize) -> impl Strategy<Value = IdMap> {
    let id = prop_oneof![8 => 0..100_000_u32, 1 => (u32::MAX - 5_000)..(u32::MAX - 50)];
    vec((id.clone(), id, 1..50_u32), 1..most).prop_map(|raw| {
        let mut extents: Vec<Extent> = Vec::new();
        for (inside, outside, count) in raw {
            let extent = Extent::new(inside, outside, count).expect("far from the end");
            if extents.iter().all(|other| !overlaps(*other, extent)) {
                extents.push(extent);
            }
        }
        IdMap::try_from(extents).expect("no overlap")
    })
}

fn overlaps(a: Extent, b: Extent) -> bool {
    let meet = |a: u32, b: u32, a_count: u32, b_count: u32| {
        u64::from(a) < u64::from(b) + u64::from(b_count) && u64::from(b) < u64::from(a) + u64::from(a_count)
    };
    meet(a.inside(), b.inside(), a.count(), b.count()) || meet(a.outside(), b.outside(), a.count(), b.count())
}

/// Pair by pair, in 64 bits: the rules of the kernel as user_namespaces(7) states them.
fn naive_verdict(raw: &[(u32, u32, u32)]) -> bool {
    let one = |&(inside, outside, count): &(u32, u32, u32)| {
        let last = |first: u32| u64::from(first) + u64::from(count);
        count > 0 && last(inside) <= u64::from(u32::MAX) && last(outside) <= u64::from(u32::MAX)
    };
    let pair = |a: &(u32, u32, u32), b: &(u32, u32, u32)| {
        let free = |a: u32, a_count: u32, b: u32, b_count: u32| {
            u64::from(a) + u64::from(a_count) <= u64::from(b) || u64::from(b) + u64::from(b_count) <= u64::from(a)
        };
        free(a.0, a.2, b.0, b.2) && free(a.1, a.2, b.1, b.2)
    };
    let apart = raw.iter().enumerate().all(|(index, a)| raw[index + 1..].iter().all(|b| pair(a, b)));
    raw.iter().all(one) && apart
}

pub(super) fn build(raw: &[(u32, u32, u32)]) -> crate::Result<IdMap> {
    let extents: Result<Vec<_>, _> =
        raw.iter().map(|&(inside, outside, count)| Extent::new(inside, outside, count)).collect();
    IdMap::try_from(extents?)
}

proptest! {
    #[test]
    fn extents_are_taken_if_and_only_if_they_keep_the_rules(raw in raw_extents(9)) {
        let built = build(&raw);
        prop_assert_eq!(built.is_ok(), naive_verdict(&raw));
        if let Err(error) = built {
            prop_assert_eq!(error.kind(), ErrorKind::Invalid);
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn the_parts_of_a_map_are_sorted_and_apart(map in any_map(60)) {
        let naive: u64 = map.extents().iter().map(|extent| u64::from(extent.count())).sum();
        prop_assert_eq!(u64::from(map.count()), naive);
        for pair in map.extents().windows(2) {
            prop_assert!(u64::from(pair[0].inside()) + u64::from(pair[0].count()) <= u64::from(pair[1].inside()));
        }
    }

    #[test]
    fn what_is_printed_is_read_again(map in any_map(60)) {
        prop_assert_eq!(&map.to_string().parse::<IdMap>().unwrap(), &map);
        prop_assert_eq!(&map.colons().parse::<IdMap>().unwrap(), &map);
        // The kernel pads its columns.
        let padded: String =
            map.extents().iter().map(|e| format!("{:10} {:10} {:10}\n", e.inside(), e.outside(), e.count())).collect();
        prop_assert_eq!(IdMap::from_proc(padded.as_bytes()).unwrap(), Some(map));
    }

    #[test]
    fn the_order_of_the_extents_makes_no_difference(map in any_map(60)) {
        let reversed: Vec<Extent> = map.extents().iter().rev().copied().collect();
        prop_assert_eq!(IdMap::try_from(reversed).unwrap(), map);
    }

    #[test]
    fn lookups_agree_with_a_linear_search_and_undo_each_other(map in any_map(60), id in any::<u32>(), near in any::<prop::sample::Index>()) {
        let edge = *near.get(map.extents());
        let around = [edge.inside(), edge.outside()].into_iter().flat_map(|first| {
            [first.wrapping_sub(1), first, first + (edge.count() - 1), first + edge.count()]
        });
        for id in around.chain([id]) {
            let naive = |from: fn(Extent) -> u32, to: fn(Extent) -> u32| {
                map.extents().iter().find_map(|e| {
                    let offset = u64::from(id).checked_sub(u64::from(from(*e)))?;
                    (offset < u64::from(e.count())).then(|| to(*e) + offset as u32)
                })
            };
            prop_assert_eq!(map.to_outside(id), naive(Extent::inside, Extent::outside));
            prop_assert_eq!(map.to_inside(id), naive(Extent::outside, Extent::inside));
            if let Some(outside) = map.to_outside(id) {
                prop_assert_eq!(map.to_inside(outside), Some(id));
            }
            if let Some(inside) = map.to_inside(id) {
                prop_assert_eq!(map.to_outside(inside), Some(id));
            }
        }
    }

    #[test]
    fn no_text_makes_a_panic(text in "[0-9:, \n\\-+x\u{663}]{0,40}", bytes in vec(any::<u8>(), 0..60)) {
        let _ = text.parse::<IdMap>();
        let _ = text.parse::<crate::IdMaps>();
        let _ = IdMap::from_proc(&bytes);
        let caller = Caller::ordinary("ann", 1000);
        let _ = SubIds::parse(&caller, &bytes, text.as_bytes());
    }

    /// Which ids are whose, with one entry an id.
    #[test]
    fn subordinate_ranges_are_what_a_set_of_ids_says(
        rows in vec((0..3_usize, 0..120_u32, 0..40_u32), 0..12), from in 0..150_u32, count in 1..40_u32,
    ) {
        let owners = ["ann", "1000", "bob"];
        let text: String = rows.iter().map(|(o, s, c)| format!("{}:{s}:{c}\n", owners[*o])).collect();
        let caller = Caller::ordinary("ann", 1000);
        let subids = SubIds::parse(&caller, text.as_bytes(), b"");
        let mut naive = std::collections::BTreeSet::new();
        let mut order = Vec::new();
        for (owner, start, count) in rows {
            if owner < 2 {
                order.extend((start..start + count).filter(|id| naive.insert(*id)));
            }
        }
        let ids: Vec<u32> = subids.uids().iter().flat_map(|r| r.start()..r.start() + r.count()).collect();
        prop_assert_eq!(ids, order, "the same ids, each once, in the order of the file");
        prop_assert!(subids.gids().is_empty());

        let missing: Vec<u32> = missing(&subids.sorted(IdKind::Uid), Extent::new(0, from, count).unwrap())
            .into_iter()
            .flat_map(|r| r.start()..r.start() + r.count())
            .collect();
        let naive_missing: Vec<u32> = (from..from + count).filter(|id| !naive.contains(id)).collect();
        prop_assert_eq!(missing, naive_missing);
    }
}

#[test]
fn the_kernels_limits_are_known_before_the_write() {
    let every_second = |count: u32| IdMap::new((0..count).map(|n| Extent::new(n * 2, n * 2, 1).unwrap())).unwrap();
    assert!(every_second(340).check_writable().is_ok());
    let error = every_second(341).check_writable().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "id map: the map has 341 extents, and the kernel takes 340");
    assert!(error.hint().is_some());
    assert!(IdMap::empty().check_writable().unwrap_err().to_string().contains("no extent"));
    // 4095 bytes, and then one more.
    let mut lines: Vec<Extent> =
        (0..204_u32).map(|n| Extent::new(100_000 + n, 2_000_000_000 + n * 2, 1).unwrap()).collect();
    lines.push(Extent::new(0, 3_000_000_000, 1).unwrap());
    let fits = IdMap::new(lines.clone()).unwrap();
    assert_eq!((fits.text_len(), fits.to_string().len()), (4095, 4095));
    assert!(fits.check_writable().is_ok());
    lines.pop();
    lines.push(Extent::new(10, 3_000_000_000, 1).unwrap());
    let error = IdMap::new(lines).unwrap().check_writable().unwrap_err();
    assert!(error.to_string().contains("4096 bytes"), "{error}");
    // Of the two or three maps, the file that is wrong is named.
    let maps = crate::IdMaps::new(fits.clone(), fits.clone());
    assert!(maps.check_writable().is_ok());
    let error = maps.with_projid(IdMap::empty()).check_writable().unwrap_err();
    assert!(error.to_string().starts_with("projid_map: "), "{error}");
}

#[test]
fn a_text_of_a_million_extents_is_not_read_to_its_end() {
    // The second overlaps the first, but the number is what is looked at while reading.
    let error = "0:0:1,".repeat(1_000_000).parse::<IdMap>().unwrap_err();
    assert!(error.to_string().contains("more than 65536 extents"), "{error}");
    assert!(error.to_string().len() < 300, "{error}");
    let error = "0 0 1\n".repeat(1_000_000).parse::<IdMap>().unwrap_err();
    assert!(error.to_string().len() < 300 && !error.to_string().contains('\n'), "{error}");
    let error = IdMap::from_proc("0 0 1\n".repeat(1_000_000).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("more than 340 lines"), "{error}");
    let error = format!("0:0:{}", "1".repeat(10_000_000)).parse::<IdMap>().unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
    // What is within the bound is a map, though not one for the kernel.
    let text: Vec<String> = (0..65_536_u32).rev().map(|n| format!("{}:{}:1", n * 2, n * 3)).collect();
    let map: IdMap = text.join(",").parse().unwrap();
    assert_eq!((map.extents().len(), map.to_outside(131_070), map.to_inside(4)), (65_536, Some(196_605), None));
    assert!(map.check_writable().is_err());
}

#[test]
fn texts_that_are_no_map() {
    for (text, part) in [
        ("", "three numbers"),
        ("0:1", "three numbers"),
        ("0:1:2:3", "three numbers"),
        ("0:1:2,", "three numbers"),
        ("0:1:-2", "\"-2\" is not an id"),
        ("0:+1:2", "\"+1\" is not an id"),
        ("0:1:4294967296", "\"4294967296\" is not an id"),
        ("0:1:0", "count is 0"),
        ("0:4294967295:1", "beyond 4294967294"),
        ("0:1:5,4:100:1", "overlap: both have id 4 inside"),
        ("0:1:5,5:5:1", "overlap: both have id 5 outside"),
        ("0\0:1:2", "\"0\\0\" is not an id"),
    ] {
        let error = text.parse::<IdMap>().expect_err(text);
        assert!(error.to_string().contains(part), "{text:?}: {error}");
    }
    assert_eq!(IdMap::from_proc(b"").unwrap(), None, "not written yet");
    // Ids that the reader's namespace lacks.
    assert_eq!(IdMap::from_proc(b"0 4294967295 1\n").unwrap_err().kind(), ErrorKind::Parse);
    assert_eq!(IdMap::from_proc(b"0 1\n").unwrap_err().kind(), ErrorKind::Parse);
}
