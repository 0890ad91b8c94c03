//! The steps of a plan, in the one order there is, and in words.
#![forbid(unsafe_code)]

use cellkit_core::{StepText, Subject};

use crate::id_kind::IdKind;
use crate::newidmap::Program;
use crate::plan::Method;
use crate::{IdMap, MapPlan, Setgroups, Way};

/// That it is settled whether setgroups(2) is allowed. Only [`settle`] makes one, when it adds the step that settles it,
/// and without one there is no [`MapFile::Gid`]: a list of steps in another order does not compile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled(());

/// Adds the step that denies setgroups(2), where it shall be denied.
fn settle<'a>(steps: &mut Vec<Step<'a>>, setgroups: Setgroups) -> Settled {
    if setgroups == Setgroups::Deny {
        steps.push(Step::DenySetgroups);
    }
    Settled(())
}

/// A file of `/proc/PID` that holds a map.
#[derive(Clone, Copy, Debug)]
pub(super) enum MapFile {
    Uid,
    Gid(Settled),
    Projid,
}

impl MapFile {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uid => "uid_map",
            Self::Gid(_) => "gid_map",
            Self::Projid => "projid_map",
        }
    }

    /// The operation, as errors and plans name it.
    pub(super) fn write_operation(self) -> &'static str {
        match self {
            Self::Uid => "write uid_map",
            Self::Gid(_) => "write gid_map",
            Self::Projid => "write projid_map",
        }
    }

    /// The operation, as errors and plans name it.
    pub(super) fn read_operation(self) -> &'static str {
        match self {
            Self::Uid => "read uid_map",
            Self::Gid(_) => "read gid_map",
            Self::Projid => "read projid_map",
        }
    }

    /// The kind of id that has privileged programs to write this file.
    pub(super) fn kind(self) -> Option<IdKind> {
        match self {
            Self::Uid => Some(IdKind::Uid),
            Self::Gid(_) => Some(IdKind::Gid),
            Self::Projid => None,
        }
    }
}

/// One step, with all that it needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    DenySetgroups,
    Write(MapFile, &'a IdMap),
    Run(MapFile, &'a Program, &'a IdMap),
    Read(MapFile, &'a IdMap),
    /// After a program that could have denied it.
    ReadSetgroups,
}

impl Step<'_> {
    /// As errors and plans name it.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::DenySetgroups => "write setgroups",
            Self::Write(file, _) => file.write_operation(),
            Self::Run(_, program, _) => program.kind().program(),
            Self::Read(file, _) => file.read_operation(),
            Self::ReadSetgroups => "read setgroups",
        }
    }
}

/// The steps of `plan`.
pub(super) fn of(plan: &MapPlan) -> Vec<Step<'_>> {
    let maps = plan.maps();
    let mut steps = Vec::with_capacity(8);
    let settled = settle(&mut steps, plan.setgroups());
    let (uid, gid) = (MapFile::Uid, MapFile::Gid(settled));
    match &plan.method {
        Method::Helper { newuidmap, newgidmap } => {
            steps.push(Step::Run(uid, newuidmap, &maps.uid));
            steps.push(Step::Run(gid, newgidmap, &maps.gid));
        }
        Method::Direct | Method::SingleId => {
            steps.push(Step::Write(uid, &maps.uid));
            steps.push(Step::Write(gid, &maps.gid));
        }
    }
    let projid = maps.projid.as_ref().map(|map| (MapFile::Projid, map));
    steps.extend(projid.map(|(file, map)| Step::Write(file, map)));
    let all = [(uid, &maps.uid), (gid, &maps.gid)].into_iter().chain(projid);
    steps.extend(all.map(|(file, map)| Step::Read(file, map)));
    if plan.way() == Way::Helper && plan.setgroups() == Setgroups::Allow {
        steps.push(Step::ReadSetgroups);
    }
    steps
}

/// A step of `plan` in words. `CHILD` stands for the process.
pub(super) fn text(plan: &MapPlan, step: Step<'_>) -> StepText {
    const AS_ASKED: &str = "what the kernel holds must be what was asked for";
    let child = |file: &str| Subject::Thing(format!("/proc/CHILD/{file}"));
    let (subject, arguments, reason) = match step {
        Step::DenySetgroups => {
            let reason = if plan.way() == Way::SingleId {
                "an ordinary user's gid map needs it: dropping a group must not open a file".to_owned()
            } else {
                "no process of the namespace shall drop a group".to_owned()
            };
            (child("setgroups"), "\"deny\"".to_owned(), reason)
        }
        Step::Write(file, map) => {
            let reason = match (file, plan.why_single_id()) {
                (MapFile::Projid, _) => "anybody may map project ids that exist for them".into(),
                (MapFile::Gid(_), Some(_)) => "one id only, as of the uids".into(),
                (MapFile::Uid, Some(why)) => format!("one id only: {why}"),
                (_, None) => "the caller has CAP_SETUID and CAP_SETGID".into(),
            };
            (child(file.name()), format!("{:?}", map.to_string()), reason)
        }
        Step::Run(_, program, map) => {
            let words = std::iter::once("CHILD".to_owned()).chain(Program::arguments(map));
            let reason = format!("more than the own id, and {} allows it", program.kind().subid_file());
            (program.path().into(), words.collect::<Vec<_>>().join(" "), reason)
        }
        Step::Read(file, _) => (child(file.name()), String::new(), AS_ASKED.to_owned()),
        Step::ReadSetgroups => (child("setgroups"), String::new(), AS_ASKED.to_owned()),
    };
    StepText::new(step.operation(), arguments, reason).on(subject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::newidmap::Search;
    use crate::{Caller, SubIds};

    /// The operations of a plan's steps, in their order.
    fn operations(plan: &MapPlan) -> Vec<String> {
        plan.describe().into_iter().map(|step| step.call.to_string()).collect()
    }

    #[test]
    fn setgroups_comes_before_and_reading_after_whatever_the_way() {
        let root = Caller::machine_root();
        let maps = || "0:100000:10".parse::<crate::IdMap>().expect("map");
        let both = crate::IdMaps::new(maps(), maps());
        let direct = MapPlan::explicit(both.clone(), &root, &SubIds::default()).expect("plan");
        let rest = ["write uid_map", "write gid_map", "read uid_map", "read gid_map"];
        assert_eq!(operations(&direct), rest);
        assert_eq!(operations(&direct.deny_setgroups()), [&["write setgroups"][..], &rest].concat());

        let with_projects = MapPlan::explicit(both.with_projid(maps()), &root, &SubIds::default()).expect("plan");
        assert_eq!(
            operations(&with_projects.deny_setgroups()),
            [
                "write setgroups",
                "write uid_map",
                "write gid_map",
                "write projid_map",
                "read uid_map",
                "read gid_map",
                "read projid_map"
            ]
        );

        let ann = Caller::ordinary("ann", 1000);
        let single = MapPlan::auto_with(&ann, &SubIds::default(), &Search::default()).expect("plan");
        assert_eq!(operations(&single), [&["write setgroups"][..], &rest].concat());
    }
}
