//! Very many entries: memory does not grow with them, and each takes the same few system calls.

use std::io::Read;

use faultkit::{Call, Counted, Failure, Sweep};
use mountkit::RootFd;
use mountkit::layers::Apply;

use crate::run;
use crate::tar::{dir, file};

/// The layer of some empty files in four directories, made while it is read.
struct Many {
    entries: u32,
    at: u32,
    waiting: Vec<u8>,
}

impl Many {
    fn new(entries: u32) -> Self {
        Self { entries, at: 0, waiting: Vec::new() }
    }

    /// The next entries, or the mark for the end, or nothing after it.
    fn refill(&mut self) {
        let row = self.entries / 4;
        let end = (self.at + 256).min(self.entries);
        for at in self.at..end {
            if at % row == 0 {
                self.waiting.extend(dir(format!("d{}", at / row)).header());
            }
            self.waiting.extend(file(format!("d{}/{at}", at / row), "").header());
        }
        if self.at == self.entries {
            self.waiting.resize(1024, 0);
        }
        self.at = end.max(self.at + u32::from(self.at == self.entries));
    }
}

impl Read for Many {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.waiting.is_empty() && self.at <= self.entries {
            self.refill();
        }
        let length = buffer.len().min(self.waiting.len());
        buffer[..length].copy_from_slice(&self.waiting[..length]);
        self.waiting.drain(..length);
        Ok(length)
    }
}

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn memory_does_not_grow_with_entries() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(limit_secs = 600, || {
        let place = faultkit::TempDir::new();
        run("mount", &["-t", "tmpfs", "-o", "nr_inodes=0", "tmpfs", "."], &place);
        let apply = |name: &str, entries| {
            let folder = place.join(name);
            std::fs::create_dir(&folder).expect("mkdir");
            let applied =
                Apply::new().apply(Many::new(entries), &RootFd::open(&folder).expect("open")).expect("applied");
            assert_eq!(applied.entries, u64::from(entries) + 4);
            let there = |at: u32| std::fs::read_dir(folder.join(format!("d{at}"))).expect("read_dir").count();
            assert_eq!((0..4).map(there).sum::<usize>(), entries as usize);
        };
        apply("few", 5_000);
        let before = peak();
        apply("many", 60_000);
        let grown = peak() - before;
        assert!(grown < 1024, "{grown} KiB for 55,000 entries more: {} bytes each", grown * 1024 / 55_000);
        run("umount", &[place.to_str().expect("UTF-8")], &std::env::temp_dir());
    });
}

#[test]
fn each_entry_takes_the_same_calls() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 120, || {
        let calls = |entries: u32| {
            let body = |counted: &Counted<'_>| {
                let place = faultkit::TempDir::new();
                let root = RootFd::open(&place).map_err(|e| Failure::new("open", e.raw_os_error(), &e))?;
                let applied = counted.run(|| Apply::new().apply(Many::new(entries), &root));
                applied.map(drop).map_err(|e| Failure::new("apply", e.raw_os_error(), &e))
            };
            // The memory allocator looks into a file of its own now and then, so opening counts where it makes something.
            let on_files = |call: &Call| match call.name.as_str() {
                "openat" => call.args[2] & libc::O_CREAT as u64 != 0,
                name => matches!(
                    name,
                    "openat2" | "statx" | "write" | "fchown" | "fchmod" | "setxattrat" | "utimensat" | "unlinkat"
                ),
            };
            let all: Vec<Call> = Sweep::new(body).calls().concat();
            all.iter().filter(|call| on_files(call)).count()
        };
        let (few, more, most) = (calls(200), calls(400), calls(800));
        // A file is made, looked at and given its time. Its mode and owner are what they are to be.
        assert_eq!((more - few, most - more), (3 * 200, 3 * 400), "{few}, {more}, {most}");
    });
}
