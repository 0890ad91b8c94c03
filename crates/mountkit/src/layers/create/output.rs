//! Where a layer is written: summed up, packed, and summed up again.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use crate::layers::digest::{Algorithm, Digester};
use crate::layers::{Compression, Digest};

/// The archive on its way out.
///
/// ```text
/// blocks ──► diff_id ──► gzip or zstd ──► digest, size ──► out
/// ```
pub(super) struct Output<W: Write> {
    packer: Packer<Summed<W>>,
    plain: Digester,
    unpacked_size: u64,
}

enum Packer<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// What came out in the end.
pub(super) struct Sums {
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
    pub(super) size: u64,
    pub(super) unpacked_size: u64,
}

impl<W: Write> Output<W> {
    pub(super) fn new(out: W, compression: Compression) -> io::Result<Self> {
        let out = Summed { out, sum: Digester::new(Algorithm::Sha256), size: 0 };
        let packer = match compression {
            Compression::None => Packer::None(out),
            // Its header has neither a name nor a time, so that the same content is the same layer.
            Compression::Gzip => Packer::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::default())),
            Compression::Zstd => Packer::Zstd(zstd::stream::write::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        };
        Ok(Self { packer, plain: Digester::new(Algorithm::Sha256), unpacked_size: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.plain.update(bytes);
        self.unpacked_size += bytes.len() as u64;
        match &mut self.packer {
            Packer::None(out) => out.write_all(bytes),
            Packer::Gzip(out) => out.write_all(bytes),
            Packer::Zstd(out) => out.write_all(bytes),
        }
    }

    pub(super) fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while count > 0 {
            let part = ZEROS.get(..count.min(ZEROS.len() as u64) as usize).unwrap_or(&ZEROS);
            self.write(part)?;
            count -= part.len() as u64;
        }
        Ok(())
    }

    /// Ends the archive with the two empty blocks that it has to end with.
    pub(super) fn finish(mut self) -> io::Result<Sums> {
        self.zeros(2 * super::header::BLOCK as u64)?;
        let mut out = match self.packer {
            Packer::None(out) => out,
            Packer::Gzip(out) => out.finish()?,
            Packer::Zstd(out) => out.finish()?,
        };
        out.flush()?;
        Ok(Sums {
            digest: out.sum.finish(),
            diff_id: self.plain.finish(),
            size: out.size,
            unpacked_size: self.unpacked_size,
        })
    }
}

struct Summed<W> {
    out: W,
    sum: Digester,
    size: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or(bytes));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
