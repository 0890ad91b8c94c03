//! The same children where a seccomp filter hides clone3.

use ns_core::{Backend, Command, ErrorKind};

use crate::{output, sh, sys};

#[test]
fn clone_makes_the_same_child() {
    faultkit::isolated!(|| {
        let plain = Command::new("/bin/true").spawn_paused().expect("paused");
        assert_eq!((plain.backend(), plain.clone_step().call.as_ref()), (Backend::Clone3, "clone3"));
        drop(plain);
        for errno in [libc::ENOSYS, libc::EPERM] {
            sys::checked_in_a_fork(|| {
                sys::hide_clone3(errno);
                sys::ignore(libc::SIGUSR1);
                sys::handle(libc::SIGUSR2);
                let plan = sh("exit 7").plan().expect("plan");
                assert_eq!(plan.clone_step().call, "clone3", "the plan does not try");
                let paused = plan.spawn_paused().expect("paused");
                assert_eq!((paused.backend(), paused.clone_step().call.as_ref()), (Backend::Clone, "clone"));
                assert!(!paused.clone_step().arguments.contains("CLEAR_SIGHAND"));
                let mut child = paused.resume(&mut ()).expect("resume");
                assert_eq!(child.wait().expect("wait").shell_code(), 7);
                let (_, status) = output(sh("cat /proc/self/status; echo $(ls /proc/self/fd)")).expect("start");
                for mask in ["SigBlk", "SigIgn", "SigCgt"] {
                    assert!(status.contains(&format!("{mask}:\t0000000000000000")), "{status}");
                }
                assert!(status.ends_with("0 1 2 3\n"), "{status}");
                let error = Command::new("/no/such").spawn().expect_err("no program");
                assert_eq!((error.operation(), error.raw_os_error()), ("execve", Some(libc::ENOENT)));
                let error = sh("true").set_tid([4242]).spawn().expect_err("not with clone");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                for _ in 0..100 {
                    assert!(sh("true").spawn().expect("start").wait().expect("wait").success());
                }
            });
        }
    });
}
