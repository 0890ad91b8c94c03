//! Who uses a mount: `fuser -m` by the kernel's own files.
//!
//! A descriptor tells its mount in `fdinfo`; working directories and roots are looked at as places. A mapped file tells the
//! device of its file system, which other mounts may show too, and its path: both must be the mount's. On an overlay it
//! may be the layer's device (Linux 6.1), and on btrfs it is never the one of stat(2): there the path has to do. Processes
//! that the caller may not look into are passed over, and so is the descriptor that the mount is looked at by.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cellkit_core::{ProcFd, ProcView};

use super::place::Place;
use crate::MountEntry;
use crate::sys::statmount::{self, MountId};
use crate::sys::{fs, look};

/// More would be no sentence.
const MOST: usize = 5;

/// What of them is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Any,
    /// Files that are open for writing.
    Writing,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pid: i32,
    name: String,
    how: &'static str,
}

/// In a sentence; `None` for nobody.
pub(super) fn listed(holders: &[Holder]) -> Option<String> {
    let mut words: Vec<_> =
        holders.iter().take(MOST).map(|Holder { pid, name, how }| format!("process {pid} ({name:?}, {how})")).collect();
    if holders.len() > MOST {
        words.push("others".into());
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// The processes that use the mount of `place`, whose line in the table is `mount`; at most one more than can be listed.
pub(super) fn of(place: &Place, mount: Option<MountEntry<'_>>, wanted: Use) -> Vec<Holder> {
    // The machine's own shows threads by their pid namespace as a private one does, and is read faster.
    let Some(proc) = ProcFd::of_the_machine().or_else(|_| ProcFd::open(ProcView::Processes)).ok() else {
        return Vec::new();
    };
    let tells_device = mount.is_none_or(|mount| mount.fs_type() != "overlay" && mount.fs_type() != "btrfs");
    let (major, minor) = place.stat.device;
    let sought = Sought {
        place,
        target: mount.map_or(&*place.shown, MountEntry::path),
        device: tells_device.then(|| format!(" {major:02x}:{minor:02x} ")),
        thread: proc.this_thread().map(|thread| thread.pid()).ok(),
    };
    let mut found = Vec::new();
    for pid in numbers(&proc, Path::new(".")) {
        if let Some(how) = uses(&proc, pid, &sought, wanted) {
            let name = proc.read(Path::new(&format!("{pid}/comm"))).unwrap_or_default();
            let name = String::from_utf8_lossy(&name).trim_end().to_owned();
            found.push(Holder { pid, name, how });
            if found.len() > MOST {
                break;
            }
        }
    }
    found
}

struct Sought<'a> {
    place: &'a Place,
    target: &'a Path,
    /// As in a line of `maps`, where that has it.
    device: Option<String>,
    /// The calling thread, by its number in the procfs that is read.
    thread: Option<i32>,
}

impl Sought<'_> {
    /// Whether this descriptor of this process is the one that the mount is looked at by.
    fn is_own(&self, proc: &ProcFd, pid: i32, fd: i32) -> bool {
        let Some(thread) = self.thread.filter(|_| fd == self.place.as_fd().as_raw_fd()) else { return false };
        proc.open_file(Path::new(&format!("{pid}/task/{thread}")), libc::O_PATH | libc::O_DIRECTORY).is_ok()
    }
}

