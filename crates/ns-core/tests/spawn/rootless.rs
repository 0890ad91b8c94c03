//! A user namespace made by whoever may, without any privilege.

use ns_core::{Capability, CapabilitySet, ErrorKind, Namespaces};

use crate::sh;

#[test]
fn an_ordinary_user_is_root_inside() {
    faultkit::require!(userns);
    faultkit::isolated!(|| {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
        let plan = sh("id -u; id -g; echo $$; cat /proc/self/uid_map; grep CapEff /proc/$$/status || true")
            .namespaces(Namespaces::USER | Namespaces::PID | Namespaces::UTS)
            .hostname("mine")
            .capabilities(CapabilitySet::EMPTY.with(Capability::SYS_ADMIN))
            .keep_groups()
            .stdout(ns_core::Stdio::Fd(writer))
            .plan()
            .expect("plan");
        let paused = plan.spawn_paused().expect("paused");
        let write = |file: &str, text: &str| {
            std::fs::write(format!("/proc/{}/{file}", paused.pid()), text).expect(file);
        };
        write("setgroups", "deny");
        write("uid_map", &format!("0 {uid} 1"));
        write("gid_map", &format!("0 {gid} 1"));
        let mut child = paused.resume(&mut ()).expect("resume");
        drop(plan);
        let text = std::io::read_to_string(std::fs::File::from(reader)).expect("output");
        assert!(child.wait().expect("wait").success(), "{text}");
        assert!(text.starts_with("0\n0\n1\n"), "{text}");
        assert!(text.lines().any(|line| line.split_whitespace().eq(["0", &uid.to_string(), "1"])), "{text}");
    });
}

#[test]
fn without_maps_the_first_change_of_ids_is_refused() {
    faultkit::require!(userns);
    let paused = sh("true").namespaces(Namespaces::USER).keep_groups().spawn_paused().expect("paused");
    let error = paused.resume(&mut ()).expect_err("no maps");
    assert_eq!((error.operation(), error.raw_os_error()), ("setresgid", Some(libc::EINVAL)));
    assert!(error.hint().expect("hint").contains("gid_map"));
}

#[test]
fn a_start_that_leaves_no_time_for_maps_is_refused_before_anything_is_done() {
    let new = || sh("true").namespaces(Namespaces::USER | Namespaces::UTS);
    for error in [
        new().spawn().expect_err("spawn"),
        new().status().expect_err("status"),
        new().output().expect_err("output"),
        new().plan().expect("plan").spawn().expect_err("plan"),
    ] {
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None));
        assert!(error.hint().expect("hint").contains("spawn_paused"), "{error:#}");
    }
}

#[test]
fn an_ordinary_user_joins_its_own_container() {
    faultkit::require!(userns, program("unshare"));
    faultkit::isolated!(|| {
        let arguments = ["--map-root-user", "--pid", "--mount", "--mount-proc", "--net", "--uts"];
        let container = crate::container::Container::new(&arguments, "hostname inside; ready");
        let script =
            "hostname; id -u; for k in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$k; done";
        let command = sh(script).join_process(container.pidfd(), Namespaces::all()).keep_groups();
        let (status, text) = crate::output(command).expect("start");
        assert!(status.success());
        let links = text.strip_prefix("inside\n0\n").expect("its root");
        assert_eq!(links.lines().collect::<Vec<_>>(), container.links());
    });
}
