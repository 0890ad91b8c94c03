//! Maps of every size, one and two namespaces deep, and what the kernel makes of them.
#![forbid(unsafe_code)]

mod acceptance;
mod files;
mod readers;
