//! What the reader takes, and what it refuses.
#![forbid(unsafe_code)]

use super::*;
use crate::ErrorKind;
use crate::layers::tests::tar::{self, Member, Tar, archive, dir, file, hardlink, symlink};
use proptest::prelude::*;

/// All entries with their content.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    read_with(bytes, Limits::new())
}

fn read_with(bytes: &[u8], limits: Limits) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut archive = Archive::new(bytes, limits);
    let mut entries = Vec::new();
    let mut entry = Entry::default();
    while archive.next(&mut entry)? {
        let mut content = Vec::new();
        loop {
            let part = archive.content()?;
            if part.is_empty() {
                break;
            }
            content.extend_from_slice(part);
            let used = part.len();
            archive.used(used);
        }
        entries.push((entry.clone(), content));
    }
    Ok(entries)
}

fn one(member: Member) -> Entry {
    let entries = read(&archive([member])).expect("a good entry");
    assert_eq!(entries.len(), 1);
    entries[0].0.clone()
}

/// Why the archive is refused.
fn refused(bytes: &[u8]) -> String {
    let error = read(bytes).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Parse, "{error:#}");
    error.to_string()
}

#[test]
fn every_field() {
    let entry = one(file("a/b", b"hello").mode(0o4755).owner(3, 0o7_777_777).mtime(7));
    assert_eq!(entry.kind, Kind::File);
    assert_eq!(entry.path, b"a/b");
    assert_eq!((entry.mode, entry.uid, entry.gid, entry.size), (0o4755, 3, 0o7_777_777, 5));
    assert_eq!(entry.modified, Time { seconds: 7, nanoseconds: 0 });
    assert_eq!(one(symlink("l", "../x")).link, b"../x");
    let node = one(tar::chardev("n", 1, 3));
    assert_eq!((node.kind, node.device), (Kind::CharDevice, (1, 3)));
    assert_eq!(one(Member::new(0, "d/")).kind, Kind::Directory, "before POSIX");
    assert_eq!(one(Member::new(b'7', "f")).kind, Kind::File);
    assert_eq!(one(file("b", "").owner(1 << 40, 0)).uid, 1 << 40, "base 256");
    assert_eq!(one(file("b", "").patch(136, [0xff; 12])).modified.seconds, -1);
    assert_eq!(one(file("b", "").patch(345, b"pre/fix")).path, b"pre/fix/b");
    assert_eq!(one(file("b", "").patch(257, b"ustar  \0").patch(345, b"other")).path, b"b", "GNU has no prefix");
}

#[test]
fn pax_over_the_header() {
    let entry = one(file("short", "")
        .pax("path", "a/long name")
        .pax("uid", "4000000000")
        .pax("mtime", "1.25")
        .pax("comment", "=\n=")
        .pax("atime", "nonsense")
        .xattr("user.empty", "")
        .xattr("user.two", "old")
        .xattr("user.two", b"\0new\n")
        .pax("LIBARCHIVE.xattr.user.%3D", "AAE"));
    assert_eq!(entry.path, b"a/long name");
    assert_eq!(entry.uid, 4_000_000_000);
    assert_eq!(entry.modified, Time { seconds: 1, nanoseconds: 250_000_000 });
    let xattrs: Vec<_> = entry.xattrs.iter().map(|(key, value)| (key.to_bytes(), value.as_slice())).collect();
    assert_eq!(xattrs, [(&b"user.="[..], &b"\0\x01"[..]), (b"user.empty", b""), (b"user.two", b"\0new\n")]);
}

#[test]
fn gnu_long_names() {
    let mut tar = Tar::new();
    let name = [b'n'; 300];
    tar.extended(b'K', b"link\0");
    tar.extended(b'L', &[&name[..], b"\0"].concat());
    tar.push(&symlink("n", "l"));
    tar.push(&file("next", ""));
    let entries = read(&tar.end()).expect("a good archive");
    assert_eq!(entries[0].0.path, name);
    assert_eq!(entries[0].0.link, b"link");
    assert_eq!(entries[1].0.path, b"next");
}

