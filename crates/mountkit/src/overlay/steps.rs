//! An overlay as a child is to make it: by paths, checked before it is cloned.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use super::dirs::{self, Place, Upper};
use super::mechanism::{LONGEST_STRING, lowerdir, name, page};
use super::options::Setting;
use super::{Overlay, OverlayXattrs, open_all, short_names, stacked};
use crate::MountAttr;

/// What the steps are made of. Paths are absolute.
#[derive(Debug)]
pub(crate) struct Layers {
    lowers: Vec<PathBuf>,
    data: Vec<PathBuf>,
    /// The directory above the two, and the way down to each.
    pub(crate) upper: Option<(PathBuf, PathBuf, PathBuf)>,
    pub(crate) settings: Vec<Setting>,
    pub(crate) attrs: MountAttr,
}

/// How the options reach the kernel.
#[derive(Debug)]
pub(crate) enum Told {
    /// The value of `lowerdir`.
    OneString(String),
    /// All of them.
    OnePage(String),
}

impl Layers {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Path> {
        self.lowers.iter().chain(&self.data).map(PathBuf::as_path)
    }

    pub(crate) fn top(&self) -> &Path {
        self.lowers.first().map_or(Path::new("/"), PathBuf::as_path)
    }

    pub(crate) fn name(&self, number: usize) -> String {
        name(number)
    }

    pub(crate) fn told(&self) -> Result<Told> {
        let value = lowerdir(self.lowers.len(), self.data.len());
        if value.len() <= LONGEST_STRING {
            return Ok(Told::OneString(value));
        }
        page(self.lowers.len(), self.data.len(), Some(("U", "W")), &self.settings).map(Told::OnePage)
    }
}

impl Overlay {
    /// Looks at all directories and checks them, and makes nothing.
    pub(crate) fn for_steps(&self, unprivileged: bool) -> Result<Layers> {
        // Notes are kept as the child may, which is not in the caller's user namespace.
        let own = if unprivileged { OverlayXattrs::User } else { OverlayXattrs::Trusted };
        let xattrs = self.xattrs.unwrap_or(own);
        self.check_layers(true)?;
        self.options.check(xattrs, true, !self.data.is_empty())?;
        let all = [open_all(&self.lowers)?, open_all(&self.data)?].concat();
        let upper = self.open_upper()?;
        stacked::check_depth(&all)?;
        dirs::check_apart(&all, upper.as_ref())?;
        if let Some(upper) = &upper {
            upper.check(xattrs)?;
        }
        Ok(Layers {
            lowers: paths(&self.lowers)?,
            data: paths(&self.data)?,
            upper: upper.as_ref().map(way_to).transpose()?,
            settings: self.options.settings(xattrs),
            attrs: self.attrs | dirs::restrictions(all.iter().chain(upper.iter().map(|upper| &upper.dir)))?,
        })
    }
}

fn way_to(upper: &Upper) -> Result<(PathBuf, PathBuf, PathBuf)> {
    Ok(short_names::common(&upper.dir.path()?, &upper.work.path()?))
}

fn paths(places: &[Place]) -> Result<Vec<PathBuf>> {
    let path = |place: &Place| match place {
        Place::Path(path) => {
            std::path::absolute(path).map_err(|error| crate::host_path::io_error("getcwd", &error, path))
        }
        Place::Descriptor(_) => {
            let why = "a child reaches layers by their paths, and this is a descriptor";
            Err(Error::invalid("open_tree", why)
                .on(place.subject())
                .with_hint("make the overlay here: Rootfs::from(overlay.mount()?)"))
        }
    };
    if places.is_empty() { Ok(Vec::new()) } else { places.iter().map(path).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_refused_and_the_way_is_named() {
        let dir = std::fs::File::open("/usr").expect("open");
        let error = Overlay::new().lower_fd(dir).for_steps(false).expect_err("a descriptor");
        assert!(error.hint().is_some_and(|hint| hint.contains("Rootfs::from")), "{error:#}");
    }

    #[test]
    fn one_layer_will_do() {
        let temp = faultkit::TempDir::new();
        let layers = Overlay::new().lower(&*temp).for_steps(true).expect("layers");
        assert_eq!(layers.top(), &*temp);
        assert!(matches!(layers.told(), Ok(Told::OneString(value)) if value == "0"));
        let none = Overlay::new().for_steps(false).expect_err("none");
        assert_eq!(none.subject().map(ToString::to_string), Some(super::super::options::an_overlay().to_string()));
    }
}
