//! User namespaces as descriptors: ours, and as other runtimes make them.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use idmap::{Caller, IdMaps, MapPlan, SubIds, UsernsCache, UsernsFd};

use crate::sys;

#[derive(Default)]
pub(crate) struct Cache(UsernsCache);

impl Cache {
    pub(crate) fn time(&mut self, way: &str) -> Duration {
        let maps = IdMaps::contiguous(100_000, 100_000, 65_536).expect("maps");
        let caller = Caller::current().expect("caller");
        let plan = MapPlan::explicit(maps.clone(), &caller, &SubIds::default()).expect("plan");
        let begun = Instant::now();
        match way {
            "with-maps" => drop(UsernsFd::with_maps(&maps).expect("userns")),
            "new" => drop(UsernsFd::new(&plan).expect("userns")),
            "cached" => drop(self.0.get(&plan).expect("userns")),
            "fork" => drop(sys::fork_and_open("0 100000 65536")),
            // A program that sleeps in it, as scripts do.
            "unshare" => drop(sys::unshare_and_open("0 100000 65536")),
            _ => panic!("what is {way}?"),
        }
        begun.elapsed()
    }
}
