//! Who asks for a map.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::Path;

use cellkit_core::{Error, ProcFd, ProcView, Result, Subject, sys as core_sys};

use crate::id_kind::IdKind;
use crate::user::{self, User};
use crate::{IdMap, etc_file, login_defs, nsswitch, sys};

/// Whether processes of a user namespace may call setgroups(2).
///
/// ```
/// use idmap::{Caller, Setgroups};
///
/// let kernels = std::fs::read_to_string("/proc/self/setgroups").expect("Linux 3.19");
/// assert_eq!(Caller::current()?.setgroups() == Setgroups::Deny, kernels == "deny\n");
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setgroups {
    /// They may, given CAP_SETGID there.
    Allow,
    /// They may not, for the life of the namespace. An ordinary user's gid map needs it: a process that drops a group
    /// could otherwise open a file whose permissions shut that group out (CVE-2014-8989).
    Deny,
}

/// What decides which maps the calling thread may write: its ids, its name, its capabilities and its user namespace.
///
/// It is a snapshot: make it, plan with it, and write. User and group names come from `/etc/passwd`; accounts that only
/// a name service knows (LDAP, sssd, systemd-homed) have no name here, and own only ranges given to their number.
///
/// ```
/// let caller = idmap::Caller::current()?;
/// println!("{} ({})", caller.uid(), caller.name().unwrap_or("no name"));
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See credentials(7): <https://man7.org/linux/man-pages/man7/credentials.7.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub(crate) ids: sys::Ids,
    pub(crate) user: User,
    /// Whether a name service may know users that `/etc/passwd` does not.
    pub(crate) other_accounts: bool,
    /// Whether newuidmap goes by any group of the caller (GRANT_AUX_GROUP_SUBIDS in login.defs).
    pub(crate) any_group: bool,
    pub(crate) capabilities: u64,
    pub(crate) no_new_privs: bool,
    pub(crate) initial: bool,
    pub(crate) setgroups: Setgroups,
    /// The maps of the caller's own namespace: the ids inside are those that exist for it.
    pub(crate) own_uids: Option<IdMap>,
    pub(crate) own_gids: Option<IdMap>,
    pub(crate) own_projids: Option<IdMap>,
}

/// The inode number of the initial user namespace (PROC_USER_INIT_INO in include/linux/proc_ns.h). The text of uid_map
/// does not tell: a nested namespace can have the same.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

pub(crate) const CAP_SETGID: u32 = 6;
pub(crate) const CAP_SETUID: u32 = 7;
pub(crate) const CAP_SETFCAP: u32 = 31;

impl Caller {
    /// Looks at the calling thread: geteuid(2), getegid(2), capget(2), prctl(2) PR_GET_NO_NEW_PRIVS, the inode of
    /// `/proc/PID/ns/user`, the maps of its own namespace, `/etc/passwd`, and what newuidmap goes by in
    /// `/etc/nsswitch.conf` and `/etc/login.defs`.
    ///
    /// Needs no privilege. Blocks only on reading those files.
    ///
    /// # Errors
    /// Those of [`ProcFd`]; Parse for a file of `/etc` of more than 64 MiB, Invalid for one that is not a regular file. A
    /// missing one is empty.
    ///
    /// See credentials(7): <https://man7.org/linux/man-pages/man7/credentials.7.html>.
    #[doc(alias = "geteuid")]
    #[doc(alias = "capget")]
    pub fn current() -> Result<Self> {
        let ids = sys::ids();
        let capabilities = sys::effective_capabilities().map_err(|errno| Error::from_errno("capget", errno.0))?;
        let pid = std::process::id() as i32;
        let pidfd = core_sys::pidfd_open(pid)
            .map_err(|errno| Error::from_errno("pidfd_open", errno.0).on(Subject::Pid(pid)))?;
        let me = ProcFd::open(ProcView::Processes)?.process(&pidfd)?;
        let (inode, _) = core_sys::inode(me.namespace("user")?.as_fd())
            .map_err(|errno| Error::from_errno("fstat", errno.0).on(Subject::Namespace("user".into())))?;
        let own = |file: &str| IdMap::from_proc(&me.read(Path::new(file))?);
        let setgroups = me.read(Path::new("setgroups"))?;
        let etc = |path: &str| etc_file::read(Path::new(path));
        Ok(Self {
            ids,
            user: User::from_passwd(&etc(user::PASSWD)?, ids.uid),
            other_accounts: nsswitch::other_accounts(&etc(nsswitch::NSSWITCH)?),
            any_group: login_defs::grants_any_group(&etc(login_defs::LOGIN_DEFS)?),
            capabilities,
            no_new_privs: sys::no_new_privs(),
            initial: inode == INITIAL_USER_NAMESPACE,
            setgroups: if setgroups.starts_with(b"deny") { Setgroups::Deny } else { Setgroups::Allow },
            own_uids: own(IdKind::Uid.map_file())?,
            own_gids: own(IdKind::Gid.map_file())?,
            own_projids: own("projid_map")?,
        })
    }

