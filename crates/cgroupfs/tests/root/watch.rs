//! What a watch tells of real groups.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use cgroupfs::{Cgroup, ErrorKind, Event, EventFile, Watch, WatchedGroup, What};
use faultkit::{End, Failure, Fault, Sweep};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::{LIMIT, cat, group, killed, place, start_in, start_sleep_in};

/// Long enough for whatever was going to be told.
pub(super) const A_WHILE: Duration = Duration::from_millis(300);

/// Everything that is told until `last` is.
pub(super) fn told_until(watch: &mut Watch, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut told = Vec::new();
    loop {
        match watch.next_within(LIMIT).expect("next") {
            Some(event) => told.push(event),
            None => panic!("not told of within {LIMIT:?}; before: {told:?}"),
        }
        if told.last().is_some_and(&last) {
            return told;
        }
    }
}

pub(super) fn is_removed(event: &Event) -> bool {
    matches!(event.what, What::Removed { .. })
}

pub(super) fn rmdir(group: &Path) {
    fs::remove_dir(group).expect("rmdir");
}

fn next(watch: &mut Watch) -> What {
    watch.next_within(LIMIT).expect("next").expect("an event").what
}

/// What is readable, as a loop of somebody else sees it.
fn is_readable(fd: impl AsFd, limit: Duration) -> bool {
    let mut files = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(limit).expect("timeout");
    nix::poll::poll(&mut files, timeout).expect("poll") == 1
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count()
}

/// The descriptors whose fdinfo or link has this in it.
fn descriptors_with(word: &str) -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("fd")
        .flatten()
        .filter(|entry| {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(entry.file_name())).unwrap_or_default();
            link.to_string_lossy().contains(word) || info.lines().any(|line| line.starts_with(word))
        })
        .count()
}

#[test]
fn states_are_told_as_they_change() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = group(&place(), "watched");
        let mut watch = Watch::new().expect("watch");
        let name = watch.add(&group).expect("add");
        assert_eq!(
            (name.id(), name.path()),
            (
                fs::metadata(group.path()).map(|dir| std::os::unix::fs::MetadataExt::ino(&dir)).expect("inode"),
                group.path()
            )
        );
        assert_eq!(watch.try_next().expect("nothing yet"), None);
        assert_eq!(watch.next_within(A_WHILE).expect("nothing yet"), None);

        let child = start_in(group.path(), "exec sleep 1000");
        assert_eq!(next(&mut watch), What::Populated);
        fs::write(group.path().join("cgroup.freeze"), "1").expect("freeze");
        assert_eq!(next(&mut watch), What::Frozen);
        fs::write(group.path().join("cgroup.freeze"), "0").expect("thaw");
        assert_eq!(next(&mut watch), What::Thawed);
        fs::write(group.path().join("cgroup.kill"), "1").expect("kill");
        assert_eq!(next(&mut watch), What::Empty);
        assert!(killed(child));
        while let Some(event) = watch.next_within(A_WHILE).expect("next") {
            assert_eq!(event.what, What::Empty, "nothing new");
        }

        rmdir(group.path());
        let last = watch.next_within(LIMIT).expect("next").expect("an event");
        assert_eq!((last.group, last.what), (name, What::Removed { uncounted: Vec::new() }));
        assert!(watch.is_empty());
        assert!(watch.next().is_none(), "nothing is left to wait for");
    });
}

#[test]
fn a_group_that_lives_and_is_quiet_costs_no_wake_up() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = group(&place(), "quiet");
        let child = start_in(group.path(), "exec sleep 1000");
        let mut watch = Watch::new().expect("watch");
        watch.add(&group).expect("add");
        // The look that follows the adding.
        assert_eq!(watch.next_within(A_WHILE).expect("nothing"), None);
        assert!(!is_readable(&watch, Duration::from_millis(2500)), "woken for nothing");
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        assert!(is_readable(&watch, LIMIT));
        told_until(&mut watch, is_removed);
    });
}

