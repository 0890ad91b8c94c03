//! Units of the system's systemd, which is init: in the virtual machine that `cargo xtask vm --systemd` boots. Checked by
//! systemctl, by /proc and by the files of the groups.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cgroupfs::systemd::{CollectMode, Connection, Delegate, Properties, Scope, Slice, Unit, UnitName, escape};
use cgroupfs::{
    Bytes, CgroupName, Controller, Controllers, CpuList, DevNum, ErrorKind, IoMax, Limits, Max, MemNodeList, OomGroup,
    PidsMax, Quota, SwapOnly, Unified, Weight,
};

use super::{LIMIT, cat};
use crate::with_systemd::{Sleeper, block_on, escape_by_program, show};

async fn system() -> Connection {
    Connection::system().await.expect("the system's bus").limit(LIMIT)
}

fn state(unit: &str) -> String {
    show(&[], unit, "ActiveState")
}

/// Where the process is, as the kernel has it.
fn place_of(sleeper: &Sleeper) -> String {
    sleeper.group()
}

#[test]
fn a_scope_has_its_processes_and_limits() {
    faultkit::require!(systemd, root);
    let sleeper = Sleeper::start();
    let limits = Limits::new()
        .memory_max(Bytes::mib(64))
        .cpu_max(Quota::parse_cpus("0.5").expect("half"))
        .cpu_weight(Weight::try_from(77).expect("weight"))
        .pids_max(PidsMax::try_from(33).expect("tasks"));
    block_on(async {
        let bus = system().await;
        let pidfd = cellkit_core::sys::pidfd_open(sleeper.pid() as i32).expect("pidfd");
        let unit = Scope::new("cellkit-limits.scope")
            .description("a scope with limits")
            .slice("cellkit-a.slice")
            .pidfd(&pidfd)
            .delegate(Delegate::All)
            .limits(limits)
            .timeout_stop(Duration::from_secs(3))
            .collect_mode(CollectMode::InactiveOrFailed)
            .start(&bus)
            .await
            .expect("start");
        let path = "/cellkit.slice/cellkit-a.slice/cellkit-limits.scope";
        assert_eq!(place_of(&sleeper), path);
        assert_eq!(unit.cgroup().path_in_hierarchy(), Path::new(path));
        assert_eq!(unit.cgroup().procs().expect("procs"), [sleeper.pid() as i32]);
        let dir = unit.cgroup().path().to_owned();
        let files = |max: &str| {
            assert_eq!(cat(&dir, "memory.max"), max);
            assert_eq!(cat(&dir, "cpu.max"), "50000 100000");
            assert_eq!(cat(&dir, "cpu.weight"), "77");
            assert_eq!(cat(&dir, "pids.max"), "33");
        };
        files("67108864");
        let shown = |property: &str| show(&[], "cellkit-limits.scope", property);
        assert_eq!(shown("MemoryMax"), "67108864");
        assert_eq!((shown("CPUQuotaPerSecUSec"), shown("TasksMax")), ("500ms".to_owned(), "33".to_owned()));
        assert_eq!((shown("Delegate"), shown("TimeoutStopUSec")), ("yes".to_owned(), "3s".to_owned()));
        assert_eq!(
            (shown("Description"), shown("CollectMode")),
            ("a scope with limits".to_owned(), "inactive-or-failed".to_owned())
        );

        // systemd knows them, so that it leaves them as they are, or writes the same again.
        assert!(Command::new("systemctl").arg("daemon-reload").status().expect("systemctl").success());
        files("67108864");
        unit.set_properties(&Properties::new().limits(Limits::new().memory_max(Bytes::mib(32)))).await.expect("set");
        files("33554432");
        assert_eq!(shown("MemoryMax"), "33554432");
        unit.set_properties(&Properties::new().limits(Limits::new().memory_max(Max::Max))).await.expect("lift");
        files("max");
        everything_set_and_lifted(&unit).await;
        let error = unit.set_properties(&Properties::new().set("NoSuchProperty", true)).await.expect_err("no such");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");

        // The same unit by its name.
        let again = Unit::open(&bus, unit.name()).await.expect("open");
        assert_eq!(again.cgroup().path(), dir);

        unit.stop(LIMIT).await.expect("stop");
        assert!(sleeper.ended(), "stopped by SIGTERM");
        assert_eq!(state("cellkit-limits.scope"), "inactive");
        assert!(!dir.exists(), "the group is gone");
        assert_eq!(again.cgroup().procs().expect_err("gone").kind(), ErrorKind::Gone);
        let name = again.name().clone();
        assert_eq!(Unit::open(&bus, &name).await.expect_err("gone").kind(), ErrorKind::Gone);
        assert_eq!(again.kill(15).await.expect_err("gone").kind(), ErrorKind::Gone);
        again.stop(LIMIT).await.expect("what is gone already is no error");
    });
}

