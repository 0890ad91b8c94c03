//! Maps written by an ordinary user, and seen with other means: with the real newuidmap of this machine, and with one that
//! knows descriptors.
#![deny(unsafe_code)]

mod machine;
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
#[path = "../../src/tests/paused_child.rs"]
mod paused_child;
mod root;
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
#[path = "../../src/tests/sys.rs"]
mod sys;
