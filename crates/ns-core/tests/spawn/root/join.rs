//! Joining namespaces that somebody else made.

use ns_core::{
    CapabilitySet, Cgroup, Command, ErrorKind, Ipc, Kind, Mount, Namespaces, Net, NsFd, Pid, Time, User, Uts,
};

use crate::container::{Container, KINDS, links};
use crate::{output, sh, sys};

const EACH: &[&str] = &["--pid", "--mount-proc", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--time"];

/// What the payload says of its namespaces, by a script that needs nothing but a procfs of its own.
const LINKS: &str = "for k in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$k; done";

#[test]
fn every_namespace_of_a_process() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        for user in [false, true] {
            let arguments: Vec<&str> =
                EACH.iter().copied().chain(user.then_some("--map-root-user").into_iter()).collect();
            let container = Container::new(&arguments, "hostname inside; ready");
            let join = |script: &str| sh(script).join_process(container.pidfd(), Namespaces::all());
            let plan = join("true").plan().expect("plan");
            assert!(!plan.shares_memory());
            let (status, text) = output(join(LINKS)).expect("start");
            assert!(status.success());
            assert_eq!(text.lines().collect::<Vec<_>>(), container.links(), "user namespace: {user}");
            // Really inside: its own number there, the host name, root's ids, the root of its mounts.
            let (_, text) = output(join("echo $$ $PPID; hostname; id -u; id -G; pwd")).expect("start");
            let lines: Vec<&str> = text.lines().collect();
            assert_ne!(lines[0], "1 0");
            assert!(lines[0].ends_with(" 0"), "its parent is outside: {text}");
            assert_eq!(&lines[1..], ["inside", "0", "0", "/"], "{text}");
        }
    });
}

#[test]
fn each_kind_alone() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let arguments: Vec<&str> = EACH.iter().copied().chain(["--map-root-user"]).collect();
        let container = Container::new(&arguments, "ready");
        fn check<K: Kind>(container: &Container, kind: &str, with_user: bool) {
            let namespace = NsFd::<K>::of_process(container.pidfd()).expect(kind);
            let command = sh("exec sleep 100").join(namespace).capabilities(CapabilitySet::FULL);
            let command = match with_user {
                true => command.join(NsFd::<User>::of_process(container.pidfd()).expect("user")),
                false => command,
            };
            let mut child = command.spawn().expect(kind);
            let seen = links(&format!("/proc/{}/ns", child.pid()));
            let (here, there) = (links("/proc/self/ns"), container.links());
            for (index, name) in KINDS.into_iter().enumerate() {
                let joined = name == kind || (with_user && name == "user");
                assert_eq!(seen[index], if joined { &there } else { &here }[index], "{kind}: {name}");
            }
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        for with_user in [false, true] {
            check::<Cgroup>(&container, "cgroup", with_user);
            check::<Ipc>(&container, "ipc", with_user);
            check::<Mount>(&container, "mnt", with_user);
            check::<Net>(&container, "net", with_user);
            check::<Pid>(&container, "pid", with_user);
            check::<Time>(&container, "time", with_user);
            check::<Uts>(&container, "uts", with_user);
        }
        check::<User>(&container, "user", false);
    });
}

#[test]
fn a_pid_namespace_is_joined_by_a_successor_that_is_the_callers_child() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let container = Container::new(&["--pid"], "ready");
        let pid: NsFd<Pid> = NsFd::of_process(container.pidfd()).expect("pid");
        let paused = Command::new("sleep").arg("100").join(pid).spawn_paused().expect("paused");
        let first = paused.pid();
        let mut child = paused.resume(&mut ()).expect("resume");
        assert_ne!(child.pid(), first);
        assert!(!std::path::Path::new(&format!("/proc/{first}")).exists(), "the first is reaped");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).expect("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.split_whitespace().map(|number| number.parse::<i32>().expect(name)).collect::<Vec<_>>()
        };
        assert_eq!(field("PPid:"), [std::process::id() as i32]);
        assert_eq!(field("NSpid:").len(), 2, "{status}");
        assert_eq!(field("NSpid:")[0], child.pid());
        // The pidfd is the successor's too.
        child.kill().expect("kill");
        assert_eq!(child.wait().expect("wait").shell_code(), 137);
        assert!(!std::path::Path::new(&format!("/proc/{}", child.pid())).exists());
        // The observer hears of every step, of both.
        let pid: NsFd<Pid> = NsFd::of_process(container.pidfd()).expect("pid");
        let plan = Command::new("/bin/true").join(pid).timed().plan().expect("plan");
        let mut heard: Vec<(ns_core::StepText, std::time::Duration)> = Vec::new();
        plan.spawn_paused().expect("paused").resume(&mut heard).expect("resume").wait().expect("wait");
        assert_eq!(heard.into_iter().map(|(step, _)| step).collect::<Vec<_>>(), plan.child_steps());
        // Dropped while it waits: nothing is left, says the ledger.
        let pid: NsFd<Pid> = NsFd::of_process(container.pidfd()).expect("pid");
        drop(Command::new("sleep").arg("100").join(pid).spawn_paused().expect("paused"));
    });
}

