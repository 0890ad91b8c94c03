//! Which namespaces can be made: tried, in children that are killed before they do anything.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::Arc;

use cellkit_core::{ChildSteps, Error, ProcFd, Result};

use super::settings::Settings;
use super::{Area, Finding};
use crate::list::text::decimal;
use crate::namespaces::KINDS;
use crate::plan::List;
use crate::step::Step;
use crate::{Capability, Command, Namespaces, NsFd, Pid, User, sys};

/// What could be made.
pub(super) struct CanMake {
    pub(super) directly: Namespaces,
    pub(super) with_user: Namespaces,
}

pub(super) fn probe(proc: &ProcFd, settings: &Settings, findings: &mut Vec<Finding>) -> CanMake {
    let mut can = CanMake { directly: Namespaces::empty(), with_user: Namespaces::empty() };
    for (kind, name) in KINDS {
        let made = make(proc, kind);
        if made.is_ok() {
            can.directly |= kind;
        }
        findings.push(finding(format!("{name} namespace"), made, |errno| why_not(kind, errno, settings)));
    }
    // A user namespace of the caller's own is what gives an ordinary user all the others.
    for (kind, name) in KINDS.into_iter().filter(|(kind, _)| *kind != Namespaces::USER) {
        let made = make(proc, Namespaces::USER | kind);
        if made.is_ok() {
            can.with_user |= kind;
        }
        let what = format!("{name} with user namespace");
        findings.push(finding(what, made, |errno| why_not(Namespaces::USER | kind, errno, settings)));
    }
    if can.directly.contains(Namespaces::USER) {
        can.with_user |= Namespaces::USER;
        let powerful = use_power(proc);
        findings.push(finding("power in a user namespace".into(), powerful, |_| {
            "a security module takes all capabilities away in it: sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with \"userns,\" for this program"
                .into()
        }));
    }
    findings.push(nesting(proc));
    findings.extend([initial::<User>("initial user namespace"), initial::<Pid>("initial pid namespace")]);
    can
}

/// Whether the caller is in the machine's first namespace of this kind.
fn initial<K: crate::Kind>(what: &'static str) -> Finding {
    match NsFd::<K>::of_this_thread().and_then(|own| Ok((own.is_initial()?, own))) {
        Ok((true, _)) => Finding::fact(Area::Namespaces, what, "the caller is in it"),
        Ok((false, own)) => Finding::fact(Area::Namespaces, what, format!("the caller is in another one, {own}")),
        Err(error) => Finding::unknown(Area::Namespaces, what, error.to_string()),
    }
}

fn finding(what: String, made: Result<()>, fix: impl FnOnce(Option<i32>) -> String) -> Finding {
    match made {
        Ok(()) => Finding::yes(Area::Namespaces, what, "tried"),
        Err(error) => Finding::no(Area::Namespaces, what, error.to_string(), fix(error.raw_os_error())),
    }
}

/// Makes namespaces of these kinds, and lets them go.
fn make(proc: &ProcFd, kinds: Namespaces) -> Result<()> {
    let command = nothing().namespaces(kinds);
    if !kinds.contains(Namespaces::TIME) {
        return command.spawn_paused().map(drop);
    }
    // A time namespace is made by the child itself.
    run(proc, command, kinds.contains(Namespaces::USER))
}

/// Does in a new user namespace what needs power there.
fn use_power(proc: &ProcFd) -> Result<()> {
    run(proc, nothing().namespaces(Namespaces::USER | Namespaces::UTS).hostname("probe"), true)
}

/// A start that comes to nothing: a directory cannot be executed, but everything before that is done.
fn nothing() -> Command {
    Command::new("/").keep_groups()
}

/// How many user namespaces below the caller's fit into each other: 33 below the initial one.
fn nesting(proc: &ProcFd) -> Finding {
    let what = "user namespaces, nested";
    match levels(proc) {
        Ok(0) => Finding::no(
            Area::Namespaces,
            what,
            "none below the caller's",
            "where user namespaces can be made at all, the caller is too deep: start from further out",
        ),
        Ok(levels) => Finding::fact(Area::Namespaces, what, format!("{levels} more below the caller's")),
        Err(error) => Finding::unknown(Area::Namespaces, what, error.to_string()),
    }
}

