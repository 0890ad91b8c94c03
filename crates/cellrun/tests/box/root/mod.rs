//! What needs root, each test in namespaces of its own.

mod accounts;
mod bad_input;
mod bridge;
mod delegated;
mod end;
mod explain;
mod keep_id;
mod kill;
mod layers;
mod limits;
mod many;
mod mounts;
mod nested;
mod ordinary;
mod pasta;
mod payload;
mod reaper;
mod sealed;
mod terminal;
mod tree;
mod unprivileged;
mod writable;
