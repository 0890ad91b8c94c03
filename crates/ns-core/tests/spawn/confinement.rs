//! What the payload is kept from: filters of system calls and landlock rules, with their effects.

use std::os::fd::AsFd;

use ns_core::{
    BpfInstruction, CapabilitySet, Command, ErrorKind, ExitStatus, Seccomp, SeccompAction, SeccompCall, Stdio,
};

use crate::{output, sh, sys};

const KILL: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const NOTIFY: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

fn op(code: u16, jt: u8, jf: u8, k: u32) -> BpfInstruction {
    BpfInstruction { code, jt, jf, k }
}

/// A filter that answers these calls so, and all others otherwise.
fn filter(calls: &[libc::c_long], answer: u32, otherwise: u32) -> Seccomp {
    let mut program = vec![op(0x20, 0, 0, 0)];
    for call in calls {
        program.extend([op(0x15, 0, 1, *call as u32), op(0x06, 0, 0, answer)]);
    }
    program.push(op(0x06, 0, 0, otherwise));
    Seccomp::new(program).expect("program")
}

#[test]
fn a_filter_denies_and_kills() {
    let denied = Command::new("uname").no_new_privs().seccomp(filter(&[libc::SYS_uname], EPERM, ALLOW));
    let (status, _) = output(denied.stderr(Stdio::Null)).expect("start");
    assert_eq!(status, ExitStatus::Exited(1));
    let killed = Command::new("uname").no_new_privs().seccomp(filter(&[libc::SYS_uname], KILL, ALLOW).log());
    let (status, _) = output(killed).expect("start");
    assert!(matches!(status, ExitStatus::Signaled { signal: libc::SIGSYS, .. }), "{status}");
    let (_, text) =
        output(sh("grep Seccomp /proc/self/status").no_new_privs().seccomp(filter(&[], ALLOW, ALLOW))).expect("start");
    assert!(text.contains("Seccomp:\t2"), "{text}");
    let own = std::fs::read_to_string("/proc/self/status").expect("status");
    let count = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")).expect("filters");
        line.trim().parse::<u32>().expect("a number")
    };
    assert_eq!(count(&text), count(&own) + 1);
}

#[test]
fn a_filter_need_not_allow_what_the_child_tells_its_parent_by() {
    // Neither sendto, nor write, nor sendmsg: what has failed is told all the same.
    for otherwise in [KILL, EPERM, NOTIFY] {
        let strict = || filter(&[libc::SYS_execve, libc::SYS_exit_group], ALLOW, otherwise);
        for memory in [|command: Command| command, Command::copy_memory] {
            let error =
                memory(Command::new("/no/such").no_new_privs().seccomp(strict())).spawn().expect_err("no program");
            assert_eq!((error.operation(), error.raw_os_error()), ("execve", Some(libc::ENOENT)), "{error:#}");
            assert!(error.to_string().contains("/no/such") && error.hint().is_some());
        }
    }
    let strict = filter(&[libc::SYS_execve, libc::SYS_exit_group], ALLOW, KILL);
    let (status, _) = output(Command::new("/bin/true").no_new_privs().seccomp(strict)).expect("start");
    assert!(
        matches!(status, ExitStatus::Signaled { signal: libc::SIGSYS, .. }),
        "the loader makes other calls: {status}"
    );
}

