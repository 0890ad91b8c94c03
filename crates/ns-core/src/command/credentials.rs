//! Who the payload is and what it may do: user, groups, capabilities, keys.
//!
//! The order of the calls is what makes the capability sets come out as asked. The bounding set goes first, while
//! CAP_SETPCAP is effective. A change from uid 0 to another clears the effective set always, the ambient set always, and
//! the permitted set but for PR_SET_KEEPCAPS: so the effective set is raised once more after it, inheritable and ambient
//! are set then, the secure bits next (one of which forbids to raise ambient capabilities), and the exact permitted and
//! effective sets last. Dropping a permitted capability drops it from the ambient set too; the check of
//! [`Capabilities`] has seen to it that none wanted is lost so.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;

use cellkit_core::{ChildSteps, Error, Result, Subject};

use super::Command;
use crate::program::c_string;
use crate::step::CredentialStep;
use crate::{Capabilities, Capability, CapabilitySet, Keyring, Securebits};

/// The most supplementary groups that the kernel takes.
const NGROUPS_MAX: usize = 65536;

/// What a [`Command`] was told about the payload's credentials.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    pub(super) user: Option<(u32, u32)>,
    pub(super) groups: Option<Vec<u32>>,
    pub(super) keep_groups: bool,
    pub(super) capabilities: Capabilities,
    pub(super) securebits: Option<Securebits>,
    pub(super) no_new_privs: bool,
    pub(super) keyring: Keyring,
}

