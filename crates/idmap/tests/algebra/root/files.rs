//! Whose a file is, as the kernel shows it to processes of random namespaces.
#![forbid(unsafe_code)]

use std::fs::File;

use idmap::{IdMap, IdMaps, OverflowIds, Owner};

use crate::cases::{Base, Random, Shape, build};
use crate::model::{self, Triple};
use crate::sys::{Waiting, become_user, fchown};

/// A namespace and one in it: 2,000 maps for uids, and as many for gids.
const NAMESPACES: u64 = 1_000;
const FILES: usize = 48;
const NOBODY: u32 = 65_534;

/// The maps of one namespace, as lines in the order in which they are written.
struct Lines {
    uid: Vec<Triple>,
    gid: Vec<Triple>,
}

impl Lines {
    fn maps(&self) -> IdMaps {
        let map = |raw: &[Triple]| build(raw).expect("a map");
        IdMaps::new(map(&self.uid), map(&self.gid))
    }

    fn write(&self, child: &Waiting) {
        child.write("uid_map", &model::text(&self.uid)).expect("uid_map");
        child.write("gid_map", &model::text(&self.gid)).expect("gid_map");
    }

    /// As the model has it: who owns a file of `owner`, shown inside.
    fn shown(&self, owner: Owner) -> Owner {
        let shown = |map: &[Triple], id| model::inside(map, id).unwrap_or(NOBODY);
        Owner { uid: shown(&self.uid, owner.uid), gid: shown(&self.gid, owner.gid) }
    }

    /// As the model has it: whether both ids are mapped.
    fn has(&self, owner: Owner) -> bool {
        model::inside(&self.uid, owner.uid).is_some() && model::inside(&self.gid, owner.gid).is_some()
    }

    fn outside(&self, owner: Owner) -> Option<Owner> {
        let (uid, gid) = (model::outside(&self.uid, owner.uid)?, model::outside(&self.gid, owner.gid)?);
        Some(Owner { uid, gid })
    }

    /// Somebody who is mapped.
    fn somebody(&self) -> (u32, u32) {
        (self.uid[0].0, self.gid[0].0)
    }
}

/// What the kernel takes in one write, with 1 to 340 extents.
fn writable(random: &mut Random, mut make: impl FnMut(&mut Random, u32) -> Vec<Triple>) -> Vec<Triple> {
    // The kernel sorts from six extents on, and searches.
    let mut extents = match random.below(4) {
        0 => 1 + random.below(8),
        1 => 340,
        _ => 1 + random.below(340),
    };
    loop {
        let raw = make(random, extents);
        if build(&raw).expect("a map").check_writable().is_ok() {
            return raw;
        }
        extents -= extents / 8 + 1;
    }
}

fn outermost(random: &mut Random) -> Vec<Triple> {
    let small = Shape { most_count: 4, most_gap: 2 };
    let large = Shape { most_count: 90, most_gap: 200 };
    let shape = if random.one_in(2) { small } else { large };
    let outside = if random.one_in(4) { Base::Top } else { Base::Low(random.below(100_000)) };
    let inside = if random.one_in(8) { Base::Top } else { Base::Low(random.below(3)) };
    writable(random, |random, extents| random.map(shape, extents, inside, outside))
}

/// The ids at the edges of lines, and beside them.
fn edges(random: &mut Random, map: &[Triple], side: impl Fn(&Triple) -> u32) -> Vec<u32> {
    let around = |line: &Triple| {
        let first = side(line);
        [first.checked_sub(1), Some(first), Some(first + (line.2 - 1)), Some(first + line.2)]
    };
    let lines: Vec<&Triple> = (0..FILES / 4).map(|_| &map[random.below(map.len() as u32) as usize]).collect();
    // 4294967295 is no id: to chown(2) it means to leave what there is.
    lines.into_iter().flat_map(around).flatten().filter(|&id| id != u32::MAX).collect()
}

/// Users of one side of both maps, paired in all sorts of ways.
fn owners(random: &mut Random, lines: &Lines, side: impl Fn(&Triple) -> u32 + Copy) -> Vec<Owner> {
    let (uids, gids) = (edges(random, &lines.uid, side), edges(random, &lines.gid, side));
    let shift = random.below(5) as usize;
    let pairs = uids.iter().zip(gids.iter().cycle().skip(shift));
    pairs.map(|(&uid, &gid)| Owner { uid, gid }).take(FILES).collect()
}

fn owner(file: &File) -> Owner {
    Owner::from(&file.metadata().expect("fstat"))
}

#[track_caller]
fn assert_shown(files: &[File], owners: &[Owner], lines: &[&Lines], ours: &IdMaps) {
    let overflow = OverflowIds { uid: NOBODY, gid: NOBODY };
    for (file, &outside) in files.iter().zip(owners) {
        let shown = owner(file);
        let exact = lines.iter().try_fold(outside, |owner, lines| lines.has(owner).then(|| lines.shown(owner)));
        assert_eq!(ours.shown_inside(outside, overflow), shown, "{outside}, as the crate and as the kernel has it");
        assert_eq!(ours.to_inside(outside), exact, "{outside}");
        let naive = Owner {
            uid: lines.iter().try_fold(outside.uid, |id, lines| model::inside(&lines.uid, id)).unwrap_or(NOBODY),
            gid: lines.iter().try_fold(outside.gid, |id, lines| model::inside(&lines.gid, id)).unwrap_or(NOBODY),
        };
        assert_eq!(naive, shown, "{outside}, as the model and as the kernel has it");
    }
}

