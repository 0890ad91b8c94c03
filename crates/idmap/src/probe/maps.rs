//! Which ids the caller could map.
#![forbid(unsafe_code)]

use cellkit_core::Error;

use super::{Observation, Obstacle, Topic};
use crate::id_kind::IdKind;
use crate::newidmap::Search;
use crate::{Caller, MapPlan, Setgroups, SubIds, Way, missing, sys, verify};

const TOPIC: Topic = Topic::Maps;
const CAP_SYS_ADMIN: u32 = 21;

pub(super) fn observe(caller: &Caller, found: &mut Vec<Observation>) {
    let name = caller.name().unwrap_or("no name");
    found.push(Observation::fact(TOPIC, "caller", format!("{name}, uid {}, gid {}", caller.uid(), caller.gid())));
    let helpers = verify::programs(caller, &Search::default());
    found.push(match &helpers {
        Ok((newuidmap, _)) => {
            Observation::yes(TOPIC, "newuidmap and newgidmap", newuidmap.path().display().to_string())
        }
        // Whoever can do without need not install them.
        Err(error) if caller.is_privileged() => {
            Observation::fact(TOPIC, "newuidmap and newgidmap", format!("not needed by the caller: {error}"))
        }
        Err(error) => Observation::no(TOPIC, "newuidmap and newgidmap", error.to_string(), of_helpers(caller, error)),
    });
    match SubIds::of(caller) {
        Ok(subids) => {
            let count = |ranges: &[crate::IdRange]| ranges.iter().map(|range| u64::from(range.count())).sum::<u64>();
            let detail = format!("{} uids, {} gids", count(subids.uids()), count(subids.gids()));
            found.push(Observation::fact(TOPIC, "/etc/subuid and /etc/subgid", detail));
            found.push(more_ids(caller, &subids, helpers.as_ref().err()));
        }
        Err(error) => found.push(Observation::unknown(TOPIC, "/etc/subuid and /etc/subgid", error.to_string())),
    }
    found.push(Observation::fact(
        TOPIC,
        "setgroups",
        match caller.setgroups() {
            Setgroups::Allow => "allowed in the caller's user namespace",
            Setgroups::Deny => "denied in the caller's user namespace, and so in all below it",
        },
    ));
    found.push(idmapped_mounts(caller));
}

fn of_helpers(caller: &Caller, error: &Error) -> (Obstacle, String) {
    let obstacle = match error.raw_os_error() {
        Some(libc::ENOENT) => Obstacle::HelperMissing,
        Some(_) => Obstacle::HelperPowerless,
        None if caller.no_new_privs => Obstacle::NoNewPrivs,
        // What it looks at before the files: the ids of the caller.
        None if error.subject().is_none() => Obstacle::HelperRefuses,
        None => Obstacle::HelperPowerless,
    };
    (obstacle, error.hint().unwrap_or("see newuidmap(1)").to_owned())
}

fn more_ids(caller: &Caller, subids: &SubIds, helpers: Option<&Error>) -> Observation {
    let what = "more ids";
    let no_subids = |detail: String, hint: Option<&str>| {
        let fix = hint.unwrap_or("give the caller ranges in /etc/subuid and /etc/subgid").to_owned();
        Observation::no(TOPIC, what, detail, (Obstacle::NoSubIds, fix))
    };
    if caller.is_privileged() {
        // Any that exist here can be mapped by name, whether or not some are set aside for it.
        let many = IdKind::BOTH.into_iter().all(|kind| caller.own(kind).is_some_and(|own| own.count() > 1));
        return match MapPlan::auto(caller, subids) {
            Ok(plan) if plan.way() != Way::SingleId => Observation::yes(TOPIC, what, mapped(&plan)),
            Err(error) if many => Observation::yes(TOPIC, what, format!("any, by the caller, by name; {error}")),
            Ok(_) if many => Observation::yes(TOPIC, what, "any that exist here, by the caller, by name"),
            _ => {
                let error = missing::no_range(&caller.user, !caller.initial, subids);
                no_subids(error.to_string(), error.hint())
            }
        };
    }
    match MapPlan::auto(caller, subids) {
        Ok(plan) if plan.way() != Way::SingleId => Observation::yes(TOPIC, what, mapped(&plan)),
        Ok(_) => match helpers {
            Some(error) if !subids.uids().is_empty() && !subids.gids().is_empty() => {
                Observation::no(TOPIC, what, error.to_string(), of_helpers(caller, error))
            }
            _ => {
                let error = missing::no_range(&caller.user, !caller.initial, subids);
                no_subids(error.to_string(), error.hint())
            }
        },
        Err(error) => Observation::no(
            TOPIC,
            what,
            error.to_string(),
            (Obstacle::UnmappedIds, error.hint().unwrap_or("see /proc/self/uid_map").to_owned()),
        ),
    }
}

fn mapped(plan: &MapPlan) -> String {
    let way = match plan.way() {
        Way::Direct => "by the caller",
        Way::Helper => "by newuidmap and newgidmap",
        Way::SingleId => "the caller's own",
    };
    format!("{} uids and {} gids, {way}", plan.maps().uid.count(), plan.maps().gid.count())
}

fn idmapped_mounts(caller: &Caller) -> Observation {
    let what = "idmapped mounts";
    match sys::look::mount_setattr() {
        Ok(()) if caller.in_initial_user_namespace() && caller.has(CAP_SYS_ADMIN) => {
            Observation::yes(TOPIC, what, "of most file systems")
        }
        Ok(()) => Observation::fact(TOPIC, what, "of file systems that the caller's own user namespace mounted"),
        Err(errno) => Observation::unknown(TOPIC, what, format!("mount_setattr (Linux 5.12): {errno}")),
    }
}
