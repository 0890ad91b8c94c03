//! To whom what a layer brings belongs.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

/// To whom what a layer brings belongs.
///
/// ```
/// use mountkit::layers::Owner;
///
/// // As a container sees it whose user namespace has the ids from 100000 on.
/// let shifted = Owner::Shifted { uids: vec![(0, 100_000, 65_536)], gids: vec![(0, 100_000, 65_536)] };
/// assert_ne!(shifted, Owner::default());
/// ```
///
/// <https://man7.org/linux/man-pages/man2/chown.2.html>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "chown")]
pub enum Owner {
    /// To the ids that the archive names. Needs CAP_CHOWN, and to the kernel each must be mapped in the caller's user
    /// namespace: else it is an error (EINVAL).
    #[default]
    Archive,
    /// To the caller, whatever the archive says: for an ordinary user, whose container has only his own id.
    ///
    /// Attributes that he may not set (`security.capability`) are left out and reported.
    Caller,
    /// To the ids of the archive, shifted: each extent is (first id in the archive, first id on disk, how many), as a line
    /// of /proc/PID/uid_map. An id that no extent has is an error.
    ///
    /// The root of file capabilities and the ids in access control lists are shifted too. See
    /// [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
    Shifted {
        /// Of user ids.
        uids: Vec<(u32, u32, u32)>,
        /// Of group ids.
        gids: Vec<(u32, u32, u32)>,
    },
}

/// `security.capability`, of Linux 2.6.24 and of 4.14, whose last four bytes are the root it is for.
const CAPS_V2: u32 = 0x0200_0000;
const CAPS_V3: u32 = 0x0300_0000;
const CAPS_VERSION: u32 = 0xff00_0000;

impl Owner {
    /// Refuses extents that mean nothing, or two things.
    pub(in crate::layers) fn check(&self) -> Result<()> {
        let Self::Shifted { uids, gids } = self else { return Ok(()) };
        for (what, extents) in [("uid", uids), ("gid", gids)] {
            let refuse = |why: &str| Error::invalid("apply", format!("the {what} extents of Owner::Shifted: {why}"));
            let mut sorted = extents.clone();
            sorted.sort_unstable();
            let mut end = 0;
            for (inside, outside, count) in sorted {
                if count == 0 {
                    return Err(refuse("one is empty"));
                }
                // The last id is no id.
                if inside.checked_add(count).is_none() || outside.checked_add(count).is_none() {
                    return Err(refuse("one goes beyond the last id"));
                }
                if inside < end {
                    return Err(refuse("two have the same id"));
                }
                end = inside + count;
            }
        }
        Ok(())
    }

    /// The ids on disk of what the archive gives to `uid` and `gid`; `None`: as it is made.
    pub(in crate::layers) fn ids(&self, uid: u64, gid: u64) -> Result<Option<(u32, u32)>> {
        match self {
            Self::Caller => Ok(None),
            Self::Archive => Ok(Some((id("uid", uid)?, id("gid", gid)?))),
            Self::Shifted { uids, gids } => {
                Ok(Some((shift("uid", uids, id("uid", uid)?)?, shift("gid", gids, id("gid", gid)?)?)))
            }
        }
    }

    /// An attribute's value with the ids in it shifted. What is malformed stays so: the kernel refuses it.
    pub(in crate::layers) fn attribute(&self, name: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        let Self::Shifted { uids, gids } = self else { return Ok(value.to_vec()) };
        match name {
            b"security.capability" => capabilities(value, uids),
            b"system.posix_acl_access" | b"system.posix_acl_default" => access_list(value, uids, gids),
            _ => Ok(value.to_vec()),
        }
    }
}

fn id(what: &str, id: u64) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| Error::invalid("apply", format!("{id} is no {what}")))
}

fn shift(what: &str, extents: &[(u32, u32, u32)], id: u32) -> Result<u32> {
    let shifted = extents.iter().find_map(|&(inside, outside, count)| {
        let offset = id.checked_sub(inside).filter(|&offset| offset < count)?;
        outside.checked_add(offset)
    });
    shifted.ok_or_else(|| {
        Error::invalid("apply", format!("the layer has {what} {id}, which Owner::Shifted does not map"))
            .with_hint("give the map more ids (65536 are usual), or let all belong to the caller: Owner::Caller")
    })
}

/// Makes the capabilities those of the shifted root: outside its namespace they are none.
fn capabilities(value: &[u8], uids: &[(u32, u32, u32)]) -> Result<Vec<u8>> {
    let Some((magic, rest)) = value.split_first_chunk::<4>() else { return Ok(value.to_vec()) };
    let magic = u32::from_le_bytes(*magic);
    let (sets, root) = match (magic & CAPS_VERSION, rest.split_at_checked(16)) {
        (CAPS_V2, Some((sets, []))) => (sets, 0),
        (CAPS_V3, Some((sets, &[a, b, c, d]))) => (sets, u32::from_le_bytes([a, b, c, d])),
        _ => return Ok(value.to_vec()),
    };
    let magic = CAPS_V3 | magic & !CAPS_VERSION;
    Ok([&magic.to_le_bytes(), sets, &shift("uid", uids, root)?.to_le_bytes()].concat())
}

