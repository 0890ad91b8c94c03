//! Unpacking an image layer, beside GNU tar on the same file system: the whole program, from exec to exit.
//!
//! The rounds are interleaved, so that a busy moment of the machine strikes everybody, and who begins alternates. What one
//! leaves to be written is written before the next one begins.
//!
//! Nothing is removed before all is measured; only the files are emptied, for their room. ext4 does not use an inode again
//! for some minutes after its file was removed, and steps over each of them whenever it makes a file: whoever came after a
//! removal would pay for that many times what unpacking costs.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::build;
use super::table::{Row, markdown};
use crate::install::has;
use crate::{Result, is_root, target_dir};

/// What `cargo xtask bench unpack` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each layer is unpacked by each program
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// How large the layer is when unpacked, in megabytes
    #[arg(long, default_value_t = 500)]
    megabytes: usize,
    /// Where: on the file system that is meant. By default, beside what cargo builds
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// A third of the bytes are in small files, the rest in large ones.
const SMALL: usize = 8 << 10;
const LARGE: usize = 12 << 20;

/// Measures.
///
/// # Errors
/// When it cannot be done at all: no root, no tar, no room.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() || !has("tar") {
        return Err("the comparison needs root, which owners are given by, and tar".into());
    }
    let ours = build::worker("unpack")?;
    let place = Place::new(options.dir.clone().unwrap_or_else(target_dir))?;
    let files = make_tree(&place.0.join("tree"), options.megabytes)?;
    let plain = place.0.join("layer.tar");
    done(
        Command::new("tar")
            .args(["--format=pax", "--xattrs", "-cf"])
            .arg(&plain)
            .arg("-C")
            .arg(place.0.join("tree"))
            .arg("."),
    )?;
    let mut layers = vec![("tar", plain.clone())];
    for (name, program, level, ending) in [("gzip", "gzip", "-6", "gz"), ("zstd", "zstd", "-3", "zst")] {
        if !has(program) {
            println!("{program} is missing, so {name} is not compared\n");
            continue;
        }
        let packed = place.0.join(format!("layer.tar.{ending}"));
        done(Command::new(program).args([level, "-c"]).arg(&plain).stdout(fs::File::create(&packed)?))?;
        layers.push((name, packed));
    }
    println!(
        "Unpack a layer of {} MB in {files} files: {} interleaved rounds, {}.\n",
        options.megabytes,
        options.rounds,
        super::machine()
    );
    for (name, layer) in layers {
        let size = fs::metadata(&layer)?.len();
        let (mut theirs, mut mine) = (Row::new("GNU tar"), Row::new("mountkit"));
        let (mut their_work, mut my_work) = (Row::new("GNU tar"), Row::new("mountkit"));
        let mut peak = 0;
        // One unmeasured round, for the layer to be in memory.
        for round in 0..=options.rounds {
            let folder = |who| place.0.join(format!("{name}-{round}-{who}"));
            let by_tar = || {
                let mut tar = Command::new("tar");
                tar.args(["--xattrs", "--xattrs-include=*", "--same-owner", "-xf"]).arg(&layer).arg("-C");
                timed(tar.arg(folder("tar")), &folder("tar"))
            };
            let by_us = || timed(Command::new(&ours).arg(&layer).arg(folder("ours")), &folder("ours"));
            let (tar, own) = if round % 2 == 0 {
                let tar = by_tar()?;
                (tar, by_us()?)
            } else {
                let own = by_us()?;
                (by_tar()?, own)
            };
            if round > 0 {
                theirs.times.push(tar.time);
                mine.times.push(own.time);
                their_work.times.push(tar.work);
                my_work.times.push(own.work);
            }
            let said = own.said.trim();
            peak = peak.max(said.parse::<u64>().map_err(|e| format!("the worker said {said:?}: {e}"))?);
        }
        println!("### {name}, {} MB\n", size / 1_000_000);
        print!("{}", markdown(&[mine, theirs], &["GNU tar"]));
        println!("\nTime of the processors, user and system, of all threads:\n");
        print!("{}", markdown(&[my_work, their_work], &["GNU tar"]));
        println!("\nMost memory of mountkit: {:.1} MiB\n", peak as f64 / 1024.0);
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder for all of it, removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(base: PathBuf) -> Result<Self> {
        let place = Self(base.join(format!("bench-unpack-{}", std::process::id())));
        fs::create_dir_all(&place.0)?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("could not remove {}: {error}", self.0.display());
        }
    }
}

/// What one unpacking took.
struct Taken {
    time: Duration,
    /// Of the processors.
    work: Duration,
    said: String,
}

/// Runs `command` on an empty folder, whose files are emptied.
fn timed(command: &mut Command, folder: &Path) -> Result<Taken> {
    fs::create_dir(folder)?;
    done(Command::new("sync").arg("-f").arg(folder))?;
    let before = work_of_children()?;
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let time = begun.elapsed();
    let work = work_of_children()?.saturating_sub(before);
    empty(folder)?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status).into());
    }
    Ok(Taken { time, work, said: String::from_utf8_lossy(&output.stdout).into_owned() })
}

/// What the children that have ended used of the processors: `cutime` and `cstime` of proc_pid_stat(5), in hundredths.
fn work_of_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, which may have spaces, ends with the last parenthesis; the state follows it.
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: Vec<u64> = rest.split_whitespace().skip(13).take(2).filter_map(|word| word.parse().ok()).collect();
    match ticks.as_slice() {
        [user, system] => Ok(Duration::from_millis(10 * (user + system))),
        _ => Err(format!("/proc/self/stat says {stat:?}").into()),
    }
}

/// Empties all files below, and leaves them there.
fn empty(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            empty(&entry.path())?;
        } else if kind.is_file() {
            fs::OpenOptions::new().write(true).open(entry.path())?.set_len(0)?;
        }
    }
    Ok(())
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// Files of many sizes, owners and modes; answers how many.
fn make_tree(tree: &Path, megabytes: usize) -> Result<usize> {
    let mut words = Words(0x9e37_79b9_7f4a_7c15);
    let mut left = megabytes * 1_000_000 / 3;
    let mut files = 0;
    while left > 0 {
        let dir = tree.join(format!("usr/lib/package-{:04}", files / 12));
        fs::create_dir_all(&dir)?;
        let size = (words.next() as usize % (2 * SMALL)).min(left);
        let path = dir.join(format!("file-{files:05}"));
        write(&path, size, &mut words)?;
        std::os::unix::fs::chown(&path, Some((words.next() % 3) as u32), Some(0))?;
        left -= size;
        files += 1;
        if size == 0 {
            left = left.saturating_sub(1);
        }
    }
    left = megabytes * 1_000_000 * 2 / 3;
    fs::create_dir_all(tree.join("opt"))?;
    while left > 0 {
        let size = LARGE.min(left);
        write(&tree.join(format!("opt/large-{files}")), size, &mut words)?;
        left -= size;
        files += 1;
    }
    Ok(files)
}

/// Packs about as well as a program does: to less than a half.
fn write(path: &Path, size: usize, words: &mut Words) -> Result<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 16, fs::File::create(path)?);
    let mut left = size;
    while left > 0 {
        let word = words.next();
        let bytes = word.to_le_bytes();
        let part = if word % 5 < 2 { &bytes[..] } else { b"a word of text " };
        let part = part.get(..part.len().min(left)).unwrap_or_default();
        file.write_all(part)?;
        left -= part.len();
    }
    Ok(file.flush()?)
}

/// Always the same numbers, at random.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