/// Each limit that is a property, as the kernel has it once it is set, and once it is lifted.
async fn everything_set_and_lifted(unit: &Unit) {
    let dir = unit.cgroup().path().to_owned();
    let set = |limits| async move { unit.set_properties(&Properties::new().limits(limits)).await };
    let disk: DevNum =
        std::fs::read_to_string("/sys/block/loop0/dev").expect("a disk").trim().parse().expect("numbers");
    let io: IoMax = "rbps=9000 wbps=max riops=max wiops=99".parse().expect("limit");
    let limits = Limits::new()
        .memory_min(Bytes::mib(1))
        .memory_low(Bytes::mib(2))
        .memory_high(Bytes::mib(48))
        .memory_swap_max(SwapOnly(Max::Value(Bytes::mib(3))))
        .cpu_max("1000 3000".parse().expect("quota"))
        .cpu_idle()
        .io_max(disk, io)
        .io_weight("55".parse().expect("weight"))
        .io_latency(disk, "target=75000".parse().expect("latency"))
        .cpuset_cpus("0".parse().expect("list"))
        .cpuset_mems("0".parse().expect("list"));
    let limits = limits.unified(Unified::new().with("pids.max", "44").expect("file"));
    set(limits).await.expect("set");
    let files = || {
        let all = ["memory.min", "memory.low", "memory.high", "memory.swap.max", "cpu.max", "cpu.idle", "pids.max"];
        all.map(|file| cat(&dir, file)).join("; ")
    };
    assert_eq!(files(), "1048576; 2097152; 50331648; 3145728; 1000 3000; 1; 44");
    assert_eq!(cat(&dir, "io.max"), format!("{disk} rbps=9000 wbps=max riops=max wiops=99"));
    assert_eq!(cat(&dir, "io.weight"), "default 55");
    // A kernel is mostly built without it; systemd has the property all the same.
    let targets = || show(&[], "cellkit-limits.scope", "IODeviceLatencyTargetUSec");
    assert_eq!(targets(), format!("/dev/block/{disk} 75ms"));
    assert_eq!((cat(&dir, "cpuset.cpus"), cat(&dir, "cpuset.mems")), ("0".to_owned(), "0".to_owned()));

    let lifted = Limits::new()
        .memory_min(Bytes(0))
        .memory_low(Bytes(0))
        .memory_high(Max::Max)
        .memory_swap_max(SwapOnly(Max::Max))
        .cpu_max(Quota::UNLIMITED)
        .cpu_weight("77".parse().expect("weight"))
        .pids_max(Max::Max)
        .io_max(disk, "rbps=max wiops=max".parse().expect("no limit"))
        .io_latency(disk, "target=max".parse().expect("no target"))
        // No property, and so already.
        .memory_oom_group(OomGroup::KillOne)
        .hugetlb_max("2MB".parse().expect("size"), Max::Max);
    set(lifted).await.expect("lift");
    assert_eq!(files(), "0; 0; max; max; max 100000; 0; max");
    assert_eq!((cat(&dir, "io.max"), targets()), (String::new(), format!("/dev/block/{disk} infinity")));
    assert_eq!(cat(&dir, "cpu.weight"), "77");

    // What systemd has no property for, what is less than a page, what would kill.
    unit.cgroup().memory().set_oom_group(OomGroup::KillAll).expect("by the file");
    // What the sleeper had before it was moved counts elsewhere: the pages of a file that is written here count here.
    let file = faultkit::TempDir::new();
    let path = file.path().join("pages");
    let script = "echo $$ > \"$0/cgroup.procs\" && head -c 1000000 /dev/zero > \"$1\"";
    assert!(Command::new("sh").args(["-c", script]).args([&dir, &path]).status().expect("sh").success());
    let in_use = cat(&dir, "memory.current").parse::<u64>().expect("bytes");
    assert!(in_use > 4096, "{in_use}");
    for (limits, kind) in [
        (Limits::new().memory_oom_group(OomGroup::KillOne), ErrorKind::Unsupported),
        (Limits::new().cpuset_cpus(CpuList::new()), ErrorKind::Unsupported),
        (Limits::new().cpuset_mems(MemNodeList::new()), ErrorKind::Unsupported),
        (Limits::new().memory_max(Bytes(1)), ErrorKind::Invalid),
        (Limits::new().memory_max(Bytes(4096)), ErrorKind::Invalid),
    ] {
        let error = set(limits.pids_max(PidsMax::LEAST)).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{error:?}");
    }
    set(Limits::new().memory_oom_group(OomGroup::KillAll)).await.expect("so already");
    assert_eq!((cat(&dir, "memory.max"), cat(&dir, "pids.max")), ("max".to_owned(), "max".to_owned()));
}

