//! POSIX access control lists as `system.posix_acl_access` and `system.posix_acl_default` hold them.
//!
//! The kernel's format (include/uapi/linux/posix_acl_xattr.h), little-endian: a version, then eight bytes an entry: tag,
//! permissions, id. It shows the ids, and takes them, as those of the caller's user namespace.
#![forbid(unsafe_code)]

use super::renumbering::Verdict;

const VERSION: u32 = 2;
const NAMED_USER: u16 = 0x02;
const NAMED_GROUP: u16 = 0x08;
const HEADER: usize = 4;
const ENTRY: usize = 8;

/// One entry, as it stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    tag: u16,
    id: u32,
    permissions: u16,
}

/// What becomes of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// `None`: it stays as it is.
    pub(crate) to: Option<Vec<u8>>,
    /// The first id that is unmapped and stays, and what it is: `uid` or `gid`.
    pub(crate) unmapped: Option<(&'static str, u32)>,
}

/// The list with its ids as the verdicts want them.
///
/// Entries of named users and of named groups are sorted by their ids, as setfacl leaves them.
///
/// # Errors
/// With what is wrong: the kernel does not show such a list.
pub(crate) fn rewrite(
    list: &[u8],
    user: impl Fn(u32) -> Verdict,
    group: impl Fn(u32) -> Verdict,
) -> Result<Rewritten, &'static str> {
    let (header, mut rest) = list.split_at_checked(HEADER).ok_or("the list is shorter than its version")?;
    if header != VERSION.to_le_bytes() {
        return Err("the list is not of version 2");
    }
    let (mut entries, mut moved, mut unmapped) = (Vec::with_capacity(rest.len() / ENTRY), false, None);
    while let Some((entry, after)) = rest.split_first_chunk::<ENTRY>() {
        let &[t0, t1, p0, p1, i0, i1, i2, i3] = entry;
        let (tag, mut id) = (u16::from_le_bytes([t0, t1]), u32::from_le_bytes([i0, i1, i2, i3]));
        let (what, verdict) = match tag {
            NAMED_USER => ("uid", user(id)),
            NAMED_GROUP => ("gid", group(id)),
            _ => ("", Verdict::Settled),
        };
        match verdict {
            Verdict::Move(new) => (id, moved) = (new, true),
            Verdict::Settled => {}
            Verdict::Unmapped => unmapped = unmapped.or(Some((what, id))),
        }
        entries.push(Entry { tag, id, permissions: u16::from_le_bytes([p0, p1]) });
        rest = after;
    }
    if !rest.is_empty() {
        return Err("the list ends within an entry");
    }
    if !moved {
        return Ok(Rewritten { to: None, unmapped });
    }
    entries.sort_by_key(|entry| (entry.tag, if matches!(entry.tag, NAMED_USER | NAMED_GROUP) { entry.id } else { 0 }));
    let mut to = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        to.extend_from_slice(&entry.tag.to_le_bytes());
        to.extend_from_slice(&entry.permissions.to_le_bytes());
        to.extend_from_slice(&entry.id.to_le_bytes());
    }
    Ok(Rewritten { to: Some(to), unmapped })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    fn by_a_million(id: u32) -> Verdict {
        match id {
            0..1000 => Verdict::Move(if id == 5 { 7_000_000 } else { 1_000_000 + id }),
            1_000_000.. if id != u32::MAX => Verdict::Settled,
            _ => Verdict::Unmapped,
        }
    }

    const UNDEFINED: u32 = u32::MAX;

    #[test]
    fn named_ids_move_and_are_sorted() {
        let old = list(&[
            (1, 7, UNDEFINED),
            (2, 4, 5),
            (2, 6, 33),
            (4, 5, UNDEFINED),
            (8, 1, 0),
            (16, 7, UNDEFINED),
            (32, 0, UNDEFINED),
        ]);
        let new = list(&[
            (1, 7, UNDEFINED),
            (2, 6, 1_000_033),
            (2, 4, 7_000_000),
            (4, 5, UNDEFINED),
            (8, 1, 1_000_000),
            (16, 7, UNDEFINED),
            (32, 0, UNDEFINED),
        ]);
        assert_eq!(rewrite(&old, by_a_million, by_a_million), Ok(Rewritten { to: Some(new.clone()), unmapped: None }));
        assert_eq!(rewrite(&new, by_a_million, by_a_million), Ok(Rewritten::default()));
    }

    #[test]
    fn unmapped_ids_stay_and_are_named() {
        let old = list(&[(2, 4, 5000), (8, 4, 3)]);
        let new = list(&[(2, 4, 5000), (8, 4, 1_000_003)]);
        assert_eq!(
            rewrite(&old, by_a_million, by_a_million),
            Ok(Rewritten { to: Some(new), unmapped: Some(("uid", 5000)) })
        );
        let foreign = list(&[(2, 4, u32::MAX)]);
        assert_eq!(
            rewrite(&foreign, by_a_million, by_a_million),
            Ok(Rewritten { to: None, unmapped: Some(("uid", u32::MAX)) })
        );
    }

    #[test]
    fn what_the_kernel_does_not_write_is_refused() {
        for wrong in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01", b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff"] {
            assert!(rewrite(wrong, by_a_million, by_a_million).is_err(), "{wrong:?}");
        }
        assert_eq!(rewrite(b"\x02\0\0\0", by_a_million, by_a_million), Ok(Rewritten::default()));
    }
}
