//! What the payload may use and how it is scheduled, as /proc and util-linux show it.

use std::time::Duration;

use ns_core::{
    Command, CpuSet, ErrorKind, IoPriority, Limit, MemoryPolicy, NodeSet, Personality, Resource, Rlimit, Scheduler,
};

use crate::{output, sh, sys};

fn limit(soft: u64, hard: u64) -> Rlimit {
    Rlimit::new(soft, hard).expect("limit")
}

/// Field `number` of a `/proc/PID/stat`, counted as in proc_pid_stat(5).
fn stat(text: &str, number: usize) -> i64 {
    let after = text.rsplit(')').next().expect("stat");
    after.split_whitespace().nth(number - 3).and_then(|value| value.parse().ok()).expect("a number")
}

const NICE: usize = 19;
const RT_PRIORITY: usize = 40;
const POLICY: usize = 41;

#[test]
fn wrong_resources_are_refused_before_anything_is_done() {
    let new = || Command::new("/bin/true");
    for (command, call, said) in [
        (new().nice(20), "setpriority", "-20 to 19"),
        (new().nice(-21), "setpriority", "-20 to 19"),
        (new().umask(0o1000), "umask", "0o1000"),
        (new().oom_score_adj(1001), "write oom_score_adj", "1000"),
        (new().oom_score_adj(-1001), "write oom_score_adj", "1000"),
        (new().cpu_affinity(CpuSet::new()), "sched_setaffinity", "empty"),
        (new().memory_policy(MemoryPolicy::Bind(NodeSet::new())), "set_mempolicy", "empty"),
        (new().scheduler(Scheduler::Fifo { priority: 0 }), "sched_setattr", "1 to 99"),
        (new().timer_slack(Duration::ZERO), "prctl PR_SET_TIMERSLACK", "1 ns"),
        (new().timer_slack(Duration::MAX), "prctl PR_SET_TIMERSLACK", "number"),
        (new().personality(Personality::from_bits_retain(1 << 31)), "personality", "0x80000000"),
    ] {
        let error = command.plan().expect_err(said);
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, call), "{error}");
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}

#[test]
fn limits_are_those_asked_for_and_the_others_the_callers() {
    let command = sh("cat /proc/self/limits")
        .rlimit(Resource::Nofile, limit(100, 200))
        .rlimit(Resource::Core, limit(0, 0))
        .rlimit(Resource::Fsize, Rlimit::new(4096, Limit::Unlimited).expect("limit"))
        .rlimit(Resource::Rtprio, limit(0, 0));
    let here = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let (_, text) = output(command).expect("start");
    let row = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row(&text, "Max open files"), ["100", "200"]);
    assert_eq!(row(&text, "Max core file size"), ["0", "0"]);
    assert_eq!(row(&text, "Max file size"), ["4096", "unlimited"]);
    assert_eq!(row(&text, "Max realtime priority"), ["0", "0"]);
    for name in ["Max stack size", "Max address space", "Max locked memory", "Max pending signals"] {
        assert_eq!(row(&text, name), row(&here, name), "{name}");
    }
    assert_eq!(
        here,
        std::fs::read_to_string("/proc/self/limits").expect("limits"),
        "the caller's own are as they were"
    );
}

#[test]
fn a_limit_that_holds_before_the_payload_does() {
    // Three descriptors and no more: what the child itself opens on the way is not hindered.
    let (status, _) = output(sh("exec 3</dev/null").rlimit(Resource::Nofile, limit(3, 3))).expect("start");
    assert!(!status.success(), "a fourth was opened");
}

#[test]
fn umask_personality_and_timer_slack() {
    let (_, text) = output(sh("umask")).expect("start");
    assert_eq!(text, "0022\n");
    let (_, text) = output(sh("umask").umask(0o027)).expect("start");
    assert_eq!(text, "0027\n");
    let layout =
        || output(sh("cut -d' ' -f1 /proc/self/maps").personality(Personality::ADDR_NO_RANDOMIZE)).expect("maps").1;
    assert_eq!(layout(), layout());
    let (_, text) = output(sh("cat /proc/self/personality").personality(Personality::UNAME26)).expect("start");
    assert_eq!(text.trim(), "00020000");
    let (_, text) = output(Command::new("uname").arg("-r").personality(Personality::UNAME26)).expect("uname");
    assert!(text.starts_with("2.6."), "{text}");
}

#[test]
fn the_callers_personality_and_timer_slack_are_its_own() {
    faultkit::isolated!(|| {
        let asked = || output(sh("cat /proc/self/personality; cat /proc/self/timerslack_ns")).expect("start").1;
        sys::set_personality(0x0004_0000);
        sys::set_timer_slack(7_000_000);
        let text = asked();
        sys::set_timer_slack(50_000);
        sys::set_personality(0);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("00000000"));
        assert_eq!(lines.next(), Some("50000"));
    });
}