fn levels(proc: &ProcFd) -> Result<u64> {
    let (uid, gid) = sys::features::effective_ids();
    let maps = [uid, gid].map(|id| format!("0 {id} 1").into_bytes().into_boxed_slice());
    let proc = proc.as_fd().try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
    let mut steps = ChildSteps::new();
    let sync = steps.slot();
    steps.push(Step::AwaitGo { sync });
    steps.push(sys::nest::NestUsers { proc, maps });
    // A user namespace cannot be unshared by who shares memory.
    let mut plan = nothing().copy_memory().plan()?;
    if let Some(body) = Arc::get_mut(&mut plan.body) {
        body.lists = vec![List { steps, own: true }];
    }
    match plan.spawn() {
        Err(error) => match error.kernel_text().and_then(|text| decimal(text.as_bytes())) {
            Some(levels) => Ok(levels),
            None => Err(error),
        },
        Ok(_) => Err(Error::other("unshare", "the child did not answer")),
    }
}

fn run(proc: &ProcFd, command: Command, needs_maps: bool) -> Result<()> {
    let paused = command.spawn_paused()?;
    if needs_maps {
        let (uid, gid) = sys::features::effective_ids();
        let process = proc.process(&paused)?;
        process.write("setgroups".as_ref(), b"deny")?;
        process.write("uid_map".as_ref(), format!("0 {uid} 1").as_bytes())?;
        process.write("gid_map".as_ref(), format!("0 {gid} 1").as_bytes())?;
    }
    match paused.resume(&mut ()) {
        Err(error) if error.operation() == "execve" => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::other("execve", "a directory was executed")),
    }
}

/// The sentence for a kind that cannot be made.
fn why_not(kinds: Namespaces, errno: Option<i32>, settings: &Settings) -> String {
    let with_user = kinds.contains(Namespaces::USER);
    let privileged = settings.capabilities.contains(Capability::SYS_ADMIN);
    match errno {
        Some(libc::ENOSPC) => {
            let mut limits = KINDS.iter().filter(|(kind, _)| kinds.contains(*kind)).map(|(_, name)| *name);
            match limits.find(|name| settings.most_namespaces(name) == Some(0)) {
                Some(name) => format!("none are allowed here: as root, sysctl -w user.max_{name}_namespaces=10000"),
                None => "the limit of an outer user namespace is reached: raise user.max_*_namespaces there".into(),
            }
        }
        Some(libc::EUSERS) => "user namespaces are nested too deep: start from further out".into(),
        Some(libc::EINVAL) => "this kernel is built without them: see CONFIG_*_NS and /proc/self/ns".into(),
        Some(libc::ENOSYS) => SECCOMP.into(),
        Some(libc::EPERM | libc::EACCES) if !with_user && !privileged => {
            "run as root (it needs CAP_SYS_ADMIN), or make it together with a user namespace".into()
        }
        Some(libc::EPERM | libc::EACCES) if with_user && settings.unprivileged_userns == Some(0) && !privileged => {
            "they are for root only: as root, sysctl -w kernel.unprivileged_userns_clone=1".into()
        }
        Some(libc::EPERM | libc::EACCES) if settings.seccomp == Some(2) => SECCOMP.into(),
        Some(libc::EPERM | libc::EACCES) if with_user && settings.apparmor_restricts == Some(1) && !privileged => {
            "AppArmor forbids it: as root, sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile with \
             \"userns,\" for this program"
                .into()
        }
        Some(libc::EPERM | libc::EACCES) if with_user => {
            "none can be made in a chroot, nor by a user without a number in the own user namespace: see uid_map; or a \
             security module forbids it"
                .into()
        }
        Some(libc::EPERM | libc::EACCES) => "a security module forbids it: see its log, with dmesg".into(),
        _ if kinds.contains(Namespaces::TIME) && sys::kernel_release().is_some_and(|release| release < (6, 3)) => {
            "a program can be started in a new time namespace since Linux 6.3: boot a newer kernel".into()
        }
        _ => "look at the errno in the manual page of clone(2)".into(),
    }
}

const SECCOMP: &str = "a seccomp filter forbids it: allow clone, clone3, unshare and setns in the profile of the container \
                       this runs in";
