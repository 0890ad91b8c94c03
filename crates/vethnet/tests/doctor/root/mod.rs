//! What needs root.

mod faults;
mod limits;
#[allow(dead_code, reason = "shared with the tests of whole networks")]
#[path = "../../root/world.rs"]
mod world;