#[test]
fn filters_under_which_no_start_could_end_are_refused() {
    let new = || Command::new("/bin/true").no_new_privs();
    let all_but = |call, answer| filter(&[call], answer, ALLOW);
    for (command, said) in [
        (
            new().seccomp(all_but(libc::SYS_execve, EPERM)),
            "SECCOMP_RET_ERRNO operation not permitted (EPERM) to execve",
        ),
        (new().seccomp(all_but(libc::SYS_execve, KILL)), "SECCOMP_RET_KILL_PROCESS to execve"),
        (new().seccomp(all_but(libc::SYS_execve, NOTIFY).listener()), "SECCOMP_RET_USER_NOTIF to execve"),
        (new().seccomp(all_but(libc::SYS_execve, 0x7ff0_0000)), "SECCOMP_RET_TRACE 0 to execve"),
        (new().seccomp(all_but(libc::SYS_execve, 0x0003_0007)), "SECCOMP_RET_TRAP 7 to execve"),
        (
            Command::from_fd(std::fs::File::open("/bin/true").expect("true"), "true")
                .no_new_privs()
                .seccomp(all_but(libc::SYS_execveat, EPERM)),
            "to execveat",
        ),
        (new().seccomp(all_but(libc::SYS_exit_group, EPERM)), "to exit_group"),
        (new().seccomp(all_but(libc::SYS_sendmsg, EPERM).listener()), "to sendmsg"),
        (new().seccomp(all_but(libc::SYS_sendmsg, NOTIFY).listener()), "to sendmsg"),
        (new().seccomp(all_but(libc::SYS_clock_gettime, KILL)).timed(), "to clock_gettime"),
        (new().seccomp(filter(&[], ALLOW, ALLOW).wait_killable()), "without a listener"),
    ] {
        let error = command.plan().expect_err(said);
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "seccomp"), "{error}");
        assert!(error.to_string().contains(said) && error.hint().is_some(), "{said}: {error:#}");
    }
    for fine in [
        new().seccomp(all_but(libc::SYS_exit_group, KILL)),
        new().seccomp(all_but(libc::SYS_execveat, KILL)),
        new().seccomp(all_but(libc::SYS_sendmsg, KILL)),
        new().seccomp(all_but(libc::SYS_clock_gettime, KILL)),
    ] {
        assert!(fine.plan().is_ok());
    }
    // By its arguments: the address of the path is known, that of a descriptor is not.
    let by_argument = |call: libc::c_long, offset| {
        Seccomp::new([
            op(0x20, 0, 0, 0),
            op(0x15, 0, 3, call as u32),
            op(0x20, 0, 0, offset),
            op(0x15, 0, 1, 0xffff_ff00),
            op(0x06, 0, 0, KILL),
            op(0x06, 0, 0, ALLOW),
        ])
        .expect("program")
    };
    assert!(new().seccomp(by_argument(libc::SYS_execve, 16)).plan().is_ok());
    assert!(new().seccomp(by_argument(libc::SYS_sendmsg, 16).listener()).plan().is_err());
}

/// It is sent to the caller when that has no number left for it: a payload whose calls nobody can answer does not run.
#[test]
fn a_listener_that_cannot_be_received_is_an_error() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    faultkit::isolated!(|| {
        let command =
            Command::new("uname").no_new_privs().seccomp(filter(&[libc::SYS_uname], NOTIFY, ALLOW).listener());
        let paused = command.spawn_paused().expect("paused");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
        let next = std::fs::File::open("/dev/null").expect("null");
        let used = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
        drop(next);
        setrlimit(Resource::RLIMIT_NOFILE, used, hard).expect("limit");
        let outcome = paused.resume(&mut ());
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("limit");
        let error = outcome.expect_err("no number is free");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Limit, Some(libc::EMFILE)), "{error:#}");
        assert!(error.hint().is_some(), "{error:#}");
    });
}

#[test]
fn a_listener_is_asked_and_answers() {
    faultkit::isolated!(|| {
        let asked =
            || Command::new("uname").no_new_privs().seccomp(filter(&[libc::SYS_uname], NOTIFY, ALLOW).listener());
        for memory in [|command: Command| command, Command::copy_memory] {
            let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
            let plan = memory(asked()).stderr(Stdio::Fd(writer)).plan().expect("plan");
            let mut child = plan.spawn().expect("start");
            drop(plan);
            let listener = child.take_seccomp_listener().expect("listener");
            assert!(child.take_seccomp_listener().is_none());
            let (pid, number) = sys::answer_call(listener.as_fd(), libc::EXDEV);
            assert_eq!((pid, i64::from(number)), (child.pid(), libc::SYS_uname));
            assert!(!child.wait().expect("wait").success());
            let said = std::io::read_to_string(std::fs::File::from(reader)).expect("stderr");
            assert!(said.contains("cross-device"), "{said}");
        }
        // With nobody to ask, the call is not there.
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
        let plan = asked().stderr(Stdio::Fd(writer)).plan().expect("plan");
        let mut child = plan.spawn().expect("start");
        drop(plan);
        drop(child.take_seccomp_listener());
        assert!(!child.wait().expect("wait").success());
        let said = std::io::read_to_string(std::fs::File::from(reader)).expect("stderr");
        assert!(said.contains("not implemented"), "{said}");
        // The payload does not hold it.
        let command =
            sh("ls /proc/self/fd").no_new_privs().seccomp(filter(&[libc::SYS_uname], NOTIFY, ALLOW).listener());
        let (_, listed) = output(command).expect("ls");
        assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        // A start that fails after the listener was sent leaves none.
        let failed =
            Command::new("/no/such").no_new_privs().seccomp(filter(&[libc::SYS_uname], NOTIFY, ALLOW).listener());
        assert_eq!(failed.spawn().expect_err("no program").operation(), "execve");
    });
}