#[test]
fn sizes_that_contradict_one_another() {
    // What a reader that goes by the other size would find in the content.
    let inner = Tar::new().with(file("smuggled", "x")).0;
    let hidden = |member: Member| archive([member.content(&inner), file("after", "")]);
    assert!(refused(&hidden(Member::new(b'0', "a").size(inner.len() as u64).pax("size", "1"))).contains("disagree"));
    assert!(refused(&hidden(Member::new(b'0', "a").size(1).pax("size", inner.len().to_string()))).contains("disagree"));
    for flag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        assert!(refused(&hidden(Member::new(flag, "a").link("b"))).contains("no content"), "{flag}");
        assert!(refused(&archive([Member::new(flag, "a").pax("size", "512")])).contains("no content"), "{flag}");
    }
    // As writers do it for sizes that the header has no room for.
    let (header, pax) = (0_u64, "5");
    let entries = read(&archive([file("a", "12345").size(header).pax("size", pax)])).expect("a good archive");
    assert_eq!(entries[0].1, b"12345");
}

#[test]
fn what_readers_disagree_about() {
    let twice = |flag: u8, body: &[u8]| {
        let mut tar = Tar::new();
        tar.extended(flag, body);
        tar.extended(flag, body);
        tar.with(file("a", "")).end()
    };
    assert!(refused(&twice(b'x', &tar::record(b"path", b"b"))).contains("two PAX"));
    assert!(refused(&twice(b'L', b"b\0")).contains("two long names"));
    assert!(refused(&twice(b'K', b"b\0")).contains("two long link"));
    let mut both = Tar::new();
    both.extended(b'L', b"one\0");
    let both = both.with(file("a", "").pax("path", "other")).end();
    assert!(refused(&both).contains("disagree"));
    for key in ["path", "linkpath", "size", "uid", "mtime", "SCHILY.xattr.user.a", "GNU.sparse.size"] {
        let mut global = Tar::new();
        global.extended(b'g', &tar::record(key.as_bytes(), b"1"));
        assert!(refused(&global.with(file("a", "")).end()).contains("all entries"), "{key}");
    }
    // As `git archive` writes it.
    let mut git = Tar::new();
    git.extended(b'g', &tar::record(b"comment", b"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"));
    assert_eq!(read(&git.with(file("a", "")).end()).expect("a good archive").len(), 1);
}

#[test]
fn the_end() {
    assert_eq!(read(&Tar::new().end()).expect("empty").len(), 0);
    let good = archive([file("a", "x"), dir("d")]);
    assert_eq!(read(&good).expect("good").len(), 2);
    let one_block = &good[..good.len() - 512];
    assert_eq!(read(one_block).expect("one block of zeros is an end").len(), 2);
    assert!(refused(&good[..good.len() - 1024]).contains("without its mark"));
    assert!(refused(b"").contains("without its mark"));
    let padded = [&good[..], &[0; 9000]].concat();
    assert_eq!(read(&padded).expect("filled up with zeros").len(), 2);
    let more = [&good[..], &Tar::new().with(file("smuggled", "")).end()].concat();
    assert!(refused(&more).contains("follows the end"));
    let mut dangling = Tar::new();
    dangling.extended(b'x', &tar::record(b"path", b"a"));
    assert!(refused(&dangling.end()).contains("next entry"));
}

#[test]
fn a_torn_archive_is_noticed_at_each_byte() {
    let good = archive([file("a", [1; 600]).pax("path", "b"), dir("d"), file("c", "x")]);
    for length in 0..good.len() - 1023 {
        read(&good[..length]).expect_err("it is torn");
    }
}

