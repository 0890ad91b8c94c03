//! Tests of the address plan, and of the files by which names are found. What the files of a plan say is read from the
//! files themselves.
#![forbid(unsafe_code)]

mod damage;
mod look;
mod model;
mod race;
mod root;
