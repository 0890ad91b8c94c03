//! Whether what is mounted on a mount appears elsewhere too.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use cellkit_core::Result;

use crate::{ErrorKind, MountEntry, MountTable};

/// Which mount of a place is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that it is on.
    Own,
    /// The one that that is mounted on.
    Above,
}

/// What becomes of what is mounted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It stays.
    Here,
    /// It appears at all peers.
    AtPeers,
    /// The place is in no tree of the caller's mount namespace: it is detached, or of another one.
    Nowhere,
}

/// Looks at one mount: by statmount(2) of it alone where the kernel can, however many there are.
pub(crate) fn seen(place: BorrowedFd<'_>, which: Which) -> Result<Seen> {
    let of = |mount: MountEntry<'_>| if mount.peer_group().is_some() { Seen::AtPeers } else { Seen::Here };
    let table = match which {
        Which::Own => MountTable::of_mount(place),
        Which::Above => MountTable::read(),
    };
    let table = match table {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Seen::Nowhere),
        table => table?,
    };
    let mount = match which {
        Which::Own => table.iter().next(),
        Which::Above => table.covering_fd(place)?.and_then(MountEntry::parent),
    };
    Ok(mount.map_or(Seen::Nowhere, of))
}
