//! Faults at every system call of a start, in the caller and in the child: each ends in an error that names the call, or
//! in a start where a way around is documented, and nothing is left.

use std::fs::File;
use std::io::Write;

use faultkit::{Call, Counted, End, Failure, Fault, Run, Sweep};
use ns_core::{
    BpfInstruction, Capabilities, CapabilitySet, Command, ExitStatus, IoPriority, MemoryPolicy, Namespaces, Net,
    Resource, Rlimit, Scheduler, Seccomp, Securebits, Stdio, TimeOffsets,
};

use crate::{failure, sys};

const SIX: Namespaces = Namespaces::MOUNT
    .union(Namespaces::UTS)
    .union(Namespaces::IPC)
    .union(Namespaces::PID)
    .union(Namespaces::NET)
    .union(Namespaces::CGROUP);

/// A start of `command`, whose payload ends when its standard input does: not before the caller has looked after it, which
/// is why the caller makes the same calls every time.
pub(crate) fn body(counted: &Counted<'_>, command: Command) -> Result<(), Failure> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
    let command = command.stdin(Stdio::Fd(reader));
    let start = || {
        let mut child = command.plan()?.spawn()?;
        drop(writer);
        // A wait that fails has not reaped: it is made again.
        child.wait().or_else(|error| child.wait().and(Err(error)))
    };
    let status = counted.run(start).map_err(|error| failure(&error))?;
    if status.success() { Ok(()) } else { Err(Failure::new("exit", None, status)) }
}

/// All that this crate does itself, but for what others below add.
fn six() -> Command {
    Command::new("/bin/cat")
        .namespaces(SIX)
        .hostname("web")
        .domainname("example")
        .loopback_up()
        .user(1000, 1000)
        .groups([1001, 1002])
        .new_session()
        .no_new_privs()
        .current_dir("/")
        .stdout(Stdio::Null)
}

/// Where a failed call does no harm, and why. Everything else is an error.
fn withstood(call: &Call, errno: i32) -> Option<&'static str> {
    let interruptible =
        ["ppoll", "recvmsg", "recvfrom", "sendto", "sendmsg", "waitid", "read", "write", "openat", "openat2"];
    match (call.is_callers(), call.name.as_str()) {
        (_, "close") => Some("the descriptor is closed all the same"),
        (_, name) if errno == libc::EINTR && interruptible.contains(&name) => Some("an interrupted call is made again"),
        (_, "openat2") if errno == libc::EAGAIN => Some("a lookup beside a rename is made again"),
        (true, "uname") => Some("a kernel of unknown version counts as old: the child gets a copy of the memory"),
        (true, "prlimit64") => Some("a limit that cannot be read is the kernel's to hold, later"),
        (true, "pidfd_open") => Some("where a pidfd does not know its namespaces, /proc does"),
        (true, "fsopen" | "fsconfig" | "fsmount") => Some("without a private procfs, the machine's own is verified"),
        (true, "prctl") if call.args[0] == libc::PR_GET_DUMPABLE as u64 => Some("what cannot be read is set again"),
        (true, "waitid") if call.args[3] & libc::WNOWAIT as u64 != 0 => Some("its status will tell how it ended"),
        (true, "waitid") if call.args[3] & libc::WSTOPPED as u64 != 0 => Some("it counts as one that goes on"),
        (true, "openat2" | "read") => {
            Some("a group whose limit cannot be read counts as limited: a copy of the memory")
        }
        (false, "setsid") if errno == libc::EPERM => Some("a leader of a session has none to leave"),
        (_, "clock_gettime") => Some("a step without a time ends the list of times"),
        (true, "clone3") if errno == libc::ENOSYS => Some("clone(2) where clone3 is hidden"),
        (false, "ioprio_get") if errno == libc::ENOSYS => Some("a kernel without disks has no such priority"),
        (false, "keyctl") if errno == libc::ENOSYS => Some("a kernel without keyrings has none to inherit"),
        _ => None,
    }
}

