//! Where the caller is: settings, security modules, its place among namespaces.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::ProcFd;

use super::{Observation, Topic, chroot};
use crate::Caller;
use crate::id_kind::IdKind;

const CAP_SYS_ADMIN: u32 = 21;

/// What decides about user namespaces. `None` is what could not be found out, or what this kernel does not have.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// Whether the caller's user namespace is the machine's own.
    pub(super) initial: Option<bool>,
    pub(super) sys_admin: bool,
    pub(super) max_user_namespaces: Option<u64>,
    /// Of Debian's kernels.
    pub(super) unprivileged_userns_clone: Option<u64>,
    /// Of Ubuntu's.
    pub(super) apparmor_restricts: Option<u64>,
    /// The name of the caller's profile, if it has one.
    pub(super) apparmor_profile: Option<String>,
    pub(super) selinux_enforces: bool,
    /// The names of the security modules.
    pub(super) modules: Option<String>,
    /// The mode in `Seccomp` of /proc/PID/status.
    pub(super) seccomp: Option<u64>,
    pub(super) chroot: Option<bool>,
    /// Which id of the caller has no number in its own user namespace: `uid` or `gid`.
    pub(super) unmapped: Option<&'static str>,
}

impl Surroundings {
    pub(super) fn look(proc: &ProcFd, caller: Option<&Caller>) -> Self {
        let sysctl = |name: &str| {
            let path = Path::new("sys").join(name.replace('.', "/"));
            number(&proc.read(&path).ok()?)
        };
        let own = |file: &str| proc.this_thread().and_then(|thread| thread.read(Path::new(file))).ok();
        // Not of /proc: what is mounted over them can only mislead the words of a sentence.
        let text_of = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let apparmor = text_of("/sys/module/apparmor/parameters/enabled").is_some_and(|enabled| enabled == "Y");
        let label = || own("attr/apparmor/current").or_else(|| own("attr/current")).as_deref().and_then(profile);
        Self {
            initial: caller.map(Caller::in_initial_user_namespace),
            sys_admin: caller.is_some_and(|caller| caller.has(CAP_SYS_ADMIN)),
            max_user_namespaces: sysctl("user.max_user_namespaces"),
            unprivileged_userns_clone: sysctl("kernel.unprivileged_userns_clone"),
            apparmor_restricts: sysctl("kernel.apparmor_restrict_unprivileged_userns"),
            apparmor_profile: if apparmor { label() } else { None },
            selinux_enforces: text_of("/sys/fs/selinux/enforce").is_some_and(|enforce| enforce == "1"),
            modules: text_of("/sys/kernel/security/lsm"),
            seccomp: own("status").and_then(|status| seccomp_mode(&status)),
            chroot: chroot::is_chroot(proc),
            unmapped: caller.and_then(unmapped),
        }
    }

    /// Whether the caller has CAP_SYS_ADMIN over the machine.
    pub(super) fn is_machine_admin(&self) -> bool {
        self.sys_admin && self.initial == Some(true)
    }
}

fn unmapped(caller: &Caller) -> Option<&'static str> {
    let has = |kind: IdKind| caller.own(kind).is_some_and(|map| map.to_outside(caller.id(kind)).is_some());
    match (has(IdKind::Uid), has(IdKind::Gid)) {
        (true, true) => None,
        (false, _) => Some("uid"),
        (true, false) => Some("gid"),
    }
}

pub(super) fn number(content: &[u8]) -> Option<u64> {
    std::str::from_utf8(content.trim_ascii()).ok()?.parse().ok()
}

/// The mode in the line `Seccomp:` of /proc/PID/status.
pub(crate) fn seccomp_mode(status: &[u8]) -> Option<u64> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Seccomp:"))?;
    number(line)
}

/// The profile in an AppArmor label, `NAME (MODE)`; none of an unconfined program.
pub(crate) fn profile(label: &[u8]) -> Option<String> {
    let label = String::from_utf8_lossy(label);
    let label = label.trim_end_matches(['\0', '\n']);
    let name = label.rsplit_once(" (").map_or(label, |(name, _)| name);
    (!name.is_empty() && name != "unconfined").then(|| name.to_owned())
}

pub(super) fn observe(around: &Surroundings, found: &mut Vec<Observation>) {
    let mut fact =
        |what: &'static str, detail: String| found.push(Observation::fact(Topic::Surroundings, what, detail));
    fact(
        "initial user namespace",
        match around.initial {
            Some(true) => "the caller is in it".into(),
            Some(false) => "the caller is in another one".into(),
            None => "it could not be found out whether the caller is in it".into(),
        },
    );
    for (name, value) in [
        ("user.max_user_namespaces", around.max_user_namespaces),
        ("kernel.unprivileged_userns_clone", around.unprivileged_userns_clone),
        ("kernel.apparmor_restrict_unprivileged_userns", around.apparmor_restricts),
    ] {
        if let Some(value) = value {
            fact(name, value.to_string());
        }
    }
    if let Some(modules) = &around.modules {
        fact("security modules", modules.clone());
    }
    if let Some(profile) = &around.apparmor_profile {
        fact("AppArmor", format!("the caller's profile is {profile}"));
    }
    if around.selinux_enforces {
        fact("SELinux", "enforcing".into());
    }
    match around.seccomp {
        Some(0) => fact("seccomp", "no filter on the caller".into()),
        Some(2) => fact("seccomp", "the caller has a filter".into()),
        Some(mode) => fact("seccomp", format!("mode {mode}")),
        None => {}
    }
    match around.chroot {
        Some(true) => fact("chroot", "the caller is in one".into()),
        Some(false) => fact("chroot", "none".into()),
        None => {
            found.push(Observation::unknown(Topic::Surroundings, "chroot", "process 1 is in another mount namespace"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_kernel() {
        assert_eq!(seccomp_mode(b"Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"), Some(2));
        assert_eq!(seccomp_mode(b"Seccomp_filters:\t1\n"), None);
        assert_eq!(profile(b"unconfined\n"), None);
        assert_eq!(profile(b"docker-default (enforce)\n").as_deref(), Some("docker-default"));
        assert_eq!(profile(b"a (b) (complain)\0").as_deref(), Some("a (b)"));
        assert_eq!((profile(b""), number(b" 7\n"), number(b"x")), (None, Some(7), None));
    }
}
