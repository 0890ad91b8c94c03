//! What needs root: owners, devices, capabilities, mounts; and GNU tar doing the same.

mod faults;
mod gnu_tar;
mod many;
mod owners;
