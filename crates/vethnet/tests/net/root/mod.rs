//! What needs root.

mod batch;
mod events;
mod netns;
#[path = "../../root/world.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod world;
