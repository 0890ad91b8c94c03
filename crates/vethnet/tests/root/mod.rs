//! What needs root.

mod attach;
mod crash;
mod families;
mod obstacles;
mod ports;
mod world;
