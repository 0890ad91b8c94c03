//! Overlays as a caller has them, judged by what the kernel and other programs see.
#![deny(unsafe_code)]

mod dirs;
mod rootless;
mod user_namespace;

mod root;
