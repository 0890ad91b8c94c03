//! Control groups by cgroupfs, and what the kernel alone needs: a worker of `cargo xtask bench cgroup`.
//!
//! It answers one line for each line it reads:
//!
//! | request | answer |
//! |---|---|
//! | `limits hugetlb` | `ok`: from now on, groups have that limit only |
//! | `make WAY GROUP PID` | nanoseconds for a group with limits and the process in it |
//! | `begin WAY GROUP` | nanoseconds for a group with limits and a process started in it, and its number |
//! | `end` | `ok`: that process is dead |
//! | `remove` | nanoseconds for removing that group, which is empty by then |
//! | `open WAY PARENT N` | `ok`: takes the groups 0 to N-1 below PARENT to be read |
//! | `open floor FILE` | `ok`: opens each file whose path is a line of FILE |
//! | `stats` | nanoseconds for reading all that was opened |
//! | `start WAY PARENT T N MS` | nanoseconds of N starts by T threads, each into its own group below PARENT, with so many milliseconds between; of a start's time until the program runs, the median and the 99th of a hundred |
#![forbid(unsafe_code)]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cgroupfs::{
    Bytes, Cgroup, CgroupName, Hierarchy, Limits, Max, PidsMax, Place, Quota, Stats, StatsParts, StatsReader, SwapOnly,
};
use ns_core::{Child, Command};

/// What is left to do with a group that was made, or with those to be read.
type Then = Box<dyn FnMut()>;

