//! Image layers: what an image's file system is shipped as, and folders that an overlay is made of (feature `layers`).
//!
//! A layer is a tar archive, compressed or not, of what one step of an image's making added, changed and removed. What it
//! removes it names by markers, [whiteouts](Whiteouts). It comes from a stranger: every name, length, link and attribute
//! in it may be chosen to lead the reader astray, so nothing in it is believed, and whatever it makes is made through a
//! [`RootFd`](crate::RootFd).
//!
//! | | |
//! |---|---|
//! | [`Apply`] | a layer from a stream, applied to a folder; [`Applied`] says what became of it |
//! | [`Create`] | a layer from what an overlay's upper directory has come to hold |
//! | [`ImageLayout`] | images in a directory or a tar archive: [`Image`], its layers, its [`ImageConfig`] |
//! | [`Store`] | images unpacked to folders that images and processes share |
//! | [`Whiteouts`], [`Owner`], [`Devices`], [`Limits`] | how: the four questions that have more than one right answer |
//! | [`Digest`] | what a blob is asked for by, and must be |
//! | [`Compression`] | gzip, zstd or none, told by the first bytes |
//!
//! The words are those of the [OCI image specification](https://github.com/opencontainers/image-spec/blob/main/layer.md).
#![forbid(unsafe_code)]

mod apply;
mod compression;
mod create;
mod decompress;
mod digest;
pub(crate) mod entry;
pub(crate) mod image;
mod limits;
mod store;
mod whiteout;

pub use apply::{Applied, Apply, Devices, Owner, Skipped, SkippedWhat};
pub use compression::Compression;
pub use create::{Create, Created, Holes, LeftOut};
pub use digest::Digest;
pub use image::{Blob, FindImage, Image, ImageConfig, ImageLayer, ImageLayout, Platform};
pub use limits::Limits;
pub use store::{Pruned, Store, StoredLayer, Unpacked};
pub use whiteout::Whiteouts;

#[cfg(test)]
mod tests;
