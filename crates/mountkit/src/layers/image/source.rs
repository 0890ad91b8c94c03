//! Where a layout's files are: in a directory, or within a tar archive.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellkit_core::{Error, Result, Subject};

use super::documents::LONGEST;
use crate::RootFd;
use crate::hint::HINTS;
use crate::layers::entry::{Archive, Entry, Kind};
use crate::layers::{Compression, Digest, Limits};

/// What is asked for beside blobs, and the longest name of one: `blobs/sha512/` and 128 digits.
const NAMES: [&[u8]; 3] = [b"oci-layout", b"index.json", b"manifest.json"];
const LONGEST_NAME: usize = 160;
/// How many blobs an archive may have: their names are kept.
const MOST_BLOBS: usize = 50_000;
/// The most files that an archive of a layout may have.
const MOST_FILES: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Directory(RootFd),
    /// Where the content of each regular file is, and how long it is.
    Archive(Arc<File>, BTreeMap<Vec<u8>, (u64, u64)>),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let on = |operation: &'static str| {
            move |error: io::Error| Error::from_io(operation, &error).on(path).with_hints(&HINTS)
        };
        let kind = std::fs::metadata(path).map_err(on("stat"))?;
        let files = if kind.is_dir() {
            Files::Directory(RootFd::open(path)?)
        } else if kind.is_file() {
            let file = File::open(path).map_err(on("open"))?;
            let places = places(&file).map_err(|error| error.context(format!("read the archive {path:?}")))?;
            Files::Archive(Arc::new(file), places)
        } else {
            return Err(Error::invalid("read image", "an image layout is a directory or a tar archive").on(path));
        };
        Ok(Self { path: path.to_owned(), files })
    }

    /// One of the layout's own files, whole.
    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>> {
        let (content, length) = self.content(name).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) => error.with_hint(self.what_else_it_is()),
            _ => error,
        })?;
        if length > LONGEST {
            return Err(self.too_long(self.of(name)));
        }
        let mut bytes = Vec::new();
        let read = content.take(LONGEST).read_to_end(&mut bytes);
        read.map_err(|error| Error::from_io("read", &error).on(self.of(name)))?;
        Ok(bytes)
    }

    /// The content of a blob, which must be as long as its descriptor says.
    pub(super) fn blob(&self, digest: &Digest, size: u64) -> Result<Content> {
        let (content, length) = self.content(&name_of(digest))?;
        if length != size {
            let why = format!("it has {length} bytes, and its descriptor says {size}");
            return Err(Error::parse("read image", why).on(self.of_blob(digest)));
        }
        Ok(content)
    }

    fn content(&self, name: &str) -> Result<(Content, u64)> {
        match &self.files {
            Files::Directory(root) => {
                // A regular file, and never one outside.
                let file = root.open_file(name)?;
                let length = file.metadata().map_err(|error| Error::from_io("fstat", &error).on(self.of(name)))?.len();
                Ok((Content { file: Arc::new(file), at: 0, end: length }, length))
            }
            Files::Archive(file, places) => {
                let Some(&(at, length)) = places.get(name.as_bytes()) else {
                    return Err(Error::from_errno("read image", libc::ENOENT).on(self.of(name)));
                };
                Ok((Content { file: Arc::clone(file), at, end: at.saturating_add(length) }, length))
            }
        }
    }

    fn what_else_it_is(&self) -> &'static str {
        let has = |name| self.content(name).is_ok();
        if has("manifest.json") {
            "this is what `docker save` wrote before Docker 25: save it with a newer one, or copy it by \
             `skopeo copy docker-archive:FILE oci:DIRECTORY`"
        } else {
            "an image layout has the files oci-layout and index.json, and a folder blobs: a root file system is none"
        }
    }

    pub(super) fn subject(&self) -> Subject {
        Subject::Path(self.path.clone())
    }

    pub(super) fn of(&self, name: &str) -> Subject {
        Subject::PathUnder { path: name.into(), dir: self.path.clone() }
    }

    pub(super) fn of_blob(&self, digest: &Digest) -> Subject {
        self.of(&name_of(digest))
    }

    pub(super) fn too_long(&self, subject: Subject) -> Error {
        Error::limit("read image", format!("a document of an image has {LONGEST} bytes at most")).on(subject)
    }
}

/// A digest has nothing in it that a path could be made to lead elsewhere by.
fn name_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Where each regular file in the archive is. One that is there twice is refused: which one counts is not for us to say.
fn places(file: &File) -> Result<BTreeMap<Vec<u8>, (u64, u64)>> {
    let mut start = [0; Compression::MAGIC];
    let length = file.read_at(&mut start, 0).map_err(|error| Error::from_io("read", &error))?;
    let compression = Compression::of(start.get(..length).unwrap_or_default());
    if compression != Compression::None {
        return Err(Error::unsupported("read image", "an archive that is packed itself", None)
            .with_hint("unpack it first: gzip -d FILE, zstd -d FILE"));
    }
    let limits = Limits::new().bytes(u64::MAX).entries(MOST_FILES);
    let mut archive = Archive::new(file, limits);
    let (mut entry, mut places) = (Entry::default(), BTreeMap::new());
    while archive.next(&mut entry)? {
        if entry.kind != Kind::File || entry.chunks.is_some() {
            continue;
        }
        let path = entry.path.strip_prefix(b"./").unwrap_or(&entry.path).to_owned();
        // What is asked for is never longer, and whoever fills an archive with names does not fill memory.
        if path.len() > LONGEST_NAME || !(path.starts_with(b"blobs/") || NAMES.contains(&path.as_slice())) {
            continue;
        }
        if places.len() == MOST_BLOBS {
            return Err(Error::limit("read image", format!("the archive has more than {MOST_BLOBS} blobs")));
        }
        if places.insert(path, (archive.position(), entry.size)).is_some() {
            return Err(Error::parse("read image", "there are two files of one name").on(entry.shown()));
        }
    }
    Ok(places)
}

/// The content of a file.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX));
        let length = self.file.read_at(buffer.get_mut(..want).unwrap_or_default(), self.at)?;
        if length == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        self.at += length as u64;
        Ok(length)
    }
}