fn main() {
    if std::env::args().nth(1).as_deref() != Some("--worker") {
        println!("This is a worker of `cargo xtask bench cgroup`.");
        return;
    }
    let place = place();
    let (mut remove, mut stats): (Then, Then) = (Box::new(|| {}), Box::new(|| {}));
    let mut limits = limits();
    let mut child = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a request");
        let words: Vec<&str> = line.split(' ').collect();
        let begun = Instant::now();
        let mut answer = None;
        match words.as_slice() {
            ["limits", "hugetlb"] => {
                limits = Limits::new().hugetlb_max("2MB".parse().expect("a size"), Bytes::mib(4));
                answer = Some("ok".to_owned());
            }
            ["make", "floor", group, pid] => remove = make_by_files(&place.group().path().join(group), pid),
            ["make", "cgroupfs", group, pid] => remove = make(&place, group, &limits, pid),
            ["make", "cgroupfs-detect", group, pid] => remove = make(&self::place(), group, &limits, pid),
            ["begin", "cgroupfs", group] => {
                (child, remove) = begin(&place, group, &limits);
                let pid = child.as_ref().map_or(0, Child::pid);
                answer = Some(format!("{} {pid}", begun.elapsed().as_nanos()));
            }
            ["end"] => {
                let mut child = child.take().expect("a process");
                child.kill().and_then(|()| child.wait()).expect("end");
                answer = Some("ok".to_owned());
            }
            ["remove"] => remove(),
            ["open", "floor", list] => {
                stats = floor(list);
                answer = Some("ok".to_owned());
            }
            ["open", "cgroupfs", parent, count] => {
                stats = open(parent, number(count));
                answer = Some("ok".to_owned());
            }
            ["stats"] => stats(),
            ["start", way, parent, threads, starts, pause] => {
                let pause = Duration::from_millis(pause.parse().expect("a time"));
                answer = Some(start(way, parent, number(threads), number(starts), pause));
            }
            _ => panic!("what is {line:?}?"),
        }
        let answer = answer.unwrap_or_else(|| begun.elapsed().as_nanos().to_string());
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("an answer");
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn place() -> Place {
    Hierarchy::detect().and_then(|hierarchy| hierarchy.place()).expect("place")
}

/// What [`make`] writes.
const LIMITS: [(&str, &str); 4] =
    [("pids.max", "64"), ("memory.max", "536870912"), ("memory.swap.max", "268435456"), ("cpu.max", "50000 100000")];

fn make(place: &Place, group: &str, limits: &Limits, pid: &str) -> Then {
    let group = create(place, group, limits);
    group.raw("cgroup.procs").write(pid).expect("attach");
    remove(group)
}

/// The process is born in its group.
fn begin(place: &Place, group: &str, limits: &Limits) -> (Option<Child>, Then) {
    let group = create(place, group, limits);
    let child = Command::new("sleep").arg("1000").cgroup(&group).spawn().expect("start");
    (Some(child), remove(group))
}

fn limits() -> Limits {
    Limits::new()
        .memory_max(Bytes::mib(512))
        .memory_swap_max(SwapOnly(Max::Value(Bytes::mib(256))))
        .cpu_max(Quota::cpus(0.5).expect("quota"))
        .pids_max(PidsMax::try_from(64).expect("tasks"))
}

fn create(place: &Place, group: &str, limits: &Limits) -> Cgroup {
    let name = CgroupName::new(group).expect("name");
    place.create(&name, limits, &mut ()).expect("create")
}

fn remove(group: Cgroup) -> Then {
    let mut group = Some(group);
    Box::new(move || group.take().expect("a group").remove(Duration::from_secs(5)).expect("remove"))
}

/// One mkdir(2), an open and a write for each value, one rmdir(2), and nothing looked at.
fn make_by_files(group: &Path, pid: &str) -> Then {
    std::fs::create_dir(group).expect("mkdir");
    let write = |file: &str, value: &str| {
        File::options().write(true).open(group.join(file)).and_then(|mut file| file.write_all(value.as_bytes()))
    };
    for (file, value) in LIMITS {
        write(file, value).expect("limit");
    }
    write("cgroup.procs", pid).expect("attach");
    let group = group.to_owned();
    Box::new(move || std::fs::remove_dir(&group).expect("rmdir"))
}

fn open(parent: &str, count: usize) -> Then {
    let parent = Path::new(parent);
    let reader = |number: usize| {
        let group = Cgroup::open(parent.join(number.to_string())).expect("group");
        (StatsReader::new(&group, StatsParts::ALL).expect("files"), Stats::default())
    };
    let mut groups: Vec<_> = (0..count).map(reader).collect();
    Box::new(move || {
        for (reader, stats) in &mut groups {
            reader.read_into(stats).expect("stats");
            black_box(stats);
        }
    })
}

/// One pread(2) a file, by descriptors that stay open.
fn floor(list: &str) -> Then {
    let list = std::fs::read_to_string(list).expect("a list");
    let files: Vec<File> = list.lines().map(|path| File::open(path).expect("a file")).collect();
    let mut buffer = vec![0; 64 << 10];
    Box::new(move || {
        for file in &files {
            black_box(file.read_at(&mut buffer, 0).expect("pread"));
        }
    })
}

fn start(way: &str, parent: &str, threads: usize, starts: usize, pause: Duration) -> String {
    let plan = Command::new("/bin/true").plan().expect("plan");
    let ready = Barrier::new(threads + 1);
    let each = starts / threads;
    let (took, mut times) = std::thread::scope(|scope| {
        let starters: Vec<_> = (0..threads)
            .map(|number| {
                let group = Cgroup::open(Path::new(parent).join(number.to_string())).expect("group");
                let (plan, ready) = (&plan, &ready);
                scope.spawn(move || {
                    let attach = |pid: i64| group.raw("cgroup.procs").write(pid.to_string()).expect("attach");
                    ready.wait();
                    let mut times = Vec::with_capacity(each);
                    for _ in 0..each {
                        let begun = Instant::now();
                        let mut child = match way {
                            "clone" => plan.spawn_paused_in(&group).and_then(|paused| paused.resume(&mut ())),
                            "write" => plan.spawn_paused().and_then(|paused| {
                                attach(paused.pid().into());
                                paused.resume(&mut ())
                            }),
                            "none" => plan.spawn(),
                            _ => panic!("what is {way}?"),
                        }
                        .expect("start");
                        times.push(begun.elapsed());
                        assert!(child.wait().expect("wait").success());
                        std::thread::sleep(pause);
                    }
                    times
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        let times: Vec<Duration> =
            starters.into_iter().flat_map(|starter| starter.join().expect("a starter")).collect();
        (begun.elapsed(), times)
    });
    times.sort_unstable();
    let part = |hundredths: usize| times[(times.len() - 1) * hundredths / 100].as_nanos();
    format!("{} {} {}", took.as_nanos(), part(50), part(99))
}
