//! Records from the text of `/proc/PID/mountinfo`, which stays the text of the table: what is escaped in it becomes
//! plain where it stands, for it only gets shorter.
#![forbid(unsafe_code)]

use cellkit_core::mountinfo::{MountLine, lines, place_of, unescape_in_place};

use super::record::{Record, Span};

const SB_RDONLY: u32 = 0x1;
const SB_SYNCHRONOUS: u32 = 0x10;
const SB_MANDLOCK: u32 = 0x40;
const SB_DIRSYNC: u32 = 0x80;
const SB_LAZYTIME: u32 = 0x200_0000;

/// MOUNT_ATTR_IDMAP
pub(super) const IDMAP: u64 = libc::MOUNT_ATTR_IDMAP;

/// The mounts of `text`, in its order, and whether every line of it is one. No two have the same id.
pub(super) fn parse(text: &mut [u8]) -> (Vec<Record>, bool) {
    // A line has sixty bytes at least.
    let mut records = Vec::with_capacity(text.len() / 60);
    let mut escaped = Vec::new();
    for line in lines(text) {
        let Some(record) = record(text, line) else { continue };
        let texts = [line.root, line.target, line.source, line.kind.unwrap_or_default()];
        if texts.iter().any(|field| field.contains(&b'\\')) {
            escaped.push(records.len());
        }
        records.push(record);
    }
    let ends = text.iter().filter(|&&byte| byte == b'\n').count();
    let mut whole = ends == records.len() && text.last().is_none_or(|&byte| byte == b'\n');
    for index in escaped {
        let Some(record) = records.get_mut(index) else { continue };
        for span in
            [&mut record.root, &mut record.mount_point, &mut record.source, &mut record.fs_type, &mut record.subtype]
        {
            if let Some(field) = text.get_mut(span.range()) {
                *span = span.cut(unescape_in_place(field));
            }
        }
    }
    if !records.is_sorted_by(|one, next| one.id < next.id) {
        whole &= !leave_out_repeated(&mut records);
    }
    (records, whole)
}

/// An id is used again when its mount is gone: of two lines with the same, read while that happened, the last is what is
/// there now. Whether there were any.
fn leave_out_repeated(records: &mut Vec<Record>) -> bool {
    let mut by_id: Vec<(u32, usize)> = records.iter().enumerate().map(|(place, record)| (record.id, place)).collect();
    by_id.sort_unstable();
    let pairs = by_id.iter().zip(by_id.iter().skip(1));
    let mut repeated: Vec<usize> = pairs.filter(|(one, next)| one.0 == next.0).map(|(one, _)| one.1).collect();
    repeated.sort_unstable();
    let mut place = 0;
    records.retain(|_| {
        place += 1;
        repeated.binary_search(&(place - 1)).is_err()
    });
    !repeated.is_empty()
}

fn record(text: &[u8], line: MountLine<'_>) -> Option<Record> {
    let span = |field| Span::new(place_of(text, field)?);
    let (major, minor) = split(line.device, b':')?;
    // "fuse.sshfs": the names of file systems have no dots.
    let (fs_type, subtype) = split(line.kind?, b'.').unwrap_or((line.kind?, &[]));
    let (super_flags, options) = super_flags(line.options);
    let mut record = Record {
        id: number(line.id)?,
        parent: number(line.parent)?,
        device: (number(major)?, number(minor)?),
        attrs: attrs(line.attributes),
        super_flags,
        root: span(line.root)?,
        mount_point: span(line.target)?,
        fs_type: span(fs_type)?,
        subtype: if subtype.is_empty() { Span::NONE } else { span(subtype)? },
        source: span(line.source)?,
        options: span(options)?,
        ..Record::NONE
    };
    for field in line.optional.split(|&byte| byte == b' ') {
        match split(field, b':') {
            Some((b"shared", group)) => record.peer_group = number(group)?,
            Some((b"master", group)) => record.master = number(group)?,
            Some((b"propagate_from", group)) => record.propagate_from = number(group)?,
            None if field == b"unbindable" => record.unbindable = true,
            // Fields that a later kernel may have are not our concern.
            _ => {}
        }
    }
    Some(record)
}

fn split(field: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = field.iter().position(|&byte| byte == at)?;
    Some((field.get(..place)?, field.get(place + 1..)?))
}

/// Decimal digits, and nothing else.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

/// The sixth field as MOUNT_ATTR_* bits.
fn attrs(words: &[u8]) -> u64 {
    // No word for it is the word.
    let (mut attrs, mut atime) = (0, libc::MOUNT_ATTR_STRICTATIME);
    for word in words.split(|&byte| byte == b',') {
        attrs |= match word {
            b"ro" => libc::MOUNT_ATTR_RDONLY,
            b"nosuid" => libc::MOUNT_ATTR_NOSUID,
            b"nodev" => libc::MOUNT_ATTR_NODEV,
            b"noexec" => libc::MOUNT_ATTR_NOEXEC,
            b"nodiratime" => libc::MOUNT_ATTR_NODIRATIME,
            b"nosymfollow" => libc::MOUNT_ATTR_NOSYMFOLLOW,
            b"idmapped" => IDMAP,
            b"noatime" => {
                atime = libc::MOUNT_ATTR_NOATIME;
                0
            }
            b"relatime" if atime != libc::MOUNT_ATTR_NOATIME => {
                atime = libc::MOUNT_ATTR_RELATIME;
                0
            }
            _ => 0,
        };
    }
    attrs | atime
}

/// The flags that the kernel writes before what the file system itself says, and the rest.
fn super_flags(options: &[u8]) -> (u32, &[u8]) {
    let (mut flags, mut rest) = (0, options);
    loop {
        let end = rest.iter().position(|&byte| byte == b',').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        flags |= match word {
            b"rw" if rest.len() == options.len() => 0,
            b"ro" if rest.len() == options.len() => SB_RDONLY,
            b"sync" => SB_SYNCHRONOUS,
            b"dirsync" => SB_DIRSYNC,
            b"mand" => SB_MANDLOCK,
            b"lazytime" => SB_LAZYTIME,
            _ => return (flags, rest),
        };
        // What is empty has its place at the end of what there was.
        let Some(next) = after.get(1..) else { return (flags, after) };
        rest = next;
    }
}
