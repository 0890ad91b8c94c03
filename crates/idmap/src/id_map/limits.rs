//! What the kernel takes of a map in the one write that it allows.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use super::IdMap;
use crate::Extent;

impl IdMap {
    /// The most extents that the kernel takes: UID_GID_MAP_MAX_EXTENTS, since Linux 4.15.
    pub const MAX_EXTENTS: usize = 340;

    /// The most bytes of text that the kernel takes: one less than a page. Machines with larger pages take more; a map
    /// that is to work everywhere does not count on it.
    pub const MAX_BYTES: usize = 4095;

    /// How many bytes the map's text has, as [`Display`](std::fmt::Display) writes it. O(n), without writing it.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.extents().iter().map(|&extent| Extent::line_len(extent)).sum()
    }

    /// Whether the kernel takes this map in the one write that it allows: 1 to 340 extents, and at most 4095 bytes of
    /// text. Every [`MapPlan`](crate::MapPlan) asks this before it does anything.
    ///
    /// That is about the text only. Whose ids they are, and whether they exist in the namespace above, is for
    /// [`MapPlan`](crate::MapPlan) to say, which knows the caller.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid), with a hint.
    ///
    /// ```
    /// use idmap::{Extent, IdMap};
    ///
    /// let every_second = |n| IdMap::new((0..n).filter_map(|i| Extent::new(2 * i, 2 * i, 1).ok()));
    /// assert!(every_second(340)?.check_writable().is_ok());
    /// assert!(every_second(341)?.check_writable().is_err());
    /// assert!(IdMap::empty().check_writable().is_err());
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See user_namespaces(7), "User and group ID mappings":
    /// <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    pub fn check_writable(&self) -> Result<()> {
        self.check_writable_as("id map")
    }

    /// The same, with the name of the file in the error.
    pub(crate) fn check_writable_as(&self, file: &'static str) -> Result<()> {
        const FEWER: &str = "join extents that touch, or map fewer runs of ids";
        let (extents, bytes) = (self.extents().len(), self.text_len());
        let (why, hint) = if extents == 0 {
            let hint = "a namespace without a map has no ids at all: map at least one";
            ("the map has no extent, and the kernel takes at least one".into(), hint)
        } else if extents > Self::MAX_EXTENTS {
            (format!("the map has {extents} extents, and the kernel takes {}", Self::MAX_EXTENTS), FEWER)
        } else if bytes > Self::MAX_BYTES {
            (format!("the map is {bytes} bytes of text, and the kernel takes {}", Self::MAX_BYTES), FEWER)
        } else {
            return Ok(());
        };
        Err(Error::invalid(file, why).with_hint(hint))
    }
}
