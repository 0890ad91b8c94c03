//! What is taken away for real is found missing, with the reason and the sentence that says what to do.

use idmap::{Found, Probe, probe};

mod root;
mod sys;

/// `what: state: detail: fix` of one row.
fn row(probe: &Probe, what: &str) -> String {
    let seen = probe.get(what).unwrap_or_else(|| panic!("no {what} in\n{probe}"));
    format!("{what}: {:?}: {}: {}", seen.found, seen.detail, seen.fix.as_deref().unwrap_or_default())
}

#[test]
fn whatever_fails_has_a_sentence_and_nothing_else_has() {
    let probe = probe().expect("probe");
    for seen in &probe.observations {
        assert_eq!(seen.fix.is_some(), matches!(seen.found, Found::No(_)), "{seen:?}");
        if let Some(fix) = &seen.fix {
            assert!(fix.len() > 20 && !fix.ends_with('.'), "{fix}");
            assert!(probe.to_string().contains(fix) && seen.to_string().ends_with(&**fix));
        }
        assert_eq!(probe.get(&seen.what), Some(seen), "no two rows of a name");
    }
    assert_eq!(probe.obstacles().count(), probe.observations.iter().filter(|seen| seen.fix.is_some()).count());
    let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").expect("sysctl");
    assert_eq!(probe.get("user.max_user_namespaces").expect("sysctl").detail, limit.trim());
    let link = std::fs::read_link("/proc/self/ns/user").expect("link");
    let initial = probe.get("initial user namespace").expect("a row").detail == "the caller is in it";
    assert_eq!(link.as_os_str() == "user:[4026531837]", initial);
}

#[test]
fn unshare_is_of_the_same_opinion() {
    faultkit::require!(program("unshare"));
    let theirs = std::process::Command::new("unshare").args(["--user", "--map-root-user", "true"]).output();
    let theirs = theirs.expect("unshare");
    let said = String::from_utf8_lossy(&theirs.stderr);
    let here = probe().expect("probe");
    assert_eq!(here.can_make(), theirs.status.success(), "{said}\n{here}");
    let theirs = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "true"])
        .output();
    let theirs = theirs.expect("unshare");
    let said = String::from_utf8_lossy(&theirs.stderr);
    let ours = here.get("a procfs of its own").is_some_and(|seen| seen.found == Found::Yes);
    assert_eq!(ours, theirs.status.success(), "{said}\n{here}");
}
