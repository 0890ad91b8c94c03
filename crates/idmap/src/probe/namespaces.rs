//! What came of the trials.
#![forbid(unsafe_code)]

use cellkit_core::Errno;

use super::surroundings::Surroundings;
use super::{Observation, Obstacle, Topic, cause};
use crate::sys::trial::{Answers, Try};

const TOPIC: Topic = Topic::Namespaces;

pub(super) fn observe(
    tried: &Result<Answers, (&'static str, Errno)>,
    around: &Surroundings,
    found: &mut Vec<Observation>,
) {
    let tried = match tried {
        Ok(tried) => tried,
        Err((call, errno)) => {
            let why = (Obstacle::Processes, cause::PROCESSES.to_owned());
            found.push(Observation::no(TOPIC, "user namespace", format!("{call}: {errno}"), why));
            return;
        }
    };
    match tried.of(Try::UserNamespace) {
        Some(Ok(())) => {
            found.push(Observation::yes(TOPIC, "user namespace", "tried"));
            found.push(power(tried, around));
            found.extend(own_ids(tried));
            found.push(nested(tried));
            found.push(fresh_proc(tried, around));
        }
        answer => {
            let (detail, errno) = match answer {
                Some(Err(errno)) => (format!("clone CLONE_NEWUSER: {errno}"), errno),
                // Only a filter kills at a system call.
                _ => ("the process that tried clone CLONE_NEWUSER was killed".into(), Errno(libc::EPERM)),
            };
            let why = cause::of_clone(errno, tried, around);
            found.push(Observation::no(TOPIC, "user namespace", detail, why));
        }
    }
}

/// Ubuntu lets the namespace be made, and then takes all capabilities away in it.
fn power(tried: &Answers, around: &Surroundings) -> Observation {
    let what = "power in it";
    match tried.of(Try::Power) {
        Some(Ok(())) => Observation::yes(TOPIC, what, "tried: unshare CLONE_NEWUTS"),
        Some(Err(errno @ Errno(libc::EPERM | libc::EACCES | libc::ENOSYS))) => {
            let detail = format!("unshare CLONE_NEWUTS: {errno}");
            let why = match cause::is_filtered(tried, Try::UnshareFiltered) {
                true => (Obstacle::Seccomp, cause::SECCOMP.to_owned()),
                false => cause::of_module(around),
            };
            Observation::no(TOPIC, what, detail, why)
        }
        // ENOSPC: a limit on other namespaces, which says nothing of capabilities.
        Some(Err(errno)) => Observation::unknown(TOPIC, what, format!("unshare CLONE_NEWUTS: {errno}")),
        None => {
            let why = (Obstacle::Seccomp, cause::SECCOMP.to_owned());
            Observation::no(TOPIC, what, "the process that tried unshare was killed", why)
        }
    }
}

fn own_ids(tried: &Answers) -> Option<Observation> {
    let what = "own ids";
    let steps = [(Try::Setgroups, "write setgroups"), (Try::UidMap, "write uid_map"), (Try::GidMap, "write gid_map")];
    let failed = steps.into_iter().find_map(|(step, name)| match tried.of(step)? {
        Ok(()) => None,
        Err(errno) => Some((step, name, errno)),
    });
    Some(match failed {
        None if tried.of(Try::GidMap).is_some() => {
            Observation::yes(TOPIC, what, "tried: one uid and one gid are mapped")
        }
        None => return None,
        // CAP_SETFCAP is asked for before uid 0 of the outside may be mapped, and for nothing else that is done here.
        Some((Try::UidMap, name, errno @ Errno(libc::EPERM))) => {
            let fix = "CAP_SETFCAP is missing, which the kernel wants to map uid 0 of the outside: keep it, or map \
                       other ids";
            Observation::no(TOPIC, what, format!("{name}: {errno}"), (Obstacle::SetFcap, fix.into()))
        }
        // The files of the caller are root's when it changed its ids or runs a program that nobody may read.
        Some((_, name, errno @ Errno(libc::EACCES))) => {
            let fix = "the caller's files in /proc are not its own, because it changed its ids or runs a program that \
                       may not be read: see PR_SET_DUMPABLE in prctl(2)";
            Observation::no(TOPIC, what, format!("{name}: {errno}"), (Obstacle::Other, fix.into()))
        }
        Some((_, name, errno)) => {
            let fix = "look at the errno in the manual page user_namespaces(7)";
            Observation::no(TOPIC, what, format!("{name}: {errno}"), (Obstacle::Other, fix.into()))
        }
    })
}

fn nested(tried: &Answers) -> Observation {
    let what = "nested below the caller's";
    match (tried.of(Try::Nested), tried.levels()) {
        (Some(Err(Errno(libc::ENOSPC))), levels) => {
            Observation::fact(TOPIC, what, format!("{levels} fit into each other"))
        }
        (Some(Err(errno)), levels) => {
            Observation::unknown(TOPIC, what, format!("{levels}, and then unshare CLONE_NEWUSER: {errno}"))
        }
        _ => Observation::unknown(TOPIC, what, "not tried without ids"),
    }
}

/// Whether a container in a user namespace gets a procfs.
fn fresh_proc(tried: &Answers, around: &Surroundings) -> Observation {
    let what = "a procfs of its own";
    let unknown = |call: &str, errno: Errno| Observation::unknown(TOPIC, what, format!("{call}: {errno}"));
    match (tried.of(Try::Container), tried.of(Try::FreshProc), tried.of(Try::MountedProc)) {
        (_, _, Some(Ok(()))) => Observation::yes(TOPIC, what, "tried: fsopen proc, in new pid and mount namespaces"),
        (_, _, Some(Err(errno @ Errno(libc::EPERM)))) => {
            let fix = "mounts cover parts of /proc here, and no other procfs may show more: in the outer container, \
                       unmask it (podman: --security-opt unmask=ALL, Docker: systempaths=unconfined), or bind /proc";
            let detail = format!("fsmount proc: {errno}");
            Observation::no(TOPIC, what, detail, (Obstacle::ProcCovered, fix.into()))
        }
        (_, _, Some(Err(errno))) => unknown("fsmount proc", errno),
        // Without power in the namespace everything after it fails, which that row says.
        (_, Some(Err(errno)), None) => unknown("fsopen proc", errno),
        (Some(Err(errno)), ..) if matches!(errno.0, libc::EPERM | libc::EACCES) => {
            let why = cause::of_clone(errno, tried, around);
            Observation::no(TOPIC, what, format!("clone with new mount and pid namespaces: {errno}"), why)
        }
        (Some(Err(errno)), ..) => unknown("clone with new mount and pid namespaces", errno),
        _ => Observation::unknown(TOPIC, what, "not come back from"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Found;
    use super::*;

    fn observed(given: &[(Try, i32)], around: &Surroundings) -> Vec<(String, Found)> {
        let mut found = Vec::new();
        observe(&Ok(Answers::invented(given)), around, &mut found);
        found.into_iter().map(|seen| (format!("{seen}"), seen.found)).collect()
    }

    #[test]
    fn ubuntus_namespace_without_power() {
        let ubuntu = Surroundings { apparmor_restricts: Some(1), initial: Some(true), ..Surroundings::default() };
        let given = [
            (Try::CloneFiltered, libc::EINVAL),
            (Try::UserNamespace, 0),
            (Try::UnshareFiltered, libc::EINVAL),
            (Try::Power, libc::EPERM),
            (Try::Setgroups, 0),
            (Try::UidMap, 0),
            (Try::GidMap, 0),
        ];
        let seen = observed(&given, &ubuntu);
        assert_eq!(seen[1].1, Found::No(Obstacle::AppArmor), "{seen:?}");
        assert!(seen[1].0.starts_with("power in it: unshare CLONE_NEWUTS: operation not permitted (EPERM): AppArmor"));
        assert_eq!(seen[2].1, Found::Yes);
    }

    #[test]
    fn a_trial_that_ended_in_death_is_a_filters() {
        let seen = observed(&[], &Surroundings::default());
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].1, Found::No(Obstacle::Seccomp));
        assert!(seen[0].0.contains("was killed"), "{seen:?}");
    }

    #[test]
    fn no_process_no_answers() {
        let mut found = Vec::new();
        observe(&Err(("clone", Errno(libc::EAGAIN))), &Surroundings::default(), &mut found);
        let [only] = &found[..] else { panic!("{found:?}") };
        assert_eq!(only.found, Found::No(Obstacle::Processes));
        assert!(only.to_string().contains("(EAGAIN)"), "{only}");
    }
}
