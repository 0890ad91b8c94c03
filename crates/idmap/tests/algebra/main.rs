//! The algebra of id maps: its laws against a naive model, and maps of every size against the kernel.
#![deny(unsafe_code)]

mod anybody;
mod cases;
mod laws;
mod model;
mod properties;
mod root;
mod sys;
