//! What an ordinary user may do, too.

use ns_core::{
    Command, ErrorKind, Mount, Namespaces, Net, NsFd, User, Uts, enter, enter_process, in_initial_user_namespace,
    unshare,
};

use crate::{KINDS, link, sys};

#[test]
fn the_user_namespace_comes_first_for_who_has_no_power_before() {
    faultkit::require!(userns);
    faultkit::isolated!(|| {
        let kinds = Namespaces::USER | Namespaces::NET | Namespaces::UTS | Namespaces::MOUNT;
        let paused = Command::new("/bin/true").namespaces(kinds).spawn_paused().expect("paused");
        sys::in_a_fork(|| {
            let (net, user): (NsFd<Net>, NsFd<User>) = (paused.namespace().unwrap(), paused.namespace().unwrap());
            let (mount, uts): (NsFd<Mount>, NsFd<Uts>) = (paused.namespace().unwrap(), paused.namespace().unwrap());
            enter(&[&net, &mount, &uts, &user]).expect("enter");
            for kind in KINDS {
                assert_eq!(link("self", kind), link(paused.pid(), kind), "{kind}");
            }
        });
        // All of it by one call; what both share already is left out, or it would be refused.
        sys::in_a_fork(|| {
            enter_process(&paused, Namespaces::all()).expect("enter");
            for kind in KINDS {
                assert_eq!(link("self", kind), link(paused.pid(), kind), "{kind}");
            }
        });
    });
}

#[test]
fn what_threads_make_impossible_says_how_many_there_are() {
    faultkit::isolated!(|| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let stopped = stopped.clone();
                std::thread::spawn(move || drop(stopped.lock().map(|stopped| stopped.recv())))
            })
            .collect();
        let uts = NsFd::<Uts>::of_this_thread().expect("uts");
        let before = KINDS.map(|kind| link("self", kind));
        let me = cellkit_core::sys::pidfd_open(std::process::id() as i32).expect("pidfd_open");
        for error in [
            unshare(Namespaces::USER | Namespaces::UTS).expect_err("threads"),
            enter(&[&uts]).expect_err("threads"),
            enter_process(&me, Namespaces::UTS).expect_err("threads"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("this one has 4 threads"), "{error}");
            assert!(error.hint().expect("hint").contains("before the first thread"), "{error:#}");
        }
        assert_eq!(KINDS.map(|kind| link("self", kind)), before);
        drop(stop);
        for thread in waiting {
            thread.join().expect("thread");
        }
    });
}

#[test]
fn a_thread_that_has_been_joined_is_no_obstacle() {
    faultkit::require!(userns);
    faultkit::isolated!(|| {
        for _ in 0..50 {
            sys::in_a_fork(|| {
                std::thread::spawn(|| ()).join().expect("thread");
                unshare(Namespaces::USER | Namespaces::UTS).expect("unshare");
                assert!(!in_initial_user_namespace().expect("here"));
            });
        }
    });
}

#[test]
fn without_a_user_namespace_an_ordinary_user_makes_none() {
    faultkit::require!(user);
    let error = unshare(Namespaces::NET).expect_err("no capability");
    assert_eq!((error.operation(), error.kind()), ("unshare", ErrorKind::Permission));
    assert!(error.to_string().contains("CLONE_NEWNET"), "{error}");
    assert!(error.hint().expect("hint").contains("CAP_SYS_ADMIN"), "{error:#}");
}

#[test]
fn somebody_elses_process_is_named_by_its_number() {
    faultkit::require!(user);
    let error = NsFd::<Net>::of_pid(1).expect_err("PID 1 is root's");
    assert_eq!(error.kind(), ErrorKind::Permission, "{error:#}");
    assert!(error.to_string().contains("pid 1: ") || error.to_string().contains("/1/"), "{error}");
}
