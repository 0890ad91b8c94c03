//! What needs root.

mod limits;
mod qdiscs;
mod traffic;
#[allow(dead_code, reason = "shared with the tests of whole networks")]
#[path = "../../root/world.rs"]
mod world;
