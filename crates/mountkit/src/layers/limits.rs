//! How much of a layer is too much.
#![forbid(unsafe_code)]

/// What a layer may ask for at most: more is an error of kind Limit that names the entry, before that entry is made.
///
/// A few bytes of a compressed archive can say a great deal. There is no limit of the ratio of the two sizes: it tells
/// nothing that [`bytes`](Self::bytes) does not, and honest layers of zeros have any ratio.
///
/// <https://github.com/opencontainers/image-spec/blob/main/layer.md> has no limits, and the kernel's own (PATH_MAX) are for a
/// path that is given to it, not for a tree: see
/// <https://man7.org/linux/man-pages/man7/path_resolution.7.html>.
///
/// ```
/// use mountkit::layers::Limits;
///
/// let limits = Limits::new().bytes(2 << 30).entries(100_000);
/// assert_eq!(Limits::new(), Limits::default());
/// # let _ = limits;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) depth: usize,
    pub(crate) path: usize,
    pub(crate) xattrs: usize,
    pub(crate) window: u64,
}

impl Limits {
    /// 64 GiB, 4,000,000 entries, 512 directories deep, paths of 4,095 bytes, 128 KiB of attributes for each entry, a
    /// window of 8 MiB.
    pub fn new() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000, depth: 512, path: 4095, xattrs: 128 << 10, window: 8 << 20 }
    }

    /// The bytes of the archive when unpacked, its headers with them; and, counted by themselves, the sizes of all files
    /// with their holes.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// The entries of the archive: files, directories, links, whiteouts.
    pub fn entries(mut self, entries: u64) -> Self {
        self.entries = entries;
        self
    }

    /// The names in a path.
    pub fn depth(mut self, names: usize) -> Self {
        self.depth = names;
        self
    }

    /// The bytes of a path, and of what a link names. Of what a symbolic link names the kernel itself takes 4,095.
    pub fn path(mut self, bytes: usize) -> Self {
        self.path = bytes;
        self
    }

    /// The names and values of the extended attributes of one entry together, in bytes. Of one value the kernel itself
    /// takes 65,536.
    pub fn xattrs(mut self, bytes: usize) -> Self {
        self.xattrs = bytes;
        self
    }

    /// The memory in bytes that a layer packed by zstd may need to be unpacked. RFC 8878 wants 8 MiB of every reader and
    /// advises writers to stay below; `zstd --ultra -22` and `--long` ask for 128 MiB. It counts as the next lower power
    /// of two, between 1 KiB and 2 GiB.
    pub fn window(mut self, bytes: u64) -> Self {
        self.window = bytes;
        self
    }

    /// The most bytes that one header before an entry may have: its path, what it links to, its attributes (which may be
    /// written in base64), and some small numbers.
    pub(crate) fn header(&self) -> usize {
        let largest = self.path.saturating_mul(2).saturating_add(self.xattrs.saturating_mul(2));
        largest.saturating_add(1 << 20)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
