//! Which maps to write, and how.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use crate::caller::CAP_SETFCAP;
use crate::id_kind::IdKind;
use crate::newidmap::{Program, Search};
use crate::{Caller, Extent, IdMap, IdMaps, IdRange, Setgroups, SubIds, verify};

/// How the maps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Way {
    /// By the caller, who has CAP_SETUID and CAP_SETGID.
    Direct,
    /// By newuidmap(1) and newgidmap(1), within the ranges of `/etc/subuid` and `/etc/subgid`.
    Helper,
    /// By the caller, who has no privilege and maps no more than their own uid and gid.
    SingleId,
}

/// The maps of a new user namespace, checked, and how they are to be written.
///
/// A plan is data: it was checked against what the caller owns when it was made, it prints itself
/// ([`describe`](Self::describe)), and only [`write`](Self::write) has an effect. There is no other way in this crate
/// to write a map, so the order that matters (setgroups before gid_map) cannot be got wrong.
///
/// ```no_run
/// use cellkit_core::{ProcFd, ProcView};
/// use idmap::{Caller, MapPlan, SubIds};
///
/// # fn paused_child() -> std::os::fd::OwnedFd { unimplemented!() }
/// let caller = Caller::current()?;
/// let plan = MapPlan::auto(&caller, &SubIds::of(&caller)?)?;
/// for step in plan.describe() {
///     println!("{step}: {}", step.reason);
/// }
/// // A child that clone3 made with CLONE_NEWUSER, and that waits.
/// let pidfd = paused_child();
/// plan.write(&pidfd, &ProcFd::open(ProcView::Processes)?, &mut ())?;
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Debug)]
#[must_use = "a plan does nothing until it is written"]
pub struct MapPlan {
    maps: IdMaps,
    pub(crate) method: Method,
    setgroups: Setgroups,
    why_single_id: Option<String>,
}

/// The way, with what it needs.
#[derive(Clone, Debug)]
pub(crate) enum Method {
    Direct,
    Helper { newuidmap: Program, newgidmap: Program },
    SingleId,
}

impl MapPlan {
    /// The maps for somebody who only wants a container.
    ///
    /// * root: the ranges that `/etc/subuid` and `/etc/subgid` give to root, from 0 inside. Root's own id is never
    ///   mapped, whatever the files say, so that root in the container is nobody on the machine.
    /// * anybody else: 0 inside is the caller, and from 1 on come the caller's ranges, in the order of the files.
    ///   Without ranges, or without working newuidmap and newgidmap, 0 inside is the caller and nothing else is mapped;
    ///   [`why_single_id`](Self::why_single_id) then says what is missing. So it does for root of a nested user
    ///   namespace without ranges, which is not the machine's root.
    ///
    /// Ranges of ids that do not exist in the caller's own namespace are left out, and so are those beyond what the
    /// kernel takes (340 extents, 4095 bytes).
    ///
    /// With CAP_SETUID and CAP_SETGID the maps are written directly, else by newuidmap(1) and newgidmap(1).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when root of the machine has no range: the hint is the
    /// exact line to add. Invalid when the caller's own namespace has no map yet.
    ///
    /// See subuid(5), newuidmap(1): <https://man7.org/linux/man-pages/man1/newuidmap.1.html>.
    pub fn auto(caller: &Caller, subids: &SubIds) -> Result<Self> {
        Self::auto_with(caller, subids, &Search::default())
    }

    /// Exactly these maps, as far as the caller may.
    ///
    /// With CAP_SETUID and CAP_SETGID every id may be mapped that exists in the caller's own namespace (uid 0 of it
    /// only with CAP_SETFCAP). Otherwise the verdict is that of newuidmap(1) and newgidmap(1): an extent is the
    /// caller's own id, alone, or lies within the caller's ranges in `/etc/subuid` and `/etc/subgid`. There is no
    /// fallback. A map of project ids ([`IdMaps::projid`]) needs no privilege: those that exist here may all be mapped.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) for ids that are not the caller's to map (the hint is
    /// the exact line to add), for ids that do not exist here, and for maps that the
    /// kernel does not take in one write ([`IdMap::check_writable`]);
    /// NotFound when newuidmap is needed and not installed.
    ///
    /// See newuidmap(1): <https://man7.org/linux/man-pages/man1/newuidmap.1.html>.
    pub fn explicit(maps: IdMaps, caller: &Caller, subids: &SubIds) -> Result<Self> {
        Self::explicit_with(maps, caller, subids, &Search::default())
    }

    pub(crate) fn auto_with(caller: &Caller, subids: &SubIds, search: &Search) -> Result<Self> {
        let root = caller.uid() == 0;
        let bare = IdKind::BOTH.into_iter().find(|&kind| usable(kind, caller, subids).is_empty());
        if bare.is_some() {
            let error = verify::no_range(caller, subids);
            return if root && caller.initial { Err(error) } else { Self::single(caller, &error) };
        }
        let maps = IdMaps::new(from_ranges(IdKind::Uid, caller, subids)?, from_ranges(IdKind::Gid, caller, subids)?);
        if caller.is_privileged() {
            return Self::direct(maps, caller);
        }
        match verify::programs(caller, search) {
            Ok((newuidmap, newgidmap)) => Ok(Self::helper(maps, caller, newuidmap, newgidmap)),
            Err(error) if root && caller.initial => Err(error),
            Err(error) => Self::single(caller, &error),
        }
    }

