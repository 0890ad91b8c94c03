//! Tables of real mounts, held against findmnt(8) and the text of mountinfo.
#![deny(unsafe_code)]

mod scene;
mod sys;

mod root;
mod rootless;
