//! What `explain` says of calls that fail for real.
#![deny(unsafe_code)]

#[path = "../in_child/child.rs"]
#[allow(dead_code, reason = "another test's, of which a part is wanted here")]
mod child;
#[path = "../in_child/sys.rs"]
#[allow(dead_code, reason = "another test's, of which a part is wanted here")]
mod sys;

#[path = "sys/calls.rs"]
mod calls;
mod user;

/// A word that picks these out: `cargo xtask vm -p mountkit --filter explained`.
mod explained {
    mod root;
}

use mountkit::{Error, Evidence, Reason, explain};

/// The explanation of a call that has just failed with `errno`; its surest cause is `reason`, and says `word`.
#[track_caller]
fn because(error: &Error, errno: i32, reason: Reason, word: &str) {
    let why = explain(error);
    assert_eq!(error.raw_os_error(), Some(errno), "{error:#}\n{why}");
    let first = why.causes().first().unwrap_or_else(|| panic!("{error:#}: nothing found"));
    assert_eq!(first.reason, reason, "{error:#}\n{why:#?}");
    assert!(first.text.contains(word), "{error:#}\n{why:#?}");
    assert!(first.evidence != Evidence::Known || [Reason::Loop, Reason::IdMap].contains(&reason), "{why:#?}");
    // A sentence that says what to do, on one line.
    assert!(!first.text.contains(['\n', '\0']) && !first.text.contains("  "), "{why:?}");
}
