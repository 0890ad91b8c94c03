//! Lookups in maps of several sizes.
#![forbid(unsafe_code)]

use super::place::{Place, User};
use crate::Result;
use crate::bench::table::Row;

const WAYS: [(&str, &str); 6] = [
    ("to_outside", "to-outside"),
    ("to_inside", "to-inside"),
    ("to_outside, one after the other", "to-outside-in-turn"),
    ("to_inside, one after the other", "to-inside-in-turn"),
    ("a scan, as runc and youki do it", "scan"),
    ("BTreeMap of std", "tree"),
];
const SIZES: [u32; 4] = [1, 5, 50, 340];
const COUNT: u32 = 200_000;

pub fn run(place: &Place, rounds: u32) -> Result<()> {
    let mut worker = place.start_worker(User::Root, 0)?;
    let mut rows: Vec<Vec<Row>> = WAYS.iter().map(|(name, _)| SIZES.map(|_| Row::new(name)).into()).collect();
    let mut empty = Row::new("the loop alone");
    for round in 0..=rounds {
        for ((_, way), row) in WAYS.iter().zip(&mut rows) {
            for (size, cell) in SIZES.iter().zip(row) {
                let time = worker.time(&format!("lookup {way} {size} {COUNT}"))?;
                // The first is for caches and clocks.
                cell.times.extend((round > 0).then_some(time));
            }
        }
        empty.times.push(worker.time(&format!("lookup nothing 1 {COUNT}"))?);
    }
    println!("## Lookups\n");
    println!(
        "An id at random, one in eight of them not mapped: medians of {rounds} interleaved rounds of {COUNT} lookups each, \
         {}.\nNanoseconds a lookup; the loop itself takes {:.1} of them.\n",
        crate::bench::machine(),
        nanoseconds(&empty)
    );
    let sizes: Vec<String> = SIZES.iter().map(|size| format!("{size} extents")).collect();
    println!("| lookup | {} | times a scan, {} |", sizes.join(" | "), sizes.last().map_or("", |size| size));
    println!("|---|{}", "---:|".repeat(SIZES.len() + 1));
    let last = |row: &[Row]| row.last().map_or(0.0, nanoseconds);
    let scan = rows.iter().find(|row| row.first().is_some_and(|cell| cell.name.starts_with("a scan")));
    let scan = scan.map_or(0.0, |row| last(row));
    for row in &rows {
        let cells: Vec<String> = row.iter().map(|cell| format!("{:.1}", nanoseconds(cell))).collect();
        let name = row.first().map_or("", |cell| &cell.name);
        println!("| {name} | {} | {:.3} |", cells.join(" | "), last(row) / scan);
    }
    println!();
    Ok(())
}

fn nanoseconds(row: &Row) -> f64 {
    row.median() * 1e6 / f64::from(COUNT)
}
