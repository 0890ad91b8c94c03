//! User namespaces as descriptors.
#![forbid(unsafe_code)]

use super::place::{Place, User};
use crate::Result;
use crate::bench::table::{Row, markdown};

const MEBIBYTES: u32 = 512;

pub fn run(place: &Place, rounds: u32) -> Result<()> {
    let mut small = place.start_worker(User::Root, 0)?;
    let mut large = place.start_worker(User::Root, MEBIBYTES)?;
    let ways = [
        ("UsernsFd::new", "new"),
        ("UsernsFd::with_maps", "with-maps"),
        ("UsernsCache::get, made before", "cached"),
        ("fork, unshare, write, open", "fork"),
        ("unshare(1), write, open", "unshare"),
    ];
    let mut rows: Vec<Row> = ways.iter().map(|(name, _)| Row::new(name)).collect();
    let mut in_large: Vec<Row> =
        ways.iter().map(|(name, _)| Row::new(&format!("{name}, in a program of {MEBIBYTES} MiB"))).collect();
    for round in 0..=rounds {
        for ((_, way), (row, other)) in ways.iter().zip(rows.iter_mut().zip(&mut in_large)) {
            let (one, two) = (small.time(&format!("userns {way}"))?, large.time(&format!("userns {way}"))?);
            row.times.extend((round > 0).then_some(one));
            other.times.extend((round > 0).then_some(two));
        }
    }
    rows.extend(in_large);
    println!("## User namespaces as descriptors\n");
    println!("65536 ids, as root: medians of {rounds} interleaved rounds, {}.\n", crate::bench::machine());
    println!("{}", markdown(&rows, &["fork, unshare, write, open"]));
    Ok(())
}
