//! File capabilities as `security.capability` holds them.
//!
//! The kernel's struct vfs_ns_cap_data (include/uapi/linux/capability.h), little-endian: a word of version and flags, two
//! pairs of words of capabilities, and in version 3 the uid that is root of the user namespace where they count. Version
//! 2 has no such uid; those count where root is uid 0 of the namespace that reads them, and so are treated.
//!
//! See "File capability extended attribute versioning" in capabilities(7).
#![forbid(unsafe_code)]

const VERSION_MASK: u32 = 0xff00_0000;
const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;
const LENGTH_2: usize = 20;
const LENGTH_3: usize = 24;

/// The most that the kernel shows.
pub(crate) const MOST: usize = LENGTH_3;

/// The uid whose namespace they count in.
///
/// # Errors
/// With what is wrong. Version 1, of one pair of words, has not been written since Linux 2.6.25.
pub(crate) fn root_of(value: &[u8]) -> Result<u32, &'static str> {
    let (&first, _) = value.split_first_chunk::<4>().ok_or("the value is shorter than its version")?;
    match (u32::from_le_bytes(first) & VERSION_MASK, value.len()) {
        (VERSION_2, LENGTH_2) => Ok(0),
        (VERSION_3, LENGTH_3) => {
            let (_, &root) = value.split_last_chunk::<4>().ok_or("the value has no uid")?;
            Ok(u32::from_le_bytes(root))
        }
        _ => Err("the value is neither of version 2 nor of version 3"),
    }
}

/// The same capabilities, in the namespace whose root is `root`. Version 2 when that is uid 0 of the caller: the kernel
/// takes it, and writes version 3 where the caller is in a namespace.
pub(crate) fn with_root(value: &[u8], root: u32) -> Vec<u8> {
    let (version, length) = if root == 0 { (VERSION_2, LENGTH_2) } else { (VERSION_3, LENGTH_2) };
    let flags = value.first_chunk::<4>().map_or(0, |&word| u32::from_le_bytes(word) & !VERSION_MASK);
    let mut new = (version | flags).to_le_bytes().to_vec();
    new.extend_from_slice(value.get(4..length).unwrap_or_default());
    if root != 0 {
        new.extend_from_slice(&root.to_le_bytes());
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_comes_and_goes() {
        // cap_net_raw=ep.
        let two = *b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(root_of(&two), Ok(0));
        let three = with_root(&two, 100_000);
        assert_eq!(three, b"\x01\0\0\x03\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xa0\x86\x01\0");
        assert_eq!(root_of(&three), Ok(100_000));
        assert_eq!(root_of(&with_root(&three, 7)), Ok(7));
        assert_eq!(with_root(&three, 0), two);
    }

    #[test]
    fn what_the_kernel_does_not_write_is_refused() {
        for wrong in [&b""[..], b"\0\0\x02", b"\0\0\0\x02", b"\0\0\0\x01\0\0\0\0\0\0\0\0", &[0, 0, 0, 3].repeat(5)] {
            assert!(root_of(wrong).is_err(), "{wrong:?}");
        }
    }
}
