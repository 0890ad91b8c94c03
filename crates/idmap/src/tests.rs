//! Tests that need more than one module: laws, plans, and the kernel's own view.
#![deny(unsafe_code)]

mod laws;
mod million;
mod paused_child;
mod planner;
mod plans;
mod root;
mod rootless;
mod sys;
