//! What needs root.

mod attach;
mod crash;
mod families;
mod first_packet;
mod hostile;
mod obstacles;
mod ports;
mod survival;
mod sweep;
mod world;
