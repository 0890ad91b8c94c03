//! What needs root.

mod qdiscs;
mod traffic;
#[allow(dead_code, reason = "shared with the tests of whole networks")]
#[path = "../../root/world.rs"]
mod world;
