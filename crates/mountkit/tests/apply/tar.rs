//! Archives byte by byte, also such as no program writes.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test binary uses a part of it")]

/// An archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// One entry more.
    pub fn with(mut self, member: Member) -> Self {
        self.push(&member);
        self
    }

    pub fn push(&mut self, member: &Member) {
        if !member.pax.is_empty() {
            let body: Vec<u8> = member.pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            self.extended(b'x', &body);
        }
        self.0.extend(member.header());
        self.content(&member.content);
    }

    /// A header that is an entry of its own: `x`, `g`, `L`, `K`.
    pub fn extended(&mut self, flag: u8, body: &[u8]) {
        let name = if matches!(flag, b'L' | b'K') { "././@LongLink" } else { "PaxHeaders/x" };
        let member = Member::new(flag, name).content(body);
        self.0.extend(member.header());
        self.content(body);
    }

    /// Content, padded to whole blocks.
    pub fn content(&mut self, content: &[u8]) {
        self.0.extend(content);
        self.0.resize(self.0.len().div_ceil(512) * 512, 0);
    }

    /// With the mark for the end.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

impl FromIterator<Member> for Tar {
    fn from_iter<T: IntoIterator<Item = Member>>(members: T) -> Self {
        members.into_iter().fold(Self::new(), Self::with)
    }
}

/// The whole archive of some entries.
pub fn archive(members: impl IntoIterator<Item = Member>) -> Vec<u8> {
    members.into_iter().collect::<Tar>().end()
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Member {
    pub flag: u8,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    /// What the header says; else it is the content's.
    pub size: Option<u64>,
    pub device: (u32, u32),
    pub content: Vec<u8>,
    pub pax: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the header that are to be others, before its checksum.
    pub patches: Vec<(usize, Vec<u8>)>,
}

impl Member {
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            flag,
            name: name.as_ref().to_vec(),
            link: Vec::new(),
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
            size: None,
            device: (0, 0),
            content: Vec::new(),
            pax: Vec::new(),
            patches: Vec::new(),
        }
    }

    pub fn content(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = content.as_ref().to_vec();
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = mtime;
        self
    }

    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    pub fn link(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    pub fn device(mut self, major: u32, minor: u32) -> Self {
        self.device = (major, minor);
        self
    }

    pub fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub fn xattr(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(format!("SCHILY.xattr.{key}"), value)
    }

    pub fn patch(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        self.patches.push((at, bytes.as_ref().to_vec()));
        self
    }

    pub fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(100, &number(u64::from(self.mode), 8));
        put(108, &number(self.uid, 8));
        put(116, &number(self.gid, 8));
        put(124, &number(self.size.unwrap_or(self.content.len() as u64), 12));
        put(136, &number(self.mtime, 12));
        put(156, &[self.flag]);
        put(257, b"ustar\x0000");
        put(329, &number(u64::from(self.device.0), 8));
        put(337, &number(u64::from(self.device.1), 8));
        for (at, bytes) in &self.patches {
            put(*at, bytes);
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Member {
    Member::new(b'0', name).content(content)
}

pub fn dir(name: impl AsRef<[u8]>) -> Member {
    Member::new(b'5', name)
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member::new(b'2', name).link(target).mode(0o777)
}

pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member::new(b'1', name).link(target)
}

pub fn chardev(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Member {
    Member::new(b'3', name).device(major, minor)
}

pub fn fifo(name: impl AsRef<[u8]>) -> Member {
    Member::new(b'6', name)
}

/// Octal digits, or base 256 when they are too few.
pub fn number(value: u64, width: usize) -> Vec<u8> {
    let digits = format!("{value:0width$o}\0", width = width - 1);
    if digits.len() <= width {
        return digits.into_bytes();
    }
    let mut bytes = vec![0; width];
    bytes[width - 8..].copy_from_slice(&value.to_be_bytes());
    bytes[0] |= 0x80;
    bytes
}

/// One record of a PAX header: its length counts its own digits.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}
