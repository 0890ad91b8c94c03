//! What the unit tests of the modules below share: a writer of archives.
#![forbid(unsafe_code)]

#[path = "../../tests/apply/tar.rs"]
pub(crate) mod tar;

pub(crate) use tar::record;
