//! What a layer removes: written down for an overlay, or done.
#![forbid(unsafe_code)]

use cellkit_core::{ErrorKind, Result};

use super::brought::{Brought, DirId};
use super::make::Work;
use super::path::EntryPath;
use super::tree::{Missing, id, os, remove};
use crate::layers::entry::limit;
use crate::{DirFd, FileKind};

/// How deep a layer may be in what it hides: each level is a directory that is open.
const DEEPEST: usize = 512;

impl Work<'_> {
    /// Hides `name` of lower layers in the directory of the first `parent` names of `path`, and nothing of this layer.
    pub(super) fn hide(&mut self, path: &EntryPath, parent: usize, name: &[u8]) -> Result<()> {
        self.report.whiteouts += 1;
        let Some(opaque) = self.options.whiteouts.opaque_attribute() else {
            // Where there is no directory, nothing is to be removed.
            if self.tree.go(path, parent, Missing::Leave)? && !self.tree.here().fresh {
                return self.prune(name);
            }
            return Ok(());
        };
        self.tree.go(path, parent, Missing::Make)?;
        let found = match self.tree.here().dir.stat(os(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.tree.make_whiteout(name),
            found => found?,
        };
        // This layer has the name itself, which hides what is below: only a directory lets it through.
        if found.kind() == FileKind::Directory {
            return self.tree.here().dir.set_xattr(os(name), os(opaque.to_bytes()), b"y");
        }
        Ok(())
    }

    /// Hides all that lower layers have in the directory of the first `parent` names of `path`.
    pub(super) fn hide_all(&mut self, path: &EntryPath, parent: usize) -> Result<()> {
        self.report.whiteouts += 1;
        self.report.hides_all_below |= parent == 0;
        match self.options.whiteouts.opaque_attribute() {
            Some(opaque) => {
                self.tree.go(path, parent, Missing::Make)?;
                self.tree.here().dir.set_xattr(".", os(opaque.to_bytes()), b"y")
            }
            None => {
                if self.tree.go(path, parent, Missing::Leave)? && !self.tree.here().fresh {
                    self.tree.here().change();
                    self.last_target = None;
                    let Work { tree, .. } = self;
                    let (dir, id) = (tree.here().dir.open_dir(".")?, tree.here().id);
                    prune_all(&mut tree.brought, &dir, id, 0)?;
                    // A layer may say it again and again.
                    tree.brought.note_made(id);
                    tree.here().fresh = true;
                }
                Ok(())
            }
        }
    }

    /// Removes what lower layers have of `name` in the directory at hand.
    fn prune(&mut self, name: &[u8]) -> Result<()> {
        self.tree.here().change();
        self.last_target = None;
        let (dir, id) = (self.tree.here().dir.open_dir(".")?, self.tree.here().id);
        let pruned = prune(&mut self.tree.brought, &dir, id, name, 0)?;
        if pruned == Pruned::Passed {
            // A directory of a lower layer that is left because this one brought something below it. It is this layer's
            // now, and looks as if it had been made for that.
            self.tree.adopt(name)?;
        }
        Ok(())
    }
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pruned {
    Gone,
    /// It is this layer's.
    Kept,
    /// It is not, but something below it is.
    Passed,
}

fn prune(brought: &mut Brought, dir: &DirFd, dir_id: DirId, name: &[u8], depth: usize) -> Result<Pruned> {
    let found = match dir.stat(os(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Pruned::Gone),
        found => found?,
    };
    let own = brought.has_name(dir_id, name);
    if found.kind() != FileKind::Directory {
        if !own {
            remove(dir, name)?;
        }
        return Ok(if own { Pruned::Kept } else { Pruned::Gone });
    }
    let id = id(&found);
    let made = brought.made(id);
    if !own && !made && !brought.entered(id) {
        remove(dir, name)?;
        return Ok(Pruned::Gone);
    }
    if !made {
        prune_all(brought, &dir.open_dir(os(name))?, id, depth + 1)?;
        // What is left in it is this layer's, and not looked through again.
        brought.note_made(id);
    }
    if own {
        return Ok(Pruned::Kept);
    }
    match dir.rmdir(os(name)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => Ok(Pruned::Passed),
        answer => answer.map(|()| Pruned::Gone),
    }
}

fn prune_all(brought: &mut Brought, dir: &DirFd, id: DirId, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(limit(format!("a whiteout above what the layer brings {DEEPEST} directories deeper")));
    }
    // Read first: each level would hold its buffer else.
    let names: Result<Vec<_>> = dir.entries()?.map(|entry| entry.map(std::ffi::OsString::from)).collect();
    for name in names? {
        prune(brought, dir, id, name.as_encoded_bytes(), depth)?;
    }
    Ok(())
}
