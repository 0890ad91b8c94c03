//! Uids and gids: what is the same for both but for the names.
#![forbid(unsafe_code)]

use crate::{IdMap, IdMaps};

/// Which ids are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdKind {
    Uid,
    Gid,
}

impl IdKind {
    pub(crate) const BOTH: [Self; 2] = [Self::Uid, Self::Gid];

    fn pick<T>(self, uid: T, gid: T) -> T {
        match self {
            Self::Uid => uid,
            Self::Gid => gid,
        }
    }

    /// The file of `/proc/PID`.
    pub(crate) fn map_file(self) -> &'static str {
        self.pick("uid_map", "gid_map")
    }

    /// The privileged program that writes the map.
    pub(crate) fn program(self) -> &'static str {
        self.pick("newuidmap", "newgidmap")
    }

    /// Running it, as errors name it: told apart from running anything else.
    pub(crate) fn exec_operation(self) -> &'static str {
        self.pick("execve newuidmap", "execve newgidmap")
    }

    /// Where the administrator gives ranges of ids to users.
    pub(crate) fn subid_file(self) -> &'static str {
        self.pick("/etc/subuid", "/etc/subgid")
    }

    /// In a sentence.
    pub(crate) fn plural(self) -> &'static str {
        self.pick("uids", "gids")
    }

    /// The map of these ids.
    pub(crate) fn of(self, maps: &IdMaps) -> &IdMap {
        self.pick(&maps.uid, &maps.gid)
    }
}
