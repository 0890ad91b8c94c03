//! The mount table.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::ledger::{Kind, Lines};

pub fn add(lines: &mut Lines) {
    for line in table().lines() {
        // What ip-netns(8) mounts on itself once and leaves.
        if line.split(' ').nth(4) == Some("/run/netns") {
            continue;
        }
        lines.add(Kind::Mount, without_numbers(line));
    }
}

/// Where the cgroup2 file system is mounted; the last mount wins, as it covers the others.
pub fn cgroup2() -> Option<PathBuf> {
    let table = table();
    let line = table.lines().rfind(|line| file_system(line) == Some("cgroup2"))?;
    Some(PathBuf::from(OsString::from_vec(unescape(line.split(' ').nth(4)?))))
}

fn table() -> String {
    let bytes = fs::read("/proc/thread-self/mountinfo").unwrap_or_else(|e| panic!("read mountinfo: {e}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn file_system(line: &str) -> Option<&str> {
    line.split_once(" - ")?.1.split(' ').next()
}

/// Everything but the mount ids, the device number (anonymous ones are drawn anew) and the numbers of peer groups:
/// unmounted and mounted again the same way is the same.
fn without_numbers(line: &str) -> String {
    let mut fields = line.split(' ').skip(3);
    let (root, target) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let rest = fields.map(|field| match field.split_once(':') {
        Some((word @ ("shared" | "master" | "propagate_from"), _)) => word,
        _ => field,
    });
    let rest: Vec<&str> = rest.collect();
    format!("{target} (root {root}) {}", rest.join(" "))
}

/// `\040` and its like, as in all of the kernel's tables.
fn unescape(field: &str) -> Vec<u8> {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|three| std::str::from_utf8(three).ok());
        match octal.and_then(|three| u8::from_str_radix(three, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime shared:1 master:7 - ext3 /dev/root rw,errors=continue";

    #[test]
    fn a_line_without_what_changes_by_itself() {
        assert_eq!(
            without_numbers(LINE),
            r"/mnt\0402 (root /mnt1) rw,noatime shared master - ext3 /dev/root rw,errors=continue"
        );
        assert_eq!(file_system(LINE), Some("ext3"));
    }

    #[test]
    fn octal_escapes() {
        assert_eq!(unescape(r"/mnt\0402"), b"/mnt 2");
        assert_eq!(unescape(r"a\134"), br"a\");
        assert_eq!(unescape(r"a\9x\"), br"a\9x\");
        assert_eq!(unescape("100"), b"100");
    }
}
