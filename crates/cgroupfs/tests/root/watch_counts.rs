//! What a watch tells of limits that were felt, beside what the kernel's files say.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use cgroupfs::{Bytes, Cgroup, Controller, Counter, Event, EventFile, Limits, PidsMax, Place, Uncounted, Watch, What};

use super::watch::{A_WHILE, rmdir};
use super::{LIMIT, cat, command_in, name, place, until};

/// A process that takes all the memory there is, until it is killed.
const HOG: &str = "exec tail /dev/zero";

fn limited(place: &Place, wanted: &str) -> Cgroup {
    let limits = Limits::new().memory_max(Bytes::mib(16)).pids_max(PidsMax::try_from(10).expect("10"));
    let group = place.create(&name(wanted), &limits, &mut ()).expect("create");
    // Swap would only make it last.
    let _ = fs::write(group.path().join("memory.swap.max"), "0");
    group
}

fn hog_until_killed(group: &Cgroup) {
    use std::os::unix::process::ExitStatusExt;
    let status = command_in(group.path(), HOG).status().expect("sh");
    assert_eq!(status.signal(), Some(9), "{status}");
    until("empty", || cat(group.path(), "cgroup.events").contains("populated 0"));
}

/// What `cat` shows of one counter.
fn count(group: impl AsRef<Path>, counter: Counter) -> u64 {
    let text = cat(group, counter.file().name());
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{} ", counter.key())).map(str::to_owned));
    line.and_then(|number| number.parse().ok()).expect("number")
}

/// Everything that is told of what has happened already.
fn told_until_quiet(watch: &mut Watch) -> Vec<Event> {
    let mut told = Vec::new();
    while let Some(event) = watch.next_within(A_WHILE).expect("next") {
        told.push(event);
    }
    told
}

fn times(told: &[Event], counter: Counter) -> u64 {
    told.iter()
        .map(|event| match event.what {
            What::Counted(told, times) if told == counter => times,
            _ => 0,
        })
        .sum()
}

#[test]
fn counts_are_those_of_the_file() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("pids"));
    faultkit::isolated!(|| {
        let place = place();
        let group = limited(&place, "limited");
        hog_until_killed(&group);
        let before = count(group.path(), Counter::Max);
        // What was before is not told.
        let mut watch = Watch::new().expect("watch");
        watch.add(&group).expect("add");
        assert_eq!(
            watch.what_is_watched()[0].files.len(),
            EventFile::ALL.iter().filter(|file| group.path().join(file.name()).exists()).count()
        );
        assert_eq!(watch.next_within(A_WHILE).expect("nothing"), None);
        for round in 1..=2 {
            hog_until_killed(&group);
            let told = told_until_quiet(&mut watch);
            assert_eq!(times(&told, Counter::OomKill), 1, "{told:?}");
            assert_eq!(count(group.path(), Counter::OomKill), 1 + round);
            if round == 1 {
                assert_eq!(times(&told, Counter::Max), count(group.path(), Counter::Max) - before);
            }
        }

        fs::write(group.path().join("memory.oom.group"), "1").expect("oom.group");
        let told_before = count(group.path(), Counter::OomKill);
        let status = command_in(group.path(), "{ sleep 1000 & exec tail /dev/zero; }").status().expect("sh");
        assert!(!status.success());
        let told = told_until_quiet(&mut watch);
        assert_eq!(faultkit::reap_orphans(), 1, "the other process was killed too");
        assert_eq!(times(&told, Counter::OomGroupKill), 1, "{told:?}");
        assert_eq!(times(&told, Counter::OomKill), count(group.path(), Counter::OomKill) - told_before);

        // One process, which may not fork.
        fs::write(group.path().join("pids.max"), "1").expect("pids.max");
        let status = command_in(group.path(), "{ (true) || exit 3; }").status().expect("sh");
        assert!(!status.success());
        let told = told_until_quiet(&mut watch);
        assert!(times(&told, Counter::PidsMax) > 0, "{told:?}");
        assert_eq!(times(&told, Counter::PidsMax), count(group.path(), Counter::PidsMax));
        group.remove(LIMIT).expect("remove");
        let told = told_until_quiet(&mut watch);
        assert_eq!(told.last().map(|event| &event.what), Some(&What::Removed { uncounted: Vec::new() }), "{told:?}");
    });
}

