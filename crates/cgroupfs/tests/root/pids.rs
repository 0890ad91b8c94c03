#![forbid(unsafe_code)]

use cgroupfs::{ErrorKind, Max, PidsMax};

use super::{LIMIT, cat, command_in, group, place, until};

#[test]
fn forks_beyond_the_limit_are_refused_and_counted() {
    faultkit::require!(root, cgroup2("pids"));
    faultkit::isolated!(|| {
        let group = group(&place(), "few");
        let pids = group.pids();
        assert_eq!((pids.max().expect("max"), pids.current().expect("current")), (Max::Max, 0));
        pids.set_max(PidsMax::try_from(4).expect("pids")).expect("set");
        assert_eq!(cat(group.path(), "pids.max"), "4");
        let script = "for n in 1 2 3 4 5 6; do sleep 1000 & done; wait";
        let child = command_in(group.path(), script).stderr(std::process::Stdio::null()).spawn().expect("sh");
        until("a fork was refused", || pids.events().expect("events").max > 0);
        assert!(pids.current().expect("current") <= 4);
        match pids.peak() {
            Ok(peak) => assert_eq!(peak, 4),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
        }
        match pids.events_local() {
            Ok(local) => assert!(local.max > 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
        }
        // What somebody else wrote can be read too.
        group.raw("pids.max").write("0").expect("zero");
        assert_eq!(pids.max().expect("max"), Max::Value(0));
        group.remove(LIMIT).expect("remove");
        child.wait_with_output().expect("wait");
        faultkit::reap_orphans();
    });
}
