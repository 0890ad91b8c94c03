//! Trees whose owners are shifted, beside chown -R: 100,000 files, one in ten of them in 1000 folders.
//!
//! On a tmpfs, where the calls cost most beside what they do, and on the file system of the scratch folder. Each round
//! shifts there and back by each; who begins alternates.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::place::{Place, User};
use crate::Result;
use crate::bench::table::{Row, markdown};
use crate::install::output;

const FLAT: usize = 90_000;
const FOLDERS: usize = 1000;

pub fn run(place: &Place, rounds: u32) -> Result<()> {
    let mut worker = place.start_worker(User::Root, 0)?;
    println!("## Shifted trees\n");
    for (name, on_tmpfs) in [("tmpfs", true), ("the disk", false)] {
        let dir = place.path().join(if on_tmpfs { "shift-tmpfs" } else { "shift-disk" });
        fs::create_dir(&dir)?;
        if on_tmpfs {
            output(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&dir))?;
        }
        let tree = dir.join("tree");
        make(&tree)?;
        let shown = tree.to_str().ok_or("a scratch folder that is not text")?;
        let mut rows =
            ["Shift, to outside", "Shift, to inside", "Shift, a look only", "chown -R, there", "chown -R, back"]
                .map(Row::new);
        for round in 0..=rounds {
            let chown = |rows: &mut [Row; 5]| -> Result<()> {
                let (there, back) = (chown(&tree, 100_000)?, chown(&tree, 0)?);
                if round > 0 {
                    let [_, _, _, first, second] = rows;
                    first.times.push(there);
                    second.times.push(back);
                }
                Ok(())
            };
            if round % 2 == 0 {
                chown(&mut rows)?;
            }
            let look = worker.time(&format!("shift check {shown}"))?;
            let there = worker.time(&format!("shift out {shown}"))?;
            let back = worker.time(&format!("shift in {shown}"))?;
            if round > 0 {
                let [outside, inside, looked, ..] = &mut rows;
                outside.times.push(there);
                inside.times.push(back);
                looked.times.push(look);
            }
            if round % 2 == 1 {
                chown(&mut rows)?;
            }
        }
        println!(
            "{} files on {name}: {rounds} interleaved rounds, {}.\n",
            FLAT + 10 * FOLDERS,
            crate::bench::machine()
        );
        println!("{}", markdown(&rows, &["chown -R, there", "chown -R, back"]));
        if on_tmpfs {
            output(Command::new("umount").arg(&dir))?;
        }
    }
    Ok(())
}

fn make(tree: &Path) -> Result<()> {
    fs::create_dir(tree)?;
    for number in 0..FLAT {
        fs::write(tree.join(format!("file-{number:05}")), "")?;
    }
    for folder in 0..FOLDERS {
        let folder = tree.join(format!("folder-{folder:04}"));
        fs::create_dir(&folder)?;
        for number in 0..10 {
            fs::write(folder.join(format!("file-{number}")), "")?;
        }
    }
    Ok(())
}

/// The whole program, as its users have it.
fn chown(tree: &Path, id: u32) -> Result<Duration> {
    let begun = Instant::now();
    output(Command::new("chown").arg("-R").arg(format!("{id}:{id}")).arg(tree))?;
    Ok(begun.elapsed())
}
