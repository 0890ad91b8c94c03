//! What needs root.

mod attach;
mod crash;
mod obstacles;
mod ports;
mod world;
