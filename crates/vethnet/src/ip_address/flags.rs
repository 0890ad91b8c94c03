//! [`AddressFlags`]: what is set at an address, and what state it is in.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of `IFA_F_*`: what was asked for, and how far duplicate address detection is.
///
/// See ip-address(8): <https://man7.org/linux/man-pages/man8/ip-address.8.html>.
///
/// ```
/// use vethnet::AddressFlags;
///
/// let flags = AddressFlags::TENTATIVE | AddressFlags::NODAD;
/// assert!(flags.contains(AddressFlags::TENTATIVE));
/// assert_eq!(flags.to_string(), "nodad tentative");
/// ```
#[doc(alias = "IFA_FLAGS")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressFlags(u32);

impl AddressFlags {
    /// IPv4: another address of the same range was there before; IPv6: made for privacy, to be replaced soon (`temporary`).
    pub const SECONDARY: Self = Self(0x01);
    /// No duplicate address detection.
    pub const NODAD: Self = Self(0x02);
    /// Used while duplicate address detection goes on.
    pub const OPTIMISTIC: Self = Self(0x04);
    /// Another host on the link has the address: it is not used.
    pub const DADFAILED: Self = Self(0x08);
    /// The home address of Mobile IPv6.
    pub const HOMEADDRESS: Self = Self(0x10);
    /// Its preferred lifetime is over: not for new connections.
    pub const DEPRECATED: Self = Self(0x20);
    /// Duplicate address detection has not ended: it cannot be used yet.
    pub const TENTATIVE: Self = Self(0x40);
    /// It has no limited lifetime. Without it, `ip address` says `dynamic`.
    pub const PERMANENT: Self = Self(0x80);
    /// The kernel makes temporary addresses beside it.
    pub const MANAGETEMPADDR: Self = Self(0x100);
    /// No route to the neighbours comes with it.
    pub const NOPREFIXROUTE: Self = Self(0x200);
    /// Joined as a multicast address.
    pub const MCAUTOJOIN: Self = Self(0x400);
    /// Made from a secret, stable for one network.
    pub const STABLE_PRIVACY: Self = Self(0x800);

    const NAMES: [(Self, &'static str); 12] = [
        (Self::SECONDARY, "secondary"),
        (Self::NODAD, "nodad"),
        (Self::OPTIMISTIC, "optimistic"),
        (Self::DADFAILED, "dadfailed"),
        (Self::HOMEADDRESS, "home"),
        (Self::DEPRECATED, "deprecated"),
        (Self::TENTATIVE, "tentative"),
        (Self::PERMANENT, "permanent"),
        (Self::MANAGETEMPADDR, "mngtmpaddr"),
        (Self::NOPREFIXROUTE, "noprefixroute"),
        (Self::MCAUTOJOIN, "autojoin"),
        (Self::STABLE_PRIVACY, "stable-privacy"),
    ];

    /// The kernel's bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `others` are set.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    pub(crate) const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Those that are the user's wish and not the kernel's word.
    pub(super) const fn settable(self, is_ipv4: bool) -> Self {
        const BOTH: u32 = AddressFlags::NOPREFIXROUTE.0 | AddressFlags::MCAUTOJOIN.0;
        const IPV6: u32 = AddressFlags::NODAD.0
            | AddressFlags::OPTIMISTIC.0
            | AddressFlags::HOMEADDRESS.0
            | AddressFlags::MANAGETEMPADDR.0;
        Self(self.0 & if is_ipv4 { BOTH } else { BOTH | IPV6 })
    }
}

impl BitOr for AddressFlags {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl BitOrAssign for AddressFlags {
    fn bitor_assign(&mut self, others: Self) {
        *self = *self | others;
    }
}

impl fmt::Display for AddressFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name).collect();
        f.write_str(&names.join(" "))
    }
}
