//! Limits that a kernel enforces: for a machine whose cgroup2 has the controllers.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use cellkit_core::StepText;
use cgroupfs::{Bytes, DevNum, ErrorKind, IoMax, Limits, Max, MemoryPlusSwap, PidsMax, Quota, SwapOnly, Weight};

use super::{LIMIT, cat, command_in, killed, name, place, start_in, until};

#[test]
fn are_written_as_asked_and_read_back() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("cpu"), cgroup2("pids"));
    faultkit::isolated!(|| {
        let place = place();
        let memory = Max::Value("48m".parse::<Bytes>().expect("bytes"));
        let swap = "64m".parse::<MemoryPlusSwap>().expect("total").swap_only(memory).expect("swap");
        let limits = Limits::new()
            .memory_max(memory)
            .memory_swap_max(swap)
            .cpu_max(Quota::parse_cpus("0.5").expect("cpus"))
            .cpu_weight(Weight::try_from(33).expect("weight"))
            .pids_max(PidsMax::try_from(12).expect("pids"));
        limits.check(&place).expect("check");
        let mut made: Vec<(StepText, Duration)> = Vec::new();
        let plan = place.describe_create(&name("limited"), &limits);
        let group = place.create(&name("limited"), &limits, &mut made).expect("create");
        assert_eq!(made.into_iter().map(|(step, _)| step).collect::<Vec<_>>(), plan);
        for (file, content) in [
            ("memory.max", "50331648"),
            ("memory.swap.max", "16777216"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "33"),
            ("pids.max", "12"),
        ] {
            assert_eq!(cat(group.path(), file), content, "{file}");
        }
        // What was not asked for was not written.
        assert_eq!(cat(group.path(), "memory.high"), "max");
        assert_eq!(
            group.raw("cpu.max").read().expect("cpu.max").parse::<Quota>().expect("quota"),
            limits.cpu_max.expect("set")
        );
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn memory_kills_what_takes_more() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let limits = Limits::new().memory_max(Bytes::mib(24)).memory_swap_max(SwapOnly(Max::Value(Bytes(0))));
        let group = place().create(&name("hog"), &limits, &mut ()).expect("create");
        assert_eq!(group.memory().events().expect("events").oom_kill, 0);
        // It keeps all of a line that never ends.
        let hog = command_in(group.path(), "exec tail /dev/zero").spawn().expect("sh");
        assert!(killed(hog));
        let events = group.memory().events().expect("events");
        assert!(events.oom_kill > 0 && events.max > 0, "{events:?}");
        assert!(cat(group.path(), "memory.events").lines().any(|line| line == format!("oom_kill {}", events.oom_kill)));
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn cpu_time_is_throttled() {
    faultkit::require!(root, cgroup2("cpu"));
    faultkit::isolated!(|| {
        let limits = Limits::new().cpu_max(Quota::cpus(0.1).expect("cpus"));
        let group = place().create(&name("slow"), &limits, &mut ()).expect("create");
        let child = start_in(group.path(), "while :; do :; done");
        until("throttled", || group.cpu().stat().expect("cpu.stat").nr_throttled.is_some_and(|n| n > 3));
        let (first, started) = (group.cpu().stat().expect("cpu.stat"), Instant::now());
        std::thread::sleep(Duration::from_secs(2));
        let (second, took) = (group.cpu().stat().expect("cpu.stat"), started.elapsed());
        let share = (second.usage_usec - first.usage_usec) as f64 / took.as_micros() as f64;
        assert!(share < 0.2, "{share} of a processor, but 0.1 were given");
        assert!(second.throttled_usec > first.throttled_usec);
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn tasks_stop_at_their_number() {
    faultkit::require!(root, cgroup2("pids"));
    faultkit::isolated!(|| {
        let limits = Limits::new().pids_max(PidsMax::try_from(5).expect("pids"));
        let group = place().create(&name("few"), &limits, &mut ()).expect("create");
        let script = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait";
        let child = command_in(group.path(), script).stderr(std::process::Stdio::null()).spawn().expect("sh");
        until("a fork was refused", || group.raw("pids.events").flat_keyed().expect("events")["max"] > 0);
        assert!(cat(group.path(), "cgroup.procs").lines().count() <= 5);
        group.remove(LIMIT).expect("remove");
        child.wait_with_output().expect("wait");
        faultkit::reap_orphans();
    });
}

#[test]
fn a_fork_bomb_in_a_group_of_few_tasks_is_removed() {
    faultkit::require!(root, cgroup2("pids"));
    faultkit::isolated!(|| {
        let limits = Limits::new().pids_max(PidsMax::try_from(60).expect("pids"));
        let group = place().create(&name("bomb"), &limits, &mut ()).expect("create");
        let script = "f() { while :; do f & done; }; f 2>/dev/null";
        let child = command_in(group.path(), script).stderr(std::process::Stdio::null()).spawn().expect("sh");
        until("full", || group.raw("pids.events").flat_keyed().expect("events")["max"] > 5);
        let (path, started) = (group.path().to_owned(), Instant::now());
        group.remove(LIMIT).expect("remove");
        println!("removed after {:?}", started.elapsed());
        assert!(!path.exists());
        child.wait_with_output().expect("wait");
        faultkit::reap_orphans();
    });
}

#[test]
fn disks_are_limited_and_what_is_no_disk_is_refused_without_traces() {
    faultkit::require!(root, cgroup2("io"));
    faultkit::isolated!(|| {
        let place = place();
        let limit = IoMax { rbps: Some(Bytes::mib(1).into()), wiops: Some(Max::Value(40)), ..IoMax::default() };
        let disk = fs::read_dir("/sys/block").expect("/sys/block").find_map(|entry| {
            let path = std::path::Path::new("/dev").join(entry.expect("entry").file_name());
            fs::metadata(&path).is_ok_and(|found| found.file_type().is_block_device()).then_some(path)
        });
        let disk = disk.expect("a machine with the io controller has a disk");
        let device: DevNum = disk.to_str().expect("text").parse().expect("device");
        let numbers =
            fs::read_to_string(std::path::Path::new("/sys/block").join(disk.file_name().expect("name")).join("dev"));
        assert_eq!(numbers.expect("dev").trim(), device.to_string());

        let group = place.create(&name("disk"), &Limits::new().io_max(device, limit), &mut ()).expect("create");
        assert_eq!(cat(group.path(), "io.max"), format!("{device} rbps=1048576 wbps=max riops=max wiops=40"));
        assert_eq!(group.raw("io.max").nested_keyed().expect("io.max")[&device.to_string()]["wiops"], "40");
        group.remove(LIMIT).expect("remove");

        let nothing = DevNum { major: 4000, minor: 77 };
        let error = place.create(&name("disk"), &Limits::new().io_max(nothing, limit), &mut ()).expect_err("no disk");
        assert_eq!((error.operation(), error.raw_os_error()), ("write io.max", Some(libc::ENODEV)));
        // The group is there, so this is not about a group that is gone.
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().expect("hint").contains("partition"));
        assert!(!place.group().path().join("disk").exists());
    });
}
