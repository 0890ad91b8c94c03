//! Faults at every system call of work in a root. Apart from the racers, since renames anywhere on the machine make a walk
//! look again, and a sweep wants every run to make the same calls.
#![forbid(unsafe_code)]

mod root;
