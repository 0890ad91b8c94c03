//! The lower directory of an overlay in a user namespace: seen through the container's id maps, so that what is root's in
//! the directory is the container's root's.
//!
//! A user namespace with the same maps is made for it before the start, and a detached mount of the directory with them.
//! Both are descriptors only. Whether the kernel and the file system can do it shows in no other way than by doing it; where
//! they cannot, a note says so, and the files are nobody's in the container, as they are in the machine's own root.
#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use cellkit_core::{Error, ErrorKind, ProcFd, Result, StepText};
use idmap::{MapPlan, UsernsFd, Way};
use mountkit::{Bind, DetachedMount, MountAttr};

use crate::request::RootChoice;

/// A lower directory that was mounted before the start, and what was done for it.
#[derive(Debug, Default)]
pub struct Layer {
    mount: Option<DetachedMount>,
    made: Vec<(StepText, Duration)>,
}

impl Layer {
    /// Mounts the directory of an overlay with the maps of the container, if that is of any use.
    ///
    /// # Errors
    /// Those of making the user namespace and the mount, but for what this kernel or file system cannot do.
    pub fn mount(root: &RootChoice, maps: Option<&MapPlan>, proc: &ProcFd, notes: &mut Vec<String>) -> Result<Self> {
        let (RootChoice::Overlay(dir), Some(maps)) = (root, maps.filter(|maps| maps.way() == Way::Direct)) else {
            return Ok(Self::default());
        };
        // Whoever has shifted the directory already wants it as it is.
        if std::fs::metadata(dir).is_ok_and(|metadata| maps.maps().uid.to_inside(metadata.uid()).is_some()) {
            return Ok(Self::default());
        }
        match Self::with_maps(dir, maps, proc) {
            Ok(layer) => Ok(layer),
            Err(error) if cannot_be(&error) => {
                notes.push(format!("files of {dir:?} keep their owners, who are nobody in the container: {error}"));
                Ok(Self::default())
            }
            Err(error) => Err(error.context("see the root's files as the container's")),
        }
    }

    fn with_maps(dir: &Path, maps: &MapPlan, proc: &ProcFd) -> Result<Self> {
        if before_5_19() {
            return Err(Error::unsupported("mount_setattr", "an idmapped layer of an overlay", Some("5.19")).on(dir));
        }
        let mut made = Vec::new();
        let userns = UsernsFd::make(maps, proc, &mut made)?;
        let begun = Instant::now();
        let mount = Bind::new(dir).idmap(&userns).set_user_id().attrs(MountAttr::RDONLY).mount()?;
        made.push((step(dir), begun.elapsed()));
        Ok(Self { mount: Some(mount), made })
    }

    /// The mount, for the root to be made of.
    #[must_use]
    pub fn take(&mut self) -> Option<DetachedMount> {
        self.mount.take()
    }

    /// What was done for it, and how long it took.
    #[must_use]
    pub fn made(&self) -> &[(StepText, Duration)] {
        &self.made
    }
}

/// Whether it is this kernel, this file system, or a lack of power over it, and not a lack of something else.
fn cannot_be(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Permission | ErrorKind::Unsupported)
}

fn step(dir: &Path) -> StepText {
    let arguments = format!("{dir:?}, OPEN_TREE_CLONE, {{attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_IDMAP}}");
    StepText::new("open_tree_attr", arguments, "what is root's in the root directory is the container's root's").on(dir)
}

fn before_5_19() -> bool {
    let Ok(name) = nix::sys::utsname::uname() else { return false };
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(5), Some(19))
}
