//! Namespaces made by root.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;

use ns_core::{
    Capability, CapabilitySet, Command, MountPropagation, Namespaces, Net, NsFd, Stdio, StepText, TimeOffsets, Uts,
};

use crate::{output, sh};

mod hostile;
mod join;
mod origin;
mod recycled;

const ALL: Namespaces = Namespaces::CONTAINER.difference(Namespaces::USER);

#[test]
fn six_namespaces_are_new_and_pid_1_is_the_payload() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (_, text) = output(sh("echo $$; hostname").namespaces(ALL).hostname("web").new_session()).expect("start");
        assert_eq!(text, "1\nweb\n");
        let paused = Command::new("/bin/true").namespaces(ALL).spawn_paused().expect("paused");
        for kind in ["pid", "mnt", "net", "uts", "ipc", "cgroup"] {
            let theirs = std::fs::read_link(format!("/proc/{}/ns/{kind}", paused.pid())).expect(kind);
            assert_ne!(theirs, std::fs::read_link(format!("/proc/self/ns/{kind}")).expect(kind), "{kind}");
        }
        let net: NsFd<Net> = paused.namespace().expect("net");
        let theirs = std::fs::read_link(format!("/proc/{}/ns/net", paused.pid())).expect("net");
        assert_eq!(net.to_string(), theirs.to_string_lossy());
        let here = NsFd::<Net>::of_this_thread().expect("net");
        assert_eq!(here.to_string(), std::fs::read_link("/proc/self/ns/net").expect("net").to_string_lossy());
        let fd = net.as_fd().try_clone_to_owned().expect("dup");
        assert!(NsFd::<Uts>::from_fd(fd.try_clone().expect("dup")).is_err(), "not a UTS namespace");
        assert_eq!(NsFd::<Net>::from_fd(fd).expect("net"), net);
    });
}

#[test]
fn another_user_and_the_callers_own_proc_stays_readable() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dumpable = || nix::sys::prctl::get_dumpable().expect("prctl");
        assert!(dumpable());
        let (_, ids) = output(sh("id -u; id -g; id -G").user(1234, 5678).groups([9, 10])).expect("id");
        assert_eq!(ids, "1234\n5678\n5678 9 10\n");
        assert!(dumpable(), "the child shared this memory while it changed its ids");
        let (_, ids) = output(sh("id -G").user(1234, 5678)).expect("id");
        assert_eq!(ids, "5678\n", "no group of the caller's");
        // Refused by the kernel on the way: given back all the same.
        let gone = Command::new("/no/such").user(1, 1).spawn();
        assert!(gone.is_err() && dumpable());
    });
}

#[test]
fn the_reaper_reaps_forwards_and_ends_as_the_payload_does() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let init = |script: &str| sh(script).namespaces(Namespaces::PID | Namespaces::MOUNT).init().new_session();
        let (status, text) = output(init("echo $$ $PPID; exit 9")).expect("start");
        assert_eq!((status.shell_code(), text.as_str()), (9, "2 1\n"));
        assert_eq!(output(init("kill -KILL $$")).expect("start").0.shell_code(), 137);
        // Orphans: each grandchild loses its parent at once. What is a zombie when the payload looks is counted by /proc.
        let script = "mount -t proc proc /proc; i=0; while [ $i -lt 200 ]; do (true & ) ; i=$((i+1)); done; sleep 0.2; \
                      grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
        let (_, zombies) = output(init(script).capabilities(CapabilitySet::FULL)).expect("start");
        assert_eq!(zombies.trim(), "0");
        // A signal to PID 1 reaches the payload, which is not PID 1 and so may die of it.
        let mut child = init("exec sleep 100").spawn().expect("start");
        child.signal(libc::SIGTERM).expect("signal");
        assert_eq!(child.wait().expect("wait").shell_code(), 143);
        let missing = Command::new("/no/such").namespaces(Namespaces::PID).init().spawn().expect_err("missing");
        assert_eq!(missing.operation(), "execve");
    });
}

#[test]
fn the_reaper_is_sealed_before_the_payload_runs() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // In the procfs that the payload still has of its caller, its parent is the reaper.
        let script = "me=$(cut -d' ' -f4 /proc/self/stat); reaper=$(cut -d' ' -f4 /proc/$me/stat); cd /proc/$reaper; \
                      grep -E 'CapEff|CapPrm|NoNewPrivs' status; cat environ 2>&1 | tr '\\0' ' '; ls fd 2>&1; true";
        let sealed = || sh(script).namespaces(Namespaces::PID | Namespaces::MOUNT).init();
        let (_, said) = output(sealed()).expect("start");
        // The reaper may signal the payload and do nothing else; bit 5 is KILL.
        assert_eq!(said.matches("0000000000000020").count(), 2, "{said}");
        // Its memory cannot be read, and there is no descriptor to be found.
        assert!(said.trim_end().ends_with("ermission denied"), "{said}");
        // Where the caller itself may not signal others, the reaper has nothing at all.
        let nothing = crate::sys::in_a_fork(|| {
            crate::sys::drop_capability(Capability::KILL as u8);
            let (_, said) = output(sealed()).expect("start");
            i32::from(said.matches("0000000000000000").count() == 2 && said.contains("NoNewPrivs:\t1"))
        });
        assert_eq!(nothing, 1);
    });
}

