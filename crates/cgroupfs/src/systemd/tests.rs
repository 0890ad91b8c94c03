//! Starting and stopping against a fake systemd, which errs as a real one cannot be made to.
#![forbid(unsafe_code)]

mod fake;

use std::future::Future;
use std::time::Duration;

use fake::{Act, Asked, DONE, JOB, SYSTEMD, UNIT};

use super::{Connection, Properties, Scope, Slice, Unit};
use crate::{Bytes, ErrorKind, Limits, Max, OomGroup, PidsMax, Result};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

fn count(asked: &Asked, method: &str) -> usize {
    asked.lock().expect("log").iter().filter(|member| *member == method).count()
}

/// Starts a scope against a fake that does `acts`.
fn start(acts: Vec<Act>) -> (Result<Unit>, Asked) {
    block_on(async {
        let (connection, asked) = fake::connect(Some(SYSTEMD), acts).await;
        // A unit that is there is opened in the hierarchy of this machine: the fake says it is the root.
        (Scope::new(UNIT).pid(1).start(&connection.limit(Duration::from_secs(20))).await, asked)
    })
}

/// The same with a limit that is meant to pass, but not before the fake has answered on a slow machine.
fn limited(acts: Vec<Act>) -> (Result<Unit>, Asked) {
    block_on(async {
        let (connection, asked) = fake::connect(Some(SYSTEMD), acts).await;
        (Scope::new(UNIT).pid(1).start(&connection.limit(Duration::from_secs(2))).await, asked)
    })
}

#[test]
fn signals_are_asked_for_before_the_call() {
    faultkit::require!(cgroup2);
    let (unit, asked) = start(vec![Act::Answer, DONE]);
    assert_eq!(unit.expect("started").cgroup().path_in_hierarchy(), std::path::Path::new("/"));
    let asked = asked.lock().expect("log").clone();
    let at = |method: &str| asked.iter().position(|member| member == method).expect(method);
    assert!(at("AddMatch") < at("StartTransientUnit") && at("Subscribe") < at("StartTransientUnit"), "{asked:?}");
}

#[test]
fn the_job_may_end_before_the_answer() {
    faultkit::require!(cgroup2);
    start(vec![DONE, Act::Answer]).0.expect("started");
    // And more signals may come before it than are queued.
    let other = Act::End(SYSTEMD, "/org/freedesktop/systemd1/job/41", UNIT, "failed");
    let many = [vec![other.clone(); 300], vec![DONE], vec![other; 300], vec![Act::Answer]].concat();
    start(many).0.expect("started");
}

