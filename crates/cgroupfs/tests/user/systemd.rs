//! Units of an ordinary user's own systemd, without any privilege.
#![forbid(unsafe_code)]

use std::time::Duration;

use cgroupfs::systemd::{Connection, Delegate, Scope, Slice};
use cgroupfs::{Bytes, CgroupName, Controller, ErrorKind, Limits, PidsMax};

use crate::with_systemd::{Sleeper, block_on, show, stdout};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_delegated_scope_of_ones_own() {
    faultkit::require!(systemd, user);
    let sleeper = Sleeper::start();
    block_on(async {
        let bus = Connection::user().await.expect("the user's bus").limit(LIMIT);
        let slice = Slice::new("cellkit.slice").start(&bus).await.expect("slice");
        let limits = Limits::new().memory_max(Bytes::mib(48)).pids_max(PidsMax::try_from(20).expect("tasks"));
        let unit = Scope::new("cellkit-user.scope")
            .slice("cellkit.slice")
            .pid(sleeper.pid())
            .delegate(Delegate::All)
            .limits(limits)
            .start(&bus)
            .await
            .expect("start");
        let group = sleeper.group();
        assert!(group.ends_with(".service/cellkit.slice/cellkit-user.scope"), "{group}");
        assert_eq!(unit.cgroup().path_in_hierarchy().to_str(), Some(group.as_str()));
        let dir = unit.cgroup().path().to_owned();
        let cat = |file: &str| stdout(std::process::Command::new("cat").arg(dir.join(file)));
        assert_eq!((cat("memory.max"), cat("pids.max")), ("50331648".to_owned(), "20".to_owned()));
        assert_eq!(show(&["--user"], "cellkit-user.scope", "MemoryMax"), "50331648");

        // Groups of one's own, with limits of one's own.
        let leaf = unit.cgroup().create_child(&CgroupName::new("leaf").expect("name")).expect("leaf");
        unit.cgroup().enable_evacuating(Controller::Pids, &leaf).expect("pass down");
        leaf.raw("pids.max").write("5").expect("limit");
        assert!(sleeper.group().ends_with("/cellkit-user.scope/leaf"));
        assert_eq!(cat("leaf/pids.max"), "5");

        unit.stop(LIMIT).await.expect("stop");
        assert!(sleeper.ended() && !dir.exists());
        slice.stop(LIMIT).await.expect("stop");
    });
}

#[test]
fn the_system_is_not_an_ordinary_users() {
    faultkit::require!(systemd, user);
    let sleeper = Sleeper::start();
    block_on(async {
        let bus = Connection::system().await.expect("the system's bus").limit(LIMIT);
        let before = sleeper.group();
        let error = Scope::new("cellkit-no.scope").pid(sleeper.pid()).start(&bus).await.expect_err("not allowed");
        assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("polkit")), "{error:?}");
        assert_eq!(sleeper.group(), before);
        assert_eq!(show(&[], "cellkit-no.scope", "ActiveState"), "inactive");
    });
}

#[test]
fn another_users_process_is_not_taken() {
    faultkit::require!(systemd, user);
    block_on(async {
        let bus = Connection::user_by_environment().await.expect("the user's bus").limit(LIMIT);
        let error = Scope::new("cellkit-init.scope").pid(1).start(&bus).await.expect_err("init is root's");
        assert_ne!(error.kind(), ErrorKind::TimedOut, "{error:?}");
        assert_eq!(stdout(std::process::Command::new("cat").arg("/proc/1/cgroup")), "0::/init.scope");
    });
}