/// Four bytes of version, then entries of tag, permissions and id.
fn access_list(value: &[u8], uids: &[(u32, u32, u32)], gids: &[(u32, u32, u32)]) -> Result<Vec<u8>> {
    const USER: u16 = 2;
    const GROUP: u16 = 8;
    let Some((version, entries)) = value.split_first_chunk::<4>() else { return Ok(value.to_vec()) };
    let mut shifted = version.to_vec();
    for entry in entries.chunks(8) {
        let &[t0, t1, p0, p1, a, b, c, d] = entry else {
            shifted.extend_from_slice(entry);
            continue;
        };
        let id = u32::from_le_bytes([a, b, c, d]);
        let id = match u16::from_le_bytes([t0, t1]) {
            USER => shift("uid", uids, id)?,
            GROUP => shift("gid", gids, id)?,
            _ => id,
        };
        shifted.extend_from_slice(&[t0, t1, p0, p1]);
        shifted.extend_from_slice(&id.to_le_bytes());
    }
    Ok(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn shifted() -> Owner {
        Owner::Shifted { uids: vec![(0, 1000, 1), (1, 100_000, 10)], gids: vec![(0, 200_000, 10)] }
    }

    #[test]
    fn ids_on_disk() {
        assert_eq!(Owner::Archive.ids(5, 6).unwrap(), Some((5, 6)));
        assert_eq!(Owner::Caller.ids(u64::MAX, 0).unwrap(), None);
        assert_eq!(shifted().ids(0, 9).unwrap(), Some((1000, 200_009)));
        assert_eq!(shifted().ids(10, 0).unwrap(), Some((100_009, 200_000)));
        for (uid, gid) in [(11, 0), (0, 10), (u64::from(u32::MAX), 0), (1 << 32, 0)] {
            assert_eq!(shifted().ids(uid, gid).unwrap_err().kind(), ErrorKind::Invalid, "{uid} {gid}");
        }
        for (uid, gid) in [(u64::from(u32::MAX), 0), (0, 1 << 40)] {
            assert_eq!(Owner::Archive.ids(uid, gid).unwrap_err().kind(), ErrorKind::Invalid, "{uid} {gid}");
        }
    }

    #[test]
    fn extents_that_are_refused() {
        shifted().check().unwrap();
        for extents in [vec![(0, 0, 0)], vec![(u32::MAX, 0, 1)], vec![(0, 1, u32::MAX)], vec![(5, 0, 5), (0, 50, 6)]] {
            let owner = Owner::Shifted { uids: vec![(0, 0, 1)], gids: extents.clone() };
            assert_eq!(owner.check().unwrap_err().kind(), ErrorKind::Invalid, "{extents:?}");
        }
    }

    #[test]
    fn capabilities_are_those_of_the_shifted_root() {
        let sets = [7_u8; 16];
        let v2 = [&0x0200_0001_u32.to_le_bytes()[..], &sets].concat();
        let v3 = [&0x0300_0001_u32.to_le_bytes()[..], &sets, &1000_u32.to_le_bytes()].concat();
        let name = b"security.capability";
        assert_eq!(shifted().attribute(name, &v2).unwrap(), v3);
        assert_eq!(Owner::Archive.attribute(name, &v2).unwrap(), v2);
        let of_another = [&0x0300_0001_u32.to_le_bytes()[..], &sets, &5000_u32.to_le_bytes()].concat();
        assert!(shifted().attribute(name, &of_another).is_err());
        for odd in [&v2[..19], &v2[..3], b"", &[&v2[..], b"x"].concat()] {
            assert_eq!(shifted().attribute(name, odd).unwrap(), odd);
        }
    }

    #[test]
    fn access_lists_name_shifted_ids() {
        let list = |user: u32, group: u32| {
            let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
            [&2_u32.to_le_bytes()[..], &entry(1, u32::MAX), &entry(2, user), &entry(8, group), &entry(0x20, u32::MAX)]
                .concat()
        };
        assert_eq!(shifted().attribute(b"system.posix_acl_access", &list(3, 4)).unwrap(), list(100_002, 200_004));
        assert!(shifted().attribute(b"system.posix_acl_default", &list(11, 0)).is_err());
        assert_eq!(shifted().attribute(b"user.x", &list(3, 4)).unwrap(), list(3, 4));
        assert_eq!(shifted().attribute(b"system.posix_acl_access", b"12345").unwrap(), b"12345");
    }
}
