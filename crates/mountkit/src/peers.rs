//! Whether what is mounted on a mount appears elsewhere too.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{ProcFd, ProcView, Result};

/// Whether the mount of this number (statx(2) `stx_mnt_id`), or with `above` the one it is mounted on, is shared.
pub(crate) fn is_shared(mount: u64, above: bool) -> Result<bool> {
    let table = ProcFd::open(ProcView::Processes)?.this_thread()?.read(Path::new("mountinfo"))?;
    let mount = if above { parent(&table, mount) } else { Some(mount) };
    Ok(mount.and_then(|mount| fields(&table, mount)).is_some_and(|fields| {
        // Optional fields stand between the sixth field and a single "-".
        fields.skip(6).take_while(|field| *field != b"-").any(|field| field.starts_with(b"shared:"))
    }))
}

/// The fields of the line of a mount.
fn fields(table: &[u8], mount: u64) -> Option<impl Iterator<Item = &[u8]>> {
    let id = mount.to_string();
    let fields = |line: &'_ [u8]| -> Option<()> {
        line.split(|&byte| byte == b' ').next().filter(|f| *f == id.as_bytes()).map(drop)
    };
    let line = table.split(|&byte| byte == b'\n').find(|line| fields(line).is_some())?;
    Some(line.split(|&byte| byte == b' '))
}

fn parent(table: &[u8], mount: u64) -> Option<u64> {
    std::str::from_utf8(fields(table, mount)?.nth(1)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"21 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n\
        211 21 0:5 / /a rw - tmpfs none rw\n22 211 0:6 / /a/b rw master:3 - tmpfs shared:9 rw\n";

    #[test]
    fn the_line_of_a_mount() {
        let shared = |mount| fields(TABLE, mount).map(|mut fields| fields.nth(6).is_some_and(|f| f == b"shared:1"));
        assert_eq!((shared(21), shared(211), shared(2)), (Some(true), Some(false), None));
        assert_eq!((parent(TABLE, 22), parent(TABLE, 211), parent(TABLE, 9)), (Some(211), Some(21), None));
    }
}