fn uses(proc: &ProcFd, pid: i32, sought: &Sought<'_>, wanted: Use) -> Option<&'static str> {
    let mount = sought.place.stat.mount_id;
    if wanted == Use::Any {
        let dir: OwnedFd = proc.open_file(Path::new(&pid.to_string()), libc::O_PATH | libc::O_DIRECTORY).ok()?.into();
        for (link, how) in [(c"cwd", "its working directory"), (c"root", "its root")] {
            // Nothing is asked of the file system there, whose server may be dead, or never answer.
            let behind = look::behind_link(dir.as_fd(), link).and_then(|fd| statmount::old_mount_of(fd.as_fd()));
            if behind.is_ok_and(|id| id == MountId::Old(mount)) {
                return Some(how);
            }
        }
    }
    for fd in numbers(proc, Path::new(&format!("{pid}/fdinfo"))) {
        let Ok(info) = proc.read(Path::new(&format!("{pid}/fdinfo/{fd}"))) else { continue };
        let counts = is_on(&info, mount) && (wanted == Use::Any || is_for_writing(&info));
        if counts && !sought.is_own(proc, pid, fd) {
            return Some(if wanted == Use::Any { "an open file" } else { "writing" });
        }
    }
    let maps = proc.read(Path::new(&format!("{pid}/maps"))).ok()?;
    let is_mapped = maps.split(|&byte| byte == b'\n').any(|line| {
        let is_there = |device: &String| line.windows(device.len()).any(|part| part == device.as_bytes());
        let found = sought.device.as_ref().is_none_or(is_there);
        found && is_below(line, sought.target) && (wanted == Use::Any || is_written_to(line))
    });
    is_mapped.then_some("a mapped file")
}

/// The field `mnt_id` of an fdinfo.
fn is_on(fdinfo: &[u8], mount: u64) -> bool {
    field(fdinfo, b"mnt_id:").and_then(|text| text.parse().ok()) == Some(mount)
}

/// The access mode in the field `flags`, which is octal.
fn is_for_writing(fdinfo: &[u8]) -> bool {
    let flags = field(fdinfo, b"flags:").and_then(|text| i32::from_str_radix(text, 8).ok()).unwrap_or(0);
    flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0
}

fn field<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let value = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(key))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

/// `7f00-7f01 r-xp 00000000 fe:00 7   /path`: no field before the path has a slash.
fn is_below(line: &[u8], target: &Path) -> bool {
    let path = line.iter().position(|&byte| byte == b'/').and_then(|start| line.get(start..));
    path.is_some_and(|path| Path::new(OsStr::from_bytes(path)).starts_with(target))
}

/// `7f00-7f01 rw-s …`: shared and writable.
fn is_written_to(line: &[u8]) -> bool {
    matches!(line.split(|&byte| byte == b' ').nth(1), Some([_, b'w', _, b's']))
}

/// The entries of a directory of procfs that are numbers.
fn numbers(proc: &ProcFd, dir: &Path) -> Vec<i32> {
    let Ok(dir) = proc.open_file(dir, libc::O_RDONLY | libc::O_DIRECTORY) else { return Vec::new() };
    let mut buffer = vec![0; 32 << 10];
    let mut found = Vec::new();
    while let Ok(length @ 1..) = fs::getdents(dir.as_raw_fd(), &mut buffer) {
        let names = fs::names(buffer.get(..length).unwrap_or_default());
        found.extend(names.filter_map(|name| name.to_str().ok()?.parse::<i32>().ok()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_fdinfo() {
        let info = b"pos:\t0\nflags:\t0100001\nmnt_id:\t42\nino:\t7\n";
        assert!(is_on(info, 42) && !is_on(info, 4) && !is_on(b"mnt_id:\tx", 0) && !is_on(b"", 0));
        assert!(is_for_writing(info) && !is_for_writing(b"flags:\t0100000\n") && !is_for_writing(b"flags:\t9\n"));
        // O_PATH has no access mode.
        assert!(!is_for_writing(b"flags:\t012000001\n"));
    }

    #[test]
    fn paths_of_mapped_files() {
        let line = b"7f00-7f01 r-xp 00000000 fe:00 7                /mnt/a b/lib.so";
        assert!(is_below(line, Path::new("/mnt/a b")) && is_below(line, Path::new("/")));
        // Another mount of the same file system, and what only begins alike.
        assert!(!is_below(line, Path::new("/srv")) && !is_below(line, Path::new("/mnt/a")));
        assert!(!is_below(b"7f00-7f01 rw-p 00000000 00:00 0", Path::new("/")) && !is_below(b"", Path::new("/")));
    }

    #[test]
    fn at_most_five_are_named() {
        let holder = |pid| Holder { pid, name: "a\nb".into(), how: "its root" };
        assert_eq!(listed(&[]), None);
        assert_eq!(listed(&[holder(7)]).as_deref(), Some("process 7 (\"a\\nb\", its root)"));
        let many: Vec<_> = (0..6).map(holder).collect();
        assert!(listed(&many).is_some_and(|list| list.ends_with(", others") && !list.contains("process 5")));
    }
}
