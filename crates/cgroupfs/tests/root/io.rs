//! The io controller's files and what they do: for a machine whose cgroup2 has it.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use cgroupfs::{
    BfqWeight, Bytes, Cgroup, DevNum, Error, ErrorKind, Hierarchy, Io, IoCost, IoCostControl, IoCostLatency,
    IoCostModel, IoCostQos, IoLatency, IoMax, IoPriorityClass, IoWeight, Max, Percentile, Result, ScalePercent,
};

use super::loop_disk::LoopDisk;
use super::{LIMIT, cat, command_in, group, place};

/// A group with the io controller.
fn io_group(wanted: &str) -> Cgroup {
    let place = place();
    fs::write(place.group().path().join("cgroup.subtree_control"), "+io").expect("enable");
    group(&place, wanted)
}

fn weight(number: u64) -> IoWeight {
    IoWeight::try_from(number).expect("weight")
}

/// How long the group takes to read so many MiB of the disk, past the page cache.
fn read(group: &Cgroup, disk: &LoopDisk, mib: u64) -> Duration {
    let script =
        format!("exec dd if={} of=/dev/null bs=256k count={} iflag=direct status=none", disk.path().display(), mib * 4);
    let started = Instant::now();
    assert!(command_in(group.path(), &script).status().expect("dd").success());
    started.elapsed()
}

#[test]
fn a_limit_holds_reads_back_and_they_are_counted() {
    faultkit::require!(root, cgroup2("io"), program("losetup"));
    faultkit::isolated!(|| {
        let group = io_group("reader");
        let disk = LoopDisk::new(8);
        let device = disk.device();
        assert_eq!(device.to_string(), disk.numbers());
        assert!(group.io().max().expect("io.max").is_empty());
        let free = read(&group, &disk, 3);

        let limit = IoMax { rbps: Some(Bytes::mib(1).into()), wiops: Some(Max::Value(40)), ..IoMax::default() };
        group.io().set_max(device, limit).expect("io.max");
        assert_eq!(cat(group.path(), "io.max"), format!("{device} rbps=1048576 wbps=max riops=max wiops=40"));
        let all = group.io().max().expect("io.max");
        let expected = IoMax { wbps: Some(Max::Max), riops: Some(Max::Max), ..limit };
        assert_eq!((all.devices.len(), all.get(device)), (1, Some(&expected)));
        let slow = read(&group, &disk, 3);
        println!("3 MiB: {free:?} freely, {slow:?} at 1 MiB a second");
        assert!(slow > Duration::from_millis(1500) && slow > free, "{free:?}, {slow:?}");

        // What is not said stays, and what is said goes.
        group.io().set_max(device, IoMax { rbps: Some(Max::Max), ..IoMax::default() }).expect("io.max");
        assert_eq!(cat(group.path(), "io.max"), format!("{device} rbps=max wbps=max riops=max wiops=40"));

        let stat = group.io().stat().expect("io.stat");
        let counted = stat.get(device).expect("the disk");
        assert!(counted.rbytes >= 6 << 20 && counted.rios >= 2 && counted.other.is_empty(), "{counted:?}");
        let line = format!("{device} rbytes={} wbytes={} rios={}", counted.rbytes, counted.wbytes, counted.rios);
        assert!(cat(group.path(), "io.stat").lines().any(|text| text.starts_with(&line)), "{line}");
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn what_is_no_disk_and_what_is_no_limit() {
    faultkit::require!(root, cgroup2("io"), program("losetup"));
    faultkit::isolated!(|| {
        let group = io_group("wrong");
        let disk = LoopDisk::new(4);
        let limit = |number| IoMax { riops: Some(Max::Value(number)), ..IoMax::default() };
        let nothing = DevNum { major: 4000, minor: 77 };
        let error = group.io().set_max(nothing, limit(9)).expect_err("no disk");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, Some(19)));
        assert!(error.hint().expect("hint").contains("partition"), "{error:#}");
        let error = group.io().set_max(disk.device(), limit(0)).expect_err("zero");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, Some(34)));
        assert!(error.hint().expect("hint").contains("max is none"), "{error:#}");
        match group.io().set_max(disk.device(), limit(1)) {
            Ok(()) => assert!(cat(group.path(), "io.max").contains("riops=1 ")),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(22));
                assert!(error.hint().expect("hint").contains("the least is 2"), "{error:#}");
            }
        }
        group.io().set_max(disk.device(), limit(2)).expect("two");
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn a_partition_and_a_file_are_on_a_whole_disk() {
    faultkit::require!(root, cgroup2("io"), program("losetup"), program("mkfs.ext4"), program("mount"));
    faultkit::isolated!(|| {
        let disk = LoopDisk::with_partition();
        let run = |command: &mut Command| {
            let output = command.output().expect("start");
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let partition = std::path::PathBuf::from(format!("{}p1", disk.path().display()));
        super::until("the partition is there", || partition.exists());

        let numbers = DevNum::of_path(&partition).expect("partition");
        assert_ne!(numbers, disk.device());
        assert_eq!(numbers.whole_disk().expect("whole"), disk.device());
        assert_eq!(disk.device().whole_disk().expect("itself"), disk.device());
        let group = io_group("partition");
        let limit = IoMax { riops: Some(Max::Value(9)), ..IoMax::default() };
        let error = group.io().set_max(numbers, limit).expect_err("a partition");
        assert_eq!(error.raw_os_error(), Some(19));
        assert!(error.hint().expect("hint").contains("partition"));
        group.io().set_max(numbers.whole_disk().expect("whole"), limit).expect("the disk");
        group.remove(LIMIT).expect("remove");

        let dir = faultkit::TempDir::new();
        run(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&partition));
        run(Command::new("mount").arg(&partition).arg(dir.path()));
        fs::write(dir.path().join("file"), "content").expect("file");
        assert_eq!(DevNum::under(dir.path().join("file")).expect("under"), disk.device());
        // The device node itself is a file of devtmpfs.
        assert_eq!(DevNum::under(&partition).expect_err("devtmpfs").kind(), ErrorKind::Invalid);
        assert_ne!(fs::metadata(dir.path()).expect("stat").dev(), fs::metadata(&partition).expect("stat").dev());
        run(Command::new("umount").arg(dir.path()));
    });
}

