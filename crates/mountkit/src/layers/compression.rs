//! How a layer is packed.
#![forbid(unsafe_code)]

/// How a layer is compressed: what its first bytes say, whatever a media type claims.
///
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md>
///
/// ```
/// use mountkit::layers::Compression;
///
/// assert_eq!(Compression::of(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
/// assert_eq!(Compression::of(b"etc/passwd"), Compression::None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// [RFC 1952](https://www.rfc-editor.org/rfc/rfc1952): what every registry and engine takes.
    #[default]
    Gzip,
    /// [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878): smaller, and much faster to unpack.
    Zstd,
}

impl Compression {
    /// How many bytes [`of`](Self::of) looks at.
    pub const MAGIC: usize = 4;

    /// What content is packed with that begins with `start`: its first four bytes, or all of it when it has fewer.
    ///
    /// A skippable frame of zstd, which some programs put first, counts as zstd.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_first_bytes() {
        for (start, compression) in [
            (&b""[..], Compression::None),
            (b"\x1f", Compression::None),
            (b"\x1f\x8b", Compression::Gzip),
            (b"\x28\xb5\x2f", Compression::None),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x50\x2a\x4d\x18", Compression::Zstd),
            (b"\x5f\x2a\x4d\x18", Compression::Zstd),
            (b"\0\0\0\0", Compression::None),
        ] {
            assert_eq!(Compression::of(start), compression, "{start:?}");
        }
    }
}
