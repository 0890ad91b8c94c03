//! Whether user namespaces can be made here, what can be mapped in them, and why not what cannot.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::os::fd::AsFd;

use cellkit_core::{ProcFd, ProcView, Result};

use crate::Caller;
use crate::sys::{self, trial};

mod cause;
mod chroot;
mod maps;
mod namespaces;
pub(crate) mod surroundings;

use surroundings::Surroundings;

/// Finds out whether the caller can make a user namespace here, and map ids in it; and if not, why.
///
/// Nothing is guessed from settings that can be tried. A child makes a user namespace, uses a power that it gives, maps
/// the caller's own ids in it, nests others below it and makes a procfs as a container needs it; then it ends, and all
/// that it made with it. A seccomp filter that answers with death meets that child, not the caller.
///
/// * C calls: clone3(2) or clone(2), unshare(2), fsopen(2) and fsmount(2) in children; statx(2), capget(2).
/// * Files: `uid_map`, `gid_map`, `setgroups`, `status` and `mountinfo` of `/proc/PID`, `/proc/sys/user` and
///   `/proc/sys/kernel`, `/sys/kernel/security/lsm`, `/etc/passwd`, `/etc/subuid`, `/etc/subgid`.
/// * Privileges: none. It shows what the caller may do, so ask as the user who will.
/// * Limits: the kernel counts the namespaces of the trial for some milliseconds longer than they live. Where
///   `user.max_user_namespaces` is less than about 40, what is made right after it may fail with ENOSPC.
/// * Blocks for some milliseconds, and a little longer in a program with much memory, whose page tables the child copies.
///
/// ```
/// let here = idmap::probe()?;
/// if let Some(why) = here.why_not() {
///     eprintln!("no user namespace: {why}");
/// }
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// # Errors
/// When no procfs can be had. Everything else that fails is an [`Observation`].
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[doc(alias = "CLONE_NEWUSER")]
pub fn probe() -> Result<Probe> {
    let proc = ProcFd::open(ProcView::Whole)?;
    let caller = Caller::current();
    let around = Surroundings::look(&proc, caller.as_ref().ok());
    let ids = sys::ids();
    let maps = [ids.uid, ids.gid].map(|id| format!("0 {id} 1"));
    let [uid, gid] = maps.each_ref().map(|map| map.as_bytes());
    let tried = trial::run(proc.as_fd(), [uid, gid]);
    let mut found = Vec::new();
    namespaces::observe(&tried, &around, &mut found);
    surroundings::observe(&around, &mut found);
    match &caller {
        Ok(caller) => maps::observe(caller, &mut found),
        Err(error) => found.push(Observation::unknown(Topic::Maps, "the caller's ids", format!("{error:#}"))),
    }
    Ok(Probe { observations: found })
}

/// What [`probe`](crate::probe()) found. Printing it is a table.
///
/// ```
/// let here = idmap::probe()?;
/// if here.can_make() && here.can_map_many() {
///     println!("a container with many ids can be started");
/// }
/// print!("{here}");
/// assert_eq!(here.can_make(), here.why_not().is_none());
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// One for each thing that was looked at, by [`Topic`].
    pub observations: Vec<Observation>,
}

impl Probe {
    /// Whether the caller can make a user namespace, has power in it, and can map its own ids there.
    #[must_use]
    pub fn can_make(&self) -> bool {
        self.why_not().is_none()
    }

    /// What stands in the way of a user namespace that is of use: the first thing, which the others may follow from.
    #[must_use]
    pub fn why_not(&self) -> Option<&Observation> {
        ["user namespace", "power in it", "own ids"].iter().find_map(|what| {
            let observation = self.get(what)?;
            matches!(observation.found, Found::No(_)).then_some(observation)
        })
    }

    /// Whether more than the caller's own ids can be mapped: by the caller, or by newuidmap and newgidmap from
    /// `/etc/subuid` and `/etc/subgid`.
    #[must_use]
    pub fn can_map_many(&self) -> bool {
        self.get("more ids").is_some_and(|observation| observation.found == Found::Yes)
    }

    /// The observation of `what`, as the table names it.
    #[must_use]
    pub fn get(&self, what: &str) -> Option<&Observation> {
        self.observations.iter().find(|observation| observation.what == what)
    }

    /// All that stands in the way of something, each with what to do about it.
    pub fn obstacles(&self) -> impl Iterator<Item = &Observation> {
        self.observations.iter().filter(|observation| matches!(observation.found, Found::No(_)))
    }
}

impl fmt::Display for Probe {
    /// A table: whether it works, the thing, what was found; below an obstacle, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.observations.iter().map(|found| found.what.chars().count()).max().unwrap_or(0);
        let mut topic = None;
        for Observation { topic: of, what, found, detail, fix } in &self.observations {
            if topic.replace(*of) != Some(*of) {
                writeln!(f, "{of}")?;
            }
            writeln!(f, "  {found:<4} {what:<width$}  {detail}")?;
            if let Some(fix) = fix {
                writeln!(f, "       → {fix}")?;
            }
        }
        Ok(())
    }
}

