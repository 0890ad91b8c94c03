//! One way of starting a child, timed from inside a program of a given size: the worker of `cargo xtask bench spawn`.
//!
//! `spawn --mib N --threads N` answers one line for each line it reads:
//!
//! | request | answer |
//! |---|---|
//! | `start WAY` | nanoseconds from before the clone until /bin/true has ended and been reaped |
//! | `many WAY N T` | nanoseconds for N starts by T threads |
//! | `busy`, `rest` | `ok`: the threads allocate, format and log to /dev/null, or sleep |
//! | `size` | open descriptors, mappings, resident KiB |
#![deny(unsafe_code)]

use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ns_core::{Command, Namespaces};

mod sys;

type Start = Box<dyn Fn() + Send + Sync>;

const SIX: Namespaces = Namespaces::PID
    .union(Namespaces::NET)
    .union(Namespaces::IPC)
    .union(Namespaces::UTS)
    .union(Namespaces::MOUNT)
    .union(Namespaces::CGROUP);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| -> usize {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(0)
    };
    if !arguments.iter().any(|argument| argument == "--mib") {
        println!("This is the worker of `cargo xtask bench spawn`.");
        return;
    }
    let mut ballast = vec![0u8; number("--mib") << 20];
    for page in ballast.chunks_mut(4096) {
        page[0] = 1;
    }
    let busy = Arc::new(AtomicBool::new(false));
    for _ in 0..number("--threads") {
        let busy = Arc::clone(&busy);
        std::thread::spawn(move || work(&busy));
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a request");
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["start", way] => {
                let start = way_to_start(way);
                let begun = Instant::now();
                start();
                begun.elapsed().as_nanos().to_string()
            }
            ["many", way, count, threads] => {
                many(&way_to_start(way), count.parse().expect("a number"), threads.parse().expect("a number"))
            }
            ["busy"] | ["rest"] => {
                busy.store(words == ["busy"], Ordering::Relaxed);
                "ok".into()
            }
            ["size"] => size(),
            _ => panic!("what is {line:?}?"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("an answer");
    }
    std::hint::black_box(&ballast);
}

fn way_to_start(way: &str) -> Start {
    let six = |copied: bool| {
        let command = Command::new("/bin/true").namespaces(SIX);
        let plan = if copied { command.copy_memory() } else { command }.plan().expect("plan");
        move || {
            let status = plan.spawn().and_then(|mut child| child.wait()).expect("start");
            assert!(status.success());
        }
    };
    match way {
        "ns-core" => Box::new(six(false)),
        "ns-core-copied" => Box::new(six(true)),
        "ns-core-none" => {
            let plan = Command::new("/bin/true").plan().expect("plan");
            Box::new(move || assert!(plan.spawn().and_then(|mut child| child.wait()).expect("start").success()))
        }
        "std" => Box::new(|| {
            assert!(std::process::Command::new("/bin/true").status().expect("start").success());
        }),
        // What a program without such a library does: it makes std fork, and has no pid namespace.
        "std-unshare" => Box::new(|| {
            let mut command = std::process::Command::new("/bin/true");
            sys::unshare_before_exec(&mut command);
            assert!(command.status().expect("start").success());
        }),
        "fork" => Box::new(|| assert_eq!(sys::fork_and_run(c"/bin/true"), 0)),
        // Another program that makes the namespaces.
        "unshare" => Box::new(|| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--fork", "--pid", "--net", "--ipc", "--uts", "--mount", "--cgroup", "/bin/true"]);
            assert!(command.arg0("unshare").status().expect("start").success());
        }),
        _ => panic!("what is {way}?"),
    }
}

fn many(start: &Start, count: usize, threads: usize) -> String {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..threads {
            let share = count / threads + usize::from(number < count % threads);
            scope.spawn(move || (0..share).for_each(|_| start()));
        }
    });
    begun.elapsed().as_nanos().to_string()
}

/// A hundred microseconds of work, and then a pause, so that 64 of these keep about half of one processor busy; more would
/// measure the scheduler's queue.
fn work(busy: &AtomicBool) {
    let mut log = std::fs::File::options().write(true).open("/dev/null").expect("/dev/null");
    loop {
        if !busy.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(100) {
            let mut lines: Vec<String> = Vec::new();
            for number in 0..16 {
                let mut line = String::new();
                let _ = write!(line, "{number}: {begun:?}");
                lines.push(line);
            }
            // Larger than malloc's own threshold: mapped and unmapped.
            let large = vec![1u8; 256 << 10];
            let _ = log.write_all(lines.concat().as_bytes());
            std::hint::black_box((lines, large));
        }
        std::thread::sleep(Duration::from_millis(12));
    }
}

fn size() -> String {
    let fds = std::fs::read_dir("/proc/self/fd").expect("fd").count() - 1;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps").lines().count();
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    format!("{fds} {maps} {}", resident.trim().trim_end_matches(" kB"))
}
