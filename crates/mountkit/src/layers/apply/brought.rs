//! What of a folder a layer has brought, where lower layers are in the same folder.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// A directory: its file system and its inode.
pub(super) type DirId = ((u32, u32), u64);

/// What this layer has brought into a folder that other layers were applied to before.
///
/// A whiteout removes what lower layers brought, also when it comes after what its own layer brings. So that is noted: of
/// each name its directory and itself, as a hash of 64 bits with a secret key (two that are taken for one another cost a
/// file that should have gone: nobody can bring it about, and chance takes 10^12 entries to do it once in a million layers).
///
/// Of a directory that this layer made, or emptied of all that lower layers had in it, only that is noted: all in it is
/// its own. In an empty folder nothing is noted at
/// all but devices that were left out, and the first layer is mostly the largest.
#[derive(Debug, Default)]
pub(super) struct Brought {
    seen: HashSet<u64>,
    keys: RandomState,
    skipped: u32,
}

/// How many devices that were left out are noted: an image has a few dozen. A link to one that is not noted is an error.
const MOST_SKIPPED: u32 = 10_000;

#[derive(Clone, Copy, Hash)]
enum What<'a> {
    /// A name in a directory.
    Name(DirId, &'a [u8]),
    /// A directory that this layer made or emptied.
    Made(DirId),
    /// A directory of a lower layer that this one has brought something into, or below.
    Entered(DirId),
    /// A device that was left out.
    Skipped(&'a [u8]),
}

impl Brought {
    fn note(&mut self, what: What<'_>) {
        self.seen.insert(self.keys.hash_one(what));
    }

    fn has(&self, what: What<'_>) -> bool {
        !self.seen.is_empty() && self.seen.contains(&self.keys.hash_one(what))
    }

    pub(super) fn note_name(&mut self, dir: DirId, name: &[u8]) {
        self.note(What::Name(dir, name));
    }

    pub(super) fn has_name(&self, dir: DirId, name: &[u8]) -> bool {
        self.has(What::Name(dir, name))
    }

    pub(super) fn note_made(&mut self, dir: DirId) {
        self.note(What::Made(dir));
    }

    pub(super) fn made(&self, dir: DirId) -> bool {
        self.has(What::Made(dir))
    }

    pub(super) fn note_entered(&mut self, dir: DirId) {
        self.note(What::Entered(dir));
    }

    pub(super) fn entered(&self, dir: DirId) -> bool {
        self.has(What::Entered(dir))
    }

    pub(super) fn note_skipped(&mut self, path: &[u8]) {
        if self.skipped < MOST_SKIPPED {
            self.skipped += 1;
            self.note(What::Skipped(path));
        }
    }

    pub(super) fn skipped(&self, path: &[u8]) -> bool {
        self.has(What::Skipped(path))
    }
}