/// The outcome where the kernel has the file; otherwise the error must say so.
fn where_there_is<T>(group: &Cgroup, file: &str, outcome: Result<T>) -> Option<T> {
    if group.path().join(file).exists() {
        return Some(outcome.expect(file));
    }
    let error = outcome.err().expect("the file is not there");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.hint().expect("hint").contains("built"), "{error:#}");
    None
}

#[test]
fn weights_and_classes_are_written_and_read_back() {
    faultkit::require!(root, cgroup2("io"), program("losetup"));
    faultkit::isolated!(|| {
        let group = io_group("weighed");
        let disk = LoopDisk::new(4);
        let io = group.io();
        if where_there_is(&group, "io.weight", io.set_weight(weight(250))).is_some() {
            assert_eq!(cat(group.path(), "io.weight"), "default 250");
            let weights = io.weight().expect("io.weight");
            assert_eq!((weights.default, weights.of(disk.device())), (weight(250), weight(250)));
            // A disk that io.cost was ever in charge of remembers it.
            match io.set_device_weight(disk.device(), weight(50)) {
                Ok(()) => assert_eq!(cat(group.path(), "io.weight"), format!("default 250\n{} 50", disk.device())),
                Err(error) => {
                    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Unsupported, Some(95)));
                    assert!(error.hint().expect("hint").contains("enable=1"), "{error:#}");
                }
            }
        }
        let seven = BfqWeight::try_from(7).expect("weight");
        if where_there_is(&group, "io.bfq.weight", io.set_bfq_weight(seven)).is_some() {
            assert!(cat(group.path(), "io.bfq.weight").ends_with('7'));
            assert_eq!(io.bfq_weight().expect("io.bfq.weight").default, seven);
        }
        let latency = IoLatency::new(Duration::from_millis(75)).expect("latency");
        if where_there_is(&group, "io.latency", io.set_latency(disk.device(), latency)).is_some() {
            assert_eq!(cat(group.path(), "io.latency"), format!("{} target=75000", disk.device()));
            assert_eq!(io.latency().expect("io.latency").get(disk.device()), Some(&latency));
            io.set_latency(disk.device(), IoLatency::NONE).expect("none");
            assert_eq!(cat(group.path(), "io.latency"), "");
        }
        let class = IoPriorityClass::RestrictToBe;
        if where_there_is(&group, "io.prio.class", io.set_prio_class(class)).is_some() {
            assert_eq!(cat(group.path(), "io.prio.class"), "restrict-to-be");
            assert_eq!(io.prio_class().expect("io.prio.class"), class);
        }
        // What only the root has.
        let error = io.cost_qos().expect_err("not the root");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("io.cost.qos below the root of the hierarchy"), "{error}");
        group.remove(LIMIT).expect("remove");
    });
}

/// A group of a test that cannot be isolated.
struct GroupGuard(Option<Cgroup>);

impl Drop for GroupGuard {
    fn drop(&mut self) {
        let removed = self.0.take().map(|group| group.remove(LIMIT));
        assert!(removed.is_none_or(|removed| removed.is_ok()) || std::thread::panicking());
    }
}

