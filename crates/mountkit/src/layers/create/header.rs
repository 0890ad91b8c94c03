//! One entry's headers in a tar archive: what POSIX calls pax, as GNU tar, bsdtar and Go's archive/tar read it.
//!
//! A number that does not fit its octal field is written twice, in the field (base 256, as GNU has it) and in a pax record.
//! A reader that knows one of the two and one that knows both find the same next header: layers in which they disagree have
//! been used to smuggle entries past whoever checked them.
#![forbid(unsafe_code)]

use super::sparse::Segment;

/// What an archive is cut into.
pub(super) const BLOCK: usize = 512;

/// What an entry is, by its type flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// Of an entry that came before.
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

impl Kind {
    fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// Seconds since 1970, and nanoseconds that always count forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

impl Time {
    /// As a pax record has it: `1700000000.5`, `-0.25`.
    fn decimal(self) -> String {
        const BILLION: u32 = 1_000_000_000;
        let text = if self.seconds < 0 && self.nanoseconds > 0 {
            format!("-{}.{:09}", -(self.seconds + 1), BILLION - self.nanoseconds)
        } else {
            format!("{}.{:09}", self.seconds, self.nanoseconds)
        };
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// An entry of a layer.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a [u8],
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Where a link leads.
    pub(super) link: &'a [u8],
    pub(super) device: (u32, u32),
    /// The length of a file's content.
    pub(super) size: u64,
    /// The parts of the content that are in the archive, where holes are kept.
    pub(super) segments: Option<&'a [Segment]>,
    pub(super) attributes: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Entry<'a> {
    /// An empty regular file of root, which is what a whiteout is.
    pub(super) fn empty(path: &'a [u8]) -> Self {
        Self {
            path,
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            link: b"",
            device: (0, 0),
            size: 0,
            segments: None,
            attributes: &[],
        }
    }

    /// All blocks before the content, and for a file with holes the map that the content begins with.
    pub(super) fn encode(&self) -> Vec<u8> {
        let map = self.segments.map(|segments| sparse_map(segments, self.size));
        let stored = match (&map, self.segments) {
            (Some(map), Some(segments)) => map.len() as u64 + segments.iter().map(|part| part.length).sum::<u64>(),
            _ => self.size,
        };
        let mut records = Vec::new();
        let mut name = self.path;
        if map.is_some() {
            record(&mut records, b"GNU.sparse.major", b"1");
            record(&mut records, b"GNU.sparse.minor", b"0");
            record(&mut records, b"GNU.sparse.name", self.path);
            record(&mut records, b"GNU.sparse.realsize", self.size.to_string().as_bytes());
            // Who does not know sparse files unpacks the map under this name, and nothing in the file's place.
            name = b"GNUSparseFile.0/sparse";
        }
        if name.len() > NAME {
            record(&mut records, b"path", name);
        }
        if self.link.len() > NAME {
            record(&mut records, b"linkpath", self.link);
        }
        for (key, value, digits) in
            [("size", stored, 11), ("uid", u64::from(self.uid), 7), ("gid", u64::from(self.gid), 7)]
        {
            if value >> (3 * digits) != 0 {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        let whole_seconds = u64::try_from(self.mtime.seconds).ok().filter(|seconds| seconds >> 33 == 0);
        if whole_seconds.is_none() || self.mtime.nanoseconds != 0 {
            record(&mut records, b"mtime", self.mtime.decimal().as_bytes());
        }
        for (key, value) in self.attributes {
            record(&mut records, &[b"SCHILY.xattr.".as_slice(), key].concat(), value);
        }

        let mut out = Vec::new();
        if !records.is_empty() {
            let mut header = Header::new(b"PaxHeaders.0/entry", b'x');
            header.number(124, 12, records.len() as u64);
            header.number(100, 8, 0o644);
            out.extend(header.finished());
            out.extend(&records);
            pad(&mut out);
        }
        let mut header = Header::new(name, self.kind.flag());
        header.number(100, 8, u64::from(self.mode & 0o7777));
        header.number(108, 8, u64::from(self.uid));
        header.number(116, 8, u64::from(self.gid));
        header.number(124, 12, stored);
        header.number(136, 12, whole_seconds.unwrap_or(0));
        header.put(157, self.link.get(..NAME).unwrap_or(self.link));
        header.number(329, 8, u64::from(self.device.0));
        header.number(337, 8, u64::from(self.device.1));
        out.extend(header.finished());
        out.extend(map.unwrap_or_default());
        out
    }
}

/// The length of the name and link name fields.
const NAME: usize = 100;

struct Header([u8; BLOCK]);

impl Header {
    fn new(name: &[u8], flag: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.put(0, name.get(..NAME).unwrap_or(name));
        header.put(156, &[flag]);
        header.put(257, b"ustar\x0000");
        for field in [108, 116, 329, 337] {
            header.number(field, 8, 0);
        }
        header.number(136, 12, 0);
        header
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        // Every caller's offsets are constants inside of the block.
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Octal with a NUL after it, or base 256 where there are too few digits for it.
    fn number(&mut self, at: usize, width: usize, value: u64) {
        let digits = width - 1;
        if value >> (3 * digits).min(63) == 0 {
            self.put(at, format!("{value:0digits$o}\0").as_bytes());
        } else {
            let mut field = vec![0; width];
            field.splice(width - 8.., value.to_be_bytes());
            if let Some(first) = field.first_mut() {
                *first |= 0x80;
            }
            self.put(at, &field);
        }
    }

    fn finished(mut self) -> [u8; BLOCK] {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|&byte| u32::from(byte)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        out.extend(part);
    }
}

/// GNU's map of a sparse file, version 1.0: decimal numbers, a line each, filled up to a whole block.
fn sparse_map(segments: &[Segment], size: u64) -> Vec<u8> {
    let ends_in_a_hole = segments.last().is_none_or(|last| last.offset + last.length < size);
    let count = segments.len() + usize::from(ends_in_a_hole);
    let mut map = format!("{count}\n");
    for part in segments {
        map.push_str(&format!("{}\n{}\n", part.offset, part.length));
    }
    if ends_in_a_hole {
        map.push_str(&format!("{size}\n0\n"));
    }
    let mut map = map.into_bytes();
    pad(&mut map);
    map
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}

/// How many zeros follow content of this length.
pub(super) fn padding(length: u64) -> usize {
    (length.next_multiple_of(BLOCK as u64) - length) as usize
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What GNU tar makes of `archive`.
    fn listed(archive: &[u8]) -> String {
        let mut tar = Command::new("tar")
            .args(["--list", "--verbose", "--numeric-owner", "--full-time", "--utc", "--quoting-style=escape", "-f-"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tar");
        let mut pipe = tar.stdin.take().expect("pipe");
        let _ = pipe.write_all(archive);
        drop(pipe);
        String::from_utf8(tar.wait_with_output().expect("tar").stdout).expect("text")
    }

    #[test]
    fn gnu_tar_reads_each_kind() {
        faultkit::require!(program("tar"));
        let mtime = Time { seconds: 1_700_000_000, nanoseconds: 0 };
        let base = Entry { mode: 0o4755, uid: 3, gid: 4, mtime, ..Entry::empty(b"x") };
        for (kind, line) in [
            (Kind::File, "-rwsr-xr-x 3/4 0 2023-11-14 22:13:20 x\n"),
            (Kind::HardLink, "hrwsr-xr-x 3/4 0 2023-11-14 22:13:20 x link to to\n"),
            (Kind::Symlink, "lrwsr-xr-x 3/4 0 2023-11-14 22:13:20 x -> to\n"),
            (Kind::CharDevice, "crwsr-xr-x 3/4 300,70000 2023-11-14 22:13:20 x\n"),
            (Kind::BlockDevice, "brwsr-xr-x 3/4 300,70000 2023-11-14 22:13:20 x\n"),
            (Kind::Directory, "drwsr-xr-x 3/4 0 2023-11-14 22:13:20 x\n"),
            (Kind::Fifo, "prwsr-xr-x 3/4 0 2023-11-14 22:13:20 x\n"),
        ] {
            let link: &[u8] = if matches!(kind, Kind::HardLink | Kind::Symlink) { b"to" } else { b"" };
            let archive = Entry { kind, link, device: (300, 70000), ..base.clone() }.encode();
            assert_eq!(archive.len(), BLOCK);
            let words = listed(&archive).split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words, line.trim(), "{kind:?}");
        }
    }

    #[test]
    fn what_does_not_fit_its_field() {
        faultkit::require!(program("tar"));
        let path = [b"d/".as_slice(), &[b'n'; 250]].concat();
        let times = [
            (Time { seconds: 1, nanoseconds: 500_000_000 }, "1970-01-01 00:00:01.5"),
            (Time { seconds: -2, nanoseconds: 0 }, "1969-12-31 23:59:58"),
            (Time { seconds: 1 << 33, nanoseconds: 0 }, "2242-03-16 12:56:32"),
        ];
        for (mtime, shown) in times {
            let entry = Entry { uid: 3_000_000_000, gid: u32::MAX - 1, mtime, ..Entry::empty(&path) };
            let text = listed(&entry.encode());
            let found = text.contains("3000000000/4294967294") && text.contains(shown);
            assert!(found && text.trim_end().ends_with(&"n".repeat(250)), "{text}");
        }
        let large = Entry { size: 9 << 30, ..Entry::empty(b"large") }.encode();
        assert!(listed(&large).contains(" 9663676416 "));
        // Whoever does not read pax records finds the same in the field.
        let field = large.get(large.len() - BLOCK + 124..large.len() - BLOCK + 136).expect("size");
        assert_eq!(field, [0x80, 0, 0, 0, 0, 0, 0, 2, 0x40, 0, 0, 0]);
        let link = Entry { kind: Kind::Symlink, link: &[b'l'; 4000], ..Entry::empty(b"a\nb\\c\xff") };
        assert!(listed(&link.encode()).trim_end().ends_with(&format!("a\\nb\\\\c\\377 -> {}", "l".repeat(4000))));
    }

    #[test]
    fn a_record_counts_itself() {
        for (value, start) in [(1, "6 k="), (3, "8 k="), (4, "9 k="), (5, "11 k="), (92, "98 k="), (94, "101 k=")] {
            let mut out = Vec::new();
            record(&mut out, b"k", &vec![b'v'; value]);
            let text = String::from_utf8(out).expect("text");
            assert!(text.starts_with(start), "{text}");
            assert_eq!(text.split(' ').next().and_then(|n| n.parse().ok()), Some(text.len()));
        }
    }

    #[test]
    fn times_as_decimals() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (10, 0, "10"),
            (10, 1, "10.000000001"),
            (-1, 0, "-1"),
            (-1, 750_000_000, "-0.25"),
            (-10, 0, "-10"),
        ] {
            assert_eq!(Time { seconds, nanoseconds }.decimal(), text);
        }
    }
}
