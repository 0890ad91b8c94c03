//! Tests that need root.
#![forbid(unsafe_code)]

mod faults;
mod namespace;
mod races;
mod refusals;
mod resume;
mod size;
mod whole;
