//! A map as text: the kernel's, and the one that users write.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

use super::IdMap;
use crate::{Extent, decimal};

impl IdMap {
    /// The most extents that are read from a text that somebody wrote. It is far more than the kernel takes, because a
    /// map can be a step of a calculation; and it is a limit, so that no text takes more than some megabytes of memory
    /// and a moment of time.
    pub const MAX_PARSED: usize = 65_536;

    /// Reads the content of `/proc/PID/uid_map`: `None` while no map has been written.
    ///
    /// # Errors
    /// [`ErrorKind::Parse`](cellkit_core::ErrorKind::Parse) for text the kernel does not write, more than 340 lines
    /// among it, and for a map with ids that the reading process's own namespace lacks (the kernel shows those as
    /// 4294967295).
    pub fn from_proc(content: &[u8]) -> Result<Option<Self>> {
        let refuse = |why: String| Error::parse("read id map", why);
        let text = std::str::from_utf8(content).map_err(|_| refuse("this is not text".into()))?;
        let mut extents = Vec::new();
        for line in text.lines() {
            if extents.len() == Self::MAX_EXTENTS {
                return Err(refuse(format!("there are more than {} lines", Self::MAX_EXTENTS)));
            }
            let extent = extent_of(line.split_ascii_whitespace())
                .map_err(|why| refuse(format!("line {}: {why}", extents.len() + 1)))?;
            extents.push(extent);
        }
        if extents.is_empty() {
            return Ok(None);
        }
        Self::checked(extents).map(Some).map_err(refuse)
    }

    /// The map as a user writes it: `0:1000:1,1:100000:65536`.
    pub(crate) fn colons(&self) -> String {
        self.extents().iter().map(|extent| extent.colons()).collect::<Vec<_>>().join(",")
    }
}

/// As much of a text as is worth repeating in an error.
pub(crate) fn shown(text: &str) -> Subject {
    Subject::Value(text.chars().take(80).collect())
}

fn extent_of<'a>(mut fields: impl Iterator<Item = &'a str>) -> Result<Extent, String> {
    let (Some(inside), Some(outside), Some(count), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("an extent is three numbers, INSIDE:OUTSIDE:COUNT".into());
    };
    let number = |text: &str| {
        let short = || text.chars().take(40).collect::<String>();
        decimal::parse(text).ok_or_else(|| format!("{:?} is not an id: ids are decimal, 0 to 4294967294", short()))
    };
    Extent::checked(number(inside)?, number(outside)?, number(count)?)
}

impl FromStr for IdMap {
    type Err = Error;

    /// Reads `INSIDE:OUTSIDE:COUNT[,INSIDE:OUTSIDE:COUNT...]`, and the kernel's text, one extent a line.
    ///
    /// An empty text is no map: somebody forgot to write it. More than [`MAX_PARSED`](Self::MAX_PARSED) extents are
    /// refused without reading on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid), naming the part that is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::invalid("id map", why).on(shown(text));
        let kernels = !text.contains(':');
        let separator = if kernels { '\n' } else { ',' };
        let parts = if kernels { text.strip_suffix('\n').unwrap_or(text) } else { text };
        let mut extents = Vec::new();
        for part in parts.split(separator) {
            if extents.len() == Self::MAX_PARSED {
                return Err(refuse(format!("there are more than {} extents", Self::MAX_PARSED)));
            }
            let extent = if kernels { extent_of(part.split_ascii_whitespace()) } else { extent_of(part.split(':')) };
            extents.push(extent.map_err(refuse)?);
        }
        Self::checked(extents).map_err(refuse)
    }
}

impl fmt::Display for IdMap {
    /// The kernel's text: a line an extent, `0 100000 65536`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.extents().iter().try_for_each(|extent| writeln!(f, "{extent}"))
    }
}
