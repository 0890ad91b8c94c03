//! Which maps to write, and how.
#![forbid(unsafe_code)]

mod auto;
mod explicit;
mod keep_id;
mod supply;
mod wanting;

use cellkit_core::{Error, Result, Subject};

use crate::caller::CAP_SETFCAP;
use crate::id_kind::IdKind;
use crate::newidmap::Program;
use crate::{Caller, IdMaps, Setgroups, verify};

/// How the maps are written.
///
/// ```no_run
/// use idmap::{Caller, MapPlan, SubIds, Way};
///
/// let caller = Caller::current()?;
/// let plan = MapPlan::auto(&caller, &SubIds::of(&caller)?)?;
/// if plan.way() == Way::Helper {
///     println!("newuidmap and newgidmap will be run");
/// }
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
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
/// * [`auto`](Self::auto): a container, whatever is in it.
/// * [`keep_id`](Self::keep_id): the caller keeps its id inside, so that files have the same owner on both sides.
/// * [`wanting`](Self::wanting): certain ids exist inside, or the line that is missing for it is named.
/// * [`explicit`](Self::explicit): exactly these maps. [`single_id`](Self::single_id): the caller and nobody else.
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
    fn direct(maps: IdMaps, caller: &Caller) -> Result<Self> {
        Self::checked(maps, caller, Method::Direct, caller.setgroups, None)
    }

    pub(crate) fn helper(maps: IdMaps, caller: &Caller, newuidmap: Program, newgidmap: Program) -> Self {
        // newgidmap shuts setgroups off when no extent is from the caller's ranges.
        let only_own = verify::is_own_id(IdKind::Gid, &maps, caller);
        let setgroups = if only_own { Setgroups::Deny } else { caller.setgroups };
        Self { maps, method: Method::Helper { newuidmap, newgidmap }, setgroups, why_single_id: None }
    }

    /// The caller alone, as `uid` and `gid` inside, instead of more that was wanted.
    fn fallback(uid: u32, gid: u32, caller: &Caller, why: &Error) -> Result<Self> {
        let maps = supply::own(uid, gid, caller.uid(), caller.gid())?;
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
    ///
    /// Where it is denied, as always with [`Way::SingleId`], a program that drops its groups fails (EPERM): start it with
    /// the groups that it has, `ns_core::Command::keep_groups`.
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
