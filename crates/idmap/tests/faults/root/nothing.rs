//! What is wrong is said without a single system call.
#![forbid(unsafe_code)]

use faultkit::{Failure, Sweep};
use idmap::{Caller, Error, ErrorKind, Extent, IdMap, IdMaps, MapPlan, SubIds};

/// Each is refused, as Invalid.
fn wrong(caller: &Caller, subids: &SubIds) -> Vec<(String, Error)> {
    let mut refused = Vec::new();
    let mut add = |what: String, error: Option<Error>| {
        if let Some(error) = error {
            refused.push((what, error));
        }
    };
    for (inside, outside, count) in [
        (u32::MAX, 0, 1),
        (0, u32::MAX, 1),
        (0, 0, 0),
        (1, 0, u32::MAX),
        (0, 1, u32::MAX),
        (4_294_967_000, 0, 1_000),
        (0, 4_294_967_000, 1_000),
    ] {
        add(format!("{inside}:{outside}:{count}"), Extent::new(inside, outside, count).err());
    }
    for text in [
        "0:0:0",
        "4294967295:0:1",
        "0:4294967295:1",
        "0:0:4294967296",
        "0:-1:1",
        "-1:0:1",
        "0:1:-1",
        "5:0",
        "0:0:10,5:100:10",
        "0:0:10,100:5:10",
        "100:5:10,0:0:10",
        "0:100:10,0:100:10",
        "10-5:0:1",
        "",
    ] {
        add(text.to_owned(), text.parse::<IdMap>().err());
    }
    let extents = |n: u32| (0..n).map(|i| Extent::new(2 * i, 100_000 + 2 * i, 1)).collect::<Result<Vec<_>, _>>();
    let map = |n: u32| extents(n).and_then(IdMap::new);
    if let (Ok(many), Ok(one)) = (map(341), map(1)) {
        for maps in [
            IdMaps::new(many.clone(), one.clone()),
            IdMaps::new(one.clone(), many.clone()),
            IdMaps::new(one.clone(), one.clone()).with_projid(many),
            IdMaps::new(IdMap::empty(), one.clone()),
            IdMaps::new(one, IdMap::empty()),
        ] {
            add(format!("{maps:?}"), MapPlan::explicit(maps, caller, subids).err());
        }
    }
    refused
}

#[test]
fn maps_that_are_wrong_are_refused_without_a_system_call() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let caller = Caller::current().expect("caller");
        let subids = SubIds::default();
        let expected = 7 + 14 + 5;
        let sweep = Sweep::new(|counted| {
            let refused = counted.run(|| wrong(&caller, &subids));
            assert_eq!(refused.len(), expected, "some were taken");
            for (what, error) in refused {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error:#}");
            }
            Ok::<(), Failure>(())
        });
        let calls: Vec<_> = sweep.calls().into_iter().flatten().collect();
        const ALLOCATOR: [&str; 6] = ["brk", "mmap", "munmap", "mprotect", "mremap", "madvise"];
        let ours: Vec<_> = calls.iter().filter(|call| !ALLOCATOR.contains(&call.name.as_str())).collect();
        assert!(ours.is_empty(), "{ours:?}");
    });
}