#[test]
fn a_small_group_never_costs_the_caller_its_life() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let dir = std::path::Path::new("/sys/fs/cgroup").join(format!("cellkit-test-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("mkdir");
        let group = std::fs::File::open(&dir).expect("group");
        let plan = Command::new("/bin/true").namespaces(ALL).hostname("small").plan().expect("plan");
        assert!(plan.shares_memory(), "as long as there is no limit");
        for limit in ["4096", "65536", "262144"] {
            std::fs::write(dir.join("memory.max"), limit).expect("limit");
            // Killed, refused or run: what matters is that this line is reached.
            let outcome = plan.spawn_paused_in(&group).and_then(|child| child.resume(&mut ()));
            if let Ok(mut child) = outcome {
                let _ = child.wait();
            }
        }
        let events = std::fs::read_to_string(dir.join("memory.events")).expect("events");
        assert!(!events.contains("oom_kill 0\n"), "the killer was never met: {events}");
        std::fs::remove_dir(&dir).expect("rmdir");
    });
}

#[test]
fn clocks_are_moved() {
    faultkit::require!(root, kernel(5.6));
    let uptime = |text: &str| text.split('.').next().and_then(|seconds| seconds.parse::<i64>().ok()).expect("uptime");
    let here = uptime(&std::fs::read_to_string("/proc/uptime").expect("uptime"));
    let command = sh("cat /proc/uptime").time_offsets(TimeOffsets { boottime: 1_000_000, monotonic: 7 });
    let (_, there) = output(command).expect("start");
    assert!((uptime(&there) - here - 1_000_000).abs() < 60, "{here} and {there}");
    let early = TimeOffsets { boottime: -1_000_000_000, monotonic: 0 };
    let error = Command::new("/bin/true").time_offsets(early).spawn().expect_err("before the boot");
    assert_eq!((error.operation(), error.raw_os_error()), ("write timens_offsets", Some(libc::ERANGE)));
}

#[test]
fn a_joined_network_is_the_same_one() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let first = Command::new("/bin/true").namespaces(Namespaces::NET).spawn_paused().expect("paused");
        let net: NsFd<Net> = first.namespace().expect("net");
        let name = net.to_string();
        let plan = sh("readlink /proc/self/ns/net").join(net);
        let (_, text) = output(plan).expect("start");
        assert_eq!(text.trim(), name);
        let joins = Command::new("/bin/true").join(first.namespace::<Net>().expect("net")).plan().expect("plan");
        assert!(!joins.shares_memory(), "whoever is in the namespace might reach this memory");
    });
}

#[test]
fn a_cgroup_is_where_the_child_is_born() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mount = table.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let dir = std::path::Path::new(mount.expect("cgroup2")).join(format!("cellkit-test-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("mkdir");
        let group = std::fs::File::open(&dir).expect("group");
        let paused = Command::new("/bin/true").cgroup(&group).spawn_paused().expect("paused");
        let procs = std::fs::read_to_string(dir.join("cgroup.procs")).expect("procs");
        assert!(!procs.trim().is_empty(), "the child was not born there");
        drop(paused);
        std::fs::remove_dir(&dir).expect("rmdir");
        let error = Command::new("/bin/true").cgroup(&group).spawn().expect_err("a removed group");
        assert_eq!(error.operation(), "clone3");
    });
}

#[test]
fn the_observer_hears_the_plan_step_by_step() {
    faultkit::require!(root);
    let plan = Command::new("/bin/true").namespaces(ALL).hostname("web").timed().plan().expect("plan");
    let mut heard: Vec<(StepText, std::time::Duration)> = Vec::new();
    plan.spawn_paused().expect("paused").resume(&mut heard).expect("resume").wait().expect("wait");
    let heard: Vec<StepText> = heard.into_iter().map(|(step, _)| step).collect();
    assert_eq!(heard, plan.child_steps());
}

#[test]
fn what_is_mounted_goes_where_propagation_says() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let run = |script: &str| {
            let status = std::process::Command::new("sh").args(["-c", script]).status().expect("sh");
            assert!(status.success(), "{script}");
        };
        run("mkdir /run/shared && mount -t tmpfs none /run/shared && mount --make-shared /run/shared");
        // Waits after its own mount until somebody has mounted beside it, and says what it sees.
        let script = "mkdir -p /run/shared/sub && mount -t tmpfs none /run/shared/sub && echo mounted; read word; \
                      grep -c /run/shared/late /proc/self/mountinfo";
        for (propagation, goes_out, comes_in) in [
            (None, false, "0\n"),
            (Some(MountPropagation::Private), false, "0\n"),
            (Some(MountPropagation::Slave), false, "1\n"),
            (Some(MountPropagation::Shared), true, "1\n"),
            (Some(MountPropagation::Unchanged), true, "1\n"),
        ] {
            let command = sh(script).namespaces(Namespaces::MOUNT).capabilities(CapabilitySet::FULL);
            let command = match propagation {
                Some(propagation) => command.propagation(propagation),
                None => command,
            };
            let mut child = command.stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn().expect("start");
            let (stdin, stdout) = (child.take_stdin(), child.take_stdout().expect("a pipe"));
            let mut said = BufReader::new(stdout);
            let mut line = String::new();
            said.read_line(&mut line).expect("a line");
            let here = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            assert_eq!(here.contains("/run/shared/sub"), goes_out, "{propagation:?}: {here}");
            run("mkdir /run/shared/late && mount -t tmpfs none /run/shared/late");
            drop(stdin);
            line.clear();
            said.read_line(&mut line).expect("a line");
            assert_eq!(line, comes_in, "{propagation:?}");
            child.wait().expect("wait");
            run("umount /run/shared/late; rmdir /run/shared/late; umount -q /run/shared/sub; rmdir /run/shared/sub");
        }
        run("umount /run/shared && rmdir /run/shared");
    });
}
