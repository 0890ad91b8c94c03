//! Maps in which the caller keeps an id of its choice.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use super::MapPlan;
use super::supply::Supply;
use crate::id_kind::IdKind;
use crate::newidmap::Search;
use crate::{Caller, Extent, IdMap, IdMaps, IdRange, SubIds, missing};

impl MapPlan {
    /// Maps in which the caller is `uid` and `gid` inside, and the caller's ranges are the ids around that, from 0 on:
    /// with the caller's own numbers, a file has the same owner inside and outside. As podman's `--userns=keep-id` and
    /// `--userns=keep-id:uid=UID,gid=GID`.
    ///
    /// With 65,536 subordinate ids and `uid` 1000: 0 to 999 inside are the first thousand of them, 1000 is the caller,
    /// and 1001 to 65536 are the others. With fewer than `uid`, there is a hole below it.
    ///
    /// Without ranges, or without working newuidmap and newgidmap, the caller is `uid` and `gid` inside and nothing else
    /// is mapped, root neither; [`why_single_id`](Self::why_single_id) then says what is missing. What is written by
    /// whom, and what is left out, is as for [`auto`](Self::auto).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) for root of the machine, whose own id is not for a
    /// container; for 4294967295, which is no id; and as [`auto`](Self::auto).
    ///
    /// ```
    /// use idmap::{Caller, MapPlan, SubIds};
    ///
    /// let caller = Caller::current()?;
    /// match MapPlan::keep_id(caller.uid(), caller.gid(), &caller, &SubIds::of(&caller)?) {
    ///     Ok(plan) => assert_eq!(plan.maps().uid.to_outside(caller.uid()), Some(caller.uid())),
    ///     Err(error) => eprintln!("{error:#}"),
    /// }
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    #[doc(alias = "keep-id")]
    pub fn keep_id(uid: u32, gid: u32, caller: &Caller, subids: &SubIds) -> Result<Self> {
        Self::keep_id_with(uid, gid, caller, subids, &Search::default())
    }

    pub(crate) fn keep_id_with(uid: u32, gid: u32, caller: &Caller, subids: &SubIds, search: &Search) -> Result<Self> {
        let supply = Supply::new(caller, subids)?;
        if supply.is_for_machine_root() {
            return Err(Error::invalid("id map", "the own id of this machine's root is not for a container to have")
                .with_hint("map root's ranges instead, or ask for an ordinary user"));
        }
        if supply.is_bare() {
            let error = missing::no_range(supply.user, !caller.initial, subids);
            return Self::or_single_id(&supply, [uid, gid], error);
        }
        let map = |kind, inside: u32| -> Result<IdMap> {
            let own = Extent::new(inside, supply.own_even_roots(kind), 1)?;
            let around = [IdRange::between(0, inside), IdRange::between(inside + 1, u32::MAX)];
            supply.as_many_as_fit(kind, Some(own), around.into_iter().flatten())
        };
        let maps = IdMaps::new(map(IdKind::Uid, uid)?, map(IdKind::Gid, gid)?);
        Self::privileged_or_helped(maps, &supply, [uid, gid], search)
    }
}
