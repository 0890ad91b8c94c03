//! The kernel takes exactly the maps that our checks take.
#![forbid(unsafe_code)]

use idmap::IdMap;

use crate::cases::{Random, build, triples};
use crate::model::{self, Triple};
use crate::sys::{Waiting, become_user};

const CASES: u64 = 2_400;

/// Namespaces without a map, a new one whenever the kernel took one.
struct Kernel(Waiting);

impl Kernel {
    fn new() -> Self {
        Self(Waiting::new(|| {}))
    }

    /// Whether the kernel takes the map, or with what errno it does not.
    fn takes(&mut self, file: &str, raw: &[Triple]) -> Result<(), i32> {
        let written = self.0.write(file, &model::text(raw));
        if written.is_ok() {
            *self = Self::new();
        }
        written.map_err(|error| error.raw_os_error().expect("an errno"))
    }
}

/// The three checks of the crate, in the order of the kernel.
fn ours(raw: &[Triple], parent: &IdMap) -> Result<(), i32> {
    let map = build(raw).map_err(|_| libc::EINVAL)?;
    map.check_writable().map_err(|_| libc::EINVAL)?;
    map.check_within(parent).map_err(|_| libc::EPERM)
}

/// Lines that keep the rules about as often as they break one, near `last` as well.
fn any_lines(random: &mut Random, ids: u32) -> Vec<Triple> {
    let id = |random: &mut Random| if random.one_in(12) { u32::MAX - random.below(12) } else { random.below(ids) };
    (0..random.below(6)).map(|_| (id(random), id(random), random.below(8))).collect()
}

/// 4095 bytes, and `more`.
fn long_text(more: u32) -> Vec<Triple> {
    let mut lines: Vec<Triple> = (0..204).map(|n| (100_000 + n, 2_000_000_000 + n * 2, 1)).collect();
    lines.push((10_u32.pow(more) - 1, 3_000_000_000, 1));
    lines
}

fn lines(count: u32) -> Vec<Triple> {
    (0..count).map(|n| (n * 2, n * 2, 1)).collect()
}

#[test]
fn the_kernel_takes_exactly_the_maps_that_are_writable() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        let mut kernel = Kernel::new();
        let whole = IdMap::identity();
        let last = u32::MAX - 1;
        let named: [(&str, Vec<Triple>, bool); 18] = [
            ("nothing", vec![], false),
            ("one id", lines(1), true),
            ("five lines", lines(5), true),
            ("six lines", lines(6), true),
            ("340 lines", lines(340), true),
            ("341 lines", lines(341), false),
            ("4095 bytes", long_text(1), true),
            ("4096 bytes", long_text(2), false),
            ("every id", vec![(0, 0, u32::MAX)], true),
            ("the last id", vec![(last, last, 1)], true),
            ("no id inside", vec![(u32::MAX, 0, 1)], false),
            ("no id outside", vec![(0, u32::MAX, 1)], false),
            ("wraps inside", vec![(10, 0, u32::MAX - 5)], false),
            ("wraps outside", vec![(0, 10, u32::MAX - 5)], false),
            ("no count", vec![(0, 0, 0)], false),
            ("overlap inside", vec![(0, 0, 5), (4, 100, 5)], false),
            ("overlap outside", vec![(0, 0, 5), (100, 4, 5)], false),
            ("the same line twice", vec![(0, 0, 5), (0, 0, 5)], false),
        ];
        for (name, raw, expected) in named {
            for file in ["uid_map", "gid_map", "projid_map"] {
                assert_eq!(kernel.takes(file, &raw).is_ok(), expected, "{name}, in {file}");
            }
            assert_eq!(ours(&raw, &whole).is_ok(), expected, "{name}");
        }
        let random = &mut Random::new(18_955);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..CASES {
            let raw = any_lines(random, 60);
            let kernels = kernel.takes("uid_map", &raw);
            assert_eq!(kernels, ours(&raw, &whole), "{raw:?}");
            *if kernels.is_ok() { &mut taken } else { &mut refused } += 1;
        }
        assert!(taken > CASES / 5 && refused > CASES / 5, "{taken} taken, {refused} refused: the sample says nothing");
    });
}

#[test]
fn a_nested_map_is_taken_exactly_when_each_extent_lies_within_one_of_the_parents() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        // Ids 0 to 39 inside, in extents that touch on both sides, on one, and not at all; and with more than five.
        let joined: Vec<Triple> = vec![(0, 100_000, 10), (10, 100_010, 10), (20, 200_000, 10), (30, 100_020, 10)];
        let many: Vec<Triple> = (0..10).map(|n| (n * 4, 300_000 + n * 5, 4)).collect();
        let gaps: Vec<Triple> = vec![(0, 100_000, 10), (15, 200_000, 20)];
        for (number, parent) in [joined, many, gaps].into_iter().enumerate() {
            let map = build(&parent).expect("a map");
            let child = Waiting::new(|| {
                become_user(0, 0);
                let mut kernel = Kernel::new();
                let random = &mut Random::new(number as u64);
                let (mut taken, mut outside, mut cut) = (0, 0, 0);
                for _ in 0..CASES / 3 {
                    let raw = any_lines(random, 45);
                    let kernels = kernel.takes("uid_map", &raw);
                    assert_eq!(kernels, ours(&raw, &map), "{raw:?} below {parent:?}");
                    match kernels {
                        Ok(()) => taken += 1,
                        Err(libc::EPERM) => {
                            outside += 1;
                            // What cut_for makes of it is refused only for ids that do not exist.
                            let fitted = build(&raw).expect("a map").cut_for(&map);
                            let exist = fitted.pairs().all(|(_, id)| model::outside(&parent, id).is_some());
                            assert_eq!(kernel.takes("uid_map", &triples(&fitted)).is_ok(), exist, "{fitted:?}");
                            cut += u32::from(exist);
                        }
                        Err(_) => {}
                    }
                }
                assert!(taken > 20 && outside > 20, "{taken} taken, {outside} refused: the sample says nothing");
                assert!(cut > 10 || number == 2, "{cut}");
            });
            for file in ["uid_map", "gid_map"] {
                child.write(file, &model::text(&parent)).expect(file);
            }
            child.go();
        }
    });
}
