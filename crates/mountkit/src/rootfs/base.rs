//! What a root is made of, and what is mounted in it.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::source::Source;
use crate::shared_fd::SharedFd;
use crate::{Overlay, Tmpfs, Volume};

/// What the root is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    OverlayOfHost,
    Overlay(PathBuf),
    /// With a name for errors.
    OverlayOf(SharedFd, PathBuf),
    Bind(PathBuf),
    Detached(SharedFd),
    Layers(Overlay),
}

/// A mount that the caller asked for, in the order of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    Volume(Volume),
    Source(PathBuf, Source),
    CopyUp(PathBuf, Tmpfs),
    File(PathBuf, Vec<u8>),
}

impl Mount {
    pub(crate) fn target(&self) -> &Path {
        match self {
            Self::Volume(volume) => volume.target(),
            Self::Source(target, _) | Self::CopyUp(target, _) | Self::File(target, _) => target,
        }
    }
}
