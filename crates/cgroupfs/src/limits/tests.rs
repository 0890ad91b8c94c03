//! The order and the undo, against a model of the kernel's rules.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};

use proptest::prelude::*;

use super::order::{Snapshot, plan, quota_of};
use super::setting::amount;
use super::transaction::{Files, run};
use crate::{
    Bytes, CpuBurst, Error, HugePageSize, Limits, Max, NiceWeight, OomGroup, PidsMax, Quota, Result, SwapOnly, Weight,
};

/// A group as the kernel would keep it.
struct Model {
    files: RefCell<Snapshot>,
    /// Each state there was, from the first.
    history: RefCell<Vec<Snapshot>>,
    written: RefCell<Vec<String>>,
    /// Which write fails.
    fails: Cell<Option<usize>>,
}

impl Model {
    fn new(files: &Snapshot) -> Self {
        let history = RefCell::new(vec![files.clone()]);
        Self { files: RefCell::new(files.clone()), history, written: RefCell::default(), fails: Cell::new(None) }
    }

    fn text(&self, file: &str) -> String {
        self.files.borrow().get(file).cloned().unwrap_or_default()
    }
}

impl Files for Model {
    fn read(&self, file: &str) -> Result<String> {
        Ok(self.text(file))
    }

    fn write(&self, file: &str, content: &str) -> Result<()> {
        let refuse = |errno| Err(Error::from_errno(format!("write {file}"), errno));
        self.written.borrow_mut().push(file.to_owned());
        if self.fails.get() == Some(self.written.borrow().len()) {
            return refuse(libc::EIO);
        }
        let content = content.trim();
        let mut value = content.to_owned();
        match file {
            "cpu.max" => {
                let burst = amount(&self.text("cpu.max.burst")).expect("burst");
                if quota_of(content).expect("quota") < burst {
                    return refuse(libc::EINVAL);
                }
            }
            "cpu.max.burst" if amount(content) > quota_of(&self.text("cpu.max")) => return refuse(libc::EINVAL),
            "cpu.weight" | "cpu.weight.nice" if self.text("cpu.idle") == "1" => return refuse(libc::EINVAL),
            "cpu.weight.nice" => {
                let weight = (20 - content.parse::<i32>().expect("nice")) * 5 + 1;
                self.files.borrow_mut().insert("cpu.weight".into(), weight.to_string());
            }
            "cpu.idle" => {
                let weight = if content == "1" { "1" } else { "100" };
                if content != self.text("cpu.idle") {
                    self.files.borrow_mut().insert("cpu.weight".into(), weight.into());
                }
            }
            // A file with a line a disk.
            "io.max" => {
                let (device, pairs) = content.split_once(' ').expect("device");
                if device == "9:99" {
                    return refuse(libc::ENODEV);
                }
                let mut disks = crate::parse_nested_keyed(&self.text(file));
                let all = ["rbps", "wbps", "riops", "wiops"].map(|name| (name.to_owned(), "max".to_owned()));
                let disk = disks.entry(device.to_owned()).or_insert_with(|| all.into());
                for (name, value) in pairs.split(' ').map(|pair| pair.split_once('=').expect("pair")) {
                    disk.insert(name.to_owned(), value.to_owned());
                }
                disks.retain(|_, disk| disk.values().any(|value| value != "max"));
                let line = |(device, disk): (&String, &std::collections::BTreeMap<String, String>)| {
                    let pair = |name| format!("{name}={}", disk[name]);
                    format!("{device} {} {} {} {}\n", pair("rbps"), pair("wbps"), pair("riops"), pair("wiops"))
                };
                value = disks.iter().map(line).collect();
            }
            _ => {}
        }
        if file != "cpu.weight.nice" {
            self.files.borrow_mut().insert(file.to_owned(), value);
        }
        self.history.borrow_mut().push(self.files.borrow().clone());
        Ok(())
    }
}

fn bytes() -> impl Strategy<Value = Max<Bytes>> {
    prop_oneof![Just(Max::Max), (1u64..20).prop_map(|pages| Max::Value(Bytes(pages * 4096)))]
}

fn quota() -> impl Strategy<Value = Quota> {
    prop_oneof![Just(Max::Max), (1_000u64..9_000).prop_map(Max::Value)]
        .prop_map(|quota| Quota::new(quota, 100_000).expect("quota"))
}