#[test]
fn faults_after_the_successor_took_over_are_reported_as_ever() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let container = Container::new(&["--pid", "--uts"], "ready");
        let join = |program: &str| Command::new(program).join_process(container.pidfd(), Namespaces::all());
        let error = join("/no/such").spawn().expect_err("no program");
        assert_eq!((error.operation(), error.raw_os_error()), ("execve", Some(libc::ENOENT)), "{error:#}");
        let error = join("/bin/true").current_dir("/no/such").spawn().expect_err("no directory");
        assert_eq!(error.operation(), "chdir");
        let mut child = join("/bin/sh").args(["-c", "exit 7"]).spawn().expect("start");
        assert_eq!(child.wait().expect("wait").shell_code(), 7);
        // PID 1 of the container has died: nobody can be born there.
        let pid: NsFd<Pid> = NsFd::of_process(container.pidfd()).expect("pid");
        drop(container);
        let error = Command::new("/bin/true").join(pid).spawn().expect_err("a dead pid namespace");
        assert_eq!((error.operation(), error.raw_os_error()), ("clone", Some(libc::ENOMEM)), "{error:#}");
        assert!(error.hint().expect("hint").contains("PID 1"), "{error:#}");
    });
}

#[test]
fn no_descriptor_for_the_successor_is_an_error_and_leaves_nothing() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let container = Container::new(&["--pid"], "ready");
        let pid: NsFd<Pid> = NsFd::of_process(container.pidfd()).expect("pid");
        let plan = Command::new("/bin/true").join(pid).plan().expect("plan");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
        let mut met = false;
        let used = std::fs::read_dir("/proc/self/fd").expect("fd").count() as u64 - 1;
        for limit in used - 3..used + 3 {
            let paused = plan.spawn_paused().expect("paused");
            setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("limit");
            let outcome = paused.resume(&mut ());
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("limit");
            match outcome {
                Ok(mut child) => assert!(child.wait().expect("wait").success()),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error:#}");
                    met |= error.operation() == "pidfd_open";
                }
            }
        }
        assert!(met, "the limit was never met where the successor is taken over");
    });
}

#[test]
fn the_namespace_that_cannot_be_joined_is_named() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let container = Container::new(&["--net", "--uts"], "ready");
        let net: NsFd<Net> = NsFd::of_process(container.pidfd()).expect("net");
        let uts: NsFd<Uts> = NsFd::of_process(container.pidfd()).expect("uts");
        let name = net.to_string();
        let said = sys::in_a_fork(move || {
            sys::drop_capability(ns_core::Capability::SYS_ADMIN as u8);
            let error = Command::new("/bin/true").join(net).join(uts).spawn().expect_err("no power");
            let right = error.kind() == ErrorKind::Permission
                && error.to_string().starts_with(&format!("setns {name}"))
                && error.hint().is_some_and(|hint| hint.contains("CAP_SYS_ADMIN"));
            if !right {
                eprintln!("{error:#}");
            }
            i32::from(right)
        });
        assert_eq!(said, 1);
    });
}

#[test]
fn what_contradicts_itself_is_refused() {
    faultkit::require!(root);
    let new = || Command::new("/bin/true");
    let net = || NsFd::<Net>::of_this_thread().expect("net");
    let pid = || NsFd::<Pid>::of_this_thread().expect("pid");
    let uts = || NsFd::<Uts>::of_this_thread().expect("uts");
    let time = || NsFd::<Time>::of_this_thread().expect("time");
    let this = cellkit_core::sys::pidfd_open(std::process::id() as i32).expect("pidfd_open");
    for (command, said) in [
        (new().join(net()).namespaces(Namespaces::NET), "CLONE_NEWNET"),
        (new().join_process(&this, Namespaces::all()).namespaces(Namespaces::PID), "CLONE_NEWPID"),
        (new().join(time()).time_offsets(ns_core::TimeOffsets::default()), "CLONE_NEWTIME"),
        (new().join(net()).join(net()), "a second net namespace"),
        (new().join(pid()).init(), "pid namespace to be PID 1 of"),
        (new().join(pid()).sibling(), "neither so numbered nor so placed"),
        (new().join(pid()).set_tid([7]), "neither so numbered nor so placed"),
        (new().join(uts()).hostname("x"), "rename"),
    ] {
        let error = command.plan().expect_err(said);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    // The caller's own user namespace is left out, and so are those that a process has in common with the caller.
    let user = NsFd::<User>::of_this_thread().expect("user");
    assert!(new().join(user).plan().expect("plan").shares_memory());
    assert!(new().join_process(&this, Namespaces::all()).plan().expect("plan").shares_memory());
    let file = std::fs::File::open("/dev/null").expect("/dev/null");
    assert!(new().join_process(&file, Namespaces::NET).plan().is_err(), "no pidfd");
}
