//! What the first change of a file costs through an overlay: `cargo bench --bench copy_up`, as root.
//!
//! The first write to a file of a lower layer copies it up whole, wherever the write is. A change of its owner does so too,
//! unless `metacopy` is on. The copy is synced to disk before it takes its name, unless the overlay is `volatile`. Each is timed beside the same change of a file that is in no overlay, in turns, and each time on
//! a file that was not changed yet, which is in memory, on the file system of `TMPDIR` (or `/tmp`).
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mountkit::{Overlay, RedirectDir, RootFd};

/// Sizes of files, and how many of each are changed.
const SIZES: [(&str, u64, usize); 3] = [("4 KiB", 4 << 10, 200), ("1 MiB", 1 << 20, 60), ("100 MiB", 100 << 20, 7)];

/// A folder that goes away again, also when something fails.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() {
    // cargo test runs benches too, to see that they start.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("Run by `cargo bench --bench copy_up`.");
        return;
    }
    // No mount in the machine's own mount namespace.
    ns_core::unshare(ns_core::Namespaces::MOUNT).expect("unshare");
    run("mount", &["--make-rprivate", "/"]);
    let folder = Folder(std::env::temp_dir().join(format!("copy_up-{}", std::process::id())));
    fs::create_dir(&folder.0).expect("mkdir");
    println!("| file, change | no overlay, µs | overlay, µs | times | metacopy, µs | times | volatile, µs | times |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (name, size, count) in SIZES {
        for change in [Change::Byte, Change::Append, Change::Owner] {
            row(&folder.0, name, size, count, change);
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Byte,
    Append,
    Owner,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Byte => "one byte in the middle written",
            Self::Append => "one byte appended",
            Self::Owner => "the owner changed",
        }
    }

    fn make(self, path: &Path, size: u64) {
        match self {
            Self::Byte => OpenOptions::new().write(true).open(path).and_then(|file| file.write_all_at(b"x", size / 2)),
            Self::Append => OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(b"x")),
            Self::Owner => chown(path, Some(7), Some(7)),
        }
        .expect("change");
    }
}

fn row(folder: &Path, name: &str, size: u64, count: usize, change: Change) {
    let dir = folder.join("round");
    let (direct, base) = (dir.join("direct"), dir.join("base"));
    for made in [&direct, &base, &dir.join("empty")] {
        fs::create_dir_all(made).expect("mkdir");
    }
    let mut at = Vec::new();
    for way in ["plain", "metacopy", "volatile"] {
        let own = dir.join(way);
        for made in ["upper", "at"] {
            fs::create_dir_all(own.join(made)).expect("mkdir");
        }
        let overlay = Overlay::new().lower(&base).upper(own.join("upper"), own.join("work"));
        let overlay = match way {
            "metacopy" => overlay.redirect_dir(RedirectDir::On).metacopy(),
            "volatile" => overlay.volatile(),
            _ => overlay,
        };
        overlay.mount().expect("mount").attach(&RootFd::open(&own).expect("open"), "at").expect("attach");
        at.push(own.join("at"));
    }
    let places = [&direct, &at[0], &at[1], &at[2]];
    let mut times: [Vec<Duration>; 4] = Default::default();
    // A few files at a time: what they hold must not fill the disk.
    let batch = if size > 1 << 24 { 1 } else { count };
    for first in (0..count).step_by(batch) {
        let numbers = first..(first + batch).min(count);
        for number in numbers.clone() {
            for into in [&direct, &base] {
                fill(&into.join(number.to_string()), size);
            }
        }
        for number in numbers.clone() {
            // Who is first in a turn is not always the same.
            for turn in 0..4 {
                let which = (turn + number) % 4;
                let path = places[which].join(number.to_string());
                let begun = Instant::now();
                change.make(&path, size);
                times[which].push(begun.elapsed());
            }
        }
        for place in places {
            for number in numbers.clone() {
                fs::remove_file(place.join(number.to_string())).expect("rm");
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let [none, plain, lazy, unsynced] = times.each_mut().map(median);
    let cell = |time: f64| format!("{time:.1} | {:.1}", time / none);
    println!("| {name}, {} | {none:.1} | {} | {} | {} |", change.name(), cell(plain), cell(lazy), cell(unsynced));
    for at in &at {
        run("umount", &[at.to_str().expect("UTF-8")]);
    }
    fs::remove_dir_all(&dir).expect("rm");
}

fn fill(path: &Path, size: u64) {
    let mut file = File::create(path).expect("create");
    let block = vec![b'.'; 1 << 20];
    let mut left = size;
    while left > 0 {
        let part = left.min(1 << 20) as usize;
        file.write_all(&block[..part]).expect("write");
        left -= part as u64;
    }
    file.sync_all().expect("fsync");
}

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().expect(program);
    assert!(status.success());
}
