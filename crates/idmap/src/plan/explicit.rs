//! Exactly the maps that were asked for.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::{MapPlan, Method, supply};
use crate::id_kind::IdKind;
use crate::newidmap::Search;
use crate::{Caller, IdMaps, Setgroups, SubIds, verify};

/// Said of a single id that is no fallback.
const AS_ASKED: &str = "the one id is what was asked for";

impl MapPlan {
    /// Exactly these maps, as far as the caller may.
    ///
    /// With CAP_SETUID and CAP_SETGID every id may be mapped that exists in the caller's own namespace (uid 0 of it
    /// only with CAP_SETFCAP). Otherwise the verdict is that of newuidmap(1) and newgidmap(1), see
    /// [`IdMaps::verify`]: an extent is the caller's own id, alone, or lies within the caller's ranges in `/etc/subuid`
    /// and `/etc/subgid`. There is no fallback. A map of project ids ([`IdMaps::projid`]) needs no privilege: those that
    /// exist here may all be mapped.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) for ids that are not the caller's to map (the hint is
    /// the exact line to add), for ids that do not exist here, and for maps that the kernel does not take in one
    /// write ([`IdMaps::check_writable`]); NotFound when newuidmap is needed and not installed.
    ///
    /// ```
    /// use idmap::{Caller, IdMaps, MapPlan, SubIds};
    ///
    /// // As unshare(1) with --map-users 0:1000:1,1:100000:65536 and --map-groups the same.
    /// let map: idmap::IdMap = "0:1000:1,1:100000:65536".parse()?;
    /// let maps = IdMaps::new(map.clone(), map);
    /// let caller = Caller::current()?;
    /// match MapPlan::explicit(maps, &caller, &SubIds::of(&caller)?) {
    ///     Ok(plan) => println!("by {:?}", plan.way()),
    ///     Err(error) => eprintln!("{error:#}"),
    /// }
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See newuidmap(1): <https://man7.org/linux/man-pages/man1/newuidmap.1.html>.
    pub fn explicit(maps: IdMaps, caller: &Caller, subids: &SubIds) -> Result<Self> {
        Self::explicit_with(maps, caller, subids, &Search::default())
    }

    /// The caller and nobody else: `uid` and `gid` inside. Always possible where a user namespace is: no file gives it,
    /// no program is run, and setgroups(2) is denied.
    ///
    /// `single_id(0, 0, …)` is what unshare(1) does with `--map-root-user`, the caller's own numbers are
    /// `--map-current-user`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) for 4294967295, which is no id, when the caller's own
    /// namespace has no map yet, and for root without CAP_SETFCAP.
    ///
    /// ```
    /// use idmap::{Caller, MapPlan};
    ///
    /// let caller = Caller::current()?;
    /// let plan = MapPlan::single_id(0, 0, &caller)?;
    /// assert_eq!(plan.maps().uid.to_string(), format!("0 {} 1\n", caller.uid()));
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    pub fn single_id(uid: u32, gid: u32, caller: &Caller) -> Result<Self> {
        let maps = supply::own(uid, gid, caller.uid(), caller.gid())?;
        verify::exist(&maps, caller)?;
        Self::checked(maps, caller, Method::SingleId, Setgroups::Deny, Some(AS_ASKED.into()))
    }

    pub(crate) fn explicit_with(maps: IdMaps, caller: &Caller, subids: &SubIds, search: &Search) -> Result<Self> {
        maps.check_writable()?;
        verify::exist(&maps, caller)?;
        if caller.is_privileged() {
            return Self::direct(maps, caller);
        }
        if IdKind::BOTH.into_iter().all(|kind| verify::is_own_id(kind, &maps, caller)) {
            return Self::checked(maps, caller, Method::SingleId, Setgroups::Deny, Some(AS_ASKED.into()));
        }
        maps.verify(caller, subids)?;
        let (newuidmap, newgidmap) = verify::programs(caller, search)?;
        Ok(Self::helper(maps, caller, newuidmap, newgidmap))
    }
}