#[test]
fn only_this_job_of_systemd_itself_counts() {
    faultkit::require!(cgroup2);
    for other in [
        Act::End(SYSTEMD, "/org/freedesktop/systemd1/job/41", UNIT, "failed"),
        Act::End(SYSTEMD, JOB, "other.scope", "failed"),
        Act::End(":1.66", JOB, UNIT, "failed"),
    ] {
        start(vec![other.clone(), Act::Answer, other.clone(), DONE]).0.unwrap_or_else(|e| panic!("{other:?}: {e}"));
        // Nor does one of them end the wait.
        let done = match other {
            Act::End(sender, job, unit, _) => Act::End(sender, job, unit, "done"),
            other => other,
        };
        let (unit, _) = limited(vec![done.clone(), Act::Answer, done]);
        assert_eq!(unit.expect_err("no end").kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn signals_without_end_do_not_outlast_the_time_limit() {
    faultkit::require!(cgroup2);
    for acts in [vec![Act::Flood], vec![Act::Answer, Act::Flood]] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build();
        let runtime = runtime.expect("runtime");
        let error = runtime.block_on(async {
            let (connection, _) = fake::connect(Some(SYSTEMD), acts).await;
            Scope::new(UNIT).pid(1).start(&connection.limit(Duration::from_millis(500))).await.expect_err("no end")
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:#}");
        runtime.shutdown_background();
    }
}

#[test]
fn a_job_that_fails_is_an_error_with_the_word_of_systemd() {
    for result in ["failed", "canceled", "timeout", "dependency", "skipped", "frozen", "new-word"] {
        let (unit, asked) = start(vec![Act::Answer, Act::End(SYSTEMD, JOB, UNIT, result)]);
        let error = unit.expect_err(result);
        assert_eq!(error.to_string(), format!(r#"StartTransientUnit "fake.scope": the job ended as "{result}""#));
        assert!(error.hint().is_some());
        assert_eq!((error.kind(), count(&asked, "Cancel")), (ErrorKind::Other, 0));
    }
}

#[test]
fn what_takes_too_long_is_cancelled() {
    let (unit, asked) = limited(vec![Act::Answer]);
    let error = unit.expect_err("no end");
    assert_eq!(error.to_string(), r#"StartTransientUnit "fake.scope": not done within 2s"#);
    assert_eq!(count(&asked, "Cancel"), 1);
    // Without an answer there is no job to cancel.
    let (unit, asked) = limited(vec![]);
    assert_eq!((unit.expect_err("no answer").kind(), count(&asked, "Cancel")), (ErrorKind::TimedOut, 0));
}

#[test]
fn a_lost_connection_ends_the_wait() {
    for acts in [vec![Act::Close], vec![Act::Answer, Act::Close]] {
        let begun = std::time::Instant::now();
        let (unit, _) = start(acts.clone());
        assert_eq!(unit.expect_err("lost").kind(), ErrorKind::Gone, "{acts:?}");
        // Not by the time limit.
        assert!(begun.elapsed() < Duration::from_secs(15), "{acts:?}");
    }
}

#[test]
fn refusals_keep_the_words() {
    for (name, kind) in [
        ("org.freedesktop.DBus.Error.AccessDenied", ErrorKind::Permission),
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", ErrorKind::Permission),
        ("org.freedesktop.systemd1.UnitExists", ErrorKind::AlreadyExists),
        ("org.freedesktop.DBus.Error.PropertyReadOnly", ErrorKind::Unsupported),
        ("org.example.Strange", ErrorKind::Other),
    ] {
        let error = start(vec![Act::Refuse(name, "words")]).0.expect_err(name);
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.kernel_text(), Some(format!("{name}: words").as_str()));
        assert!(error.to_string().starts_with(r#"StartTransientUnit "fake.scope": "#), "{error}");
    }
}

#[test]
fn a_bus_without_systemd() {
    let error = block_on(async {
        let (connection, _) = fake::connect(None, vec![]).await;
        Slice::new("fake.slice").start(&connection).await.expect_err("not there")
    });
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("not on this bus"), "{error}");
}

#[test]
fn pidfds_become_numbers_for_an_older_systemd() {
    let text = "Cannot set property PIDFDs, or unknown property.";
    let (error, asked) = block_on(async {
        let refused = Act::Refuse("org.freedesktop.DBus.Error.PropertyReadOnly", text);
        let (connection, asked) = fake::connect(Some(SYSTEMD), vec![refused]).await;
        let own = cellkit_core::sys::pidfd_open(std::process::id() as i32).expect("pidfd");
        (Scope::new(UNIT).pidfd(&own).start(&connection).await.expect_err("refused twice"), asked)
    });
    assert_eq!((error.kind(), count(&asked, "StartTransientUnit")), (ErrorKind::Unsupported, 2));
}

#[test]
fn what_is_refused_before_anything_is_asked() {
    let limits = Limits::new().pids_max(Max::Value(PidsMax::LEAST));
    let (errors, asked) = block_on(async {
        let (connection, asked) = fake::connect(Some(SYSTEMD), vec![]).await;
        let mut errors = Vec::new();
        for scope in [
            Scope::new("no-ending").pid(1),
            Scope::new("a.slice").pid(1),
            Scope::new("../a.scope").pid(1),
            Scope::new("a.scope").limits(limits),
            Scope::new("a.scope").pid(0),
            Scope::new("a.scope").pid(1).slice("a.scope"),
            Scope::new("a.scope").pid(1).slice("a--b.slice"),
            // Values as Limits::check_values has them.
            Scope::new("a.scope").pid(1).limits(Limits::new().memory_max(Bytes(1))),
        ] {
            errors.push(scope.start(&connection).await.expect_err("refused"));
        }
        errors.push(Slice::new("a.scope").start(&connection).await.expect_err("refused"));
        let limits = Limits::new().memory_max(Bytes(1));
        errors.push(Slice::new("a.slice").limits(limits).start(&connection).await.expect_err("refused"));
        (errors, asked)
    });
    for error in &errors {
        assert_eq!((error.kind(), error.to_string().lines().count()), (ErrorKind::Invalid, 1), "{error}");
    }
    assert_eq!(asked.lock().expect("log").as_slice(), ["Hello"]);
}

#[test]
fn limits_of_a_unit_that_runs() {
    faultkit::require!(cgroup2);
    let (outcomes, asked) = block_on(async {
        let (connection, asked) = fake::connect(Some(SYSTEMD), vec![]).await;
        // Its group is the root: no file of a controller is there, so all is as the kernel has it.
        let unit = Unit::open(&connection, &UNIT.parse().expect("name")).await.expect("open");
        let mut outcomes = Vec::new();
        for limits in [
            Limits::new().memory_max(Bytes(1)),
            Limits::new().memory_oom_group(OomGroup::KillAll),
            Limits::new().memory_oom_group(OomGroup::KillOne).memory_max(Max::Max),
        ] {
            outcomes.push(unit.set_properties(&Properties::new().limits(limits)).await.map_err(|error| error.kind()));
        }
        (outcomes, asked)
    });
    assert_eq!(outcomes, [Err(ErrorKind::Invalid), Err(ErrorKind::Unsupported), Ok(())]);
    assert_eq!(count(&asked, "SetUnitProperties"), 1);
}

#[test]
fn another_hierarchy_than_systemds() {
    faultkit::require!(cgroup2);
    let root = crate::Hierarchy::detect().expect("hierarchy");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(root.mount_point()).expect("stat"));
    start(vec![Act::Answer, DONE, Act::GroupNumber(inode)]).0.expect("the same");
    let error = start(vec![Act::Answer, DONE, Act::GroupNumber(inode + 1)]).0.expect_err("another");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint().is_some_and(|hint| hint.contains("container")), "{error:?}");
}

#[test]
fn stopping() {
    faultkit::require!(cgroup2);
    block_on(async {
        let (connection, _) = fake::connect(Some(SYSTEMD), vec![Act::Answer, DONE]).await;
        let unit = Scope::new(UNIT).pid(1).start(&connection).await.expect("start");
        unit.stop(Duration::from_secs(20)).await.expect("stop");
    });
    // What is gone already is no error.
    let gone = |acts| {
        block_on(async {
            let (connection, _) = fake::connect(Some(SYSTEMD), acts).await;
            let unit = Unit::open(&connection, &UNIT.parse().expect("name")).await.expect("open");
            unit.stop(Duration::from_secs(20)).await
        })
    };
    gone(vec![Act::Refuse("org.freedesktop.systemd1.NoSuchUnit", "not loaded")]).expect("gone");
    assert_eq!(gone(vec![Act::Close]).expect_err("lost").kind(), ErrorKind::Gone);
}

#[test]
fn nobody_at_the_other_end() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("socketpair");
    drop(theirs);
    assert!(block_on(Connection::from_stream(ours)).is_err());
    let error = block_on(Connection::at("/no/such/bus")).expect_err("no bus");
    assert_eq!(error.to_string(), r#"connect "/no/such/bus": no such file or directory (ENOENT)"#);
    assert!(error.hint().is_some_and(|hint| hint.contains("linger")));
}
