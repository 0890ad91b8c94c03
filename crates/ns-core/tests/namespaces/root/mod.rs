//! What needs root.

mod handles;
mod moving;
mod pins;
mod working;