#[test]
fn a_child_starts_on_the_processors_asked_for() {
    let here = CpuSet::of_this_thread().expect("affinity");
    let last = here.iter().last().expect("a processor");
    let command = sh("grep Cpus_allowed_list /proc/self/status").cpu_affinity(CpuSet::new().with(last));
    let (_, text) = output(command).expect("start");
    assert_eq!(text.trim(), format!("Cpus_allowed_list:\t{last}"));
    let error = sh("true").cpu_affinity(CpuSet::new().with(8191)).spawn().expect_err("no such processor");
    assert_eq!((error.operation(), error.raw_os_error()), ("sched_setaffinity", Some(libc::EINVAL)));
    assert!(error.hint().expect("hint").contains("cpuset"), "{error:#}");
}

#[test]
fn a_polite_caller_has_polite_children() {
    faultkit::isolated!(|| {
        let (_, text) = output(sh("cat /proc/self/stat").nice(7)).expect("start");
        assert_eq!(stat(&text, NICE), 7);
        let (_, text) = output(sh("cat /proc/self/stat").scheduler(Scheduler::Batch)).expect("start");
        assert_eq!(stat(&text, POLICY), 3);
        let script = "ionice -p $$";
        let (_, text) = output(sh(script).io_priority(IoPriority::best_effort(6).expect("level"))).expect("start");
        assert_eq!(text.trim(), "best-effort: prio 6");
        // The rest in a thread of its own, which may keep what cannot be undone without privilege.
        std::thread::spawn(|| {
            sys::set_scheduler(libc::SCHED_IDLE, 0);
            let (_, text) = output(sh("cat /proc/self/stat; ionice -p $$")).expect("start");
            assert_eq!(stat(text.lines().next().expect("stat"), POLICY), 5, "idle stays idle");
            sys::set_io_priority(3 << 13);
            let (_, text) = output(sh("ionice -p $$")).expect("start");
            assert_eq!(text.trim(), "idle");
        })
        .join()
        .expect("thread");
    });
}

#[test]
fn memory_policies() {
    let node = NodeSet::new().with(0);
    for (policy, shown) in [
        (MemoryPolicy::Default, "default"),
        (MemoryPolicy::Local, "local"),
        (MemoryPolicy::Bind(node.clone()), "bind:0"),
        (MemoryPolicy::Interleave(node.clone()), "interleave:0"),
        (MemoryPolicy::Preferred(node), "prefer (many):0"),
    ] {
        let plan = Command::new("/bin/cat").arg("/proc/self/numa_maps").memory_policy(policy.clone()).no_new_privs();
        match output(plan) {
            Ok((status, text)) if status.success() => assert!(text.contains(&format!(" {shown} ")), "{policy}: {text}"),
            // A kernel without memory nodes has neither the file nor the call.
            Ok(_) => {}
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error:#}"),
        }
    }
    let error = sh("true").memory_policy(MemoryPolicy::Bind(NodeSet::new().with(1000))).spawn().expect_err("no node");
    assert_eq!(error.operation(), "set_mempolicy");
}

#[test]
fn oom_score_adj_is_the_payloads_alone() {
    faultkit::isolated!(|| {
        let own = || std::fs::read_to_string("/proc/self/oom_score_adj").expect("oom_score_adj");
        let before = own();
        let plan = sh("cat /proc/self/oom_score_adj").oom_score_adj(777);

        assert!(!sh("true").oom_score_adj(777).plan().expect("plan").shares_memory());
        let (_, text) = output(plan).expect("start");
        assert_eq!(text, "777\n");
        assert_eq!(own(), before, "the caller's own is as it was");
        // Not while the child waits or fails either.
        let failed = Command::new("/no/such").oom_score_adj(778).spawn();
        assert!(failed.is_err());
        assert_eq!(own(), before);
    });
}

#[test]
fn what_may_not_be_raised() {
    let hard = Rlimit::new(Limit::Unlimited, Limit::Unlimited).expect("limit");
    // Above fs.nr_open not even root may go.
    let error = sh("true").rlimit(Resource::Nofile, hard).spawn().expect_err("above fs.nr_open");
    assert_eq!((error.operation(), error.raw_os_error()), ("prlimit64", Some(libc::EPERM)), "{error:#}");
    assert!(error.hint().expect("hint").contains("fs.nr_open") && error.to_string().contains("RLIMIT_NOFILE"));
}

