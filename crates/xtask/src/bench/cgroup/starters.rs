//! Sixteen threads that start programs in groups at the same time.
//!
//! A process gets into its group by being born there, CLONE_INTO_CGROUP, or by having its number written to
//! `cgroup.procs`. Such a write keeps every process of the machine from forking and ending meanwhile, and waits for all
//! processors to have taken notice.
#![forbid(unsafe_code)]

use std::path::Path;

use super::super::worker::Worker;
use super::{Parent, Programs};
use crate::Result;

const STARTERS: usize = 16;
const ROUNDS: usize = 5;
/// One by one: enough for the kernel to have forgotten the one before.
const SINGLE: usize = 20;
const PAUSE: u32 = 50;
const WAYS: [(&str, &str); 3] = [
    ("born in its group (CLONE_INTO_CGROUP)", "clone"),
    ("held, written to cgroup.procs, let go", "write"),
    ("no group", "none"),
];

pub fn measure(programs: &Programs, top: &Path, starts: usize) -> Result<()> {
    let parent = Parent::make(top, "starters")?;
    parent.fill(STARTERS)?;
    let mut worker = programs.worker()?;
    println!("### {starts} starts of /bin/true by {STARTERS} threads at once, each into its own group\n");
    compare(&mut worker, &format!("{} {STARTERS} {starts} 0", parent.0.display()), starts)?;
    println!("### {SINGLE} starts of /bin/true one by one, {PAUSE} ms apart\n");
    compare(&mut worker, &format!("{} 1 {SINGLE} {PAUSE}", parent.0.display()), SINGLE)
}

fn compare(worker: &mut Worker, request: &str, starts: usize) -> Result<()> {
    let mut rounds: Vec<[[f64; 3]; WAYS.len()]> = Vec::new();
    for round in 0..=ROUNDS {
        let mut results = [[0.0; 3]; WAYS.len()];
        for turn in 0..WAYS.len() {
            // Nobody always follows the same other.
            let which = (turn + round) % WAYS.len();
            let answer = worker.ask(&format!("start {} {request}", WAYS[which].1))?;
            let numbers: Vec<f64> = answer.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [total, median, late] = numbers[..] else { return Err(format!("{request}: {answer}").into()) };
            results[which] = [starts as f64 / (total / 1e9), median / 1e6, late / 1e6];
        }
        // The first fills caches.
        if round > 0 {
            rounds.push(results);
        }
    }
    println!(
        "| the process is | starts a second | until it runs: median, ms | 99 % | median, times that of the write |"
    );
    println!("|---|---:|---:|---:|---:|");
    let middle = |which: usize, what: usize| {
        let mut sorted: Vec<f64> = rounds.iter().map(|round| round[which][what]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    for (which, (name, _)) in WAYS.iter().enumerate() {
        let [rate, median, late] = [0, 1, 2].map(|what| middle(which, what));
        println!("| {name} | {rate:.0} | {median:.2} | {late:.2} | {:.2} |", median / middle(1, 1));
    }
    println!();
    Ok(())
}
