//! Which devices the processes of a group may open and make.
#![forbid(unsafe_code)]

pub(crate) mod rule;
pub(crate) mod rules;
