//! The archive inside a layer, and the digests of both, while it goes by.
//!
//! ```text
//!   reader ──► Packed: counts, digests ──► gzip, zstd or nothing ──► Unpacked: counts, digests ──► whoever reads entries
//! ```
//!
//! A layer is read to its end: several members of gzip or frames of zstd in a row are one stream, as their own programs
//! have it, and what follows them and is neither is an error.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read};

use cellkit_core::{Error, Result};
use flate2::bufread::MultiGzDecoder;

use super::compression::Compression;
use super::digest::{Algorithm, Digest, Digester};
use super::limits::Limits;

const BUFFER: usize = 128 << 10;

/// What went by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) compression: Compression,
    /// Of the layer as it came, and its bytes.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Of the archive in it, and its bytes.
    pub(crate) diff_id: Digest,
    pub(crate) unpacked: u64,
}

/// The layer as it comes.
#[derive(Debug)]
struct Packed<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    digester: Digester,
    size: u64,
}

/// Reads into `target`, again when a signal interrupts it.
fn fetch(reader: &mut impl Read, digester: &mut Digester, size: &mut u64, target: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(target) {
            Ok(read) => {
                digester.update(target.get(..read).unwrap_or_default());
                *size += read as u64;
                return Ok(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // So that it is not taken for a flaw of the layer.
            Err(error) => return Err(Error::from_io("read", &error).into()),
        }
    }
}

impl<R: Read> BufRead for Packed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            let read = fetch(&mut self.reader, &mut self.digester, &mut self.size, &mut self.buffer)?;
            (self.start, self.end) = (0, read);
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, used: usize) {
        self.start = self.end.min(self.start + used);
    }
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            return fetch(&mut self.reader, &mut self.digester, &mut self.size, buffer);
        }
        let there = self.buffer.get(self.start..self.end).unwrap_or_default();
        let read = { there }.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

enum Decoder<R: Read> {
    None(Packed<R>),
    Gzip(Box<MultiGzDecoder<Packed<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Packed<R>>),
}

/// The archive in a layer.
pub(crate) struct Unpacked<R: Read> {
    decoder: Decoder<R>,
    /// `None` where the layer is not compressed and its own digest is this one too.
    digester: Option<Digester>,
    unpacked: u64,
}

impl<R: Read> Unpacked<R> {
    /// Looks at the beginning of the layer. The digests are made with the algorithms of those that are expected.
    pub(crate) fn new(reader: R, limits: &Limits, digest: Algorithm, diff_id: Algorithm) -> Result<Self> {
        let digester = Digester::new(digest);
        let mut packed = Packed { reader, buffer: vec![0; BUFFER].into(), start: 0, end: 0, digester, size: 0 };
        // A reader may give one byte at a time.
        let mut start = Vec::with_capacity(Compression::MAGIC);
        while start.len() < Compression::MAGIC {
            let mut byte = [0];
            match packed.read(&mut byte).map_err(explain)? {
                0 => break,
                _ => start.extend(byte),
            }
        }
        let compression = Compression::of(&start);
        // Put back: there is nothing else in the buffer yet.
        if let Some(place) = packed.buffer.get_mut(..start.len()) {
            place.copy_from_slice(&start);
        }
        packed.end = start.len();
        let same = compression == Compression::None && digest == diff_id;
        let decoder = match compression {
            Compression::None => Decoder::None(packed),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(packed))),
            Compression::Zstd => {
                let open = |packed| {
                    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
                    decoder.window_log_max(limits.window.clamp(1 << 10, 1 << 31).ilog2())?;
                    Ok(decoder)
                };
                Decoder::Zstd(open(packed).map_err(|error: io::Error| Error::from_io("zstd", &error))?)
            }
        };
        Ok(Self { decoder, digester: (!same).then(|| Digester::new(diff_id)), unpacked: 0 })
    }

    /// What has gone by. Whoever wants the digests of all of it reads to the end first.
    pub(crate) fn passed(self) -> Passed {
        let (compression, packed) = match self.decoder {
            Decoder::None(packed) => (Compression::None, packed),
            Decoder::Gzip(decoder) => (Compression::Gzip, decoder.into_inner()),
            Decoder::Zstd(decoder) => (Compression::Zstd, decoder.finish()),
        };
        let digest = packed.digester.finish();
        let diff_id = self.digester.map_or(digest, Digester::finish);
        Passed { compression, digest, size: packed.size, diff_id, unpacked: self.unpacked }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::None(packed) => packed.read(buffer)?,
            Decoder::Gzip(decoder) => decoder.read(buffer).map_err(|error| flaw("gzip", error))?,
            Decoder::Zstd(decoder) => decoder.read(buffer).map_err(|error| flaw("zstd", error))?,
        };
        if let Some(digester) = &mut self.digester {
            digester.update(buffer.get(..read).unwrap_or_default());
        }
        self.unpacked += read as u64;
        Ok(read)
    }
}

impl<R: Read> std::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked").field("unpacked", &self.unpacked).finish_non_exhaustive()
    }
}

/// What is wrong with a compressed stream, unless it is the reader below that failed.
fn flaw(format: &'static str, error: io::Error) -> io::Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return error;
    }
    let text = error.to_string();
    let torn = error.kind() == io::ErrorKind::UnexpectedEof;
    let found = match torn {
        // zstd has no number for it that its crate would tell.
        _ if text.contains("too much memory") => {
            Error::limit(format, "it needs a larger window of memory to be unpacked than allowed")
                .with_hint("a layer that is trusted may have more: see layers::Limits::window")
        }
        true => Error::parse(format, "the compressed stream ends too early")
            .with_hint("the layer is not whole: fetch it again"),
        false => Error::parse(format, format!("the compressed stream is damaged: {text}")),
    };
    found.into()
}

/// The error that a reader of this module put into an `io::Error`, or one of the caller's own reader.
pub(crate) fn explain(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::from_io("read", &error),
    }
}

/// Refuses a layer that is not the one that was asked for.
pub(crate) fn compare(what: &'static str, found: Digest, expected: Option<Digest>) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            let why = format!("{what} is {found}, and {expected} was asked for");
            Err(Error::invalid("apply", why)
                .with_hint("this is not the layer, or it was damaged: what was made of it is not to be used"))
        }
        _ => Ok(()),
    }
}