fn set(files: &[File], owners: &[Owner]) {
    for (file, owner) in files.iter().zip(owners) {
        assert_eq!(fchown(file, owner.uid, owner.gid), Ok(()), "{owner}");
    }
}

#[test]
fn random_maps_of_1_to_340_extents_one_and_two_levels_deep_are_as_the_kernel_has_them() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 600, || {
        let dir = faultkit::TempDir::new();
        let open = |n: usize| File::create_new(dir.path().join(n.to_string())).expect("a file");
        let files: Vec<File> = (0..FILES).map(open).collect();
        for number in 0..NAMESPACES {
            let random = &mut Random::new(number << 20);
            let outer = Lines { uid: outermost(random), gid: outermost(random) };
            let inner = Lines {
                uid: writable(random, |random, extents| random.nested(&outer.uid, extents)),
                gid: writable(random, |random, extents| random.nested(&outer.gid, extents)),
            };
            let (first, second) = (outer.maps(), inner.maps());
            assert!(second.check_within(&first).is_ok() && first.check_writable().is_ok());
            let both = second.through(&first);
            // Owners that matter to the first map, and to the two together.
            let known: Vec<Owner> =
                owners(random, &inner, |line| line.1).into_iter().filter_map(|owner| outer.outside(owner)).collect();
            let mut owned = owners(random, &outer, |line| line.1);
            owned.splice(..known.len().min(FILES / 2), known.iter().take(FILES / 2).copied());
            owned.truncate(FILES);
            set(&files, &owned);
            // What the innermost process will give its files to.
            let given = owners(random, &inner, |line| line.0);

            let child = Waiting::new(|| {
                let (uid, gid) = outer.somebody();
                become_user(uid, gid);
                assert_shown(&files, &owned, &[&outer], &first);
                let grandchild = Waiting::new(|| {
                    assert_shown(&files, &owned, &[&outer, &inner], &both);
                    for ((file, &owned), &to) in files.iter().zip(&owned).zip(&given) {
                        if both.to_inside(owned).is_some() {
                            let expected = if inner.outside(to).is_some() { Ok(()) } else { Err(libc::EINVAL) };
                            assert_eq!(fchown(file, to.uid, to.gid), expected, "{owned} to {to}");
                        } else {
                            assert_eq!(fchown(file, 0, 0).map_err(|_| ()), Err(()), "{owned} is not theirs to give");
                        }
                    }
                });
                inner.write(&grandchild);
                grandchild.go();
            });
            outer.write(&child);
            child.go();

            for ((file, &was), &to) in files.iter().zip(&owned).zip(&given) {
                let naive = inner.outside(to).and_then(|owner| outer.outside(owner));
                assert_eq!(both.to_outside(to), naive, "{to}");
                let theirs = outer.has(was) && inner.has(outer.shown(was));
                assert_eq!(owner(file), if theirs { naive.unwrap_or(was) } else { was }, "{was} to {to}");
            }
        }
    });
}

/// A kernel with CVE-2018-18955 forgot one direction: in a nested namespace with more than five extents, an id of the
/// *machine* was taken for an id of the parent. Root of such a namespace owned root's files.
#[test]
fn cve_2018_18955_six_extents_in_a_nested_namespace_are_not_those_of_the_machine() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let ids: Vec<u32> = (0..12).chain(100_000..100_012).collect();
        let owners: Vec<Owner> = ids.iter().map(|&id| Owner { uid: id, gid: id }).collect();
        let files: Vec<File> =
            ids.iter().map(|id| File::create_new(dir.path().join(id.to_string())).expect("a file")).collect();
        set(&files, &owners);
        for extents in [5, 6, 12] {
            let outer = Lines { uid: vec![(0, 100_000, 1000)], gid: vec![(0, 100_000, 1000)] };
            let lines: Vec<Triple> = (0..extents).map(|n| (n, n, 1)).collect();
            let inner = Lines { uid: lines.clone(), gid: lines };
            let both: IdMap = inner.maps().uid.through(&outer.maps().uid);
            let child = Waiting::new(|| {
                become_user(0, 0);
                let grandchild = Waiting::new(|| {
                    become_user(0, 0);
                    for (file, &owner_outside) in files.iter().zip(&owners) {
                        let id = both.to_inside(owner_outside.uid).unwrap_or(NOBODY);
                        assert_eq!(
                            id,
                            if owner_outside.uid < 100_000 { NOBODY } else { id },
                            "the machine's ids are nobody's"
                        );
                        assert_eq!(owner(file), Owner { uid: id, gid: id }, "{owner_outside}");
                        let given = fchown(file, 0, 0);
                        assert_eq!(given.is_ok(), id != NOBODY, "{owner_outside}: {given:?}");
                    }
                });
                inner.write(&grandchild);
                grandchild.go();
            });
            outer.write(&child);
            child.go();
            for (file, was) in files.iter().zip(&owners) {
                let id = if both.to_inside(was.uid).is_some() { 100_000 } else { was.uid };
                assert_eq!(owner(file), Owner { uid: id, gid: id }, "{extents} extents");
            }
            set(&files, &owners);
        }
    });
}
