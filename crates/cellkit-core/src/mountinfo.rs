//! The lines of `/proc/PID/mountinfo`: bytes that other processes have a hand in. Nothing here panics, whatever they hold.
//!
//! Hidden from the documentation: it is shared by the cellkit crates and promises nothing to others.
#![forbid(unsafe_code)]
#![allow(missing_docs)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line, its fields as they are written: see [`unescaped`].
#[derive(Clone, Copy, Debug)]
pub struct MountLine<'a> {
    /// The mount's number.
    pub id: &'a [u8],
    /// What of the file system is mounted.
    pub root: &'a [u8],
    /// Where.
    pub target: &'a [u8],
    /// The type of the file system; none in a line that was cut off.
    pub kind: Option<&'a [u8]>,
    /// The options of the file system.
    pub options: &'a [u8],
}

/// The lines that say where something is mounted.
pub fn lines(mountinfo: &[u8]) -> impl Iterator<Item = MountLine<'_>> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(line)
}

fn line(line: &[u8]) -> Option<MountLine<'_>> {
    // 36 35 0:4 net:[4026532201] /run/netns/web rw shared:7 - nsfs nsfs rw
    let mut fields = line.split(|&byte| byte == b' ');
    let (id, root) = (fields.next()?, fields.nth(2)?);
    let target = fields.next().filter(|target| !target.is_empty())?;
    let kind = fields.find(|field| *field == b"-").and_then(|_| fields.next());
    Some(MountLine { id, root, target, kind, options: fields.nth(1).unwrap_or_default() })
}

/// Blanks, newlines, `\` and `#` of a path are written as a backslash and three octal digits.
#[must_use]
pub fn unescaped(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => plain.push(first),
        }
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_and_lines_cut_off() {
        let text = b"36 35 0:4 net:[7] /a\\040b rw shared:7 - nsfs none rw,x\n37 35 0:5 / /b rw\n38 35 0:6 /\n\n";
        let found: Vec<MountLine<'_>> = lines(text).collect();
        let [first, second] = found[..] else { panic!("{found:?}") };
        assert_eq!((first.id, first.root, first.kind), (&b"36"[..], &b"net:[7]"[..], Some(&b"nsfs"[..])));
        assert_eq!((unescaped(first.target), first.options), (PathBuf::from("/a b"), &b"rw,x"[..]));
        assert_eq!((second.target, second.kind, second.options), (&b"/b"[..], None, &b""[..]));
    }
}