prop_compose! {
    fn limits()(memory in proptest::collection::vec(proptest::option::of(bytes()), 6),
                quota in proptest::option::of(quota()), burst in proptest::option::of(0u64..9_000), share in 0u64..6,
                pids in proptest::option::of(1u64..9), rbps in proptest::option::of(1u64..5), kill: bool) -> Limits {
        let mut limits = Limits::new();
        limits.memory_min = memory[0];
        limits.memory_low = memory[1];
        limits.memory_high = memory[2];
        limits.memory_max = memory[3];
        limits.memory_swap_max = memory[4].map(SwapOnly);
        limits.cpu_max = quota;
        limits.cpu_max_burst =
            burst.map(|usec| CpuBurst::try_from(std::time::Duration::from_micros(usec)).expect("burst"));
        limits = match share {
            0 => limits.cpu_idle(),
            1 => limits.cpu_weight_nice(NiceWeight::try_from(5).expect("nice")),
            2 => limits.cpu_weight(Weight::LEAST),
            3 => limits.cpu_weight(Weight::MOST),
            _ => limits,
        };
        limits.pids_max = pids.map(|tasks| Max::Value(PidsMax::try_from(tasks).expect("tasks")));
        if let Some(size) = memory[5] {
            let huge = HugePageSize::try_from(Bytes::mib(2)).expect("size");
            limits = limits.hugetlb_max(huge, size).hugetlb_rsvd_max(huge, size);
        }
        if let Some(rate) = rbps {
            let limit = crate::IoMax { rbps: Some(Max::Value(Bytes(rate))), ..Default::default() };
            limits = limits.io_max(crate::DevNum { major: 8, minor: 0 }, limit);
        }
        if kill { limits.memory_oom_group(OomGroup::KillAll) } else { limits }
    }
}

/// A group that `limits` were given to when it was new.
fn group(limits: &Limits) -> Snapshot {
    let mut files = Snapshot::new();
    for (file, value) in [
        ("memory.min", "0"),
        ("memory.low", "0"),
        ("memory.high", "max"),
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("memory.oom.group", "0"),
        ("cpu.max", "max 100000"),
        ("cpu.max.burst", "0"),
        ("cpu.idle", "0"),
        ("cpu.weight", "100"),
        ("pids.max", "max"),
        ("hugetlb.2MB.max", "max"),
        ("hugetlb.2MB.rsvd.max", "max"),
        ("io.max", ""),
    ] {
        files.insert(file.to_owned(), value.to_owned());
    }
    let model = Model::new(&files);
    for write in limits.writes() {
        model.write(&write.file, &write.content()).expect("a new group takes them in this order");
    }
    model.files.into_inner()
}

fn number(files: &Snapshot, file: &str) -> u64 {
    amount(&files[file]).expect("number")
}

const CHAIN: [&str; 4] = ["memory.min", "memory.low", "memory.high", "memory.max"];

fn in_order(files: &Snapshot) -> bool {
    CHAIN.windows(2).all(|pair| number(files, pair[0]) <= number(files, pair[1]))
}

proptest! {
    #[test]
    fn any_change_is_taken_by_the_kernel_in_a_safe_order_and_undone(from in limits(), to in limits()) {
        prop_assume!(from.check_values().is_ok() && to.check_values().is_ok());
        let before = group(&from);
        let settings = to.settings();
        let Ok(steps) = plan(settings.clone(), &before) else {
            // Only a quota and a burst of which one is kept can be known to be wrong here.
            prop_assert!(to.cpu_max.is_some() != to.cpu_max_burst.is_some());
            return Ok(());
        };
        let model = Model::new(&before);
        run(&model, &steps, || Ok(())).expect("the kernel takes each write");
        let after = model.files.borrow().clone();
        for setting in &settings {
            if setting.file != "cpu.weight.nice" {
                prop_assert!(setting.is_in_force(&setting.value_in(&after[&*setting.file])), "{setting:?} {after:?}");
            }
        }

        let history = model.history.borrow().clone();
        let total = |files: &Snapshot| {
            u128::from(number(files, "memory.max")) + u128::from(number(files, "memory.swap.max"))
        };
        let grows = |file| number(&after, file).cmp(&number(&before, file));
        let opposite = grows("memory.max") != grows("memory.swap.max");
        let mut lowered = false;
        for pair in history.windows(2) {
            let numbers = CHAIN.iter().chain(&["memory.swap.max", "pids.max", "hugetlb.2MB.max"]);
            for file in numbers {
                lowered |= number(&pair[1], file) < number(&pair[0], file);
                prop_assert!(!lowered || number(&pair[1], file) <= number(&pair[0], file), "a raise after a lowering");
            }
            if in_order(&before) && in_order(&after) {
                prop_assert!(in_order(&pair[1]), "{:?}", pair[1]);
            }
            // Nothing follows what may kill.
            if number(&pair[1], "memory.max") < number(&pair[0], "memory.max") {
                prop_assert_eq!(&pair[1], &after);
            }
            prop_assert!(opposite || total(&pair[1]) <= total(&before).max(total(&after)));
            prop_assert!(number(&pair[1], "hugetlb.2MB.rsvd.max") <= number(&pair[1], "hugetlb.2MB.max"));
        }

        // Each write failing once leaves everything as it was.
        for failing in 1..=model.written.borrow().len() {
            let model = Model::new(&before);
            model.fails.set(Some(failing));
            let error = run(&model, &steps, || Ok(())).expect_err("a write failed");
            prop_assert_eq!((error.raw_os_error(), error.also().len()), (Some(libc::EIO), 0));
            prop_assert_eq!(&*model.files.borrow(), &before, "write {} of {:?}", failing, model.written.borrow());
        }

        // Where it was killed, the same again completes it.
        for killed in &history {
            let model = Model::new(killed);
            if let Ok(steps) = plan(settings.clone(), killed) {
                run(&model, &steps, || Ok(())).expect("again");
                prop_assert_eq!(&*model.files.borrow(), &after);
            } else {
                prop_assert!(false, "cannot be completed from {:?}", killed);
            }
        }
    }
}

