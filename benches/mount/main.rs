//! Containers with a whole root, timed from inside: the worker of `cargo xtask bench mount`.
//!
//! `mount --apart DIR --writes DIR LAYER...`: what containers write goes below DIR; the lower directories, the topmost first.
//! `/true` of the root is run. With `--apart` it begins with a mount namespace of its own, without what is mounted on
//! that directory. It answers one line for each line it reads:
//!
//! | request | answer |
//! |---|---|
//! | `start` | nanoseconds from before the plan is made until the program has ended and been reaped |
//! | `many N` | nanoseconds for N starts at once, by as many threads |
//! | `steps` | how many steps the child makes |
#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use mountkit::{Mount, Overlay, RootFd, Rootfs, Sys};
use ns_core::{Command, Namespaces};

/// What containers are made of.
struct Image {
    writes: PathBuf,
    layers: Vec<PathBuf>,
    containers: AtomicU32,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    if arguments.peek().is_none() {
        println!("This is the worker of `cargo xtask bench mount`.");
        return;
    }
    if arguments.next_if(|argument| argument == "--apart").is_some() {
        leave(&arguments.next().expect("a directory"));
    }
    assert_eq!(arguments.next().as_deref(), Some("--writes"));
    let writes = arguments.next().expect("a directory").into();
    let image = Image { writes, layers: arguments.map(Into::into).collect(), containers: AtomicU32::new(0) };
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a request");
        let words: Vec<&str> = line.split_whitespace().collect();
        let begun = Instant::now();
        let answer = match words.as_slice() {
            ["start"] => {
                start(&image);
                begun.elapsed().as_nanos()
            }
            ["many", count] => {
                let count: usize = count.parse().expect("a number");
                std::thread::scope(|scope| (0..count).for_each(|_| drop(scope.spawn(|| start(&image)))));
                begun.elapsed().as_nanos()
            }
            ["steps"] => rootfs(&image).steps().expect("steps").len() as u128,
            _ => panic!("what is {line:?}?"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("an answer");
    }
}

/// What a program does once that starts many containers on a host with many mounts: each new mount namespace is a copy of
/// its own, and that is short from here on.
fn leave(dir: &str) {
    ns_core::unshare(Namespaces::MOUNT).expect("unshare");
    let many = Mount::open(&RootFd::open("/").expect("root"), dir).expect("a mount");
    many.detach().expect("detach");
}

fn rootfs(image: &Image) -> Rootfs {
    let number = image.containers.fetch_add(1, Ordering::Relaxed);
    let [upper, work] = ["upper", "work"].map(|name| {
        let dir = image.writes.join(format!("{name}{number}"));
        std::fs::create_dir(&dir).expect("mkdir");
        dir
    });
    let overlay = Overlay::new().lowers(&image.layers).upper(upper, work).mount().expect("overlay");
    Rootfs::from(overlay).proc().sys(Sys::Fresh).dev().mask_defaults()
}

/// The namespaces of a container, its root, and the program in it.
fn start(image: &Image) {
    let steps = rootfs(image).steps().expect("steps");
    let command = Command::new("/true").namespaces(Namespaces::CONTAINER - Namespaces::USER).steps(steps);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error:#}"));
    assert!(child.wait().expect("wait").success());
}
