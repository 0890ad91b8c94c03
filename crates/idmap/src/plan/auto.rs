//! Maps for somebody who only wants a container.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use super::MapPlan;
use super::supply::Supply;
use crate::id_kind::IdKind;
use crate::newidmap::Search;
use crate::{Caller, Extent, IdMap, IdMaps, IdRange, SubIds, missing, verify};

impl MapPlan {
    /// The maps for somebody who only wants a container.
    ///
    /// * root: the ranges that `/etc/subuid` and `/etc/subgid` give to root, from 0 inside. Root's own id is never
    ///   mapped, whatever the files say, so that root in the container is nobody on the machine.
    /// * anybody else: 0 inside is the caller, and from 1 on come the caller's ranges, in the order of the files.
    ///   Without ranges, or without working newuidmap and newgidmap, 0 inside is the caller and nothing else is mapped;
    ///   [`why_single_id`](Self::why_single_id) then says what is missing. So it does for root of a nested user
    ///   namespace without ranges, which is not the machine's root.
    /// * a privileged caller with the ranges of another user: what that user would get, written directly.
    ///
    /// Ranges of ids that do not exist in the caller's own namespace are left out, and so are those beyond what the
    /// kernel takes (340 extents, 4095 bytes).
    ///
    /// With CAP_SETUID and CAP_SETGID the maps are written directly, else by newuidmap(1) and newgidmap(1).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when root of the machine, or another user than the
    /// caller, has no range: the hint is the exact line to add. Invalid when the caller's own namespace has no map yet, and
    /// for another user's ranges without privilege.
    ///
    /// ```
    /// use idmap::{Caller, MapPlan, SubIds};
    ///
    /// let caller = Caller::current()?;
    /// match MapPlan::auto(&caller, &SubIds::of(&caller)?) {
    ///     Ok(plan) => println!("{:?}, {} uids: {:?}", plan.way(), plan.maps().uid.count(), plan.why_single_id()),
    ///     Err(error) => eprintln!("{error:#}"),
    /// }
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See subuid(5), newuidmap(1): <https://man7.org/linux/man-pages/man1/newuidmap.1.html>.
    pub fn auto(caller: &Caller, subids: &SubIds) -> Result<Self> {
        Self::auto_with(caller, subids, &Search::default())
    }

    pub(crate) fn auto_with(caller: &Caller, subids: &SubIds, search: &Search) -> Result<Self> {
        let supply = Supply::new(caller, subids)?;
        if supply.is_bare() {
            let error = missing::no_range(supply.user, !caller.initial, subids);
            return Self::or_single_id(&supply, [0, 0], error);
        }
        let map = |kind| -> Result<IdMap> {
            let own = supply.own(kind).map(|own| Extent::new(0, own, 1)).transpose()?;
            supply.as_many_as_fit(kind, own, IdRange::between(u32::from(own.is_some()), u32::MAX))
        };
        let maps = IdMaps::new(map(IdKind::Uid)?, map(IdKind::Gid)?);
        Self::privileged_or_helped(maps, &supply, [0, 0], search)
    }

    /// A map of ids that are the user's, written whichever way there is.
    pub(super) fn privileged_or_helped(
        maps: IdMaps,
        supply: &Supply<'_>,
        inside: [u32; 2],
        search: &Search,
    ) -> Result<Self> {
        let caller = supply.caller;
        if caller.is_privileged() {
            return Self::direct(maps, caller);
        }
        match verify::programs(caller, search) {
            Ok((newuidmap, newgidmap)) => Ok(Self::helper(maps, caller, newuidmap, newgidmap)),
            Err(error) => Self::or_single_id(supply, inside, error),
        }
    }

    /// The caller alone, saying why; unless the plan is for somebody who is not the caller, or must not be mapped.
    pub(super) fn or_single_id(supply: &Supply<'_>, [uid, gid]: [u32; 2], why: Error) -> Result<Self> {
        if supply.is_for_machine_root() || !supply.is_for_caller() {
            return Err(why);
        }
        Self::fallback(uid, gid, supply.caller, &why)
    }
}
