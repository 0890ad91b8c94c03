//! The lines of `/proc/PID/mountinfo`: bytes that other processes have a hand in. Nothing here panics, whatever they hold.
//!
//! Hidden from the documentation: it is shared by the cellkit crates and promises nothing to others.
#![forbid(unsafe_code)]
#![allow(missing_docs)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line, its fields as they are written: see [`unescaped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountLine<'a> {
    /// The mount's number.
    pub id: &'a [u8],
    /// Its parent's.
    pub parent: &'a [u8],
    /// The device of its file system, `major:minor`.
    pub device: &'a [u8],
    /// What of the file system is mounted.
    pub root: &'a [u8],
    /// Where.
    pub target: &'a [u8],
    /// The attributes of the mount.
    pub attributes: &'a [u8],
    /// The fields that not every line has, blanks between them: `shared:7 master:1`. A later kernel may have others.
    pub optional: &'a [u8],
    /// The type of the file system; none in a line that was cut off.
    pub kind: Option<&'a [u8]>,
    /// What was mounted, as whoever mounted it put it; it may be empty.
    pub source: &'a [u8],
    /// The options of the file system.
    pub options: &'a [u8],
}

/// The lines that say where something is mounted.
pub fn lines(mountinfo: &[u8]) -> impl Iterator<Item = MountLine<'_>> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(line)
}

/// What is before the next blank, and what is after it; all, and nothing, where there is none.
fn field<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
    let (field, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    field
}

fn line(line: &[u8]) -> Option<MountLine<'_>> {
    // 36 35 0:4 net:[4026532201] /run/netns/web rw shared:7 - nsfs nsfs rw
    let mut rest = line;
    let [id, parent, device, root, target, attributes] = std::array::from_fn(|_| field(&mut rest));
    if target.is_empty() {
        return None;
    }
    let all = rest;
    while !rest.is_empty() {
        let before = all.len() - rest.len();
        if field(&mut rest) == b"-" {
            let optional = all.get(..before).unwrap_or_default().trim_ascii_end();
            let kind = Some(field(&mut rest)).filter(|kind| !kind.is_empty());
            let source = field(&mut rest);
            // File systems may forget to escape a blank in their options, which are last.
            return Some(MountLine {
                id,
                parent,
                device,
                root,
                target,
                attributes,
                optional,
                kind,
                source,
                options: rest,
            });
        }
    }
    let [optional, source, options] = [all, &[], &[]];
    Some(MountLine { id, parent, device, root, target, attributes, optional, kind: None, source, options })
}

/// The place of `field` in `text`, which it is a part of; `None` when it is not.
#[must_use]
pub fn place_of(text: &[u8], field: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = (field.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start.checked_add(field.len())?;
    (end <= text.len()).then_some(start..end)
}

/// Takes the escapes out of `field` where it stands, and answers how long it is then.
pub fn unescape_in_place(field: &mut [u8]) -> usize {
    let Some(mut from) = field.iter().position(|&byte| byte == b'\\') else { return field.len() };
    let mut to = from;
    while let Some(&first) = field.get(from) {
        let plain = match field.get(from..) {
            Some([b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                from += 3;
                (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
            }
            _ => first,
        };
        from += 1;
        if let Some(place) = field.get_mut(to) {
            *place = plain;
        }
        to += 1;
    }
    to
}

/// Blanks, newlines, `\` and `#` of a path are written as a backslash and three octal digits.
#[must_use]
pub fn unescaped(field: &[u8]) -> PathBuf {
    let mut plain = field.to_vec();
    let length = unescape_in_place(&mut plain);
    plain.truncate(length);
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

    #[test]
    fn every_field_has_its_place() {
        let text = b"99 1 8:1 /a\\040b /t ro,noexec shared:5 new:x master:1 - fuse.a\\134b  rw,x=a b,y\n";
        let line = lines(text).next().expect("a line");
        assert_eq!((line.parent, line.device, line.attributes), (&b"1"[..], &b"8:1"[..], &b"ro,noexec"[..]));
        assert_eq!(line.optional, b"shared:5 new:x master:1");
        assert_eq!((line.kind, line.source, line.options), (Some(&b"fuse.a\\134b"[..]), &b""[..], &b"rw,x=a b,y"[..]));
        assert_eq!(place_of(text, line.root), Some(9..16));
        assert_eq!(place_of(b"other", line.root), None);
        // A path may be called as the separator is.
        let line = lines(b"1 1 0:1 - - - - - tmpfs - -").next().expect("a line");
        assert_eq!(
            (line.root, line.target, line.optional, line.kind),
            (&b"-"[..], &b"-"[..], &b""[..], Some(&b"-"[..]))
        );
    }

    #[test]
    fn escapes_are_taken_out() {
        for (written, plain) in [
            (&b"\\040\\011\\012\\134\\043"[..], &b" \t\n\\#"[..]),
            (b"a\\134040", b"a\\040"),
            (b"\\", b"\\"),
            (b"\\04", b"\\04"),
            (b"\\400\\08\xff\\377", b"\\400\\08\xff\xff"),
            (b"", b""),
        ] {
            assert_eq!(unescaped(written).into_os_string().into_encoded_bytes(), plain);
        }
    }
}
