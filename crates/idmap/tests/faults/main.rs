//! Faults at every system call of `MapPlan::write`. Apart from all others: a sweep wants every run to make the same calls.
#![deny(unsafe_code)]

#[path = "../writing/machine.rs"]
mod machine;
mod paused;
mod root;
mod sys;