/// Steps that are several calls bear the name of one of them.
const STEPS: &[(&str, &[&str])] = &[
    ("fstat", &["fstat", "newfstatat"]),
    ("openat", &["fstat", "newfstatat"]),
    ("getrlimit", &["prlimit64"]),
    ("fsopen", &["fsopen", "fsconfig", "fsmount"]),
    ("ioctl SIOCSIFFLAGS", &["socket", "ioctl"]),
    ("write timens_offsets", &["openat2", "write"]),
    ("sched_setattr", &["sched_getattr", "sched_setattr"]),
    ("ioprio_set", &["ioprio_get", "ioprio_set"]),
    ("write oom_score_adj", &["openat2", "write"]),
    ("landlock_restrict_self", &["landlock_add_rule", "landlock_restrict_self"]),
    ("capset", &["capget", "capset"]),
    ("prctl PR_CAP_AMBIENT_RAISE", &["capget", "prctl"]),
    (
        "clone",
        &[
            "clone3",
            "mmap",
            "prctl",
            "pipe2",
            "clone",
            "read",
            "recvfrom",
            "sendto",
            "sendmsg",
            "capset",
            "close_range",
        ],
    ),
];

pub(crate) fn names(operation: &str, call: &str) -> bool {
    let begins = |name: &str| operation == name || operation.split(' ').next() == Some(name);
    begins(call) || STEPS.iter().any(|(step, calls)| begins(step) && calls.contains(&call))
}

pub(crate) fn judge(run: &Run) -> Result<(), String> {
    let Fault::Fail(errno) = run.fault else { return Err("not a fault of this judge".to_owned()) };
    match &run.end {
        End::Returned(Ok(())) if withstood(&run.call, errno).is_some() => Ok(()),
        End::Returned(Err(failure)) if failure.errno == Some(errno) && names(&failure.operation, &run.call.name) => {
            Ok(())
        }
        End::Returned(Ok(())) => Err("was ignored".to_owned()),
        other => Err(format!("{other:?}")),
    }
}

/// A kill of the child is an error of its start that names the step, or, in the execve itself, how its payload ended.
pub(crate) fn killed(run: &Run) -> Result<(), String> {
    match &run.end {
        End::Killed => Ok(()),
        End::Returned(Err(failure)) if run.call.name == "execve" && failure.operation == "exit" => Ok(()),
        End::Returned(Err(failure))
            if (names(&failure.operation, &run.call.name) || run.call.name == "close")
                && failure.text.contains("at this step: signal 9") =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    }
}

const ERRNOS: [i32; 7] =
    [libc::EINTR, libc::EMFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOSPC, libc::ENOSYS, libc::EPERM];

/// Each errno at each call; fewer where the processor is emulated.
pub(crate) fn every_call_fails(sweep: Sweep<'_>, judge: impl Fn(&Run) -> Result<(), String>) {
    let errnos = if stride() > 1 { &ERRNOS[2..3] } else { &ERRNOS[..] };
    let mut sweep = sweep;
    for errno in errnos {
        let swept = sweep.each(Fault::Fail(*errno), &judge);
        assert!(swept.runs * stride() > 40 && swept.unmet * 20 <= swept.runs, "{swept:?}");
        sweep = sweep.ends_of_rows();
    }
}

/// What must be as before besides the ledger: whether the process may be looked into, and the stacks of children.
fn state() -> Vec<String> {
    vec![format!("dumpable {}", sys::dumpable()), format!("{} stacks", stacks())]
}

/// How many mappings there are like the guard below a child's stack: 64 KiB that cannot be touched.
fn stacks() -> usize {
    let size = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).ok());
        rest.starts_with("---p").then_some(end?.checked_sub(start?)?)
    };
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines().filter(|line| size(line) == Some(64 << 10)).count()
}

#[test]
fn a_stack_is_seen_while_a_child_is_on_it() {
    faultkit::isolated!(|| {
        let before = stacks();
        let plan = Command::new("/bin/true").plan().expect("plan");
        let paused = plan.spawn_paused().expect("paused");
        assert_eq!(stacks(), before + usize::from(plan.shares_memory()));
        drop(paused);
        assert_eq!(stacks(), before);
    });
}

/// Every call, or where the processor is emulated every seventh.
pub(crate) fn stride() -> usize {
    if std::env::var_os("CELLKIT_VM").is_some() { 7 } else { 1 }
}

pub(crate) fn sweep<'a>(body: impl Fn(&Counted<'_>) -> Result<(), Failure> + 'a) -> Sweep<'a> {
    let restores = |call: &Call| call.is_callers() && call.name == "rt_sigprocmask" && call.args[2] == 0;
    let gives_back = |call: &Call| call.name == "prctl" && call.args[0] == libc::PR_SET_DUMPABLE as u64;
    Sweep::new(body)
        .stride(stride())
        .observe(state)
        .spare("giving the signal mask back cannot fail, and nothing could be done", restores)
        .spare("giving the dumpable flag back cannot fail, and nothing could be done", gives_back)
}

