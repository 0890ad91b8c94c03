//! An entry becomes a file, a directory, a link, a FIFO or a device.
//!
//! Whatever has the name already is replaced, never followed and never written into: a file by unlinking it, a directory
//! with all that is in it. Only a directory stays where a directory comes, with what is in it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, ErrorKind, Result};

use super::path::EntryPath;
use super::report::{Report, SkippedWhat};
use super::tree::{Made, Missing, Tree, is_whiteout, os};
use super::{Apply, Devices};
use crate::hint::HINTS;
use crate::layers::entry::{Archive, Entry, Kind};
use crate::layers::whiteout::{Marker, Whiteouts};
use crate::{DirFd, Node, RootFd};

/// One layer being applied to one folder.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) options: &'a Apply,
    pub(super) tree: Tree<'a>,
    pub(super) report: Report,
    path: EntryPath,
    target: EntryPath,
    /// The directory that the last hard link's target was in; forgotten when something is removed that may have led there.
    pub(super) last_target: Option<(PathBuf, DirFd)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(options: &'a Apply, root: &'a RootFd) -> Result<Self> {
        let tree = Tree::new(root, options.whiteouts, options.owner.ids(0, 0)?)?;
        let (path, target) = (EntryPath::default(), EntryPath::default());
        Ok(Self { options, tree, report: Report::default(), path, target, last_target: None })
    }

    /// Applies all entries of the archive, and reads it to its end.
    pub(super) fn run(mut self, reader: impl Read) -> Result<Report> {
        let mut archive = Archive::new(reader, self.options.limits.clone());
        let mut entry = Entry::default();
        while archive.next(&mut entry)? {
            // The path is borrowed while directories are entered: it is put back for its memory.
            let mut path = std::mem::take(&mut self.path);
            let answer = path
                .parse(&entry.path, &self.options.limits)
                .and_then(|()| self.entry(&path, &entry, &mut archive))
                .map_err(|error| error.on(entry.shown()).with_hints(&HINTS).context("apply a layer's entry"));
            self.path = path;
            answer?;
        }
        self.report.entries = archive.entries();
        self.tree.finish().map_err(|error| error.context("apply a layer"))?;
        Ok(self.report)
    }

    fn entry(&mut self, path: &EntryPath, entry: &Entry, archive: &mut Archive<impl Read>) -> Result<()> {
        let Some((parent, name)) = path.split() else { return self.root(entry) };
        for (at, name) in path.names().enumerate() {
            match Marker::of(name) {
                Marker::Plain => {}
                Marker::Aufs => {
                    self.report.skip(entry.shown(), SkippedWhat::Aufs);
                    return Ok(());
                }
                Marker::Nonsense => return Err(Error::invalid("apply", "`.wh.` stands before what can be no name")),
                Marker::Gone(_) | Marker::Opaque if at < parent => {
                    return Err(Error::invalid("apply", "a whiteout has nothing below it"));
                }
                Marker::Gone(gone) => return self.hide(path, parent, gone),
                Marker::Opaque => return self.hide_all(path, parent),
            }
        }
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) && !self.wants_device(entry)? {
            self.report.skip(entry.shown(), SkippedWhat::Device);
            self.tree.brought.note_skipped(path.prefix(parent + 1).as_os_str().as_encoded_bytes());
            return Ok(());
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(path, entry);
        }
        self.tree.go(path, parent, Missing::Make)?;
        match entry.kind {
            Kind::Directory => self.directory(name, entry),
            Kind::File => self.file(name, entry, archive),
            Kind::Symlink => self.symlink(name, entry),
            Kind::Fifo => self.node(name, Node::Fifo, entry),
            Kind::CharDevice => {
                self.node(name, Node::CharDevice { major: entry.device.0, minor: entry.device.1 }, entry)
            }
            Kind::BlockDevice => {
                self.node(name, Node::BlockDevice { major: entry.device.0, minor: entry.device.1 }, entry)
            }
            Kind::HardLink => Ok(()),
        }
    }

    /// Whether a device is to be made. A device 0:0 never is: to an overlay it would be a whiteout, which a layer writes
    /// otherwise.
    fn wants_device(&self, entry: &Entry) -> Result<bool> {
        match self.options.devices {
            Devices::Create => Ok((entry.kind, entry.device) != (Kind::CharDevice, (0, 0))),
            Devices::Skip => Ok(false),
            Devices::Refuse => {
                let (major, minor) = entry.device;
                Err(Error::invalid("apply", format!("the layer has a device node ({major}:{minor})"))
                    .with_hint("Devices::Skip leaves device nodes out: a container has its own /dev"))
            }
        }
    }

    /// An entry for the root itself.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::invalid(
                "apply",
                "the root of a layer is a directory, and the layer has something else there",
            ));
        }
        self.tree.go(&EntryPath::default(), 0, Missing::Leave)?;
        self.finish_here(entry, Made::Before)
    }

    fn directory(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let (found, made) = self.tree.make_dir(name)?;
        if made == Made::Now {
            self.last_target = None;
        }
        self.tree.enter(name, made, &found)?;
        self.finish_here(entry, made)
    }

    /// Makes something by `make`, in place of what has its name.
    fn replace<T>(&mut self, name: &[u8], make: impl Fn(&DirFd) -> Result<T>) -> Result<T> {
        self.tree.note(name);
        match make(&self.tree.here().dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.last_target = None;
                self.tree.clear(name)?;
                make(&self.tree.here().dir)
            }
            answer => answer,
        }
    }

    fn file(&mut self, name: &[u8], entry: &Entry, archive: &mut Archive<impl Read>) -> Result<()> {
        let mut file = self.replace(name, |dir| dir.create(os(name), entry.mode & 0o777))?;
        match &entry.chunks {
            None => loop {
                let content = archive.content()?;
                if content.is_empty() {
                    break;
                }
                file.write_all(content).map_err(|error| Error::from_io("write", &error))?;
                let used = content.len();
                archive.used(used);
            },
            Some(chunks) => {
                let regions = chunks.iter().filter(|chunk| chunk.length > 0);
                for chunk in regions {
                    write_at(&file, archive, chunk.offset, chunk.length)?;
                }
                file.set_len(entry.size).map_err(|error| Error::from_io("ftruncate", &error))?;
            }
        }
        self.finish_file(name, &file, entry)
    }

    fn symlink(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        self.replace(name, |dir| dir.symlink(Path::new(os(&entry.link)), os(name)))?;
        self.finish_name(name, entry)
    }

    fn node(&mut self, name: &[u8], node: Node, entry: &Entry) -> Result<()> {
        self.replace(name, |dir| dir.mknod(os(name), node, entry.mode & 0o777))?;
        self.finish_name(name, entry)
    }

    /// One more name of something. What it is, was given with its first name.
    fn hard_link(&mut self, path: &EntryPath, entry: &Entry) -> Result<()> {
        let mut target = std::mem::take(&mut self.target);
        let answer = target.parse(&entry.link, &self.options.limits).and_then(|()| self.link_to(path, &target, entry));
        self.target = target;
        answer
    }

    fn link_to(&mut self, path: &EntryPath, target: &EntryPath, entry: &Entry) -> Result<()> {
        let (Some((parent, name)), Some((target_parent, target_name))) = (path.split(), target.split()) else {
            return Err(Error::invalid("apply", "a hard link to the root"));
        };
        let whole = |path: &EntryPath| path.prefix(path.depth()).as_os_str().as_encoded_bytes().to_vec();
        if self.tree.brought.skipped(&whole(target)) && !self.tree.exists(target)? {
            self.report.skip(entry.shown(), SkippedWhat::Device);
            self.tree.brought.note_skipped(&whole(path));
            return Ok(());
        }
        self.tree.go(path, parent, Missing::Make)?;
        let of_target = target.prefix(target_parent);
        let same_dir = of_target == path.prefix(parent);
        if !same_dir && self.last_target.as_ref().is_none_or(|(path, _)| path != of_target) {
            let dir = self.tree.root().open_dir(of_target).map_err(no_target)?;
            self.last_target = Some((of_target.to_owned(), dir));
        }
        self.tree.note(name);
        let here = &self.tree.here().dir;
        let from = match &self.last_target {
            Some((_, dir)) if !same_dir => dir,
            _ => here,
        };
        let found = from.stat(os(target_name)).map_err(no_target)?;
        if is_whiteout(&found) && self.options.whiteouts != Whiteouts::Flattened {
            return Err(no_target(Error::from_errno("linkat", libc::ENOENT)));
        }
        match here.link(from, os(target_name), os(name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = here.stat(os(name))?;
                if (there.device(), there.inode()) == (found.device(), found.inode()) {
                    return Ok(());
                }
                // What the target is in may be what goes.
                self.last_target = None;
                let from = if same_dir { None } else { Some(self.tree.root().open_dir(of_target).map_err(no_target)?) };
                self.tree.clear(name)?;
                let here = &self.tree.here().dir;
                here.link(from.as_ref().unwrap_or(here), os(target_name), os(name)).map_err(no_target)
            }
            answer => answer,
        }
    }
}

fn no_target(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::from_errno("linkat", libc::ENOENT).with_hint(
            "a hard link's target must come before it in the same layer, and the layer has none of that name",
        );
    }
    error
}

/// Writes `length` bytes of the entry's content to `offset`.
fn write_at(file: &File, archive: &mut Archive<impl Read>, mut offset: u64, mut length: u64) -> Result<()> {
    while length > 0 {
        let content = archive.content()?;
        let most = usize::try_from(length).unwrap_or(usize::MAX);
        let part = content.get(..content.len().min(most)).unwrap_or_default();
        if part.is_empty() {
            // The map was checked against what is stored.
            return Err(Error::parse("tar", "a file with holes ends before its map does"));
        }
        file.write_all_at(part, offset).map_err(|error| Error::from_io("pwrite", &error))?;
        let used = part.len();
        archive.used(used);
        offset += used as u64;
        length -= used as u64;
    }
    Ok(())
}
