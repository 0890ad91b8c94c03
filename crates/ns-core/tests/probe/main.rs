//! What is taken away for real is found missing, and the sentence says what to do.

use ns_core::{Namespaces, Probe, State, probe};

mod sys;

/// `what: state: detail: fix` of one row.
fn row(probe: &Probe, what: &str) -> String {
    let found = probe.get(what).unwrap_or_else(|| panic!("no {what} in\n{probe}"));
    format!("{what}: {}: {}: {}\n", found.state, found.detail, found.fix.as_deref().unwrap_or_default())
}

#[test]
fn whatever_fails_has_a_sentence_and_nothing_else_has() {
    let probe = probe().expect("probe");
    for finding in &probe.findings {
        assert_eq!(finding.fix.is_some(), finding.state == State::No, "{finding:?}");
        if let Some(fix) = &finding.fix {
            assert!(fix.len() > 20 && !fix.ends_with('.'), "{fix}");
            assert!(probe.to_string().contains(fix) && finding.to_string().ends_with(&**fix));
        }
        assert_eq!(probe.get(&finding.what), Some(finding), "no two rows of a name");
    }
    assert_eq!(probe.failing().count(), probe.findings.iter().filter(|finding| finding.state == State::No).count());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    assert_eq!(probe.get("kernel release").expect("release").detail, release.trim());
    let most = std::fs::read_to_string("/proc/sys/user/max_net_namespaces").expect("sysctl");
    assert_eq!(probe.get("user.max_net_namespaces").expect("sysctl").detail, most.trim());
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).expect("limit").split_whitespace().collect();
    let shown = &probe.get("RLIMIT_NOFILE").expect("limit").detail;
    assert_eq!(shown, &format!("{}, at most {}", files[3], files[4]));
}

mod root {
    use super::*;

    #[test]
    fn everything_works_for_root_and_nothing_is_left() {
        faultkit::require!(root, kernel(6.3));
        faultkit::isolated!(|| {
            let probe = probe().expect("probe");
            assert_eq!((probe.can_make, probe.can_make_with_user), (Namespaces::all(), Namespaces::all()), "{probe}");
            let pid = row(&probe, "initial pid namespace");
            assert!(pid.contains("in another one, pid:["), "the test has its own: {pid}");
        });
    }

    #[test]
    fn clone3_hidden_by_a_filter() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let said = sys::without(libc::SYS_clone3, libc::ENOSYS, || {
                let probe = probe().expect("probe");
                ["clone3", "CLONE_INTO_CGROUP", "uts namespace", "seccomp", "no_new_privs"]
                    .map(|what| row(&probe, what))
                    .concat()
            });
            let lines: Vec<&str> = said.lines().collect();
            assert!(
                lines[0].starts_with("clone3: NO: function not implemented (ENOSYS): a seccomp filter hides it"),
                "{said}"
            );
            assert!(lines[1].starts_with("CLONE_INTO_CGROUP: NO: "), "{said}");
            assert_eq!(lines[2], "uts namespace: yes: tried: ", "clone(2) does it");
            assert_eq!(lines[3], "seccomp: : 1 filters on the caller, and on all it starts: ");
            assert!(lines[4].starts_with("no_new_privs: NO: set on the caller: newuidmap"), "{said}");
        });
    }

    #[test]
    fn calls_forbidden_by_a_filter() {
        faultkit::require!(root, kernel(6.3));
        faultkit::isolated!(|| {
            for (number, errno, what, detail, fix) in [
                (libc::SYS_clone3, libc::EPERM, "clone3", "EPERM", "a seccomp filter forbids it"),
                (libc::SYS_unshare, libc::EPERM, "time namespace", "unshare", "a seccomp filter"),
                (libc::SYS_landlock_create_ruleset, libc::ENOSYS, "Landlock", "ENOSYS", "a seccomp filter hides it"),
                (libc::SYS_landlock_create_ruleset, libc::EOPNOTSUPP, "Landlock", "EOPNOTSUPP", "lsm="),
                (libc::SYS_sethostname, libc::EPERM, "power in a user namespace", "sethostname", "apparmor"),
                (libc::SYS_close_range, libc::EPERM, "close_range", "EPERM", "a seccomp filter forbids it"),
            ] {
                let said = sys::without(number, errno, || row(&probe().expect("probe"), what));
                assert!(said.starts_with(&format!("{what}: NO: ")), "{said}");
                assert!(said.contains(detail) && said.contains(fix), "{said}");
            }
        });
    }
}
