//! Pressure stall information of a group.
#![forbid(unsafe_code)]

pub(crate) mod stall;