#[test]
fn without_privilege_nothing_can_be_raised() {
    faultkit::require!(user);
    for (command, call) in [
        (sh("true").nice(-5), "setpriority"),
        (sh("true").scheduler(Scheduler::Fifo { priority: 1 }), "sched_setattr"),
        (sh("true").io_priority(IoPriority::real_time(0).expect("level")), "ioprio_set"),
        (sh("true").oom_score_adj(-1000), "write oom_score_adj"),
    ] {
        match command.spawn() {
            Ok(_) => panic!("{call} was allowed"),
            Err(error) => {
                assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, call), "{error:#}");
                assert!(error.hint().is_some(), "{error:#}");
            }
        }
    }
}

mod root {
    use super::*;

    #[test]
    fn a_raised_priority_is_the_callers_own() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            std::thread::spawn(|| {
                sys::set_io_priority(1 << 13 | 2);
                for (policy, priority, nice) in
                    [(libc::SCHED_OTHER, 0, -7), (libc::SCHED_FIFO, 3, -7), (libc::SCHED_RR, 3, 0)]
                {
                    if !sys::set_scheduler(policy, priority) {
                        continue;
                    }
                    sys::set_nice(nice);
                    let (_, text) = output(sh("cat /proc/self/stat; ionice -p $$")).expect("start");
                    let (line, io) = text.split_once('\n').expect("two lines");
                    assert_eq!([NICE, RT_PRIORITY, POLICY].map(|field| stat(line, field)), [0, 0, 0], "{policy}");
                    assert_eq!(io.trim(), "none: prio 0");
                }
                // Asked for, they are kept.
                sys::set_scheduler(libc::SCHED_OTHER, 0);
                let (_, text) = output(sh("cat /proc/self/stat").nice(-3)).expect("start");
                assert_eq!(stat(&text, NICE), -3);
                let priority = IoPriority::real_time(2).expect("level");
                let (_, text) = output(sh("ionice -p $$").io_priority(priority)).expect("start");
                assert_eq!(text.trim(), "realtime: prio 2");
            })
            .join()
            .expect("thread");
        });
    }

    #[test]
    fn oom_score_adj_in_namespaces_and_behind_a_reaper() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            use ns_core::Namespaces;
            let script = "echo $(cat /proc/self/oom_score_adj)";
            let command = sh(script).namespaces(Namespaces::PID | Namespaces::UTS).user(1000, 1000).oom_score_adj(321);
            assert_eq!(output(command).expect("start").1, "321\n");
            let command = sh(script).namespaces(Namespaces::PID).init().oom_score_adj(321).nice(4);
            assert_eq!(output(command).expect("start").1, "321\n");
        });
    }

    #[test]
    fn real_time_policies() {
        faultkit::require!(root, program("chrt"));
        let deadline = Scheduler::Deadline {
            runtime: Duration::from_millis(1),
            deadline: Duration::from_millis(10),
            period: Duration::from_millis(20),
        };
        for (scheduler, policy, shown) in [
            (Scheduler::Fifo { priority: 5 }, 1, "SCHED_FIFO"),
            (Scheduler::RoundRobin { priority: 6 }, 2, "SCHED_RR"),
            (Scheduler::Idle, 5, "SCHED_IDLE"),
            (deadline, 6, "SCHED_DEADLINE"),
        ] {
            // A process under a deadline may not fork: what looks is the payload itself.
            match output(Command::new("chrt").args(["-p", "0"]).scheduler(scheduler)) {
                Ok((status, text)) => {
                    assert!(status.success() && text.contains(shown), "{scheduler} ({policy}): {text}");
                }
                // Where a cgroup of version 1 has no real time to give, or the processors are not its own.
                Err(error) => {
                    assert_eq!(
                        (error.operation(), error.kind()),
                        ("sched_setattr", ErrorKind::Permission),
                        "{error:#}"
                    );
                    assert!(error.hint().is_some());
                }
            }
        }
    }

    #[test]
    fn a_hard_limit_is_raised_while_there_is_the_privilege() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            use nix::sys::resource::{Resource as Name, getrlimit};
            let (soft, hard) = getrlimit(Name::RLIMIT_NOFILE).expect("limit");
            let target = limit(hard + 1, hard + 1);
            // As another user, whose privileges are gone when the limits are set at last.
            match output(sh("ulimit -Hn").rlimit(Resource::Nofile, target).user(1000, 1000)) {
                Ok((_, text)) => assert_eq!(text.trim(), (hard + 1).to_string()),
                // A root without CAP_SYS_RESOURCE.
                Err(error) => {
                    assert_eq!((error.operation(), error.kind()), ("prlimit64", ErrorKind::Permission), "{error:#}");
                    assert!(error.hint().expect("hint").contains("CAP_SYS_RESOURCE"));
                }
            }
            assert_eq!(getrlimit(Name::RLIMIT_NOFILE).expect("limit"), (soft, hard));
        });
    }
}
