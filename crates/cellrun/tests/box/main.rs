//! `cellrun box`, run as a person runs it. What it made is asked of the kernel and of other programs, never of cellrun
//! alone.
#![forbid(unsafe_code)]

mod run;
mod status;

mod root;
mod rootless;
