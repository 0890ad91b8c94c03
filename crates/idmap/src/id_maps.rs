//! The two maps of a user namespace.
#![forbid(unsafe_code)]

mod algebra;
mod read;

use std::str::FromStr;

use cellkit_core::{Error, Result};

use crate::{Extent, IdMap, decimal, id_map};

/// The maps of a user namespace: of uids, of gids, and of project ids where they matter.
///
/// ```
/// use idmap::IdMaps;
///
/// let maps: IdMaps = "100000:100000:65536".parse()?;
/// assert_eq!(maps.uid.to_string(), "0 100000 65536\n");
/// assert!(maps.inside_root_is_mapped());
/// assert_eq!(maps.projid, None);
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[doc(alias = "uid_map")]
#[doc(alias = "gid_map")]
#[doc(alias = "projid_map")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct IdMaps {
    /// Which uids inside are which outside.
    pub uid: IdMap,
    /// Which gids inside are which outside.
    pub gid: IdMap,
    /// Which project ids, of the quotas of a file system, inside are which outside. `None` leaves the file
    /// `/proc/PID/projid_map` unwritten: then no project id exists inside, and few containers want one.
    pub projid: Option<IdMap>,
}

impl IdMaps {
    /// Puts two maps together, without one of project ids.
    #[must_use]
    pub fn new(uid: IdMap, gid: IdMap) -> Self {
        Self { uid, gid, projid: None }
    }

    /// One map for uids and gids, as most containers have it.
    ///
    /// ```
    /// use idmap::{IdMap, IdMaps};
    ///
    /// let maps = IdMaps::same("0:1000:1,1:100000:65536".parse()?);
    /// assert_eq!(maps.gid, maps.uid);
    /// // INSIDE:OUTSIDE:COUNT, where IdMaps itself reads UID:GID:COUNT.
    /// assert_eq!(IdMaps::same("0:100000:65536".parse()?), "100000:100000:65536".parse()?);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn same(ids: IdMap) -> Self {
        Self::new(ids.clone(), ids)
    }

    /// The same with a map of project ids.
    #[must_use]
    pub fn with_projid(self, projid: IdMap) -> Self {
        Self { projid: Some(projid), ..self }
    }

    /// Maps `count` ids from 0 inside: uids from `uid` and gids from `gid` outside.
    ///
    /// # Errors
    /// As [`Extent::new`].
    pub fn contiguous(uid: u32, gid: u32, count: u32) -> Result<Self> {
        let from = |outside| Extent::new(0, outside, count).map(IdMap::single);
        Ok(Self::new(from(uid)?, from(gid)?))
    }

    /// Whether the kernel takes each of these maps in the one write that it allows: [`IdMap::check_writable`], with the
    /// name of the file in the error.
    ///
    /// # Errors
    /// As [`IdMap::check_writable`].
    pub fn check_writable(&self) -> Result<()> {
        self.uid.check_writable_as("uid_map")?;
        self.gid.check_writable_as("gid_map")?;
        self.projid.as_ref().map_or(Ok(()), |projid| projid.check_writable_as("projid_map"))
    }

    /// Whether uid 0 and gid 0 inside stand for somebody: without them, most programs of a container cannot start, and
    /// files that root should own show as owned by nobody (65534).
    #[must_use]
    pub fn inside_root_is_mapped(&self) -> bool {
        self.uid.to_outside(0).is_some() && self.gid.to_outside(0).is_some()
    }
}

/// Said of the text of a map of one kind of id.
const ONE_MAP: &str = "INSIDE:OUTSIDE:COUNT,... is the text of an IdMap: read it as one, and make both maps of it with \
                       IdMaps::same";

impl FromStr for IdMaps {
    type Err = Error;

    /// Reads `UID:GID:COUNT`: the first uid and the first gid outside, and how many ids there are from 0 inside.
    ///
    /// That is not the text of an [`IdMap`], whose first number is an id inside: `0:100000:65536` here makes uid 0 inside
    /// uid 0 outside, which is root of the machine. For lists of `INSIDE:OUTSIDE:COUNT`, see [`same`](Self::same).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid), naming the part that is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::invalid("id maps", why).on(id_map::shown(text));
        let mut fields = text.split(':');
        let (Some(uid), Some(gid), Some(count), None) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            let error = refuse("this is not UID:GID:COUNT".into());
            let is_one_map = text.contains(',') && text.parse::<IdMap>().is_ok();
            return Err(if is_one_map { error.with_hint(ONE_MAP) } else { error });
        };
        let number = |name: &str, text: &str| {
            decimal::parse(text).ok_or_else(|| refuse(format!("{name} {text:?} is not a number from 0 to 4294967294")))
        };
        Self::contiguous(number("UID", uid)?, number("GID", gid)?, number("COUNT", count)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_names_the_wrong_part() {
        for (text, part) in [
            ("", "UID:GID:COUNT"),
            ("1:2", "UID:GID:COUNT"),
            ("1:2:3:4", "UID:GID:COUNT"),
            ("-1:2:3", "UID \"-1\""),
            ("1:x\0:3", "GID \"x\\0\""),
            ("1:2:4294967296", "COUNT"),
            ("1:2:0", "count is 0"),
            ("4294967295:0:1", "beyond 4294967294"),
        ] {
            let error = text.parse::<IdMaps>().expect_err(text);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_text_of_one_map_is_told_from_nonsense() {
        let hint = |text: &str| text.parse::<IdMaps>().expect_err(text).hint().map(ToOwned::to_owned);
        assert_eq!(hint("0:1000:1,1:100000:65536").as_deref(), Some(ONE_MAP));
        assert_eq!(hint("0:1000:1,0:100000:65536"), None, "that is no map either");
        assert_eq!(hint("1:2"), None);
    }

    #[test]
    fn root_inside_needs_both_ids() {
        let maps: IdMaps = "7:8:9".parse().expect("maps");
        assert!(maps.inside_root_is_mapped());
        let one_off: IdMap = "1:100000:10".parse().expect("map");
        assert!(!IdMaps::new(maps.uid.clone(), one_off.clone()).inside_root_is_mapped());
        assert!(!IdMaps::new(one_off, maps.gid).inside_root_is_mapped());
    }
}