#[test]
fn headers_that_are_none() {
    assert!(refused(&[b'x'; 1024]).contains("no number"));
    let mut wrong = archive([file("a", "x")]);
    wrong[0] ^= 1;
    assert!(refused(&wrong).contains("checksum"));
    assert!(refused(&archive([Member::new(b'0', "a").patch(124, b"12x")])).contains("size is no number"));
    assert!(refused(&archive([Member::new(b'0', "a").patch(124, [0xff; 12])])).contains("negative"));
    assert!(refused(&archive([Member::new(b'0', "a").patch(124, [0xbf; 12])])).contains("size is no number"));
    assert!(refused(&archive([Member::new(b'Z', "a")])).contains("type"));
    assert!(refused(&archive([Member::new(b'M', "a")])).contains("type"));
    assert!(refused(&archive([file("a", "").pax("path", "b\0c")])).contains("NUL"));
    assert!(refused(&archive([file("a", "").pax("uid", "-1")])).contains("uid"));
    assert!(refused(&archive([file("a", "").pax("SCHILY.xattr.", "x")])).contains("xattr"));
    assert!(refused(&archive([file("a", "").pax("SCHILY.xattr.a\0b", "x")])).contains("xattr"));
}

#[test]
fn over_the_limits() {
    let over = |bytes: &[u8], limits: Limits| {
        let error = read_with(bytes, limits).expect_err("over the limit");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
    };
    let two = archive([file("a", "x"), file("b", "y")]);
    over(&two, Limits::new().entries(1));
    over(&two, Limits::new().bytes(1024));
    over(&archive([file("a", "").pax("path", vec![b'a'; 5000])]), Limits::new());
    over(&archive([symlink("a", "").pax("linkpath", vec![b'a'; 5000])]), Limits::new());
    over(&archive([file("a", "").xattr("user.a", vec![0; 1000])]), Limits::new().xattrs(1000));
    // A header that claims to be huge is not read.
    over(&Tar(Member::new(b'x', "a").size(1 << 40).header().to_vec()).0, Limits::new());
    over(&archive([file("a", "").size(1 << 50)]), Limits::new());
    let sparse = file("a", "").pax("GNU.sparse.size", (1_u64 << 62).to_string()).pax("GNU.sparse.map", "");
    over(&archive([sparse]), Limits::new());
    read_with(&two, Limits::new().entries(2).bytes(1 << 20)).expect("within the limits");
}

fn chunks(entry: &Entry) -> Vec<(u64, u64)> {
    entry.chunks.as_ref().expect("holes").iter().map(|chunk| (chunk.offset, chunk.length)).collect()
}

#[test]
fn the_four_ways_to_write_holes() {
    let wanted = [(512, 3), (9000, 2)];
    // PAX 0.1.
    let entry = one(file("GNUSparseFile.0/x", "abcde")
        .pax("GNU.sparse.size", "10000")
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.name", "x")
        .pax("GNU.sparse.map", "512,3,9000,2"));
    assert_eq!((entry.path.as_slice(), entry.size, chunks(&entry)), (&b"x"[..], 10000, wanted.to_vec()));
    // PAX 0.0.
    let entry = one(file("x", "abcde")
        .pax("GNU.sparse.size", "10000")
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.offset", "512")
        .pax("GNU.sparse.numbytes", "3")
        .pax("GNU.sparse.offset", "9000")
        .pax("GNU.sparse.numbytes", "2"));
    assert_eq!((entry.size, chunks(&entry)), (10000, wanted.to_vec()));
    // PAX 1.0: the map is before the content.
    let mut map = b"2\n512\n3\n9000\n2\n".to_vec();
    map.resize(512, 0);
    map.extend(b"abcde");
    let member = file("GNUSparseFile.0/x", map)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "x")
        .pax("GNU.sparse.realsize", "10000");
    let entries = read(&archive([member, file("after", "")])).expect("a good archive");
    assert_eq!((entries[0].0.size, chunks(&entries[0].0)), (10000, wanted.to_vec()));
    assert_eq!((entries[0].1.as_slice(), entries[1].0.path.as_slice()), (&b"abcde"[..], &b"after"[..]));
    // GNU's first, with a block more for the fifth part.
    let part = |offset: u64, length: u64| [tar::number(offset, 12), tar::number(length, 12)].concat();
    let parts: Vec<u8> = (0..4).flat_map(|at| part(at * 1000, 1)).collect();
    let member = Member::new(b'S', "x")
        .size(5)
        .patch(257, b"ustar  \0")
        .patch(345, [0; 41])
        .patch(386, parts)
        .patch(482, [1])
        .patch(483, tar::number(10000, 12));
    let mut tar = Tar(member.header().to_vec());
    let mut more = part(9000, 1);
    more.resize(512, 0);
    tar.0.extend(more);
    tar.content(b"abcde");
    let entries = read(&tar.with(file("after", "")).end()).expect("a good archive");
    assert_eq!(chunks(&entries[0].0), [(0, 1), (1000, 1), (2000, 1), (3000, 1), (9000, 1)]);
    assert_eq!((entries[0].1.as_slice(), entries[1].0.path.as_slice()), (&b"abcde"[..], &b"after"[..]));
}

