//! Id maps, starts in user namespaces and shifted trees, timed from inside: the worker of `cargo xtask bench idmap`.
//!
//! `idmap --mib N` holds N MiB of memory and answers one line for each line it reads:
//!
//! | request | answer |
//! |---|---|
//! | `lookup WAY EXTENTS COUNT` | nanoseconds for COUNT lookups of ids at random, in a map of EXTENTS extents |
//! | `start WAY` | nanoseconds from before the clone until /bin/true has ended and been reaped |
//! | `helpers` | nanoseconds for newuidmap and newgidmap alone, of a child that waits |
//! | `userns WAY` | nanoseconds for a user namespace as a descriptor |
//! | `shift WAY DIR` | nanoseconds for the owners of a tree |
//! | `ids` | how many uids the caller's own plan maps |
#![deny(unsafe_code)]

use std::io::{BufRead, Write};

mod lookup;
mod shift;
mod start;
mod sys;
mod userns;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|argument| argument == "--mib") else {
        println!("This is the worker of `cargo xtask bench idmap`.");
        return;
    };
    let mebibytes: usize = arguments.get(at + 1).and_then(|text| text.parse().ok()).expect("--mib N");
    let mut ballast = vec![0u8; mebibytes << 20];
    for page in ballast.chunks_mut(4096) {
        page[0] = 1;
    }
    let mut cache = userns::Cache::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a request");
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let answer = match words.as_slice() {
            ["lookup", way, extents, count] => lookup::time(way, number(extents), number(count)).as_nanos().to_string(),
            ["start", way] => start::time(way).as_nanos().to_string(),
            ["helpers"] => start::helpers().as_nanos().to_string(),
            ["userns", way] => cache.time(way).as_nanos().to_string(),
            ["shift", way, dir] => shift::time(way, dir).as_nanos().to_string(),
            ["ids"] => start::ids().to_string(),
            _ => panic!("what is {line:?}?"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("an answer");
    }
    std::hint::black_box(&ballast);
}