/// Pipes, chosen numbers and a terminal, which every start makes anew or puts in place.
#[test]
fn every_call_of_a_start_with_descriptors_of_its_own_fails() {
    faultkit::isolated!(|| {
        let sweep = sweep(|counted| {
            let null = || File::open("/dev/null").expect("null");
            let command = Command::new("/bin/cat").stdout(Stdio::Pipe).stderr(Stdio::Pipe);
            body(counted, command.fd(5, null()).fd(9, null()).terminal().terminal_size(24, 80))
        });
        for errno in [libc::EINTR, libc::EMFILE, libc::ENOMEM] {
            let swept = sweep.each(Fault::Fail(errno), judge);
            assert!(swept.runs > 50 && swept.unmet == 0, "{swept:?}");
        }
        let swept = sweep.each(Fault::Kill, killed);
        assert!(swept.runs > 20 && swept.unmet == 0, "{swept:?}");
    });
}

mod root {
    use super::*;

    /// A group of its own.
    fn group() -> (std::path::PathBuf, File) {
        let dir = crate::cgroup2().join(format!("cellkit-test-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("mkdir");
        let group = File::open(&dir).expect("group");
        (dir, group)
    }

    #[test]
    fn every_call_of_a_start_in_six_namespaces_fails() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let (dir, group) = group();
            every_call_fails(sweep(|counted| body(counted, six().cgroup(&group))), judge);
            std::fs::remove_dir(&dir).expect("nobody is left in the group");
        });
    }

    /// PID 1 is the first child, the payload the second. What PID 1 does when the payload runs is no part of the start.
    fn judge_with_reaper(run: &Run) -> Result<(), String> {
        match (run.call.task, run.call.name.as_str(), &run.end) {
            // It then has no capability at all.
            (1, "capset", End::Returned(Ok(()))) => Ok(()),
            (1, "rt_sigtimedwait", End::Returned(Ok(()))) => Ok(()),
            // A PID 1 that cannot wait ends, and everything with it.
            (1, "wait4", End::Returned(Err(failure))) if failure.text == "exit status 125" => Ok(()),
            (1, "wait4", End::Returned(Ok(()))) if run.fault == Fault::Fail(libc::EINTR) => Ok(()),
            _ => judge(run),
        }
    }

    /// A reaper, and of namespaces only what it needs: those that it does not matter to take most of the time.
    fn init() -> Command {
        let namespaces = Namespaces::PID | Namespaces::MOUNT;
        Command::new("/bin/cat").namespaces(namespaces).init().new_session().stdout(Stdio::Null)
    }

    #[test]
    fn every_call_of_a_start_with_a_reaper_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| every_call_fails(sweep(|counted| body(counted, init())), judge_with_reaper));
    }

    #[test]
    fn every_call_of_a_start_that_joins_and_moves_clocks_fails() {
        faultkit::require!(root, kernel(6.3));
        faultkit::isolated!(|| {
            let held = Command::new("/bin/true").namespaces(Namespaces::NET).spawn_paused().expect("paused");
            every_call_fails(
                sweep(|counted| {
                    let net = held.namespace::<Net>().expect("net");
                    let clocks = TimeOffsets { boottime: 7, monotonic: 7 };
                    body(counted, Command::new("/bin/cat").join(net).time_offsets(clocks).timed())
                }),
                judge,
            );
        });
    }

    /// All that can be said about what the payload may do and use. Its filter allows nothing but what cat needs.
    fn confined(ruleset: Option<&std::os::fd::OwnedFd>) -> Command {
        let op = |code, jt, jf, k| BpfInstruction { code, jt, jf, k };
        let no_uname = [
            op(0x20, 0, 0, 0),
            op(0x15, 0, 1, libc::SYS_uname as u32),
            op(0x06, 0, 0, 0x0005_0001),
            op(0x06, 0, 0, 0x7fff_0000),
        ];
        let set: CapabilitySet = "chown,kill".parse().expect("set");
        let command = Command::new("/bin/cat")
            .stdout(Stdio::Null)
            .user(1000, 1000)
            .capabilities(Capabilities::keeping(set))
            .securebits(Securebits::NOROOT | Securebits::NOROOT_LOCKED)
            .rlimit(Resource::Core, Rlimit::new(0, 0).expect("limit"))
            .scheduler(Scheduler::Batch)
            .nice(3)
            .io_priority(IoPriority::IDLE)
            .memory_policy(MemoryPolicy::Local)
            .oom_score_adj(100)
            .no_new_privs()
            .seccomp(Seccomp::new(no_uname).expect("filter").listener());
        match ruleset {
            Some(ruleset) => command.landlock(ruleset),
            None => command,
        }
    }

    #[test]
    fn every_call_of_a_confined_start_fails() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let ruleset = sys::landlock_ruleset();
            let sweep = sweep(|counted| body(counted, confined(ruleset.as_ref())));
            let swept = sweep.each(Fault::Fail(libc::EPERM), judge);
            assert!(swept.runs * stride() > 50 && swept.unmet == 0, "{swept:?}");
            let swept = sweep.each(Fault::Kill, killed);
            assert!(swept.runs * stride() > 50 && swept.unmet == 0, "{swept:?}");
        });
    }

    #[test]
    fn a_kill_of_either_at_any_call_leaves_nothing() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let (dir, group) = group();
            let sweep = sweep(|counted| body(counted, six().cgroup(&group)));
            sweep.each(Fault::Kill, killed);
            sweep.each(Fault::KillCaller, killed);
            std::fs::remove_dir(&dir).expect("nobody is left in the group");
        });
    }

    /// The payload would run for hours: it has to end with its parent, whenever that dies.
    #[test]
    fn a_child_that_ends_with_its_parent_does_so_at_any_call() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let sweep = Sweep::new(|counted| {
                let command = Command::new("/bin/sleep").arg("10000").namespaces(Namespaces::UTS).kill_with_parent();
                let start = || {
                    let mut child = command.plan()?.spawn()?;
                    child.kill()?;
                    child.wait()
                };
                counted.run(start).map(drop).map_err(|error| failure(&error))
            });
            let swept = sweep.ends_of_rows().stride(stride()).each(Fault::KillCaller, killed);
            // What the thread does that waits beside the child depends on who is faster.
            assert!(swept.runs * stride() > 50 && swept.unmet < 10, "{swept:?}");
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn every_call_of_a_start_in_a_user_namespace_fails() {
        faultkit::require!(userns);
        faultkit::isolated!(|| {
            let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            let start = |command: Command, writer: std::os::fd::OwnedFd| -> Result<ExitStatus, Failure> {
                let io =
                    |name: &'static str| move |error: std::io::Error| Failure::new(name, error.raw_os_error(), error);
                let paused = command.spawn_paused().map_err(|error| failure(&error))?;
                for (file, text) in
                    [("setgroups", "deny"), ("uid_map", &format!("0 {uid} 1")), ("gid_map", &format!("0 {gid} 1"))]
                {
                    let path = format!("/proc/{}/{file}", paused.pid());
                    let mut map = File::options().write(true).open(path).map_err(io("openat"))?;
                    map.write_all(text.as_bytes()).map_err(io("write"))?;
                }
                let mut child = paused.resume(&mut ()).map_err(|error| failure(&error))?;
                drop(writer);
                child.wait().or_else(|error| child.wait().and(Err(error))).map_err(|error| failure(&error))
            };
            let sweep = sweep(|counted| {
                let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
                let command = Command::new("/bin/cat")
                    .namespaces(Namespaces::USER | Namespaces::UTS)
                    .hostname("mine")
                    .keep_groups()
                    .stdin(Stdio::Fd(reader));
                let status = counted.run(|| start(command, writer))?;
                if status.success() { Ok(()) } else { Err(Failure::new("exit", None, status)) }
            });
            let sweep = sweep.ends_of_rows();
            // A child that dies before it was told to go on takes its files along: that is what its parent then meets.
            let waits = |run: &Run| !run.call.is_callers() && ["close_range", "recvfrom"].contains(&&*run.call.name);
            let dead = |run: &Run| match &run.end {
                End::Returned(Err(failure)) => waits(run) && ["openat", "write"].contains(&&*failure.operation),
                _ => false,
            };
            let judge = |run: &Run| if dead(run) { Ok(()) } else { judge(run) };
            let killed = |run: &Run| if dead(run) { Ok(()) } else { killed(run) };
            for errno in [libc::ENOMEM, libc::EPERM] {
                let swept = sweep.each(Fault::Fail(errno), judge);
                assert!(swept.runs * stride() > 50 && swept.unmet == 0, "{swept:?}");
            }
            sweep.each(Fault::Kill, killed);
            sweep.each(Fault::KillCaller, killed);
        });
    }
}
