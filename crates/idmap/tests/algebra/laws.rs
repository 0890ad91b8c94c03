//! 100,000 random cases in all, each looked at id by id: the maps and the calculations with them must say what the model
//! says, in both directions.
#![forbid(unsafe_code)]

use idmap::{Extent, IdMap, IdRange};

use crate::cases::{Case, build, each_case, triples};
use crate::model::{self, Triple};

/// Each of the five laws below.
const CASES: u64 = 20_000;

fn map(raw: &[Triple]) -> IdMap {
    build(raw).expect("the cases are maps")
}

/// `made` is, for each id of the case and in both directions, what the model says of it; and is well formed.
fn assert_is(case: &Case, made: &IdMap, outside: impl Fn(u32) -> Option<u32>, inside: impl Fn(u32) -> Option<u32>) {
    assert!(model::is_a_map(&triples(made)), "{made:?}");
    for pair in made.extents().windows(2) {
        assert!(pair[0].inside() < pair[1].inside(), "sorted: {made:?}");
    }
    for &id in &case.ids {
        assert_eq!(made.to_outside(id), outside(id), "{id} inside of {made:?}");
        assert_eq!(made.to_inside(id), inside(id), "{id} outside of {made:?}");
    }
}

#[test]
fn a_lookup_is_what_a_linear_search_finds_and_of_a_composition_the_composition_of_lookups() {
    each_case(1, CASES, |case| {
        let (a, b, c) = (map(&case.a), map(&case.b), map(&case.c));
        assert_is(case, &a, |id| model::outside(&case.a, id), |id| model::inside(&case.a, id));
        let ab = a.through(&b);
        assert_is(
            case,
            &ab,
            |id| model::outside(&case.b, model::outside(&case.a, id)?),
            |id| model::inside(&case.a, model::inside(&case.b, id)?),
        );
        // Which goes through which makes no difference, not even to where the extents are cut.
        assert_eq!(ab.through(&c), a.through(&b.through(&c)));
        assert_eq!(a.through(&IdMap::identity()), a);
        assert_eq!(IdMap::identity().through(&a), a);
        assert!(a.through(&IdMap::empty()).is_empty() && IdMap::empty().through(&a).is_empty());
    });
}

#[test]
fn inverting_undoes_itself_and_exchanges_the_lookups() {
    each_case(2, CASES, |case| {
        let (a, b) = (map(&case.a), map(&case.b));
        let inverse = a.invert();
        assert_is(case, &inverse, |id| model::inside(&case.a, id), |id| model::outside(&case.a, id));
        assert_eq!(inverse.invert(), a);
        assert_eq!(a.through(&b).invert(), b.invert().through(&a.invert()));
        // There and back again is where one was, for those who can go.
        assert_eq!(a.through(&inverse), IdMap::identity_on(a.ranges_inside()).cut_for(&a));
        // A child's map to its grandparent is, relative to its parent, the child's map, of the ids that the parent has.
        let relative = a.through(&b).relative_to(&b);
        let known = |id| model::outside(&case.a, id).filter(|&id| model::outside(&case.b, id).is_some());
        let known_outside = |id| model::outside(&case.b, id).and_then(|_| model::inside(&case.a, id));
        assert_is(case, &relative, known, known_outside);
    });
}

#[test]
fn intersection_and_difference_are_the_two_parts_of_a_map() {
    each_case(3, CASES, |case| {
        for other in [&case.near_a, &case.b] {
            let (a, near) = (map(&case.a), map(other));
            let (both, rest) = (a.intersect(&near), a.subtract(&near));
            let shared = |id| {
                let outside = model::outside(&case.a, id)?;
                (model::outside(other, id) == Some(outside)).then_some(outside)
            };
            let shared_inside = |id| {
                let inside = model::inside(&case.a, id)?;
                (model::inside(other, id) == Some(inside)).then_some(inside)
            };
            assert_is(case, &both, shared, shared_inside);
            assert_is(
                case,
                &rest,
                |id| model::outside(&case.a, id).filter(|_| shared(id).is_none()),
                |id| model::inside(&case.a, id).filter(|_| shared_inside(id).is_none()),
            );
            assert_eq!(both.union(&rest).expect("parts of one map").normalise(), a.normalise());
            assert_eq!(both.normalise(), near.intersect(&a).normalise());
            // A union is made exactly when no id would be two.
            let conflict = case.ids.iter().any(|&id| {
                let two = |one: Option<u32>, other: Option<u32>| one.is_some() && other.is_some() && one != other;
                two(model::outside(&case.a, id), model::outside(other, id))
                    || two(model::inside(&case.a, id), model::inside(other, id))
            });
            match a.union(&near) {
                Err(error) => assert!(conflict, "{error}"),
                Ok(union) => {
                    assert!(!conflict, "{union:?}");
                    assert_is(
                        case,
                        &union,
                        |id| model::outside(&case.a, id).or_else(|| model::outside(other, id)),
                        |id| model::inside(&case.a, id).or_else(|| model::inside(other, id)),
                    );
                }
            }
        }
    });
}

