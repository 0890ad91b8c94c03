//! The ids of a folder, as the layer has them.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use crate::layers::Owner;

/// The way back from an [`Owner`]: the same extents, the other way round.
#[derive(Clone, Debug)]
pub(super) struct Back(Owner);

/// `security.capability` of Linux 4.14, whose last four bytes are the root it is for, and of before, which is for root.
const CAPS_V3: u8 = 3;
const CAPS_V2: u8 = 2;

impl Back {
    pub(super) fn of(owner: &Owner) -> Result<Self> {
        let turned = |extents: &[(u32, u32, u32)]| extents.iter().map(|&(a, b, count)| (b, a, count)).collect();
        let back = match owner {
            Owner::Shifted { uids, gids } => Owner::Shifted { uids: turned(uids), gids: turned(gids) },
            other => other.clone(),
        };
        if owner.check().is_err() || back.check().is_err() {
            let why = "an extent of Owner::Shifted is empty or goes beyond the last id, or two have the same id";
            return Err(Error::invalid("create layer", why));
        }
        Ok(Self(back))
    }

    /// Those in the layer of what belongs to `uid` and `gid`.
    pub(super) fn ids(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        match self.0.ids(uid.into(), gid.into()) {
            Ok(ids) => Ok(ids.unwrap_or((0, 0))),
            Err(_) => {
                let why = format!("it belongs to {uid}:{gid}, which Owner::Shifted does not map");
                Err(Error::invalid("create layer", why))
            }
        }
    }

    /// An attribute's value with the ids in it as they are in the layer.
    pub(super) fn attribute(&self, name: &[u8], value: Vec<u8>) -> Result<Vec<u8>> {
        if !matches!(self.0, Owner::Shifted { .. }) {
            return Ok(value);
        }
        let mut value = self.0.attribute(name, &value).map_err(|_| {
            let why = format!("its {} names an id that Owner::Shifted does not map", name.escape_ascii());
            Error::invalid("create layer", why)
        })?;
        // Capabilities for the layer's own root are what every reader knows.
        if name == b"security.capability" && value.len() == 24 && value.ends_with(&[0; 4]) {
            if let Some(version) = value.get_mut(3).filter(|version| **version == CAPS_V3) {
                *version = CAPS_V2;
                value.truncate(20);
            }
        }
        Ok(value)
    }
}