/// One thing that was looked at by [`probe`](crate::probe()).
///
/// ```
/// for obstacle in idmap::probe()?.obstacles() {
///     println!("{}: {}", obstacle.what, obstacle.detail);
///     println!("  what to do: {}", obstacle.fix.as_deref().unwrap_or_default());
/// }
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// What it belongs to.
    pub topic: Topic,
    /// The thing, by the kernel's name where it has one: `user namespace`, `user.max_user_namespaces`, `more ids`.
    pub what: Cow<'static, str>,
    /// How it stands.
    pub found: Found,
    /// What was found, in a few words: a value, or the call and its error.
    pub detail: String,
    /// What to do about it. There for everything that is [`Found::No`], and only for that.
    pub fix: Option<String>,
}

impl Observation {
    fn new(topic: Topic, what: impl Into<Cow<'static, str>>, found: Found, detail: impl Into<String>) -> Self {
        Self { topic, what: what.into(), found, detail: detail.into(), fix: None }
    }

    fn fact(topic: Topic, what: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(topic, what, Found::Fact, detail)
    }

    fn yes(topic: Topic, what: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(topic, what, Found::Yes, detail)
    }

    fn unknown(topic: Topic, what: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(topic, what, Found::Unknown, detail)
    }

    fn no(
        topic: Topic,
        what: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        (obstacle, fix): (Obstacle, String),
    ) -> Self {
        Self { fix: Some(fix), ..Self::new(topic, what, Found::No(obstacle), detail) }
    }
}

impl fmt::Display for Observation {
    /// One line: `user namespace: clone3: no space left on device (ENOSPC): none are allowed here: as root, …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.detail)?;
        match &self.fix {
            Some(fix) => write!(f, ": {fix}"),
            None => Ok(()),
        }
    }
}

/// How a thing stands that [`probe`](crate::probe()) looked at.
///
/// ```
/// use idmap::{Found, probe};
///
/// // Whatever stands in the way comes with what to do about it, and nothing else does.
/// assert!(probe()?.observations.iter().all(|seen| matches!(seen.found, Found::No(_)) == seen.fix.is_some()));
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Found {
    /// It works here.
    Yes,
    /// It does not, for this reason.
    No(Obstacle),
    /// A value that is neither good nor bad.
    Fact,
    /// It could not be found out.
    Unknown,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No(_) => "NO",
            Self::Fact => "",
            Self::Unknown => "?",
        })
    }
}

/// Why there is no user namespace here, or why not more ids in it: for a program to match on.
///
/// ```
/// use idmap::{Found, Obstacle, probe};
///
/// let here = probe()?;
/// match here.why_not().map(|why| why.found) {
///     None => println!("user namespaces work"),
///     Some(Found::No(Obstacle::Seccomp)) => println!("this container's seccomp profile forbids them"),
///     Some(_) => println!("{here}"),
/// }
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// The kernel is built without CONFIG_USER_NS.
    NotInKernel,
    /// `user.max_user_namespaces` of the caller's own user namespace is 0.
    MaxUserNamespaces,
    /// As many as `user.max_user_namespaces` allows are there, for this user.
    MaxUserNamespacesReached,
    /// A user namespace around the caller's own allows no more, or 33 are nested already. The kernel answers both with
    /// ENOSPC, and shows neither from inside.
    OutsideLimit,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian's kernels), and the caller is not the machine's root.
    UnprivilegedUsernsClone,
    /// AppArmor: `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu), or the caller's profile has no
    /// `userns` rule.
    AppArmor,
    /// SELinux: the caller's domain may not `create` a `user_namespace`.
    SeLinux,
    /// Another security module, or one that could not be told.
    SecurityModule,
    /// A seccomp filter, as container engines have one, and systemd's `RestrictNamespaces=`.
    Seccomp,
    /// The caller's root directory is not that of its mount namespace: chroot(2).
    Chroot,
    /// The caller's uid or gid has no number in its own user namespace.
    UnmappedIds,
    /// No process can be made: a limit of processes or of memory.
    Processes,
    /// Uid 0 of the outside is the caller's own, and CAP_SETFCAP was taken from it.
    SetFcap,
    /// newuidmap or newgidmap is not installed.
    HelperMissing,
    /// newuidmap or newgidmap would have no privilege: not setuid root, or on a nosuid mount.
    HelperPowerless,
    /// The caller has no_new_privs, which takes the privilege of newuidmap and newgidmap away.
    NoNewPrivs,
    /// newuidmap and newgidmap refuse a caller whose real and effective ids, or gid and account, differ.
    HelperRefuses,
    /// `/etc/subuid` or `/etc/subgid` has no range for the caller that exists here.
    NoSubIds,
    /// Parts of `/proc` are covered by other mounts, and no procfs may show more than the one that is there.
    ProcCovered,
    /// The kernel said no for a reason that none of the above is: the detail has its words.
    Other,
}

/// What an [`Observation`] belongs to.
///
/// ```
/// use idmap::{Topic, probe};
///
/// let here = probe()?;
/// assert!(here.observations.iter().filter(|seen| seen.topic == Topic::Namespaces).count() > 0);
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topic {
    /// User namespaces, tried.
    Namespaces,
    /// What decides about them: settings, security modules, where the caller is.
    Surroundings,
    /// Which ids can be mapped.
    Maps,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Namespaces => "user namespaces",
            Self::Surroundings => "surroundings",
            Self::Maps => "maps",
        })
    }
}
