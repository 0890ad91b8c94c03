//! Netlink attributes: length, type, value, padded to four bytes; values may be lists of attributes themselves.
//!
//! The length has 16 bits. A value that does not fit would be cut, and its tail read as further attributes, so the
//! writer remembers the first one that is too long and [`Writer::finish`] refuses the whole message.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

const HEADER: usize = 4;
const NESTED: u16 = 0x8000;
/// The two upper bits of the type are flags.
const TYPE_MASK: u16 = 0x3fff;

/// Writes attributes behind a fixed header.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    too_long: Option<(u16, usize)>,
}

impl Writer {
    pub(crate) fn new(header: &[u8]) -> Self {
        Self { bytes: header.to_vec(), too_long: None }
    }

    /// One attribute with this value.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start, kind);
        self
    }

    /// A header that stands before the attributes of a list.
    pub(crate) fn raw(&mut self, header: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(header);
        self
    }

    /// A list of attributes that was read elsewhere.
    pub(crate) fn put_nest(&mut self, kind: u16, list: &[u8]) -> &mut Self {
        self.nest(kind, |inner| inner.bytes.extend_from_slice(list))
    }

    /// A text with the NUL the kernel wants at its end.
    pub(crate) fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start, kind);
        self
    }

    /// A number in network byte order, as nf_tables has them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A list of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open(kind | NESTED);
        inner(self);
        self.close(start, kind);
        self
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize, kind: u16) {
        let length = self.bytes.len() - start;
        match (u16::try_from(length), self.bytes.get_mut(start..start + 2)) {
            (Ok(short), Some(place)) => place.copy_from_slice(&short.to_ne_bytes()),
            _ => {
                self.too_long.get_or_insert((kind, length));
            }
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(HEADER), 0);
    }

    /// The message.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        match self.too_long {
            None => Ok(self.bytes),
            Some((kind, length)) => Err(Error::invalid(
                "netlink",
                format!("attribute {kind} would take {length} bytes, and netlink allows {}", u16::MAX),
            )),
        }
    }
}

/// The attributes in `bytes`, up to the first malformed one.
pub(crate) fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes(bytes)
}

/// See [`attributes`].
#[derive(Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.first_chunk().copied()?));
        let kind = u16::from_ne_bytes(self.0.get(2..)?.first_chunk().copied()?);
        let value = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(HEADER)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

/// The value of the first attribute of this type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|&(found, _)| found == kind).map(|(_, value)| value)
}

/// A text attribute's value without its NUL.
pub(crate) fn as_text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        Leaf(u16, Vec<u8>),
        Nest(u16, Vec<Tree>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let kind = 0..TYPE_MASK;
        // Mostly short, sometimes around the limit of 16 bits.
        let length = prop_oneof![8 => 0usize..64, 1 => 65_520usize..70_000];
        let leaf = (kind.clone(), length).prop_map(|(kind, length)| Tree::Leaf(kind, vec![7; length]));
        leaf.prop_recursive(3, 12, 4, move |inner| {
            (0..TYPE_MASK, prop::collection::vec(inner, 0..4)).prop_map(|(kind, list)| Tree::Nest(kind, list))
        })
    }

    fn write(writer: &mut Writer, tree: &Tree) {
        match tree {
            Tree::Leaf(kind, value) => {
                writer.put(*kind, value);
            }
            Tree::Nest(kind, list) => {
                writer.nest(*kind, |inner| list.iter().for_each(|tree| write(inner, tree)));
            }
        }
    }

    fn length(tree: &Tree) -> usize {
        HEADER
            + match tree {
                Tree::Leaf(_, value) => value.len(),
                Tree::Nest(_, list) => list.iter().map(|tree| length(tree).next_multiple_of(HEADER)).sum(),
            }
    }

    fn fits(tree: &Tree) -> bool {
        length(tree) <= usize::from(u16::MAX)
            && match tree {
                Tree::Leaf(..) => true,
                Tree::Nest(_, list) => list.iter().all(fits),
            }
    }

    fn read(bytes: &[u8], shape: &[Tree]) -> Vec<Tree> {
        attributes(bytes)
            .zip(shape)
            .map(|((kind, value), shape)| match shape {
                Tree::Leaf(..) => Tree::Leaf(kind, value.to_vec()),
                Tree::Nest(_, list) => Tree::Nest(kind, read(value, list)),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_refused(trees in prop::collection::vec(tree(), 0..4)) {
            let mut writer = Writer::new(&[]);
            trees.iter().for_each(|tree| write(&mut writer, tree));
            match writer.finish() {
                Ok(bytes) => {
                    prop_assert!(trees.iter().all(fits));
                    prop_assert_eq!(attributes(&bytes).count(), trees.len());
                    prop_assert_eq!(read(&bytes, &trees), trees);
                }
                Err(_) => prop_assert!(!trees.iter().all(fits)),
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_in_bounded_time(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / HEADER);
        }
    }

    #[test]
    fn the_last_length_that_fits() {
        let longest = usize::from(u16::MAX) - HEADER;
        let mut writer = Writer::new(&[]);
        writer.put(1, &vec![0; longest]);
        assert!(writer.finish().is_ok());
        let mut writer = Writer::new(&[]);
        writer.put(1, &vec![0; longest + 1]);
        let error = writer.finish().unwrap_err().to_string();
        assert_eq!(error, "netlink: attribute 1 would take 65536 bytes, and netlink allows 65535");
    }

    #[test]
    fn padding_and_text() {
        let mut writer = Writer::new(&[0xff; 4]);
        writer.text(2, "ab").be32(3, 1);
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes, [0xff, 0xff, 0xff, 0xff, 7, 0, 2, 0, b'a', b'b', 0, 0, 8, 0, 3, 0, 0, 0, 0, 1]);
        assert_eq!(find(&bytes[4..], 2).map(as_text).as_deref(), Some("ab"));
        assert_eq!(find(&bytes[4..], 9), None);
    }
}
