//! Layers made from directories, image layouts, and the store that images are unpacked to.
#![cfg(feature = "layers")]
#![deny(unsafe_code)]

mod create;
mod image;
mod made;
mod portrait;
mod store;
mod sys;

mod root;