#[test]
fn without_the_right_to_filter() {
    let plan = sh("true").seccomp(filter(&[], ALLOW, ALLOW)).plan();
    let error = plan.expect_err("no capability and no no_new_privs");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint().expect("hint").contains("no_new_privs"), "{error:#}");
}

/// Puts a computation of `body` about one call to the kernel and to the evaluator, which must agree; whether it ended by
/// itself rather than by dying, or `None` when both refuse the program.
fn compare(body: &[BpfInstruction], arguments: [u64; 6]) -> Option<bool> {
    // Only getppid is computed about, and what comes out is made an errno, of the upper bits too.
    let mut program = vec![op(0x20, 0, 0, 0), op(0x15, 1, 0, libc::SYS_getppid as u32), op(0x06, 0, 0, ALLOW)];
    program.extend([op(0x00, 0, 0, 0), op(0x02, 0, 0, 0), op(0x02, 0, 0, 1)]);
    program.extend(body);
    program.extend([op(0x05, 0, 0, 2), op(0x05, 0, 0, 1), op(0x05, 0, 0, 0)]);
    program.extend([op(0x07, 0, 0, 0), op(0x74, 0, 0, 16), op(0xac, 0, 0, 0)]);
    program.extend([op(0x54, 0, 0, 0xfff), op(0x44, 0, 0, 0x0005_0000), op(0x16, 0, 0, 0)]);
    let bytes: Vec<u8> = program
        .iter()
        .flat_map(|op| [&op.code.to_ne_bytes()[..], &[op.jt, op.jf], &op.k.to_ne_bytes()].concat())
        .collect();
    let kernel = sys::under_filter(&bytes, libc::SYS_getppid, arguments);
    let filter = match Seccomp::from_bytes(&bytes) {
        Ok(filter) => filter,
        Err(error) => {
            assert_eq!(kernel, sys::Filtered::Refused(libc::EINVAL), "{error}: {body:?}");
            return None;
        }
    };
    let expected = match filter.evaluate(&SeccompCall::native(libc::SYS_getppid as i32, arguments)) {
        SeccompAction::Errno(errno) => sys::Filtered::Errno(errno.into()),
        SeccompAction::KillThread => sys::Filtered::Killed,
        other => panic!("{other}: {body:?}"),
    };
    assert_eq!(kernel, expected, "{body:?} of {arguments:?}");
    Some(expected != sys::Filtered::Killed)
}

#[test]
fn the_evaluator_agrees_with_the_kernel() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    // Where processors and languages differ: shifts by 32 and more, division by zero, what wraps.
    let arguments = [0x8000_0001, 33, 32, 0, u64::MAX, 0x1234_5678_9abc_def0];
    for word in 0..12 {
        for code in [0x0c, 0x1c, 0x2c, 0x3c, 0x4c, 0x5c, 0x6c, 0x7c, 0xac] {
            // X is this word, A the first one.
            let body = [op(0x20, 0, 0, 16 + word * 4), op(0x07, 0, 0, 0), op(0x20, 0, 0, 16), op(code, 0, 0, 0)];
            assert!(compare(&body, arguments).is_some());
        }
        for code in [0x84, 0x80, 0x07] {
            assert!(compare(&[op(0x20, 0, 0, 16 + word * 4), op(code, 0, 0, 0)], arguments).is_some());
        }
    }
    // And programs that nobody thought of.
    let constant = || prop_oneof![0u32..40, any::<u32>()];
    let alu = prop::sample::select(vec![
        0x04u16, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94,
        0xa4, 0xac,
    ]);
    let jumps = prop::sample::select(vec![0x15u16, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d]);
    let memory = prop::sample::select(vec![0x00u16, 0x01, 0x02, 0x03, 0x60, 0x61]);
    let one = prop_oneof![
        (4u32..16).prop_map(|word| op(0x20, 0, 0, word * 4)),
        (alu, constant()).prop_map(|(code, k)| op(code, 0, 0, k)),
        (jumps, 0u8..3, 0u8..3, constant()).prop_map(|(code, jt, jf, k)| op(code, jt, jf, k)),
        prop::sample::select(vec![0x07u16, 0x87, 0x80, 0x81]).prop_map(|code| op(code, 0, 0, 0)),
        (memory, 0u32..4).prop_map(|(code, k)| op(code, 0, 0, k)),
    ];
    let arguments = prop::array::uniform6(prop_oneof![0u64..8, any::<u64>()]);
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let whole = std::cell::Cell::new(0);
    let outcome = runner.run(&(prop::collection::vec(one, 1..24), arguments), |(body, arguments)| {
        whole.set(whole.get() + u32::from(compare(&body, arguments).is_some()));
        Ok(())
    });
    outcome.expect("the same");
    assert!(whole.get() > 50, "too few programs were whole: {whole:?}");
}