#[test]
fn a_removal_that_wakes_nobody_is_seen_all_the_same() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let (first, second) = (group(&place, "first"), group(&place, "second"));
        let mut watch = Watch::new().expect("watch");
        let names = [&first, &second].map(|group| watch.add(group).expect("add"));
        rmdir(first.path());
        assert_eq!(next(&mut watch), What::Removed { uncounted: Vec::new() });
        // Empty for so long that looks have become seldom.
        assert_eq!(watch.next_within(Duration::from_secs(2)).expect("nothing"), None);
        rmdir(second.path());
        // By somebody else's loop, which only knows the descriptor.
        let started = std::time::Instant::now();
        let event = loop {
            assert!(started.elapsed() < LIMIT);
            assert!(is_readable(&watch, LIMIT));
            if let Some(event) = watch.try_next().expect("next") {
                break event;
            }
        };
        assert_eq!(event.group, names[1]);
        assert!(is_removed(&event) && watch.is_empty());
    });
}

#[test]
fn a_removed_group_is_no_busy_loop() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let (goes, stays) = (group(&place, "goes"), group(&place, "stays"));
        let child = start_in(stays.path(), "exec sleep 1000");
        let mut watch = Watch::new().expect("watch");
        for group in [&goes, &stays] {
            watch.add(group).expect("add");
        }
        rmdir(goes.path());
        told_until(&mut watch, is_removed);
        // The looks after that come to an end.
        let mut wake_ups = 0;
        while is_readable(&watch, A_WHILE) {
            assert_eq!(watch.try_next().expect("next"), None);
            wake_ups += 1;
            assert!(wake_ups < 10, "woken again and again");
        }
        stays.remove(LIMIT).expect("remove");
        assert!(killed(child));
        told_until(&mut watch, is_removed);
    });
}

#[test]
fn a_group_added_twice_is_told_once_and_one_that_is_stopped_never() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let (one, other) = (group(&place, "one"), group(&place, "other"));
        let mut watch = Watch::new().expect("watch");
        let before = descriptors();
        let name = watch.add(&one).expect("add");
        let with_one = descriptors();
        assert_eq!(watch.add(&one).expect("again"), name);
        assert_eq!(watch.add(&Cgroup::open(one.path()).expect("open")).expect("by another handle"), name);
        assert_eq!(descriptors(), with_one);
        let other_name = watch.add(&other).expect("add");
        assert_ne!(other_name, name);
        assert_eq!(watch.what_is_watched().len(), 2);
        assert!(watch.stop(&other_name));
        assert!(!watch.stop(&other_name));
        assert_eq!(descriptors(), with_one);

        let children = [&one, &other].map(|group| start_in(group.path(), "exec sleep 1000"));
        assert_eq!(next(&mut watch), What::Populated);
        for group in [one, other] {
            group.remove(LIMIT).expect("remove");
        }
        let told = told_until(&mut watch, is_removed);
        assert!(told.iter().all(|event| event.group == name), "{told:?}");
        assert!(told.iter().any(|event| event.what == What::Empty), "{told:?}");
        assert!(children.into_iter().all(killed));
        assert_eq!(descriptors(), before - 2, "the handles of the two groups are used up");
    });
}

