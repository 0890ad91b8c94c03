//! The steps of a root, run for real in a child with new namespaces.
#![deny(unsafe_code)]

mod child;
mod sys;
mod tree;

mod root;
mod rootless;
