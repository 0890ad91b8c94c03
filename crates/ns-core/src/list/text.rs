//! What `list` reads, as pure functions: records of a directory, links of namespaces, mounts of nsfs, command lines.
//!
//! All of it is bytes that other processes have a hand in. Nothing here panics, whatever they hold.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use cellkit_core::mountinfo;

use crate::Namespaces;
use crate::namespaces::KINDS;

/// `net:[4026531840]`: the kind and the inode number.
pub(crate) fn link(text: &[u8]) -> Option<(Namespaces, u64)> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let (name, rest) = text.split_at_checked(colon)?;
    let digits = rest.strip_prefix(b":[")?.strip_suffix(b"]")?;
    let (kind, _) = KINDS.iter().find(|(_, known)| known.as_bytes() == name)?;
    Some((*kind, decimal(digits)?))
}

/// Digits and nothing else, as a number that fits.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A number that a process can have.
pub(crate) fn pid(name: &[u8]) -> Option<i32> {
    decimal(name).and_then(|number| i32::try_from(number).ok()).filter(|pid| *pid > 0)
}

/// The names in what getdents64(2) wrote: records of `d_ino` and `d_off` (eight bytes each), `d_reclen` (two), `d_type`
/// (one), and the name with its NUL.
pub(crate) fn names(records: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LENGTH_AT: usize = 16;
    const NAME_AT: usize = 19;
    let mut rest = records;
    std::iter::from_fn(move || {
        let length = rest.get(LENGTH_AT..LENGTH_AT + 2)?;
        let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
        let (record, after) = rest.split_at_checked(length)?;
        let name = record.get(NAME_AT..)?;
        rest = after;
        Some(name.split(|&byte| byte == 0).next().unwrap_or_default())
    })
}

/// A mount of nsfs: the namespace and the path, as the process whose table it is would name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NsfsMount {
    pub(crate) kind: Namespaces,
    pub(crate) inode: u64,
    pub(crate) path: PathBuf,
}

/// The mounts of nsfs in a `/proc/PID/mountinfo`. Lines that cannot be understood are no such mounts.
pub(crate) fn nsfs_mounts(mountinfo: &[u8]) -> impl Iterator<Item = NsfsMount> {
    mountinfo::lines(mountinfo)
        .filter(|mount| mount.kind == Some(b"nsfs") && mount.target.starts_with(b"/"))
        .filter_map(|mount| {
            let (kind, inode) = link(mount.root)?;
            Some(NsfsMount { kind, inode, path: mountinfo::unescaped(mount.target) })
        })
}

/// `/proc/PID/cmdline`, with blanks where NULs were between arguments; `None` for a process that has none.
pub(crate) fn command_line(cmdline: &[u8]) -> Option<OsString> {
    let end = cmdline.iter().rposition(|&byte| byte != 0)? + 1;
    let text = cmdline.get(..end)?.iter().map(|&byte| if byte == 0 { b' ' } else { byte });
    Some(OsString::from_vec(text.collect()))
}

/// `/proc/PID/comm` in brackets, as ps(1) shows a process without a command line.
pub(crate) fn bracketed(comm: &[u8]) -> OsString {
    let name = comm.strip_suffix(b"\n").unwrap_or(comm);
    OsString::from_vec([b"[", name, b"]"].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_of_the_kernel() {
        for (name, theirs) in [("net", Namespaces::NET), ("mnt", Namespaces::MOUNT), ("user", Namespaces::USER)] {
            let text = std::fs::read_link(format!("/proc/self/ns/{name}")).expect(name);
            let (kind, inode) = link(text.as_os_str().as_encoded_bytes()).expect(name);
            let meta = std::fs::metadata(format!("/proc/self/ns/{name}")).expect(name);
            assert_eq!((kind, inode), (theirs, std::os::unix::fs::MetadataExt::ino(&meta)));
        }
        for other in ["", "net", "net:", "net:[]", "net:[-1]", "net:[1", "socket:[7]", "/net:[7]", "net:[7] (deleted)"]
        {
            assert_eq!(link(other.as_bytes()), None, "{other}");
        }
        assert_eq!(link(b"net:[18446744073709551616]"), None, "more than 64 bits");
    }

    #[test]
    fn only_nsfs_counts_and_names_are_unescaped() {
        let table = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            36 35 0:4 net:[4026532201] /run/netns/a\\040b\\134 rw shared:7 master:2 - nsfs nsfs rw\n\
            37 35 0:4 mnt:[4026532202] /run/mnt\\9x rw - nsfs nsfs rw\n\
            38 35 0:5 net:[1] /looks/like/one rw - tmpfs nsfs rw\n\
            39 35 0:4 net:[2] relative rw - nsfs nsfs rw\n\
            40 35 0:4 net:[3] /cut/off rw\n";
        let mounts: Vec<NsfsMount> = nsfs_mounts(table).collect();
        let expected =
            [(Namespaces::NET, 4_026_532_201, "/run/netns/a b\\"), (Namespaces::MOUNT, 4_026_532_202, "/run/mnt\\9x")];
        let expected = expected.map(|(kind, inode, path)| NsfsMount { kind, inode, path: path.into() });
        assert_eq!(mounts, expected);
    }

    #[test]
    fn command_lines() {
        assert_eq!(command_line(b"sh\0-c\0\0x\0"), Some("sh -c  x".into()));
        assert_eq!(command_line(b"title set by itself\0\0\0"), Some("title set by itself".into()));
        assert_eq!((command_line(b""), command_line(b"\0\0")), (None, None));
        assert_eq!(bracketed(b"kworker/0:1\n"), "[kworker/0:1]");
    }

    #[test]
    fn numbers_of_processes() {
        assert_eq!((pid(b"1"), pid(b"4194304"), pid(b"0000042")), (Some(1), Some(4_194_304), Some(42)));
        for other in ["", "0", "-1", "self", "1a", "2147483648", "99999999999999999999"] {
            assert_eq!(pid(other.as_bytes()), None, "{other}");
        }
    }

    fn record(name: &[u8]) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut record = vec![0; 16];
        record.extend((length as u16).to_ne_bytes());
        record.push(4);
        record.extend(name);
        record.resize(length, 0);
        record
    }

    proptest! {
        #[test]
        fn a_link_is_read_as_written(kind in 0..KINDS.len(), inode: u64) {
            let (flag, name) = KINDS[kind];
            prop_assert_eq!(link(format!("{name}:[{inode}]").as_bytes()), Some((flag, inode)));
        }

        #[test]
        fn names_are_read_as_written(wanted in prop::collection::vec("[^\0]{1,40}", 0..8)) {
            let records: Vec<u8> = wanted.iter().flat_map(|name| record(name.as_bytes())).collect();
            let found: Vec<&[u8]> = names(&records).collect();
            prop_assert_eq!(found, wanted.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
        }

        #[test]
        fn a_pin_is_read_as_written(inode: u64, path in "/[ -~]{0,30}") {
            let escaped = path.replace('\\', "\\134").replace(' ', "\\040");
            let line = format!("1 2 0:4 uts:[{inode}] {escaped} rw shared:1 - nsfs nsfs rw\n");
            let found: Vec<NsfsMount> = nsfs_mounts(line.as_bytes()).collect();
            prop_assert_eq!(found, [NsfsMount { kind: Namespaces::UTS, inode, path: path.into() }]);
        }

        #[test]
        fn no_bytes_make_anything_panic(bytes: Vec<u8>) {
            let _ = (link(&bytes), pid(&bytes), command_line(&bytes), bracketed(&bytes));
            let _ = (names(&bytes).count(), nsfs_mounts(&bytes).count());
        }
    }
}
