//! Trees that are deep, wide or both, with few descriptors.
#![forbid(unsafe_code)]

use std::fs;
use std::num::NonZero;
use std::path::Path;

use idmap::{IdMaps, Shift};

use crate::sys::limit_files;
use crate::tree::{open, sh};

fn maps() -> IdMaps {
    "100000:100000:65536".parse().expect("maps")
}

/// The owners that find sees, and of how many names.
fn owners(tree: &Path) -> String {
    sh(tree, "find . -printf '%U:%G\n' | sort | uniq -c | awk '{print $1, $2}'")
}

fn on_tmpfs(dir: &Path) {
    sh(dir, "mount -t tmpfs -o nr_inodes=2m tmpfs .");
}

#[test]
fn ten_thousand_deep_with_more_beside_each() {
    faultkit::require!(root, program("perl"));
    faultkit::isolated!(limit_secs = 300, || {
        let dir = faultkit::TempDir::new();
        on_tmpfs(dir.path());
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("mkdir");
        // No path is as long: each step is one of its own.
        sh(
            &tree,
            "perl -e 'for (1..10000) { mkdir \"a\"; mkdir \"b\"; mkdir \"b/c\"; open F, \">\", \"b/f\"; close F;
                      chdir \"a\" or die $!; }'",
        );
        for threads in [1, 4] {
            let shift = Shift::to_outside(&maps()).threads(NonZero::new(threads).expect("threads"));
            crate::sys::in_fork(|| {
                limit_files(400);
                let shifted = shift.apply(open(&tree)).expect("shift");
                assert_eq!((shifted.changed, shifted.vanished), (40_001, 0));
            });
            assert_eq!(owners(&tree), "40001 100000:100000\n");
            Shift::to_inside(&maps()).apply(open(&tree)).expect("shift back");
            assert_eq!(owners(&tree), "40001 0:0\n");
        }
        sh(dir.path(), "cd /; umount -l \"$OLDPWD\"");
    });
}

#[test]
fn a_directory_of_very_many_names() {
    faultkit::require!(root, program("perl"));
    faultkit::isolated!(limit_secs = 600, || {
        let dir = faultkit::TempDir::new();
        on_tmpfs(dir.path());
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("mkdir");
        let many = if std::env::var_os("CELLKIT_VM").is_some() { 20_000 } else { 300_000 };
        sh(
            &tree,
            &format!(
                "perl -e 'for (1..{many}) {{ if ($_ % 3) {{ open F, \">\", $_; close F }} else {{ mkdir $_ }} }}'"
            ),
        );
        let peak = || {
            let status = fs::read_to_string("/proc/self/status").expect("status");
            let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("peak").to_owned();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("number")
        };
        crate::sys::in_fork(|| {
            limit_files(400);
            let before = peak();
            let shifted = Shift::to_outside(&maps()).apply(open(&tree)).expect("shift");
            assert_eq!(shifted.changed, many + 1);
            let grown = peak() - before;
            assert!(grown < 16 << 10, "{grown} KiB more than before");
        });
        assert_eq!(owners(&tree), format!("{} 100000:100000\n", many + 1));
        sh(dir.path(), "cd /; umount -l \"$OLDPWD\"");
    });
}
