//! Tests that need root: the kernel's own view, and the real newuidmap in a mount namespace with an own /etc.
#![forbid(unsafe_code)]

mod direct;
mod etc;
mod fake;
mod getsubids;
mod hostile;
mod nested;
mod planned;
mod programs;
mod recycled;
mod unprivileged;
mod userns;
mod verdict;