/// Not in a namespace of its own, whose root is not the root of everything. What is changed is about the loop device that the
/// test makes, and is switched off again.
#[test]
fn the_cost_of_a_disk_is_told_at_the_root() {
    faultkit::require!(root, cgroup2("io"), program("losetup"));
    let hierarchy = Hierarchy::detect().expect("hierarchy");
    let root = hierarchy.open("/").expect("root");
    let disk = LoopDisk::new(4);
    let (io, device) = (root.io(), disk.device());
    let on = IoCostQos { enable: Some(IoCost::Enabled), ..IoCostQos::default() };
    if !root.path().join("io.cost.qos").exists() {
        // This is the root of a container, or the kernel has no io.cost.
        assert_eq!(io.set_cost_qos(device, &on).expect_err("no file").kind(), ErrorKind::Unsupported);
        return;
    }
    let line = |file: &str| {
        let text = cat(root.path(), file);
        text.lines().find(|line| line.starts_with(&format!("{device} "))).expect("the disk").to_owned()
    };
    io.set_cost_qos(device, &on).expect("enable");
    assert!(line("io.cost.qos").contains("enable=1 ctrl=auto"), "{}", line("io.cost.qos"));
    let read = |io: Io<'_>| io.cost_qos().expect("io.cost.qos").get(device).cloned().expect("the disk");
    // Written back, it is what it was: the kernel's own.
    io.set_cost_qos(device, &read(io)).expect("write back");
    assert!(line("io.cost.qos").contains("enable=1 ctrl=auto"), "{}", line("io.cost.qos"));

    let percent = |number| ScalePercent::try_from(number).expect("percent");
    let qos = IoCostQos {
        rpct: Percentile::try_from(95).ok(),
        rlat: IoCostLatency::new(Duration::from_millis(75)).ok(),
        min: Some(percent(50)),
        max: Some(percent(150)),
        ..IoCostQos::default()
    };
    io.set_cost_qos(device, &qos).expect("qos");
    let text = line("io.cost.qos");
    assert!(text.contains("enable=1 ctrl=user rpct=95.00 rlat=75000 "), "{text}");
    assert!(text.ends_with("min=50.00 max=150.00"), "{text}");
    let found = read(io);
    assert_eq!((found.ctrl, found.rlat, found.max), (Some(IoCostControl::User), qos.rlat, qos.max));
    assert!(found.other.is_empty(), "{:?}", found.other);
    // The kernel keeps min below max also when only one is said.
    let above = IoCostQos { min: Some(percent(200)), ..IoCostQos::default() };
    let error = io.set_cost_qos(device, &above).expect_err("min above max");
    assert_eq!(error.raw_os_error(), Some(22));
    assert!(error.hint().expect("hint").contains("min"), "{error:#}");

    let model = IoCostModel { rbps: Some(Bytes::mib(512)), wrandiops: Some(12_345), ..IoCostModel::default() };
    io.set_cost_model(device, &model).expect("model");
    let text = line("io.cost.model");
    assert!(text.contains("ctrl=user model=linear rbps=536870912 ") && text.ends_with("wrandiops=12345"), "{text}");
    let found = io.cost_model().expect("io.cost.model").get(device).cloned().expect("the disk");
    assert_eq!((found.rbps, found.wrandiops, found.ctrl), (model.rbps, Some(12_345), Some(IoCostControl::User)));

    // While it is on, there are weights by disk.
    fs::write(root.path().join("cgroup.subtree_control"), "+io").expect("enable io");
    let place = hierarchy.place().expect("place");
    let guard = GroupGuard(Some(group(&place, &format!("io-cost-{}", std::process::id()))));
    let below = guard.0.as_ref().expect("group").io();
    below.set_device_weight(device, weight(50)).expect("weight");
    let weights = below.weight().expect("io.weight");
    assert_eq!((weights.of(device), weights.default), (weight(50), weight(100)));
    assert_eq!(cat(guard.0.as_ref().expect("group").path(), "io.weight"), format!("default 100\n{device} 50"));
    below.unset_device_weight(device).expect("unset");
    assert_eq!(cat(guard.0.as_ref().expect("group").path(), "io.weight"), "default 100");

    let off = IoCostQos { enable: Some(IoCost::Disabled), ctrl: Some(IoCostControl::Auto), ..IoCostQos::default() };
    io.set_cost_qos(device, &off).expect("off");
    let auto = IoCostModel { ctrl: Some(IoCostControl::Auto), ..IoCostModel::default() };
    io.set_cost_model(device, &auto).expect("auto");
    assert!(line("io.cost.qos").contains("enable=0 ctrl=auto") && line("io.cost.model").contains("ctrl=auto"));
    assert!(io.stat().is_ok());
}

#[test]
fn nothing_is_read_from_or_written_to_a_removed_group() {
    faultkit::require!(root, cgroup2("io"));
    faultkit::isolated!(|| {
        let group = io_group("short");
        fs::remove_dir(group.path()).expect("rmdir");
        let (io, device) = (group.io(), DevNum { major: 7, minor: 0 });
        let outcomes: [Result<(), Error>; 6] = [
            io.max().map(drop),
            io.set_max(device, IoMax { rbps: Some(Max::Max), ..IoMax::default() }),
            io.stat().map(drop),
            io.weight().map(drop),
            io.latency().map(drop),
            io.set_prio_class(IoPriorityClass::Idle),
        ];
        for outcome in outcomes {
            let error = outcome.expect_err("gone");
            assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
        }
    });
}
