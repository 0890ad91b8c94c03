//! Lookups, beside those of others: a linear scan (runc's moby/sys/user, youki), a tree of the standard library.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use idmap::{Extent, IdMap};

/// As many ids as are asked for, over and over.
const IDS: usize = 1 << 14;

/// Looks up `count` ids at random. One in eight is not mapped.
pub(crate) fn time(way: &str, extents: usize, count: usize) -> Duration {
    let map = make(extents);
    let list = map.extents().to_vec();
    let tree: BTreeMap<u32, Extent> = list.iter().map(|extent| (extent.inside(), *extent)).collect();
    let inside = ids(&list, Extent::inside);
    let outside = ids(&list, Extent::outside);
    match way {
        "to-outside" => run(&inside, count, |id| map.to_outside(id)),
        "to-inside" => run(&outside, count, |id| map.to_inside(id)),
        // Each waits for the answer of the one before it.
        "to-outside-in-turn" => in_turn(&inside, count, |id| map.to_outside(id)),
        "to-inside-in-turn" => in_turn(&outside, count, |id| map.to_inside(id)),
        "scan" => run(&inside, count, |id| scan(&list, id)),
        "tree" => run(&inside, count, |id| {
            let (first, extent) = tree.range(..=id).next_back()?;
            (id - first < extent.count()).then(|| extent.outside() + (id - first))
        }),
        "nothing" => run(&inside, count, Some),
        _ => panic!("what is {way}?"),
    }
}

fn scan(extents: &[Extent], id: u32) -> Option<u32> {
    let holds = |extent: &&Extent| extent.inside() <= id && id - extent.inside() < extent.count();
    extents.iter().find(holds).map(|extent| extent.outside() + (id - extent.inside()))
}

fn run(ids: &[u32], count: usize, find: impl Fn(u32) -> Option<u32>) -> Duration {
    let begun = Instant::now();
    for &id in ids.iter().cycle().take(count) {
        black_box(find(black_box(id)));
    }
    begun.elapsed()
}

fn in_turn(ids: &[u32], count: usize, find: impl Fn(u32) -> Option<u32>) -> Duration {
    let begun = Instant::now();
    let mut place = 0;
    for step in 0..count {
        let found = find(ids[(step + place) % IDS]);
        // Never more than one, which no compiler knows.
        place = black_box(found).map_or(0, |id| (id == u32::MAX) as usize);
    }
    begun.elapsed()
}

/// Extents of a hundred ids or so with gaps between them, those of the outside in another order.
fn make(extents: usize) -> IdMap {
    let mut words = Words(0x9e37_79b9_7f4a_7c15);
    let mut order: Vec<u32> = (0..extents as u32).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, words.next() as usize % (at + 1));
    }
    let extent = |(number, place): (usize, &u32)| {
        let count = 50 + (words.next() % 100) as u32;
        Extent::new(number as u32 * 200, 100_000 + place * 200, count).expect("extent")
    };
    IdMap::new(order.iter().enumerate().map(extent).collect::<Vec<_>>()).expect("map")
}

fn ids(extents: &[Extent], first: fn(Extent) -> u32) -> Vec<u32> {
    let mut words = Words(0x2545_f491_4f6c_dd1d);
    let mut one = || {
        let extent = extents[words.next() as usize % extents.len()];
        let within = words.next() as u32 % extent.count();
        // Every extent is shorter than the distance to the next.
        first(extent) + if words.next().is_multiple_of(8) { extent.count() + within % 50 } else { within }
    };
    (0..IDS).map(|_| one()).collect()
}

/// Always the same numbers, at random.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }
}