#[test]
fn a_map_cut_down_to_ids_has_those_and_no_other() {
    each_case(4, CASES, |case| {
        let a = map(&case.a);
        let within = |id: u32| {
            case.ranges.iter().any(|range| {
                let (id, start) = (u64::from(id), u64::from(range.start()));
                start <= id && id < start + u64::from(range.count())
            })
        };
        let outside = |id| model::outside(&case.a, id);
        let inside = |id| model::inside(&case.a, id);
        let ranges = || case.ranges.iter().copied();
        let out_in = |id: &u32| within(*id);
        let out_not = |id: &u32| !within(*id);
        assert_is(
            case,
            &a.only_inside(ranges()),
            |id| outside(id).filter(|_| within(id)),
            |id| inside(id).filter(out_in),
        );
        assert_is(
            case,
            &a.without_inside(ranges()),
            |id| outside(id).filter(|_| !within(id)),
            |id| inside(id).filter(out_not),
        );
        assert_is(
            case,
            &a.only_outside(ranges()),
            |id| outside(id).filter(out_in),
            |id| inside(id).filter(|_| within(id)),
        );
        assert_is(
            case,
            &a.without_outside(ranges()),
            |id| outside(id).filter(out_not),
            |id| inside(id).filter(|_| !within(id)),
        );
        for &at in case.ids.iter().step_by(5) {
            let (below, from) = a.split_inside(at);
            assert_is(
                case,
                &below,
                |id| outside(id).filter(|_| id < at),
                |id| inside(id).filter(|&inside| inside < at),
            );
            assert_eq!(below.union(&from).expect("parts of one map").normalise(), a.normalise());
            let (below, from) = a.split_outside(at);
            assert_is(
                case,
                &from,
                |id| outside(id).filter(|&outside| outside >= at),
                |id| inside(id).filter(|_| id >= at),
            );
            assert_eq!(from.union(&below).expect("parts of one map").normalise(), a.normalise());
        }
    });
}

#[test]
fn ranges_gaps_normal_forms_and_what_a_parent_takes() {
    each_case(5, CASES, |case| {
        let (a, b, near) = (map(&case.a), map(&case.b), map(&case.near_a));
        let ids = |ranges: &[IdRange], id: u32| ranges.iter().filter(|range| range.contains(id)).count();
        let (inside, outside) = (a.ranges_inside(), a.ranges_outside());
        for ranges in [&inside, &outside, &a.unmapped_inside(), &a.unmapped_outside()] {
            for pair in ranges.windows(2) {
                assert!(u64::from(pair[0].last()) + 1 < u64::from(pair[1].start()), "the fewest: {ranges:?}");
            }
        }
        for &id in &case.ids {
            let mapped = |is: bool| usize::from(is && id != u32::MAX);
            let (is_inside, is_outside) = (model::outside(&case.a, id).is_some(), model::inside(&case.a, id).is_some());
            assert_eq!(ids(&inside, id), mapped(is_inside), "{id}");
            assert_eq!(ids(&outside, id), mapped(is_outside), "{id}");
            assert_eq!(ids(&a.unmapped_inside(), id), mapped(!is_inside), "{id}");
            assert_eq!(ids(&a.unmapped_outside(), id), mapped(!is_outside), "{id}");
        }
        let pairs: Vec<(u32, u32)> =
            case.ids.iter().filter_map(|&id| Some((id, model::outside(&case.a, id)?))).collect();
        assert_eq!(a.pairs().collect::<Vec<_>>(), pairs);
        assert_eq!(a.count() as usize, pairs.len());
        assert_eq!(a.is_identity(), pairs.iter().all(|(inside, outside)| inside == outside));

        let normal = a.normalise();
        assert_is(case, &normal, |id| model::outside(&case.a, id), |id| model::inside(&case.a, id));
        assert_eq!(normal.normalise(), normal);
        let joins = |pair: &[Extent]| {
            pair[0].inside() + pair[0].count() == pair[1].inside()
                && pair[0].outside() + pair[0].count() == pair[1].outside()
        };
        assert!(!normal.extents().windows(2).any(joins), "{normal:?}");
        assert_eq!(a.as_single(), if let [one] = normal.extents() { Some(*one) } else { None });
        // Equal normal forms are equal maps, and the other way round.
        let alike = case.ids.iter().all(|&id| model::outside(&case.a, id) == model::outside(&case.near_a, id));
        assert_eq!(normal == near.normalise(), alike);

        assert_eq!(a.check_within(&b).is_ok(), model::is_within(&case.a, &case.b));
        let cut = a.cut_for(&b);
        assert_eq!(cut.normalise(), normal);
        let all_exist = pairs.iter().all(|&(_, outside)| model::outside(&case.b, outside).is_some());
        assert_eq!(cut.check_within(&b).is_ok(), all_exist);
        assert_eq!(model::is_within(&triples(&cut), &case.b), all_exist);

        assert_eq!(a.text_len(), a.to_string().len());
        if !a.is_empty() {
            assert_eq!(a.to_string().parse::<IdMap>().expect("its text"), a);
        }
    });
}
