//! Random maps from a seed, made to be cheap: the same seed is the same case on every machine.
#![forbid(unsafe_code)]

use idmap::{Extent, IdMap, IdRange};

use crate::model::Triple;

/// splitmix64: a step is an addition and a mix of its bits.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).expect("less than a u32")
    }

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// `n` starts of runs of these lengths, in a random order most of the time, with gaps that are often none.
    fn starts(&mut self, counts: &[u32], base: Base, most_gap: u32) -> Vec<u32> {
        let mut order: Vec<usize> = (0..counts.len()).collect();
        if !self.one_in(3) {
            for n in (1..order.len()).rev() {
                order.swap(n, self.below(n as u32 + 1) as usize);
            }
        }
        let gaps: Vec<u32> = counts.iter().map(|_| if self.one_in(2) { 0 } else { self.below(most_gap + 1) }).collect();
        let total: u32 = counts.iter().sum::<u32>() + gaps.iter().sum::<u32>();
        let mut next = match base {
            Base::Low(first) => first,
            // The last run ends at 4294967294.
            Base::Top => u32::MAX - total,
        };
        let mut starts = vec![0; counts.len()];
        for (&run, gap) in order.iter().zip(gaps) {
            starts[run] = next + gap;
            next += gap + counts[run];
        }
        starts
    }

    /// A map of `extents` runs, in no particular order.
    pub(crate) fn map(&mut self, shape: Shape, extents: u32, inside: Base, outside: Base) -> Vec<Triple> {
        let counts: Vec<u32> = (0..extents).map(|_| 1 + self.below(shape.most_count)).collect();
        let insides = self.starts(&counts, inside, shape.most_gap);
        let outsides = self.starts(&counts, outside, shape.most_gap);
        let triples = insides.into_iter().zip(outsides).zip(counts);
        triples.map(|((inside, outside), count)| (inside, outside, count)).collect()
    }

    /// A map of at most `extents` runs that a namespace with the map `parent` takes for a child's.
    pub(crate) fn nested(&mut self, parent: &[Triple], extents: u32) -> Vec<Triple> {
        let most_count = 1 + self.below(40);
        let mut order: Vec<&Triple> = parent.iter().collect();
        for n in (1..order.len()).rev() {
            order.swap(n, self.below(n as u32 + 1) as usize);
        }
        let mut pieces: Vec<(u32, u32)> = Vec::new();
        for &&(first, _, ids) in &order {
            let mut next = first;
            while pieces.len() < extents as usize {
                next = next.saturating_add(if self.one_in(2) { 0 } else { self.below(3) });
                if next >= first + ids {
                    break;
                }
                let count = 1 + self.below(most_count.min(first + ids - next));
                pieces.push((next, count));
                next += count;
            }
        }
        if pieces.is_empty() {
            pieces.push((parent[0].0, 1));
        }
        let counts: Vec<u32> = pieces.iter().map(|&(_, count)| count).collect();
        let base = self.base();
        let insides = self.starts(&counts, base, 5);
        insides.into_iter().zip(pieces).map(|(inside, (outside, count))| (inside, outside, count)).collect()
    }

    pub(crate) fn base(&mut self) -> Base {
        match self.below(4) {
            0 => Base::Top,
            _ => Base::Low(self.below(3)),
        }
    }
}

/// Where the ids of one side begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Low(u32),
    /// As high as ids go.
    Top,
}

/// How long runs and gaps may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) most_count: u32,
    pub(crate) most_gap: u32,
}

/// Maps that can be put after one another: `b` takes what `a` gives, `c` what `b` gives. `near_a` shares much with `a`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) a: Vec<Triple>,
    pub(crate) b: Vec<Triple>,
    pub(crate) c: Vec<Triple>,
    pub(crate) near_a: Vec<Triple>,
    pub(crate) ranges: Vec<IdRange>,
    /// Every id that is in one of the maps, and the ones around them.
    pub(crate) ids: Vec<u32>,
}

impl Case {
    fn new(random: &mut Random) -> Self {
        let shape = Shape { most_count: 5, most_gap: 3 };
        let bases = [random.base(), random.base(), random.base(), random.base()];
        let mut map = |n: usize| {
            let extents = random.below(5);
            random.map(shape, extents, bases[n], bases[n + 1])
        };
        let (a, b, c) = (map(0), map(1), map(2));
        let mut near_a = Vec::new();
        for &(inside, outside, count) in &a {
            match random.below(4) {
                0 => {}
                1 if count > 1 => near_a.push((inside + 1, outside + 1, count - 1)),
                2 if count > 1 => {
                    near_a.extend([(inside, outside, 1), (inside + 1, outside + 1, count - 1)]);
                }
                // To another id outside, which the extents of one count can exchange.
                3 if count == 1 => near_a.push((inside, outside ^ 1, count)),
                _ => near_a.push((inside, outside, count)),
            }
        }
        if !crate::model::is_a_map(&near_a) {
            near_a.clone_from(&a);
        }
        let ranges: Vec<IdRange> = (0..random.below(4))
            .filter_map(|_| {
                let from = if random.one_in(4) { u32::MAX - 30 } else { 0 };
                IdRange::new(from + random.below(25), 1 + random.below(6)).ok()
            })
            .collect();
        let mut ids = vec![0, u32::MAX - 1, u32::MAX];
        for &(inside, outside, count) in a.iter().chain(&b).chain(&c) {
            for first in [inside, outside] {
                ids.extend(first.saturating_sub(1)..=first + count);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Self { a, b, c, near_a, ranges, ids }
    }
}

/// Runs `law` on `count` cases. A case that breaks it is printed, with its number.
pub(crate) fn each_case(seed: u64, count: u64, law: impl Fn(&Case)) {
    struct Blame<'a>(u64, &'a Case);
    impl Drop for Blame<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("case {}: {:?}", self.0, self.1);
            }
        }
    }
    for number in 0..count {
        let case = Case::new(&mut Random::new(seed ^ (number << 20)));
        let _blame = Blame(number, &case);
        law(&case);
    }
}

pub(crate) fn build(raw: &[Triple]) -> idmap::Result<IdMap> {
    let extents: idmap::Result<Vec<Extent>> =
        raw.iter().map(|&(inside, outside, count)| Extent::new(inside, outside, count)).collect();
    IdMap::new(extents?)
}

/// The map as triples again, for the model to look at.
pub(crate) fn triples(map: &IdMap) -> Vec<Triple> {
    map.extents().iter().map(|extent| (extent.inside(), extent.outside(), extent.count())).collect()
}