#[test]
fn landlock_rules() {
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        for dir in [&inside, &outside] {
            std::fs::create_dir(dir).expect("mkdir");
        }
        let Some(ruleset) = sys::landlock_only_below(&inside) else {
            // Not in this kernel or switched off: then the plan says so.
            let error = sh("true").no_new_privs().landlock(std::fs::File::open("/dev/null").expect("null")).plan();
            assert_eq!(error.expect_err("no landlock").kind(), ErrorKind::Unsupported);
            return;
        };
        let script = format!("echo 1 >{0}/x && ! echo 2 >{1}/y", inside.display(), outside.display());
        let (status, _) = output(sh(&script).stderr(Stdio::Null).no_new_privs().landlock(&ruleset)).expect("start");
        assert!(status.success());
        assert!(inside.join("x").exists() && !outside.join("y").exists());
        // A directory of the payload and other steps after it are not in the way.
        let command =
            sh("pwd").no_new_privs().landlock(&ruleset).current_dir(&outside).seccomp(filter(&[], ALLOW, ALLOW));
        let (_, text) = output(command).expect("start");
        assert_eq!(text.trim(), outside.to_string_lossy());
        // What is no ruleset is refused.
        let file = std::fs::File::open("/dev/null").expect("null");
        let error = sh("true").no_new_privs().landlock(&file).plan().expect_err("no ruleset");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "landlock_restrict_self"));
        // Without no_new_privs it takes a privilege, which the payload itself need not have.
        let is_root = nix::unistd::geteuid().is_root();
        let without = sh(&script).stderr(Stdio::Null).landlock(&ruleset);
        match without.plan() {
            Ok(_) => assert!(is_root, "without privilege"),
            Err(error) => {
                assert!(!is_root && error.hint().expect("hint").contains("no_new_privs"), "{error:#}");
            }
        }
        if is_root {
            let (status, _) = output(sh(&script).stderr(Stdio::Null).landlock(&ruleset)).expect("start");
            assert!(status.success());
            let (_, text) = output(sh("grep NoNewPrivs /proc/self/status").landlock(&ruleset)).expect("start");
            assert_eq!(text.trim(), "NoNewPrivs:\t0");
        }
    });
}

mod root {
    use super::*;

    #[test]
    fn a_payload_with_sys_admin_is_filtered_without_no_new_privs() {
        faultkit::require!(root);
        let sys_admin: CapabilitySet = "sys_admin".parse().expect("set");
        let script = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; uname";
        let command = sh(script).capabilities(sys_admin).seccomp(filter(&[libc::SYS_uname], EPERM, ALLOW));
        let (status, text) = output(command.stderr(Stdio::Null)).expect("start");
        assert_eq!(text, "NoNewPrivs:\t0\nSeccomp:\t2\n");
        assert!(!status.success());
    }

    #[test]
    fn behind_a_reaper_and_as_another_user() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let command = Command::new("uname")
                .namespaces(ns_core::Namespaces::PID)
                .init()
                .user(1000, 1000)
                .no_new_privs()
                .seccomp(filter(&[libc::SYS_uname], NOTIFY, ALLOW).listener());
            let mut child = command.stderr(Stdio::Null).spawn().expect("start");
            let listener = child.take_seccomp_listener().expect("listener");
            // The payload is a child of the one that is waited for.
            let (pid, _) = sys::answer_call(listener.as_fd(), libc::EPERM);
            assert!(pid > 0 && pid != child.pid());
            assert_eq!(child.wait().expect("wait"), ExitStatus::Exited(1));
        });
    }
}