#[test]
fn no_limit_is_not_what_systemd_begins_with() {
    faultkit::require!(systemd, root);
    let (one, two) = (Sleeper::start(), Sleeper::start());
    block_on(async {
        let bus = system().await;
        // DefaultTasksMax of systemd.
        let unit = Scope::new("cellkit-default.scope").pid(one.pid()).start(&bus).await.expect("start");
        assert_ne!(cat(unit.cgroup().path(), "pids.max"), "max");
        let limits = Limits::new().pids_max(Max::Max);
        let free = Scope::new("cellkit-free.scope").pid(two.pid()).limits(limits).start(&bus).await.expect("start");
        assert_eq!(cat(free.cgroup().path(), "pids.max"), "max");
        unit.stop(LIMIT).await.expect("stop");
        free.stop(LIMIT).await.expect("stop");
    });
}

#[test]
fn below_a_delegated_scope_groups_are_ones_own() {
    faultkit::require!(systemd, root);
    let sleeper = Sleeper::start();
    block_on(async {
        let bus = system().await;
        let controllers: Controllers = [Controller::Memory, Controller::Pids].into_iter().collect();
        let unit = Scope::new("cellkit-own.scope").pid(sleeper.pid()).delegate(Delegate::Controllers(controllers));
        let unit = unit.start(&bus).await.expect("start");
        let dir = unit.cgroup().path().to_owned();
        assert!(["memory", "pids"].iter().all(|name| cat(&dir, "cgroup.controllers").split(' ').any(|c| c == *name)));
        // Its processes into a leaf, then controllers passed down, then a group beside the leaf with a limit.
        let leaf = unit.cgroup().create_child(&CgroupName::new("leaf").expect("name")).expect("leaf");
        let error = unit.cgroup().enable(Controller::Memory).expect_err("it has processes");
        assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
        unit.cgroup().enable_evacuating(controllers, &leaf).expect("pass down");
        leaf.memory().set_max(Bytes::mib(16)).expect("limit");
        assert!(Command::new("systemctl").arg("daemon-reload").status().expect("systemctl").success());
        assert_eq!(cat(dir.join("leaf"), "memory.max"), "16777216");
        assert_eq!(cat(&dir, "cgroup.subtree_control"), "memory pids");
        assert!(place_of(&sleeper).ends_with("/cellkit-own.scope/leaf"));
        // A signal reaches what is below as well.
        unit.kill(9).await.expect("kill");
        assert!(sleeper.ended());
        let begun = Instant::now();
        while dir.exists() {
            assert!(begun.elapsed() < LIMIT, "an empty scope ends by itself");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn slices_and_what_is_refused() {
    faultkit::require!(systemd, root);
    let (one, two) = (Sleeper::start(), Sleeper::start());
    block_on(async {
        let bus = system().await;
        let slice = Slice::new("cellkit-b-c.slice")
            .description("shared")
            .limits(Limits::new().memory_max(Bytes::mib(99)))
            .start(&bus)
            .await
            .expect("start");
        let path = slice.name().slice_path().expect("a slice");
        assert_eq!(slice.cgroup().path_in_hierarchy(), Path::new("/").join(&path));
        assert_eq!(cat(slice.cgroup().path(), "memory.max"), "103809024");

        let name = format!("cellkit-{}.scope", escape("two words/ä-b"));
        let scope = || Scope::new(&name).slice("cellkit-b-c.slice");
        let unit = scope().pid(one.pid()).start(&bus).await.expect("start");
        assert_eq!(place_of(&one), format!("/{}/{name}", path.display()));
        // A name that is taken: nothing is moved.
        let before = place_of(&two);
        let error = scope().pid(two.pid()).start(&bus).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
        assert!(error.kernel_text().is_some_and(|text| text.contains("UnitExists")), "{error:?}");
        assert_eq!(place_of(&two), before);

        // Properties that are none, and limits without a property, before anything is made.
        let error =
            Scope::new("cellkit-x.scope").pid(two.pid()).property("NoSuch", true).start(&bus).await.expect_err("no");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        let error = Scope::new("cellkit-x.scope").pid(two.pid()).property("MemoryMax", "x").start(&bus).await;
        assert!(error.is_err());
        assert_eq!((state("cellkit-x.scope"), place_of(&two)), ("inactive".to_owned(), before));

        // A process that is gone.
        let number = two.pid();
        drop(two);
        let error = Scope::new("cellkit-x.scope").pid(number).start(&bus).await.expect_err("no process");
        assert_ne!(error.kind(), ErrorKind::TimedOut, "{error:?}");

        // What is in a slice is stopped with it.
        slice.stop(LIMIT).await.expect("stop");
        assert!(one.ended());
        assert_eq!(state(&name), "inactive");
        unit.stop(LIMIT).await.expect("gone already");
    });
}

#[test]
fn a_job_that_another_takes_the_place_of() {
    faultkit::require!(systemd, root);
    // It ignores SIGTERM, so that stopping takes until the unit's time has passed.
    let sleeper = Sleeper::deaf();
    block_on(async {
        let bus = system().await;
        let unit = Scope::new("cellkit-deaf.scope").pid(sleeper.pid()).timeout_stop(Duration::from_secs(1));
        let unit = unit.start(&bus).await.expect("start");
        let again = Unit::open(&bus, unit.name()).await.expect("open");
        let error = unit.stop(Duration::from_millis(20)).await.expect_err("it is deaf");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
        again.stop(LIMIT).await.expect("killed in the end");
        assert!(sleeper.ended());
    });
}

#[test]
fn names_are_escaped_as_systemd_does() {
    faultkit::require!(systemd, root);
    for text in ["plain", "a/b", "a-b", ".hidden", "ä ö", r"back\slash", "web@1:2_3", "a//b/"] {
        assert_eq!(escape(text), escape_by_program(text), "{text}");
    }
    assert!(CgroupName::new(format!("{}.scope", escape("web.1"))).is_ok());
}

#[test]
fn a_bus_that_goes_away() {
    faultkit::require!(systemd, root);
    let sleeper = Sleeper::start();
    block_on(async {
        // A relay in between, which is cut.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("socketpair");
        theirs.set_nonblocking(true).expect("nonblocking");
        let relay = tokio::spawn(async move {
            let mut theirs = tokio::net::UnixStream::from_std(theirs).expect("stream");
            let mut bus = tokio::net::UnixStream::connect("/run/dbus/system_bus_socket").await.expect("connect");
            let _ = tokio::io::copy_bidirectional(&mut theirs, &mut bus).await;
        });
        let bus = Connection::from_stream(ours).await.expect("bus").limit(LIMIT);
        let unit = Scope::new("cellkit-cut.scope").pid(sleeper.pid()).start(&bus).await.expect("start");
        relay.abort();
        let begun = Instant::now();
        assert_eq!(unit.stop(LIMIT).await.expect_err("cut").kind(), ErrorKind::Gone);
        assert!(begun.elapsed() < LIMIT / 2);
        let name = UnitName::new("cellkit-cut.scope").expect("name");
        Unit::open(&system().await, &name).await.expect("it is still there").stop(LIMIT).await.expect("stop");
    });
    assert!(sleeper.ended());
}