/// The hard case: nobody has looked when the group is removed.
#[test]
fn a_kill_is_told_of_although_the_group_was_removed_before_anybody_looked() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("pids"));
    faultkit::isolated!(|| {
        let place = place();
        let (group, beside) = (limited(&place, "short"), limited(&place, "beside"));
        hog_until_killed(&beside);
        let mut watch = Watch::new().expect("watch");
        let name = watch.add(&group).expect("add");
        watch.add(&beside).expect("add");
        assert!(watch.what_is_watched().iter().all(|watched| watched.counted_above));
        hog_until_killed(&beside);
        hog_until_killed(&group);
        rmdir(group.path());
        let told = told_until_quiet(&mut watch);
        let (of_it, of_beside): (Vec<_>, Vec<_>) = told.into_iter().partition(|event| event.group == name);
        assert_eq!((times(&of_it, Counter::OomKill), times(&of_beside, Counter::OomKill)), (1, 1), "{of_it:?}");
        let Some(What::Removed { uncounted }) = of_it.last().map(|event| &event.what) else { panic!("{of_it:?}") };
        assert!(uncounted.iter().all(|one| one.counter.file() != EventFile::MemoryEvents), "{uncounted:?}");

        // A group that nobody watches has counted as much: then it may have been either.
        let stranger = limited(&place, "stranger");
        let group = limited(&place, "short");
        watch.add(&group).expect("add");
        hog_until_killed(&stranger);
        rmdir(group.path());
        let told = told_until_quiet(&mut watch);
        assert_eq!(times(&told, Counter::OomKill), 0, "{told:?}");

        let group = limited(&place, "short");
        watch.add(&group).expect("add");
        hog_until_killed(&group);
        rmdir(group.path());
        let told = told_until_quiet(&mut watch);
        let Some(What::Removed { uncounted }) = told.last().map(|event| &event.what) else { panic!("{told:?}") };
        let at_most = |uncounted: &[Uncounted]| {
            uncounted.iter().find(|one| one.counter == Counter::OomKill).map(|one| one.at_most)
        };
        assert_eq!((times(&told, Counter::OomKill), at_most(uncounted)), (0, Some(Some(1))), "{told:?}");

        for group in [stranger, beside] {
            group.remove(LIMIT).expect("remove");
        }
        while watch.next_within(LIMIT).expect("next").is_some() {}
        assert!(watch.is_empty());
    });
}

#[test]
fn a_controller_that_is_taken_away_is_told_of() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("pids"));
    faultkit::isolated!(|| {
        let place = place();
        let group = limited(&place, "limited");
        let mut watch = Watch::new().expect("watch");
        watch.add(&group).expect("add");
        let control = place.group().path().join("cgroup.subtree_control");
        fs::write(&control, "-memory -pids").expect("disable");
        // The kernel says nothing of it; the next thing that happens shows it.
        hold_for_a_moment(&group);
        let told = told_until_quiet(&mut watch);
        for controller in [Controller::Memory, Controller::Pids] {
            let what = What::ControllerDisabled(controller);
            assert_eq!(told.iter().filter(|event| event.what == what).count(), 1, "{told:?}");
        }
        assert_eq!(watch.what_is_watched()[0].files, [EventFile::CgroupEvents]);
        fs::write(&control, "+memory +pids").expect("enable");
        watch.add(&group).expect("add again");
        assert!(watch.what_is_watched()[0].files.contains(&EventFile::MemoryEvents));
        fs::write(group.path().join("memory.max"), "16M").expect("memory.max");
        let _ = fs::write(group.path().join("memory.swap.max"), "0");
        hog_until_killed(&group);
        let told = told_until_quiet(&mut watch);
        assert_eq!(times(&told, Counter::OomKill), 1, "{told:?}");
        group.remove(LIMIT).expect("remove");
    });
}

fn hold_for_a_moment(group: &Cgroup) {
    assert!(command_in(group.path(), "exec true").status().expect("sh").success());
}
