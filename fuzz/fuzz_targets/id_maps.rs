//! Id maps: the kernel's text and the one that users write, and the algebra of what comes out of them.
#![no_main]

use idmap::{IdMap, IdMaps, IdRange};
use libfuzzer_sys::fuzz_target;

/// What holds of every map, whatever made it.
fn check(map: &IdMap) {
    let text = map.to_string();
    assert_eq!(text.len(), map.text_len());
    if !map.is_empty() {
        assert_eq!(text.parse::<IdMap>().as_ref().ok(), Some(map), "{text}");
    }
    assert_eq!(map.invert().invert(), *map);
    assert_eq!(map.ranges_inside().iter().map(|range| u64::from(range.count())).sum::<u64>(), u64::from(map.count()));
    for extent in map.extents() {
        let last = extent.count() - 1;
        for (inside, outside) in
            [(extent.inside(), extent.outside()), (extent.inside() + last, extent.outside() + last)]
        {
            assert_eq!((map.to_outside(inside), map.to_inside(outside)), (Some(outside), Some(inside)));
        }
    }
    assert!(map.to_outside(u32::MAX).is_none() && map.to_inside(u32::MAX).is_none());
    let normal = map.normalise();
    assert!(normal.extents().len() <= map.extents().len() && normal.count() == map.count());
    assert!(map.subtract(map).is_empty());
    if map.check_writable().is_ok() {
        assert!(map.extents().len() <= IdMap::MAX_EXTENTS && text.len() <= IdMap::MAX_BYTES);
        assert_eq!(IdMap::from_proc(text.as_bytes()).ok().flatten().as_ref(), Some(map));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let kernels = IdMap::from_proc(bytes).ok().flatten();
    let text = String::from_utf8_lossy(bytes);
    // Two maps, as of a namespace in another, with a semicolon between them.
    let maps: Vec<IdMap> = text.split(';').take(2).filter_map(|part| part.parse().ok()).collect();
    for map in kernels.iter().chain(&maps) {
        check(map);
    }
    if let [inner, outer] = &maps[..] {
        let through = inner.through(outer);
        check(&through);
        check(&inner.intersect(outer));
        check(&inner.subtract(outer));
        for extent in inner.extents().iter().take(16) {
            let expected = outer.to_outside(extent.outside());
            assert_eq!(through.to_outside(extent.inside()), expected);
        }
    }
    if let Ok(maps) = text.parse::<IdMaps>() {
        assert_eq!(maps.uid.count(), maps.gid.count());
    }
    if let Ok(range) = text.parse::<IdRange>() {
        assert_eq!(range.to_string().parse::<IdRange>().ok(), Some(range));
        assert!(range.contains(range.start()) && range.contains(range.last()));
    }
});