    /// The effective uid.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.ids.uid
    }

    /// The effective gid.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.ids.gid
    }

    /// The user of the effective uid, as `/etc/passwd` has it.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The name that `/etc/passwd` gives to the effective uid.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.user.name()
    }

    /// Whether the calling thread has CAP_SETUID and CAP_SETGID, and so may map any id that its namespace has.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.has(CAP_SETUID) && self.has(CAP_SETGID)
    }

    /// Whether the caller's user namespace is the machine's own, by its inode number.
    #[must_use]
    pub fn in_initial_user_namespace(&self) -> bool {
        self.initial
    }

    /// Whether setgroups(2) is allowed in the caller's own user namespace: a new one inherits "deny".
    #[must_use]
    pub fn setgroups(&self) -> Setgroups {
        self.setgroups
    }

    pub(crate) fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }

    pub(crate) fn id(&self, kind: IdKind) -> u32 {
        match kind {
            IdKind::Uid => self.ids.uid,
            IdKind::Gid => self.ids.gid,
        }
    }

    /// The ids that exist for the caller.
    pub(crate) fn own(&self, kind: IdKind) -> Option<&IdMap> {
        match kind {
            IdKind::Uid => self.own_uids.as_ref(),
            IdKind::Gid => self.own_gids.as_ref(),
        }
    }
}

impl AsRef<User> for Caller {
    fn as_ref(&self) -> &User {
        &self.user
    }
}

#[cfg(test)]
impl Caller {
    /// An ordinary user of the machine, `uid` and gid `uid`, for tests of pure functions.
    pub(crate) fn ordinary(name: &str, uid: u32) -> Self {
        let whole: IdMap = "0:0:4294967295".parse().expect("the map of the initial namespace");
        Self {
            ids: sys::Ids { real_uid: uid, uid, real_gid: uid, gid: uid },
            user: User { uid, gid: Some(uid), names: vec![name.into()] },
            other_accounts: false,
            any_group: false,
            capabilities: 0,
            no_new_privs: false,
            initial: true,
            setgroups: Setgroups::Allow,
            own_uids: Some(whole.clone()),
            own_gids: Some(whole.clone()),
            own_projids: Some(whole),
        }
    }

    /// The machine's root, for tests of pure functions.
    pub(crate) fn machine_root() -> Self {
        Self { capabilities: u64::MAX, ..Self::ordinary("root", 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_and_proc_say_of_this_process() {
        let caller = Caller::current().expect("caller");
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("field");
            line.split_ascii_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:").get(1), Some(&caller.uid().to_string()));
        assert_eq!(field("Gid:").get(1), Some(&caller.gid().to_string()));
        assert_eq!(field("CapEff:"), [format!("{:016x}", caller.capabilities)]);
        assert_eq!(field("NoNewPrivs:"), [u8::from(caller.no_new_privs).to_string()]);
        let link = std::fs::read_link("/proc/self/ns/user").expect("link");
        assert_eq!(link.as_os_str() == "user:[4026531837]", caller.in_initial_user_namespace());
    }

    #[test]
    fn the_name_is_that_of_id() {
        let caller = Caller::current().expect("caller");
        let id = std::process::Command::new("id").arg("-un").output().expect("id");
        if id.status.success() {
            assert_eq!(caller.name(), Some(String::from_utf8_lossy(&id.stdout).trim()));
        } else {
            assert_eq!(caller.name(), None, "id knows no name");
        }
    }
}