#[test]
fn what_cannot_be_undone_is_told_beside_the_failure() {
    let before = group(&Limits::new());
    let limits = Limits::new().memory_high(Bytes(8192)).memory_max(Bytes(8192)).pids_max(PidsMax::LEAST);
    let steps = plan(limits.settings(), &before).expect("plan");
    struct Broken(Model);
    impl Files for Broken {
        fn read(&self, file: &str) -> Result<String> {
            self.0.read(file)
        }
        fn write(&self, file: &str, content: &str) -> Result<()> {
            let back = (file, content) == ("pids.max", "max");
            if back || file == "memory.max" {
                return Err(Error::from_errno(format!("write {file}"), libc::EIO));
            }
            self.0.write(file, content)
        }
    }
    let broken = Broken(Model::new(&before));
    let error = run(&broken, &steps, || Ok(())).expect_err("memory.max");
    assert_eq!(error.operation(), "write memory.max");
    assert_eq!(error.also().iter().map(Error::operation).collect::<Vec<_>>(), ["write pids.max"]);
    // The undo went on past it.
    assert_eq!(broken.0.text("memory.high"), "max");
}

#[test]
fn a_list_that_cannot_be_emptied_again_becomes_what_was_in_effect() {
    struct Populated(Model);
    impl Files for Populated {
        fn read(&self, file: &str) -> Result<String> {
            self.0.read(file)
        }
        fn write(&self, file: &str, content: &str) -> Result<()> {
            let errno = match (file, content.trim()) {
                ("cpuset.cpus", "") => libc::ENOSPC,
                ("pids.max", "1") => libc::EIO,
                _ => return self.0.write(file, content),
            };
            Err(Error::from_errno(format!("write {file}"), errno))
        }
    }
    let mut before = group(&Limits::new());
    before.extend([("cpuset.cpus".into(), "\n".into()), ("cpuset.cpus.effective".into(), "0-3\n".into())]);
    let limits = Limits::new().cpuset_cpus("1".parse().expect("list")).pids_max(PidsMax::LEAST);
    let populated = Populated(Model::new(&before));
    let steps = plan(limits.settings(), &before).expect("plan");
    let error = run(&populated, &steps, || Ok(())).expect_err("pids.max");
    assert_eq!(error.operation(), "write pids.max");
    assert_eq!(error.also().len(), 1);
    assert_eq!(populated.0.text("cpuset.cpus"), "0-3");
}

#[test]
fn a_burst_above_the_quota_is_known_before() {
    let before = group(&Limits::new().cpu_max("5000 100000".parse().expect("quota")));
    let burst = CpuBurst::try_from(std::time::Duration::from_micros(6000)).expect("burst");
    let error = plan(Limits::new().cpu_max_burst(burst).settings(), &before).expect_err("above");
    assert_eq!(error.to_string(), r#"cpu.max.burst "6000": more than the quota of 5000 microseconds"#);
    assert!(Limits::new().cpu_max("5000".parse().expect("quota")).cpu_max_burst(burst).check_values().is_err());
}
