//! What needs root.

mod batch;
#[path = "../../root/world.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod world;
