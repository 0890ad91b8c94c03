//! What goes wrong says what: the operation, the subject, the errno, the hint; and nothing is left.

use ns_core::{Command, ErrorKind, MountPropagation, Namespaces};

#[test]
fn commands_that_cannot_be_run() {
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &[u8], mode| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(path(name), text).expect(name);
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).expect(name);
        };
        write("plain", b"x", 0o644);
        write("junk", b"\x01\x02", 0o755);
        write("lost", b"#!/no/such/interpreter\n", 0o755);
        for (program, errno, said) in [
            ("no-such-command".into(), libc::ENOENT, "no such program"),
            (path("none"), libc::ENOENT, "no such program"),
            (path("plain"), libc::EACCES, "not executable"),
            (path("junk"), libc::ENOEXEC, "neither a program"),
            (path("lost"), libc::ENOENT, "interpreter"),
            (dir.path().into(), libc::EACCES, "not executable"),
            (path("plain/x"), libc::ENOENT, "no such program"),
        ] {
            let error = Command::new(&program).spawn().expect_err("not a program");
            assert_eq!((error.operation(), error.raw_os_error()), ("execve", Some(errno)), "{error:#}");
            assert!(error.to_string().contains(&*program.to_string_lossy()), "{error}");
            assert!(error.hint().expect("hint").contains(said), "{error:#}");
        }
    });
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_done() {
    let new = || Command::new("/bin/true");
    for (command, said) in [
        (Command::new(""), "empty"),
        (Command::new("a\0b"), "NUL"),
        (new().arg("a\0b"), "NUL"),
        (new().env("A\0", ""), "NUL"),
        (new().env("A=B", ""), "no ="),
        (new().env("", "x"), "no ="),
        (new().current_dir("a\0b"), "NUL"),
        (new().hostname("web"), "UTS"),
        (new().namespaces(Namespaces::UTS).hostname(""), "1 to 64"),
        (new().namespaces(Namespaces::UTS).hostname("x".repeat(65)), "1 to 64"),
        (new().namespaces(Namespaces::UTS).domainname("x".repeat(65)), "1 to 64"),
        (new().init(), "pid namespace"),
        (new().loopback_up(), "network namespace"),
        (new().terminal_size(24, 80), "no terminal"),
        (new().propagation(MountPropagation::Shared), "mount namespace"),
        (new().steps(ns_core::ChildSteps::new()), "mount namespace"),
        (new().user(u32::MAX, 0), "4294967295"),
        (new().groups([u32::MAX]), "4294967295"),
    ] {
        let checked = command.check().expect_err(said).to_string();
        let error = command.plan().expect_err(said);
        assert_eq!(checked, error.to_string());
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}

#[test]
fn a_step_that_fails_is_named_and_the_child_is_gone() {
    faultkit::isolated!(|| {
        let error = Command::new("/bin/true").current_dir("/no/such/dir").spawn().expect_err("no directory");
        assert_eq!(error.to_string(), "chdir \"/no/such/dir\": no such file or directory (ENOENT)");
        assert!(error.hint().expect("hint").contains("working directory"));
    });
}

#[test]
fn no_more_descriptors() {
    faultkit::isolated!(|| {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let plan = Command::new("/bin/true").plan().expect("plan");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
        let used = std::fs::read_dir("/proc/self/fd").expect("fd").count() as u64;
        let mut failures = 0;
        for spare in 0..4 {
            setrlimit(Resource::RLIMIT_NOFILE, used - 1 + spare, hard).expect("limit");
            let outcome = plan.spawn().and_then(|mut child| child.wait());
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("limit");
            match outcome {
                Ok(status) => assert!(status.success()),
                Err(error) => {
                    failures += 1;
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error:#}");
                    assert!(["socketpair", "clone3", "fcntl"].contains(&error.operation()), "{error:#}");
                    assert!(error.hint().expect("hint").contains("ulimit -n"), "{error:#}");
                }
            }
        }
        assert!(failures > 0, "the limit was never met");
    });
}