    pub(crate) fn explicit_with(maps: IdMaps, caller: &Caller, subids: &SubIds, search: &Search) -> Result<Self> {
        maps.check_writable()?;
        verify::exist(&maps, caller)?;
        if caller.is_privileged() {
            return Self::direct(maps, caller);
        }
        if IdKind::BOTH.into_iter().all(|kind| is_own_id(kind, &maps, caller)) {
            let why = "the one id is what was asked for".to_owned();
            return Self::checked(maps, caller, Method::SingleId, Setgroups::Deny, Some(why));
        }
        verify::owns(&maps, caller, subids)?;
        let (newuidmap, newgidmap) = verify::programs(caller, search)?;
        Ok(Self::helper(maps, caller, newuidmap, newgidmap))
    }

    fn direct(maps: IdMaps, caller: &Caller) -> Result<Self> {
        Self::checked(maps, caller, Method::Direct, caller.setgroups, None)
    }

    pub(crate) fn helper(maps: IdMaps, caller: &Caller, newuidmap: Program, newgidmap: Program) -> Self {
        // newgidmap shuts setgroups off when no extent is from the caller's ranges.
        let only_own = is_own_id(IdKind::Gid, &maps, caller);
        let setgroups = if only_own { Setgroups::Deny } else { caller.setgroups };
        Self { maps, method: Method::Helper { newuidmap, newgidmap }, setgroups, why_single_id: None }
    }

    fn single(caller: &Caller, why: &Error) -> Result<Self> {
        let maps = IdMaps::contiguous(caller.uid(), caller.gid(), 1)?;
        verify::exist(&maps, caller)?;
        let why = match why.hint() {
            Some(hint) => format!("{why}; {hint}"),
            None => why.to_string(),
        };
        Self::checked(maps, caller, Method::SingleId, Setgroups::Deny, Some(why))
    }

    /// A plan that the caller writes without a program in between, and so needs what the kernel asks for uid 0 outside.
    fn checked(
        maps: IdMaps,
        caller: &Caller,
        method: Method,
        setgroups: Setgroups,
        why_single_id: Option<String>,
    ) -> Result<Self> {
        if maps.uid.to_inside(0).is_some() && !caller.has(CAP_SETFCAP) {
            return Err(Error::invalid("uid_map", "uid 0 outside may be mapped only with CAP_SETFCAP")
                .on(Subject::Value(maps.uid.colons()))
                .with_hint(
                    "a file capability set as this root would count for the one outside: map other ids, or keep \
                            CAP_SETFCAP",
                ));
        }
        Ok(Self { maps, method, setgroups, why_single_id })
    }

    /// The same plan with setgroups(2) denied in the namespace for good.
    ///
    /// Worth it when a gid of the caller shuts them out of a file (permissions like `rwx---r-x`): a process that may
    /// drop that group opens the file. What needs setgroups, such as most package managers and `su`, then fails.
    #[doc(alias = "setgroups")]
    pub fn deny_setgroups(mut self) -> Self {
        self.setgroups = Setgroups::Deny;
        self
    }

    /// The maps.
    #[must_use]
    pub fn maps(&self) -> &IdMaps {
        &self.maps
    }

    /// How they are written.
    #[must_use]
    pub fn way(&self) -> Way {
        match &self.method {
            Method::Direct => Way::Direct,
            Method::Helper { .. } => Way::Helper,
            Method::SingleId => Way::SingleId,
        }
    }

    /// Whether setgroups(2) will be allowed in the namespace.
    #[must_use]
    pub fn setgroups(&self) -> Setgroups {
        self.setgroups
    }

    /// Why no more than one id is mapped, and what to do about it; `None` for the other ways.
    #[must_use]
    pub fn why_single_id(&self) -> Option<&str> {
        self.why_single_id.as_deref()
    }
}

/// Whether the map of `kind` is the caller's own id and nothing else.
fn is_own_id(kind: IdKind, maps: &IdMaps, caller: &Caller) -> bool {
    matches!(kind.of(maps).extents(), [one] if one.count() == 1 && one.outside() == caller.id(kind))
}

/// The caller's ranges, cut to what exists in the caller's own namespace: the kernel wants each extent within one
/// extent of the map above it. Without the caller's own id: an ordinary user's has its place already, and root's is
/// never mapped.
fn usable(kind: IdKind, caller: &Caller, subids: &SubIds) -> Vec<IdRange> {
    let own_id = caller.id(kind);
    let mut usable = Vec::new();
    for range in subids.ranges(kind) {
        for extent in caller.own(kind).map(IdMap::extents).unwrap_or_default() {
            let start = range.start().max(extent.inside());
            let end = range.end().min(extent.inside() + extent.count());
            if (start..end).contains(&own_id) {
                usable.extend(IdRange::between(start, own_id));
                usable.extend(IdRange::between(own_id + 1, end));
            } else {
                usable.extend(IdRange::between(start, end));
            }
            if usable.len() > IdMap::MAX_EXTENTS {
                return usable;
            }
        }
    }
    usable
}

/// The automatic map of `kind`.
fn from_ranges(kind: IdKind, caller: &Caller, subids: &SubIds) -> Result<IdMap> {
    let mut extents = Vec::new();
    let (mut next, mut bytes) = (0, 0);
    let root = caller.uid() == 0;
    let own = if root { None } else { IdRange::between(caller.id(kind), caller.id(kind).saturating_add(1)) };
    for range in own.into_iter().chain(usable(kind, caller, subids)) {
        let extent = Extent::new(next, range.start(), range.count())?;
        bytes += extent.line_len();
        if extents.len() == IdMap::MAX_EXTENTS || bytes > IdMap::MAX_BYTES {
            break;
        }
        next += range.count();
        extents.push(extent);
    }
    IdMap::try_from(extents)
}