/// # User, groups, capabilities, keys
impl Command {
    /// The payload's user and group ids, as seen in its user namespace. Supplementary groups become none, but see
    /// [`groups`](Self::groups) and [`keep_groups`](Self::keep_groups).
    ///
    /// * C calls: setresgid(2), setresuid(2). Need CAP_SETGID and CAP_SETUID, which a child in a new user namespace has.
    /// * Memory: a child that changes its ids while it shares the caller's memory makes that undumpable, so that nobody of
    ///   the new ids reaches it, and the caller gets its own setting back after the start. A program that sets PR_SET_DUMPABLE
    ///   itself, in another thread at the same time, undoes the one or the other: use
    ///   [`copy_memory`](Self::copy_memory) there.
    /// * Errors: Invalid for an id that is not mapped into the user namespace; Permission.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("/bin/true").user(1000, 1000).plan()?;
    /// assert!(plan.to_string().contains("setresuid(1000, 1000, 1000)"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/setresuid.2.html>.
    #[doc(alias("setuid", "setgid", "setresuid", "setresgid"))]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.credentials.user = Some((uid, gid));
        self
    }

    /// The payload's supplementary groups, at most 65,536. [`plan`](Self::plan) refuses them together with
    /// [`keep_groups`](Self::keep_groups).
    ///
    /// * C call: setgroups(2). Needs CAP_SETGID.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("/bin/true").user(1000, 1000).groups([27, 100]).plan()?;
    /// assert!(plan.to_string().contains("setgroups(2, [27, 100])"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/setgroups.2.html>.
    #[doc(alias = "setgroups")]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.credentials.groups = Some(groups.into_iter().collect());
        self
    }

    /// Leaves the supplementary groups alone: the only way where setgroups is denied, as in a user namespace that an
    /// ordinary user maps without newgidmap.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let plan = Command::new("/bin/true").user(1000, 1000).keep_groups().plan()?;
    /// assert!(!plan.to_string().contains("setgroups"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    pub fn keep_groups(mut self) -> Self {
        self.credentials.keep_groups = true;
        self
    }

    /// The capabilities of the payload: all five sets become exactly these. Not asked for means none.
    ///
    /// A [`CapabilitySet`] alone means: bounding, permitted and effective that set, inheritable and ambient empty. A payload
    /// whose uid is not 0 loses permitted and effective at execve, as always, unless they are ambient:
    /// [`Capabilities::keeping`].
    ///
    /// ```
    /// use ns_core::{Capabilities, CapabilitySet, Command};
    ///
    /// let set: CapabilitySet = "chown,net_admin".parse()?;
    /// let as_root = Command::new("/bin/true").capabilities(set);
    /// let as_anybody = Command::new("/bin/true").user(1000, 1000).capabilities(Capabilities::keeping(set));
    /// // Ambient capabilities must be permitted and inheritable as well.
    /// let wrong = Command::new("/bin/true").capabilities(Capabilities::from(set).with_ambient(set));
    /// assert!(wrong.plan().unwrap_err().to_string().contains("inheritable"));
    /// # as_root.plan()?;
    /// # as_anybody.plan()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// The bounding set can be changed with CAP_SETPCAP only, which a child in a new user namespace has. Without it, add
    /// [`no_new_privs`](Self::no_new_privs), or set-user-id programs can give the payload what it was not given here.
    ///
    /// * C calls: prctl(2) PR_CAPBSET_DROP, capset(2), prctl(2) PR_CAP_AMBIENT (Linux 4.3).
    /// * Errors: Invalid for sets that the kernel would refuse (ambient beyond permitted and inheritable, effective beyond
    ///   permitted, inheritable beyond bounding); Permission for a capability that the child does not have itself.
    ///
    /// See <https://man7.org/linux/man-pages/man7/capabilities.7.html>.
    #[doc(alias("capset", "PR_CAPBSET_DROP", "PR_CAP_AMBIENT"))]
    pub fn capabilities(mut self, sets: impl Into<Capabilities>) -> Self {
        self.credentials.capabilities = sets.into();
        self
    }

    /// How much uid 0 means to the payload. Not asked for, they stay the caller's, and none in a new user namespace.
    ///
    /// ```
    /// use ns_core::{Command, Securebits};
    ///
    /// let without_root = Securebits::NOROOT | Securebits::NOROOT_LOCKED;
    /// let plan = Command::new("/bin/true").securebits(without_root).plan()?;
    /// assert!(plan.to_string().contains("prctl PR_SET_SECUREBITS(NOROOT|NOROOT_LOCKED)"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// * C call: prctl(2) PR_SET_SECUREBITS. Needs CAP_SETPCAP in the child.
    /// * Errors: Permission without it, and where a lock of the caller's forbids it; Invalid for a bit that this kernel lacks.
    ///
    /// See <https://man7.org/linux/man-pages/man2/PR_SET_SECUREBITS.2const.html>.
    #[doc(alias("PR_SET_SECUREBITS", "SECBIT_NOROOT"))]
    pub fn securebits(mut self, bits: Securebits) -> Self {
        self.credentials.securebits = Some(bits);
        self
    }

    /// No program that the payload runs can gain privileges. Linux 3.5.
    ///
    /// * C call: prctl(2) PR_SET_NO_NEW_PRIVS. Needs nothing, and cannot be undone.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let status = Command::new("cat").arg("/proc/self/status").no_new_privs().output()?.stdout;
    /// assert!(String::from_utf8_lossy(&status).contains("NoNewPrivs:\t1"));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/PR_SET_NO_NEW_PRIVS.2const.html>.
    #[doc(alias = "PR_SET_NO_NEW_PRIVS")]
    pub fn no_new_privs(mut self) -> Self {
        self.credentials.no_new_privs = true;
        self
    }

    /// Whose keys the payload can reach: a new session keyring if nothing is asked for.
    ///
    /// * C call: keyctl(2) KEYCTL_JOIN_SESSION_KEYRING. A kernel without keyrings has none to inherit.
    /// * Errors: Limit (EDQUOT) when the caller has as many keyrings as it may.
    ///
    /// See <https://man7.org/linux/man-pages/man2/keyctl.2.html>.
    #[doc(alias("keyctl", "KEYCTL_JOIN_SESSION_KEYRING"))]
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.credentials.keyring = keyring;
        self
    }
}

