//! A table as findmnt(8) prints it.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;

use super::{MountEntry, MountTable};
use crate::MountAttr;

/// A [`MountTable`] that shows itself as a tree, with the columns of findmnt(8): target, source, type and options.
///
/// What would move the cursor of a terminal, and what is not UTF-8, is shown as `\x0a`.
///
/// ```
/// use mountkit::MountTable;
///
/// let table = MountTable::parse(
///     "1 0 0:1 / / rw,relatime - ext4 /dev/sda rw\n\
///      2 1 0:2 / /proc rw,nosuid - proc proc rw\n",
/// );
/// assert_eq!(
///     table.tree().to_string(),
///     "TARGET  SOURCE   FSTYPE OPTIONS\n\
///      /       /dev/sda ext4   rw,relatime\n\
///      └─/proc proc     proc   rw,nosuid\n"
/// );
/// ```
///
/// See findmnt(8): <https://man7.org/linux/man-pages/man8/findmnt.8.html>.
#[derive(Clone, Copy, Debug)]
pub struct MountTree<'t> {
    table: &'t MountTable,
}

impl<'t> MountTree<'t> {
    pub(super) fn new(table: &'t MountTable) -> Self {
        Self { table }
    }

    fn rows(self) -> Vec<[String; 4]> {
        let mut rows = vec![["TARGET", "SOURCE", "FSTYPE", "OPTIONS"].map(String::from)];
        // What is left to be shown, the next last, each with the lines that lead to it.
        let mut left: Vec<(MountEntry<'t>, String, &str)> =
            self.table.roots().map(|root| (root, String::new(), "")).collect();
        left.reverse();
        while let Some((mount, before, branch)) = left.pop() {
            let target = format!("{before}{branch}{}", visible(mount.mount_point().as_bytes()));
            let below = match branch {
                "" => before,
                "└─" => before + "  ",
                _ => before + "│ ",
            };
            let mut branch = "└─";
            for child in mount.children().rev() {
                left.push((child, below.clone(), branch));
                branch = "├─";
            }
            rows.push([target, source(mount), fs_type(mount), visible(options(mount).as_bytes())]);
        }
        rows
    }
}

impl fmt::Display for MountTree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let (a, b, c) = (width(0), width(1), width(2));
        for [target, source, fs_type, options] in &rows {
            writeln!(f, "{target:a$} {source:b$} {fs_type:c$} {options}")?;
        }
        Ok(())
    }
}

/// `tmpfs[/dir]` where not all of it is mounted.
fn source(mount: MountEntry<'_>) -> String {
    let mut text = visible(mount.source().unwrap_or_default().as_bytes());
    if mount.root() != "/" {
        text += &format!("[{}]", visible(mount.root().as_bytes()));
    }
    text
}

pub(super) fn fs_type(mount: MountEntry<'_>) -> String {
    let mut text = visible(mount.fs_type().as_bytes());
    if let Some(subtype) = mount.subtype() {
        text += ".";
        text += &visible(subtype.as_bytes());
    }
    text
}

/// Those of the mount and those of the file system, as mount(8) wants them: read-only if either is.
pub(super) fn options(mount: MountEntry<'_>) -> String {
    let attrs = mount.attrs();
    let file_system = mount.super_flags().to_string();
    let read_only = attrs.contains(MountAttr::RDONLY) || file_system.starts_with("ro");
    let mut words = String::from(if read_only { "ro" } else { "rw" });
    let mut add = |word: &str| {
        words.push(',');
        words.push_str(word);
    };
    for (attr, word) in [(MountAttr::NOSUID, "nosuid"), (MountAttr::NODEV, "nodev"), (MountAttr::NOEXEC, "noexec")] {
        if attrs.contains(attr) {
            add(word);
        }
    }
    match mount.atime() {
        crate::Atime::Never => add("noatime"),
        crate::Atime::Relative | crate::Atime::Strict => {}
    }
    if attrs.contains(MountAttr::NODIRATIME) {
        add("nodiratime");
    }
    if mount.atime() == crate::Atime::Relative {
        add("relatime");
    }
    if attrs.contains(MountAttr::NOSYMFOLLOW) {
        add("nosymfollow");
    }
    if mount.is_idmapped() {
        add("idmapped");
    }
    if let Some((_, flags)) = file_system.split_once(',') {
        add(flags);
    }
    match mount.options() {
        Some(options) if !options.as_written().is_empty() => add(&options.as_written().to_string_lossy()),
        _ => {}
    }
    words
}

/// Text for a terminal.
pub(super) fn visible(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() {
                let mut utf8 = [0; 4];
                for byte in letter.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(shown, "\\x{byte:02x}");
                }
            } else {
                shown.push(letter);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}