#[test]
fn maps_of_holes_that_lie() {
    let with_map =
        |map: &str, size: &str| archive([file("x", "abcde").pax("GNU.sparse.size", size).pax("GNU.sparse.map", map)]);
    for (map, size) in [
        ("0,6", "100"),
        ("0,4", "100"),
        ("0,3,2,2", "100"),
        ("50,3,0,2", "100"),
        ("0,3,99,2", "100"),
        ("18446744073709551615,5", "100"),
        ("0,5,7", "100"),
        ("0,5,", "100"),
        ("x,5", "100"),
        ("0,5", "-1"),
        ("0,5", ""),
    ] {
        assert!(refused(&with_map(map, size)).contains("holes"), "{map} {size}");
    }
    let version = |major: &str, content: &[u8]| {
        let member = file("x", content).pax("GNU.sparse.major", major).pax("GNU.sparse.minor", "0");
        archive([member.pax("GNU.sparse.realsize", "100")])
    };
    assert!(refused(&version("2", b"")).contains("version"));
    assert!(refused(&version("1", b"1\n0\n")).contains("longer than its content"));
    assert!(refused(&version("1", &[b'1'; 512])).contains("number"));
    let many = read(&version("1", &[&b"9999999\n"[..], &[0; 512]].concat())).expect_err("too many parts");
    assert_eq!(many.kind(), ErrorKind::Limit);
    assert!(refused(&archive([dir("x").pax("GNU.sparse.size", "1")])).contains("no content"));
}

#[test]
fn names_in_errors_are_those_of_the_entry() {
    let error = read(&archive([hardlink("etc/x", "y").size(5)])).expect_err("refused");
    assert_eq!(error.subject(), Some(&cellkit_core::Subject::Path("etc/x".into())));
}

fn any_member() -> impl Strategy<Value = Member> {
    // A file whose name ends in a slash is a directory.
    let name = proptest::collection::vec(1_u8.., 1..250).prop_map(|name| [&name[..], b"x"].concat());
    (name, any::<Vec<u8>>(), 0_u32..0o10000, any::<u64>(), any::<u32>(), any::<bool>()).prop_map(
        |(name, content, mode, uid, mtime, is_dir)| {
            let member = if is_dir { dir("d") } else { file("f", content) };
            member.pax("path", name).mode(mode).owner(uid >> 9, 5).mtime(mtime.into())
        },
    )
}

proptest! {
    #[test]
    fn entries_come_back_as_written(members in proptest::collection::vec(any_member(), 0..8)) {
        let entries = read(&archive(members.clone())).unwrap();
        prop_assert_eq!(entries.len(), members.len());
        for ((entry, content), member) in entries.iter().zip(&members) {
            prop_assert_eq!(&entry.path, &member.pax[0].1);
            prop_assert_eq!(content, &member.content);
            prop_assert_eq!((entry.mode, entry.uid), (member.mode, member.uid));
        }
    }

    #[test]
    fn one_damaged_byte_never_panics(members in proptest::collection::vec(any_member(), 1..4), at: prop::sample::Index, to: u8) {
        let mut bytes = archive(members);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = read(&bytes);
    }

    #[test]
    fn any_bytes_end(bytes: Vec<u8>) {
        let _ = read(&bytes);
    }
}