impl Credentials {
    pub(super) fn check(&self) -> Result<()> {
        let user = self.user.iter().flat_map(|&(uid, gid)| [("setresuid", uid), ("setresgid", gid)]);
        let groups = self.groups.iter().flatten().map(|&gid| ("setgroups", gid));
        if let Some((call, id)) = user.chain(groups).find(|(_, id)| *id == u32::MAX) {
            let why = "this number is no id: the kernel takes it to mean \"unchanged\"";
            return Err(Error::invalid(call, why).on(Subject::Value(id.to_string())));
        }
        if let Some(groups) = &self.groups {
            if groups.len() > NGROUPS_MAX {
                let error = Error::invalid("setgroups", "a process has at most 65536 supplementary groups");
                return Err(error.on(Subject::Thing(format!("{} groups", groups.len()))));
            }
            if self.keep_groups {
                let why = "the caller's groups are to be kept, and others were asked for";
                return Err(Error::invalid("setgroups", why)
                    .on(Subject::Thing(format!("groups {groups:?}")))
                    .with_hint("leave out keep_groups or groups"));
            }
        }
        self.capabilities.check()?;
        if let Some(bits) = self.securebits {
            let unknown = bits.difference(Securebits::all());
            if !unknown.is_empty() {
                let error = Error::invalid("prctl PR_SET_SECUREBITS", "these bits have no name here");
                return Err(error.on(Subject::Value(format!("{:#x}", unknown.bits()))));
            }
        }
        if let Keyring::Named(name) = &self.keyring {
            if name.is_empty() || name.len() > 4095 || name.as_bytes().starts_with(b".") {
                let why = "the name of a keyring has 1 to 4095 bytes and does not begin with a dot";
                return Err(Error::invalid("keyctl", why).on(Subject::Value(name.to_string_lossy().into_owned())));
            }
        }
        Ok(())
    }

    /// Whether the child changes its user or group ids.
    pub(super) fn changes_ids(&self) -> bool {
        self.user.is_some() || self.groups.is_some()
    }

    /// The session keyring.
    pub(super) fn keyring_step(&self) -> Result<Option<CredentialStep>> {
        Ok(match &self.keyring {
            Keyring::New => Some(CredentialStep::Keyring(None)),
            Keyring::Named(name) => Some(CredentialStep::Keyring(Some(c_string(name, "keyctl")?))),
            Keyring::Keep => None,
        })
    }

    /// User, groups and capabilities of the payload.
    pub(super) fn steps(&self, steps: &mut ChildSteps, other_user: bool) -> Result<()> {
        let sets = self.capabilities;
        // Dropping from the bounding set is a privilege; who has none cannot, and has nothing to drop from but what
        // set-user-id programs would give: that is what no_new_privs is for.
        if self.child_has(Capability::SETPCAP, other_user)? && sets.bounding != CapabilitySet::FULL {
            steps.push(CredentialStep::BoundCapabilities(sets.bounding));
        }
        let reason = "the payload's user";
        if self.user.is_some() {
            steps.push(CredentialStep::KeepCapabilities);
        }
        let groups = self.groups.clone().or_else(|| self.user.map(|_| Vec::new()));
        if let (Some(ids), false) = (groups, self.keep_groups) {
            steps.push(CredentialStep::Groups { ids, reason: "the payload's supplementary groups" });
        }
        if let Some((uid, gid)) = self.user {
            steps.push(CredentialStep::Gid { id: gid, reason });
            steps.push(CredentialStep::Uid { id: uid, reason });
        }
        if self.securebits.is_some() || !sets.inheritable.is_empty() {
            steps.push(CredentialStep::RaiseEffective { inheritable: sets.inheritable });
        }
        steps.push(CredentialStep::ClearAmbient);
        if !sets.ambient.is_empty() {
            steps.push(CredentialStep::RaiseAmbient(sets.ambient));
        }
        if let Some(bits) = self.securebits {
            steps.push(CredentialStep::Securebits(bits));
        }
        steps.push(CredentialStep::Capabilities(sets));
        Ok(())
    }

    /// Whether the child has this capability before it gives any up: in another user namespace than its caller's it has all
    /// of them, else its caller's.
    pub(super) fn child_has(&self, capability: Capability, other_user: bool) -> Result<bool> {
        Ok(other_user || CapabilitySet::of_this_thread()?.contains(capability))
    }

    /// Whether the payload still has this capability, effective, right before its execve.
    pub(super) fn payload_has(&self, capability: Capability, other_user: bool) -> Result<bool> {
        Ok(self.capabilities.effective.contains(capability) && self.child_has(capability, other_user)?)
    }
}
