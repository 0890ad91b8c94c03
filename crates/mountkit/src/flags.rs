//! Bit sets as strace prints them.
#![forbid(unsafe_code)]

use cellkit_core::Slot;

use crate::step::At;

/// The names of the bits of `value`; `0` for none. What nobody named is shown in hexadecimal.
fn names(value: u64, table: &[(u64, &str)]) -> String {
    let mut rest = value;
    let mut shown = Vec::new();
    for (bit, name) in table {
        if rest & bit != 0 {
            rest &= !bit;
            shown.push((*name).to_owned());
        }
    }
    if rest != 0 || shown.is_empty() {
        shown.push(if rest == 0 { "0".to_owned() } else { format!("{rest:#x}") });
    }
    shown.join("|")
}

/// MOUNT_ATTR_*.
pub(crate) fn attributes(value: u64) -> String {
    names(
        value,
        &[
            (libc::MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"),
            (libc::MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"),
            (libc::MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"),
            (libc::MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"),
            (libc::MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"),
            (libc::MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"),
            (libc::MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"),
            (libc::MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"),
        ],
    )
}

/// The flags of open_tree and mount_setattr.
pub(crate) fn at_flags(value: u32) -> String {
    names(
        // Close-on-exec is said once for all descriptors of a plan, not at each.
        u64::from(value & !libc::OPEN_TREE_CLOEXEC),
        &[
            (u64::from(libc::OPEN_TREE_CLONE), "OPEN_TREE_CLONE"),
            (libc::AT_RECURSIVE as u64, "AT_RECURSIVE"),
            (libc::AT_EMPTY_PATH as u64, "AT_EMPTY_PATH"),
        ],
    )
}

/// RESOLVE_*.
pub(crate) fn resolve(value: u64) -> String {
    names(
        value,
        &[
            (libc::RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"),
            (libc::RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"),
            (libc::RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"),
        ],
    )
}

/// MS_PRIVATE and its like.
pub(crate) fn propagation(value: u64) -> String {
    names(
        value,
        &[
            (libc::MS_PRIVATE, "MS_PRIVATE"),
            (libc::MS_SHARED, "MS_SHARED"),
            (libc::MS_SLAVE, "MS_SLAVE"),
            (libc::MS_UNBINDABLE, "MS_UNBINDABLE"),
        ],
    )
}

/// A descriptor by its slot, or AT_FDCWD.
pub(crate) fn at(at: At) -> String {
    match at {
        At::Cwd => "AT_FDCWD".to_owned(),
        At::Fd(slot) => fd(slot),
    }
}

/// A descriptor by its slot.
pub(crate) fn fd(slot: Slot) -> String {
    slot.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_strace_would() {
        assert_eq!(
            attributes(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID),
            "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID"
        );
        assert_eq!(attributes(0), "0");
        assert_eq!(at_flags(libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC), "OPEN_TREE_CLONE");
        assert_eq!(propagation(libc::MS_PRIVATE), "MS_PRIVATE");
        assert_eq!(resolve(1 << 40), "0x10000000000");
    }

    proptest! {
        #[test]
        fn no_bit_is_lost(value: u64) {
            let bits: u64 = attributes(value).split('|').map(|word| match word {
                "MOUNT_ATTR_RDONLY" => libc::MOUNT_ATTR_RDONLY,
                "MOUNT_ATTR_NOSUID" => libc::MOUNT_ATTR_NOSUID,
                "MOUNT_ATTR_NODEV" => libc::MOUNT_ATTR_NODEV,
                "MOUNT_ATTR_NOEXEC" => libc::MOUNT_ATTR_NOEXEC,
                "MOUNT_ATTR_NODIRATIME" => libc::MOUNT_ATTR_NODIRATIME,
                "MOUNT_ATTR_NOSYMFOLLOW" => libc::MOUNT_ATTR_NOSYMFOLLOW,
                "MOUNT_ATTR_NOATIME" => libc::MOUNT_ATTR_NOATIME,
                "MOUNT_ATTR_STRICTATIME" => libc::MOUNT_ATTR_STRICTATIME,
                "0" => 0,
                other => u64::from_str_radix(other.trim_start_matches("0x"), 16).expect("hexadecimal"),
            }).sum();
            prop_assert_eq!(bits, value);
        }
    }
}
