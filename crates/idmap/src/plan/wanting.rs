//! Maps in which certain ids exist.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::MapPlan;
use super::supply::{Supply, pairs};
use crate::id_kind::IdKind;
use crate::newidmap::Search;
use crate::{Caller, Extent, IdMap, IdMaps, IdRange, SubIds, WantedIds, missing};

impl MapPlan {
    /// Maps in which these ids exist inside, and no others: which ids outside they are is for the plan to find.
    ///
    /// One of them is the caller ([`WantedIds::caller`]); the others are the caller's ranges, in the order of the files,
    /// each id once. Root of the machine is none of them. Three ways, the first that does: written directly with
    /// CAP_SETUID and CAP_SETGID; written by the caller, when it is the one id that is wanted; by newuidmap(1) and
    /// newgidmap(1). There is no fallback.
    ///
    /// # Errors
    /// * [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when there are fewer ids than are wanted: the error
    ///   says how many, and the hint is the line to add, and to which file. For a range that is reversed or reaches
    ///   4294967295, and for more runs of ids than the kernel takes in a map (340).
    /// * As [`explicit`](Self::explicit).
    ///
    /// ```
    /// use idmap::{Caller, MapPlan, SubIds, WantedIds};
    ///
    /// let caller = Caller::current()?;
    /// let wanted = WantedIds::new().ids(0..=65_535);
    /// match MapPlan::wanting(&wanted, &caller, &SubIds::of(&caller)?) {
    ///     Ok(plan) => println!("{:?}: {}", plan.way(), plan.maps().uid),
    ///     Err(error) => eprintln!("{error:#}"), // ... add the line "ann:100000:65536" to /etc/subuid ...
    /// }
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    pub fn wanting(wanted: &WantedIds, caller: &Caller, subids: &SubIds) -> Result<Self> {
        Self::wanting_with(wanted, caller, subids, &Search::default())
    }

    pub(crate) fn wanting_with(wanted: &WantedIds, caller: &Caller, subids: &SubIds, search: &Search) -> Result<Self> {
        let supply = Supply::new(caller, subids)?;
        let (uid, uids_short) = map(IdKind::Uid, wanted, &supply)?;
        let (gid, gids_short) = map(IdKind::Gid, wanted, &supply)?;
        let short = [(IdKind::Uid, uids_short), (IdKind::Gid, gids_short)];
        let short: Vec<_> = short.into_iter().filter(|&(_, count)| count > 0).collect();
        if !short.is_empty() {
            return Err(missing::too_few(&short, supply.user, !caller.initial, subids));
        }
        Self::explicit_with(IdMaps::new(uid, gid), caller, subids, search)
    }
}

/// The map of `kind`, and how many ids it lacks.
fn map(kind: IdKind, wanted: &WantedIds, supply: &Supply<'_>) -> Result<(IdMap, u64)> {
    let (mut runs, place) = wanted.runs(kind)?;
    let own = supply.own(kind).map(|own| Extent::new(place, own, 1)).transpose()?;
    if own.is_some() {
        runs = runs.into_iter().flat_map(|run| without(run, place)).flatten().collect();
    }
    let others: Vec<Extent> = pairs(runs.iter().copied(), supply.ranges(kind)).collect();
    let needed: u64 = runs.iter().map(|run| u64::from(run.count())).sum();
    let there: u64 = others.iter().map(|extent| u64::from(extent.count())).sum();
    Ok((IdMap::new(own.into_iter().chain(others))?, needed - there))
}

/// A run less one id.
fn without(run: IdRange, id: u32) -> [Option<IdRange>; 2] {
    match run.contains(id) {
        true => [IdRange::between(run.start(), id), IdRange::between(id + 1, run.end())],
        false => [Some(run), None],
    }
}
