//! User namespaces as descriptors, with nsenter(1), /proc and the kernel's own answers as the judges.
#![deny(unsafe_code)]

mod root;
mod sys;
mod user;