#[test]
fn a_thousand_groups_by_one_descriptor_and_no_inotify() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 240, || {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("setrlimit");
        let place = place();
        let mut watch = Watch::new().expect("watch");
        let before = descriptors();
        let groups: Vec<Cgroup> = (0..1000).map(|number| group(&place, &format!("group-{number}"))).collect();
        let of_groups = descriptors() - before;
        let names: Vec<WatchedGroup> =
            groups.iter().map(|group| watch.add_files(group, [EventFile::CgroupEvents]).expect("add")).collect();
        assert_eq!(descriptors() - before - of_groups, 1000, "one for each, and no more");
        assert_eq!(descriptors_with("inotify"), 0);
        assert_eq!(descriptors_with("anon_inode:[eventpoll]"), 1);

        for number in [7, 500, 999] {
            let child = start_in(groups[number].path(), "exec sleep 1000");
            groups[number].kill().expect("kill");
            assert!(killed(child));
            told_until(&mut watch, |event| event.group == names[number] && event.what == What::Empty);
        }
        groups.iter().for_each(|group| rmdir(group.path()));
        let mut removed = Vec::new();
        while let Some(event) = watch.next_within(LIMIT).expect("next") {
            // Of one in which something was, it may be told again that it is empty.
            if event.what == What::Empty {
                continue;
            }
            assert_eq!(event.what, What::Removed { uncounted: Vec::new() });
            removed.push(event.group.id());
        }
        removed.sort_unstable();
        let mut all: Vec<u64> = names.iter().map(WatchedGroup::id).collect();
        all.sort_unstable();
        assert_eq!(removed, all);
        drop(groups);
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn files_that_are_not_there_are_said_not_to_be_watched() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let group = group(&place, "watched");
        let mut watch = Watch::new().expect("watch");
        let name = watch.add(&group).expect("add");
        let [watched] = &watch.what_is_watched()[..] else { panic!("one group") };
        assert_eq!(watched.group, name);
        for file in EventFile::ALL {
            let exists = group.path().join(file.name()).exists();
            assert_eq!((watched.files.contains(&file), watched.absent.contains(&file)), (exists, !exists), "{file}");
        }
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn what_cannot_be_watched() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let mut watch = Watch::new().expect("watch");
        let group = group(&place, "short");
        rmdir(group.path());
        let before = descriptors();
        assert_eq!(watch.add(&group).expect_err("gone").kind(), ErrorKind::Gone);
        let root = place.hierarchy().open("/").expect("root");
        // Inside of a cgroup namespace the root is a group like others.
        match watch.add(&root) {
            Ok(name) => assert!(root.path().join("cgroup.events").exists() && watch.stop(&name)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}"),
        }
        drop(root);
        assert!(watch.is_empty());
        assert_eq!(descriptors(), before);
        assert_eq!(watch.next_within(LIMIT).expect("nothing to wait for"), None);
    });
}

/// Whatever fails, nothing is added, nothing is lost, and no descriptor is left.
#[test]
fn faults_while_adding_and_waiting() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 240, || faults(&[libc::EMFILE, libc::ENOMEM, libc::EINTR], false));
}

/// The same of a group that has counters too, which are read after the state.
#[test]
fn faults_while_reading_states_and_counters() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("pids"));
    faultkit::isolated!(limit_secs = 240, || faults(&[libc::ENOMEM], true));
}

fn faults(errnos: &[i32], reads_only: bool) {
    let place = place();
    let group = group(&place, "swept");
    let child = start_sleep_in(group.path());
    let freeze = group.path().join("cgroup.freeze");
    let toggle = |state: &str| fs::write(&freeze, state).expect("freeze");
    let sweep = Sweep::new(|counted| {
        toggle("0");
        super::until("thawed", || cat(group.path(), "cgroup.events").contains("frozen 0"));
        let outcome = counted.run(|| -> cgroupfs::Result<()> {
            let mut watch = Watch::new()?;
            let added = watch.add(&group);
            assert_eq!(watch.is_empty(), added.is_err(), "on an error nothing is added");
            added?;
            toggle("1");
            // An error of a wait loses nothing: what happened is told by one after it.
            let mut error = None;
            loop {
                match watch.next_within(LIMIT) {
                    Ok(Some(event)) if event.what == What::Frozen => break,
                    Ok(other) => assert!(error.is_some(), "{other:?}"),
                    Err(failed) => error = Some(failed),
                }
            }
            error.map_or(Ok(()), Err)
        });
        outcome.map_err(|error| Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}")))
    })
    .spare("the test's own writing to cgroup.freeze", |call| ["openat", "write"].contains(&&*call.name));
    let sweep = if reads_only { sweep.spare("swept by the other test", |call| call.name != "pread64") } else { sweep };
    for &errno in errnos {
        let swept = sweep.each(Fault::Fail(errno), |run| match &run.end {
            End::Returned(Err(failure)) if failure.errno == Some(errno) => Ok(()),
            // A close that fails has closed; what was interrupted is done again.
            End::Returned(Ok(())) if run.call.name == "close" || errno == libc::EINTR => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert!(swept.runs >= 6, "{swept:?}");
    }
    drop(sweep);
    toggle("0");
    group.remove(LIMIT).expect("remove");
    assert!(killed(child));
}
