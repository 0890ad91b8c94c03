//! Mount tables by mountkit, and what the kernel alone needs: a worker of `cargo xtask bench table`.
//!
//! It answers one line for each line it reads:
//!
//! | request | answer |
//! |---|---|
//! | `fill DIR N` | `ok`: a tmpfs is on DIR, and N mounts are in it |
//! | `raw` | nanoseconds for reading mountinfo and looking at nothing |
//! | `table`, `mountinfo`, `statmount` | nanoseconds for a table, of everything or of one source |
//! | `tree PATH`, `mount PATH` | nanoseconds for what is mounted below, and for the one mount |
//! | `count` | how many mounts there are |
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, Read, Write};
use std::time::Instant;

use mountkit::{Bind, MountTable, RootFd, TableSource, Tmpfs};

fn main() {
    if std::env::args().nth(1).as_deref() != Some("--worker") {
        println!("This is a worker of `cargo xtask bench table`.");
        return;
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a request");
        let words: Vec<&str> = line.split(' ').collect();
        let begun = Instant::now();
        let table = match words.as_slice() {
            ["fill", dir, count] => {
                fill(dir, count.parse().expect("a number"));
                answer("ok");
                continue;
            }
            ["count"] => {
                answer(&MountTable::read().expect("table").len().to_string());
                continue;
            }
            ["raw"] => {
                let mut file = File::open("/proc/thread-self/mountinfo").expect("mountinfo");
                let mut text = Vec::new();
                file.read_to_end(&mut text).expect("read");
                black_box(text);
                None
            }
            ["table"] => Some(MountTable::read()),
            ["mountinfo"] => Some(MountTable::read_from(TableSource::Mountinfo)),
            ["statmount"] => Some(MountTable::read_from(TableSource::Statmount)),
            ["tree", path] => Some(MountTable::of_tree(File::open(path).expect("open"))),
            ["mount", path] => Some(MountTable::of_mount(File::open(path).expect("open"))),
            _ => panic!("what is {line}?"),
        };
        black_box(table.map(|table| table.expect("table")));
        answer(&begun.elapsed().as_nanos().to_string());
    }
}

fn answer(text: &str) {
    println!("{text}");
    std::io::stdout().flush().expect("an answer");
}

/// All but ten are binds of a directory; those ten are below one of them.
fn fill(dir: &str, count: usize) {
    let outside = RootFd::open(dir).expect("open");
    Tmpfs::new().mount().expect("tmpfs").attach(&outside, ".").expect("attach");
    let root = RootFd::open(dir).expect("open");
    fs::create_dir(format!("{dir}/from")).expect("mkdir");
    for number in 0..count {
        let few = if number < count.saturating_sub(10) { "" } else { "few/" };
        if number == count.saturating_sub(10) {
            fs::create_dir(format!("{dir}/few")).expect("mkdir");
            Tmpfs::new().mount().expect("tmpfs").attach(&root, "few").expect("attach");
        }
        let name = format!("{few}container-{number}");
        fs::create_dir(format!("{dir}/{name}")).expect("mkdir");
        Bind::new(format!("{dir}/from")).mount().expect("bind").attach(&root, name).expect("attach");
    }
}
