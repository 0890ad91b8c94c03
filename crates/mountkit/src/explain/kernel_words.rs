//! What the kernel itself said, in its log of a file system context or in its own.
//!
//! Overlayfs says why it refuses a mount, but until now mostly to the kernel's log (`dmesg`), which whoever may read it is
//! told from here. A line counts when it is of the last moments and belongs to the errno; somebody else's failure at the
//! same moment is the price.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::place::Failure;
use super::{Causes, Evidence, Reason};
use crate::sys::look;

/// How old a line of the kernel's log may be, by one of the clocks that the log may have: a counter of the processor's on
/// most machines, the host's time on some virtual ones.
const RECENT: Duration = Duration::from_secs(3);

/// Words of the kernel's, what they come with, and what to do.
#[derive(Debug)]
struct Words {
    said: &'static str,
    errno: i32,
    reason: Reason,
    advice: &'static str,
}

const fn words(said: &'static str, errno: i32, reason: Reason, advice: &'static str) -> Words {
    Words { said, errno, reason, advice }
}

const WORDS: [Words; 21] = [
    words(
        "maximum fs stacking depth exceeded",
        libc::EINVAL,
        Reason::OverlayDepth,
        "overlays stack two deep, and a directory of this one is on an overlay of an overlay already: take the layers that \
         that one is made of, or a copy",
    ),
    words(
        "too many lower directories",
        libc::EINVAL,
        Reason::OverlayLayers,
        "an overlay has 500 layers at most: merge some",
    ),
    words(
        "not supported as upperdir",
        libc::EINVAL,
        Reason::OverlayUpper,
        "its file system cannot hold what an overlay writes (another overlay, NFS, FAT, …): put upper and work on ext4, XFS, \
         btrfs or tmpfs",
    ),
    words(
        "is read-only",
        libc::EINVAL,
        Reason::ReadOnly,
        "upper and work have to be on a mount that can be written to",
    ),
    // Linux before 6.5.
    words(
        "upper fs is r/o",
        libc::EINVAL,
        Reason::ReadOnly,
        "upper and work have to be on a mount that can be written to",
    ),
    words(
        "workdir and upperdir must reside under the same mount",
        libc::EINVAL,
        Reason::OverlayUpper,
        "the kernel renames from one to the other: put both below one mount",
    ),
    words(
        "workdir and upperdir must be separate subtrees",
        libc::EINVAL,
        Reason::OverlayUpper,
        "make them two directories beside each other",
    ),
    words(
        "missing 'workdir'",
        libc::EINVAL,
        Reason::OverlayUpper,
        "an upper directory needs an empty work directory beside it",
    ),
    words("missing 'lowerdir'", libc::EINVAL, Reason::OverlayLayers, "an overlay has one layer at least"),
    words(
        "at least 2 lowerdir are needed",
        libc::EINVAL,
        Reason::OverlayLayers,
        "one layer without an upper directory is no overlay: bind it read-only instead",
    ),
    words("conflicting options", libc::EINVAL, Reason::Options, "leave one of them out"),
    words(
        "Unknown parameter",
        libc::EINVAL,
        Reason::Options,
        "this kernel's file system has no such option: leave it out",
    ),
    // Linux before 6.5.
    words(
        "unrecognized mount option",
        libc::EINVAL,
        Reason::Options,
        "this kernel's file system has no such option: leave it out",
    ),
    words("Bad value for", libc::EINVAL, Reason::Options, "the option takes another kind of value"),
    words("No source specified", libc::EINVAL, Reason::Options, "this file system is on a device: name it"),
    words(
        "failed to clone lowerpath",
        libc::EINVAL,
        Reason::LockedMounts,
        "there are mounts below a layer, which a user namespace may not look below: take a directory without, or a bind",
    ),
    words("is not a directory", libc::EINVAL, Reason::NotADirectory, "layers are directories"),
    words("failed to resolve", libc::ENOENT, Reason::Missing, "the directory has to be there before"),
    words(
        "overlapping",
        libc::ELOOP,
        Reason::OverlayOverlap,
        "no layer, upper or work directory may be in another one",
    ),
    words(
        "in-use as upperdir/workdir",
        libc::EBUSY,
        Reason::InUse,
        "another overlay writes there, and two would spoil it: give each overlay an upper and a work directory of its own",
    ),
    words(
        "Mount too revealing",
        libc::EPERM,
        Reason::Revealing,
        "a user namespace may only have a fresh one where the one that it sees is whole: uncover it, or bind the host's",
    ),
];

pub(super) fn explain(failure: &Failure<'_>, causes: &mut Causes) {
    if let Some(text) = failure.kernel_text {
        say(text, failure.errno, causes);
    } else if matches!(failure.operation, "fsconfig" | "fsmount") && failure.subject.is_some() {
        let mut buffer = vec![0; 16 << 10];
        let log = look::kernel_log(&mut buffer).unwrap_or_default();
        if let Some(line) = last_line(log, look::since_boot(), failure.errno) {
            say(line, failure.errno, causes);
        }
    }
}

fn find(text: &str, errno: i32) -> Option<&'static Words> {
    WORDS.iter().find(|words| words.errno == errno && text.contains(words.said))
}

fn say(text: &str, errno: i32, causes: &mut Causes) {
    match find(text, errno) {
        Some(Words { reason, advice, .. }) => {
            causes.add(*reason, Evidence::Said, format!("the kernel says \"{text}\": {advice}"));
        }
        None => causes.add(Reason::KernelText, Evidence::Said, format!("the kernel says \"{text}\"")),
    }
}

/// The last line of overlayfs' or of mounts in general that is recent and belongs to `errno`.
fn last_line(log: &[u8], now: [Duration; 2], errno: i32) -> Option<&str> {
    log.rsplit(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).find_map(|line| {
        // <4>[23078.884884] overlayfs: missing 'workdir'
        let (time, text) = line.split_once('[')?.1.split_once("] ")?;
        let at = Duration::try_from_secs_f64(time.trim().parse().ok()?).ok()?;
        let is_ours = ["overlayfs: ", "VFS: "].iter().any(|by| text.starts_with(by));
        let is_recent = now.iter().any(|now| at.abs_diff(*now) <= RECENT);
        (is_ours && is_recent && find(text, errno).is_some()).then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_belongs_to_it() {
        let log = b"<4>[  100.000001] overlayfs: missing 'workdir'\n\
            <6>[  100.100000] eth0: conflicting options\n\
            <4>[  100.200000] overlayfs: maximum fs stacking depth exceeded\n\
            <4>[  100.300000] overlayfs: failed to resolve '/x': -2\n\
            no time\n<4>[x] overlayfs: missing 'workdir'\n\xff\n";
        let now = Duration::from_millis(100_500);
        let found = |now, errno| last_line(log, [now, now], errno);
        assert_eq!(found(now, libc::EINVAL), Some("overlayfs: maximum fs stacking depth exceeded"));
        assert_eq!(found(now, libc::ENOENT), Some("overlayfs: failed to resolve '/x': -2"));
        assert_eq!(found(now, libc::EBUSY), None);
        assert_eq!(found(now + RECENT, libc::EINVAL), None);
        // After weeks the clocks differ by more than that, and the log has one of them.
        let drifted = now + RECENT * 20;
        for now in [[now, drifted], [drifted, now]] {
            assert!(last_line(log, now, libc::EINVAL).is_some());
        }
    }
}
