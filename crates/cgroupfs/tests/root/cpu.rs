#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use cgroupfs::{CpuBurst, CpuIdle, ErrorKind, Max, NiceWeight, Quota, Weight};

use super::{LIMIT, cat, group, killed, place, start_in, until};

const SPIN: &str = "while :; do :; done";

#[test]
fn a_quota_throttles_and_the_local_file_agrees() {
    faultkit::require!(root, cgroup2("cpu"));
    faultkit::isolated!(|| {
        let group = group(&place(), "slow");
        group.cpu().set_max(Quota::new(Max::Value(10_000), 100_000).expect("quota")).expect("set");
        let child = start_in(group.path(), SPIN);
        until("throttled", || group.cpu().stat().expect("stat").nr_throttled > Some(2));
        let (first, started) = (group.cpu().stat().expect("stat"), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let (second, took) = (group.cpu().stat().expect("stat"), started.elapsed());
        let share = (second.usage_usec - first.usage_usec) as f64 / took.as_micros() as f64;
        assert!(share < 0.25, "{share} of a processor, but 0.1 were given");
        assert!(second.throttled_usec > first.throttled_usec);
        match group.cpu().stat_local() {
            Ok(local) => assert!(local.throttled_usec > Some(0), "{local:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
        }
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn saved_up_time_is_used_and_counted() {
    faultkit::require!(root, cgroup2("cpu"));
    faultkit::isolated!(|| {
        let group = group(&place(), "bursts");
        let cpu = group.cpu();
        cpu.set_max(Quota::new(Max::Value(20_000), 100_000).expect("quota")).expect("set");
        // More than the quota cannot be saved up.
        let error = cpu.set_max_burst(CpuBurst::try_from(Duration::from_millis(21)).expect("burst"));
        let error = error.expect_err("more than the quota");
        assert_eq!((error.operation(), error.raw_os_error()), ("write cpu.max.burst", Some(libc::EINVAL)));
        assert!(error.hint().expect("hint").contains("quota"), "{error:#}");
        cpu.set_max_burst(CpuBurst::try_from(Duration::from_millis(20)).expect("burst")).expect("set");
        assert_eq!(cat(group.path(), "cpu.max.burst"), "20000");
        let error = cpu.set_max(Quota::new(Max::Value(19_000), 100_000).expect("quota")).expect_err("below the burst");
        assert!(error.hint().expect("hint").contains("cpu.max.burst"), "{error:#}");
        // One that rests, and then wants more than one period's quota at once.
        let script = "while :; do sleep 0.3; n=0; while [ $n -lt 5000 ]; do n=$((n+1)); done; done";
        let child = start_in(group.path(), script);
        until("a burst", || cpu.stat().expect("stat").nr_bursts.expect("5.16") > 0);
        assert!(cpu.stat().expect("stat").burst_usec > Some(0));
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        // The sleep that it had begun.
        faultkit::reap_orphans();
    });
}

#[test]
fn weights_by_number_by_nice_value_and_of_idle_groups() {
    faultkit::require!(root, cgroup2("cpu"));
    faultkit::isolated!(|| {
        let group = group(&place(), "weights");
        let cpu = group.cpu();
        cpu.set_weight(Weight::try_from(50).expect("weight")).expect("set");
        assert_eq!(cat(group.path(), "cpu.weight"), "50");
        for nice in [-20, -1, 0, 7, 19] {
            let nice = NiceWeight::try_from(nice).expect("nice");
            cpu.set_weight_nice(nice).expect("set");
            assert_eq!(cat(group.path(), "cpu.weight.nice"), nice.to_string());
            assert_eq!(cpu.weight_nice().expect("nice"), nice);
        }
        cpu.set_idle(CpuIdle::Idle).expect("idle");
        assert_eq!((cat(group.path(), "cpu.idle").as_str(), cpu.idle().expect("idle")), ("1", CpuIdle::Idle));
        assert_eq!(cpu.weight().expect("weight"), Weight::LEAST);
        let error = cpu.set_weight(Weight::try_from(50).expect("weight")).expect_err("idle");
        assert_eq!((error.operation(), error.raw_os_error()), ("write cpu.weight", Some(libc::EINVAL)));
        assert!(error.hint().expect("hint").contains("cpu.idle"), "{error:#}");
        cpu.set_idle(CpuIdle::Normal).expect("normal");
        assert_eq!(cpu.weight().expect("weight").get(), 100);
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn an_idle_sibling_gets_what_is_left() {
    faultkit::require!(root, cgroup2("cpu"), cgroup2("cpuset"));
    faultkit::isolated!(|| {
        let place = place();
        let groups = ["busy", "idle"].map(|name| group(&place, name));
        // Both on one processor.
        for group in &groups {
            group.cpuset().set_cpus(&"0".parse().expect("list")).expect("cpus");
        }
        groups[1].cpu().set_idle(CpuIdle::Idle).expect("idle");
        let children = [0, 1].map(|index| start_in(groups[index].path(), SPIN));
        let usage = || [0, 1].map(|index| groups[index].cpu().stat().expect("stat").usage_usec);
        let before = usage();
        // However little of the processor the machine leaves to both.
        until("the busy one had a second", || usage()[0] - before[0] > 1_000_000);
        let after = usage();
        let [busy, idle] = [0, 1].map(|index| after[index] - before[index]);
        assert!(idle < busy / 4, "busy {busy} us, idle {idle} us");
        groups.into_iter().for_each(|group| group.remove(LIMIT).expect("remove"));
        assert!(children.into_iter().all(killed));
    });
}
