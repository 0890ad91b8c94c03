//! The laws once more on larger maps, by proptest, which finds the smallest case that breaks one.
#![forbid(unsafe_code)]

use idmap::{Extent, IdMap, IdMaps, IdRange, OverflowIds, Owner};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases::{build, triples};
use crate::model;

/// Up to 60 extents whose sides overlap those of other such maps; some reach the last id.
fn any_map() -> impl Strategy<Value = IdMap> {
    let id = prop_oneof![8 => 0..3_000_u32, 1 => (u32::MAX - 600)..(u32::MAX - 50)];
    vec((id.clone(), id, 1..50_u32), 0..60).prop_map(|raw| {
        let mut kept = Vec::new();
        for triple in raw {
            kept.push(triple);
            if !model::is_a_map(&kept) {
                kept.pop();
            }
        }
        build(&kept).expect("a map")
    })
}

fn any_range() -> impl Strategy<Value = IdRange> {
    (prop_oneof![8 => 0..3_000_u32, 1 => (u32::MAX - 600)..u32::MAX], 1..400_u32)
        .prop_map(|(start, count)| IdRange::new(start, count.min(u32::MAX - start)).expect("a range"))
}

proptest! {
    #[test]
    fn inverting_twice_changes_nothing(a in any_map()) {
        prop_assert_eq!(a.invert().invert(), a);
    }

    #[test]
    fn composition_is_associative_and_is_that_of_the_lookups(
        a in any_map(), b in any_map(), c in any_map(), id in any::<u32>(),
    ) {
        let abc = a.through(&b).through(&c);
        prop_assert_eq!(&abc, &a.through(&b.through(&c)));
        let edges = a.extents().iter().flat_map(|e| [e.inside(), e.range_inside().last()]);
        for id in edges.chain([id]) {
            let step = |id| model::outside(&triples(&c), model::outside(&triples(&b), model::outside(&triples(&a), id)?)?);
            prop_assert_eq!(abc.to_outside(id), step(id));
        }
    }

    #[test]
    fn a_map_is_its_part_in_another_and_the_rest(a in any_map(), b in any_map(), ranges in vec(any_range(), 0..8)) {
        // b is seldom like a: what they share is made.
        let near = a.only_inside(ranges.iter().copied()).union(&b.subtract(&a));
        for other in near.iter().chain([&b]) {
            let (both, rest) = (a.intersect(other), a.subtract(other));
            prop_assert!(both.intersect(&rest).is_empty());
            prop_assert_eq!(u64::from(both.count()) + u64::from(rest.count()), u64::from(a.count()));
            prop_assert_eq!(both.union(&rest).unwrap().normalise(), a.normalise());
            prop_assert_eq!(rest.subtract(other), rest);
        }
        let (only, without) = (a.only_outside(ranges.iter().copied()), a.without_outside(ranges.iter().copied()));
        prop_assert_eq!(only.union(&without).unwrap().normalise(), a.normalise());
    }

    #[test]
    fn a_normal_form_is_one_for_all_ways_to_cut(a in any_map(), b in any_map(), at in 0..3_000_u32) {
        let (below, from) = a.split_inside(at);
        let again = IdMap::new(below.extents().iter().chain(from.extents()).copied()).unwrap();
        prop_assert_eq!(again.normalise(), a.normalise());
        let cut = a.cut_for(&b);
        prop_assert_eq!(cut.normalise(), a.normalise());
        prop_assert_eq!(cut.cut_for(&b), cut);
    }

    #[test]
    fn both_maps_at_once_are_each_map_alone(uid in any_map(), gid in any_map(), parent in any_map(), owner in (0..3_000_u32, 0..3_000_u32)) {
        let maps = IdMaps::new(uid.clone(), gid.clone()).with_projid(gid.clone());
        let above = IdMaps::new(parent.clone(), parent.clone());
        let through = maps.through(&above);
        prop_assert_eq!(&through.uid, &uid.through(&parent));
        prop_assert_eq!(&through.gid, &gid.through(&parent));
        prop_assert_eq!(&through.projid, &None, "there is none above");
        prop_assert_eq!(through.relative_to(&above).uid, uid.through(&parent).relative_to(&parent));
        let both = above.with_projid(parent.clone());
        prop_assert_eq!(maps.through(&both).projid, Some(gid.through(&parent)));
        let within = uid.check_within(&parent).is_ok() && gid.check_within(&parent).is_ok();
        prop_assert_eq!(maps.check_within(&both).is_ok(), within);
        prop_assert_eq!(maps.normalise().uid, uid.normalise());

        let owner = Owner { uid: owner.0, gid: owner.1 };
        let (u, g) = (model::inside(&triples(&uid), owner.uid), model::inside(&triples(&gid), owner.gid));
        prop_assert_eq!(maps.to_inside(owner), u.zip(g).map(|(uid, gid)| Owner { uid, gid }));
        let overflow = OverflowIds { uid: 7, gid: 8 };
        let shown = Owner { uid: u.unwrap_or(7), gid: g.unwrap_or(8) };
        prop_assert_eq!(maps.shown_inside(owner, overflow), shown);
        let (u, g) = (model::outside(&triples(&uid), owner.uid), model::outside(&triples(&gid), owner.gid));
        prop_assert_eq!(maps.to_outside(owner), u.zip(g).map(|(uid, gid)| Owner { uid, gid }));
    }
}

#[test]
fn the_last_ids_there_are() {
    let last = u32::MAX - 1;
    let whole = IdMap::identity();
    assert_eq!((whole.count(), whole.to_outside(last), whole.to_inside(u32::MAX)), (u32::MAX, Some(last), None));
    assert_eq!((whole.unmapped_inside(), whole.unmapped_outside()), (vec![], vec![]));
    assert_eq!(whole.invert(), whole);
    let (below, from) = whole.split_inside(last);
    assert_eq!((below.count(), from.extents()), (u32::MAX - 1, &[Extent::new(last, last, 1).expect("extent")][..]));
    assert_eq!(below.union(&from).expect("parts").normalise(), whole);
    assert_eq!(whole.split_inside(0), (IdMap::empty(), whole.clone()));
    assert_eq!(whole.split_outside(u32::MAX), (whole.clone(), IdMap::empty()));
    // Two extents whose shifts differ by 2^32 are no part of each other.
    let up = IdMap::single(Extent::new(0, 5, 10).expect("extent"));
    let down = IdMap::single(Extent::new(u32::MAX - 4, 0, 4).expect("extent"));
    assert!(up.intersect(&down).is_empty());
    assert_eq!(up.union(&down.without_outside([IdRange::new(0, 4).expect("range")])).expect("apart"), up);
    assert_eq!(IdMap::empty().unmapped_inside(), [IdRange::new(0, u32::MAX).expect("range")]);
}
