//! What needs root.

#[path = "../../root/world.rs"]
#[allow(dead_code, reason = "shared with the tests of whole networks")]
mod base;
mod connections;
mod guard;
mod localhost;
mod networks;
mod publish;
mod tables;
mod world;
