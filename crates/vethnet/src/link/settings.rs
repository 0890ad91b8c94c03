//! What every kind of link can be given: collected by setters, written as attributes, compared with what there is.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use crate::attr::Writer;
use crate::link::consts::*;
use crate::link::{Link, LinkRef};
use crate::mac::MacAddr;

/// How the kernel makes a link's IPv6 link-local address when it comes up.
///
/// See ip-link(8), `addrgenmode`: <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
///
/// ```
/// use vethnet::{AddrGenMode, LinkChange};
///
/// let quiet = LinkChange::new().addr_gen_mode(AddrGenMode::None);
/// # let _ = quiet;
/// ```
#[doc(alias = "IFLA_INET6_ADDR_GEN_MODE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddrGenMode {
    /// From the hardware address: the kernel's default.
    Eui64,
    /// No address is made: for links that only pass frames on.
    None,
    /// From the secret in `net.ipv6.conf.*.stable_secret` (RFC 7217), which has to be set.
    StablePrivacy,
    /// From a secret that the kernel makes up (RFC 7217).
    Random,
}

impl AddrGenMode {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Eui64 => 0,
            Self::None => 1,
            Self::StablePrivacy => 2,
            Self::Random => 3,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Eui64, Self::None, Self::StablePrivacy, Self::Random].into_iter().find(|mode| mode.number() == number)
    }
}

/// Whose port a link is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Master {
    Nobody,
    Of(LinkRef),
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) txqueuelen: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) alias: Option<String>,
    pub(crate) addr_gen_mode: Option<AddrGenMode>,
    pub(crate) master: Option<Master>,
    /// The flags to set, among those in `mask`.
    pub(crate) flags: u32,
    pub(crate) mask: u32,
    /// Only while a link is made.
    pub(crate) tx_queues: Option<u32>,
    pub(crate) rx_queues: Option<u32>,
}

impl Settings {
    pub(crate) fn flag(&mut self, flag: u32, on: bool) {
        self.mask |= flag;
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    /// Refuses what no kernel takes.
    pub(crate) fn check(&self, operation: &'static str) -> Result<()> {
        let fault = |why: &'static str, value: String| Err(Error::invalid(operation, why).on(Subject::Value(value)));
        match &self.alias {
            Some(alias) if alias.len() > 255 => return fault("an alias has at most 255 bytes", alias.clone()),
            Some(alias) if alias.contains('\0') => return fault("an alias has no NUL in it", alias.clone()),
            _ => {}
        }
        if self.mtu == Some(0) {
            return fault("an MTU of 0 lets nothing pass", "mtu 0".into());
        }
        for (what, queues) in [("txqueues", self.tx_queues), ("rxqueues", self.rx_queues)] {
            if queues.is_some_and(|queues| !(1..=4096).contains(&queues)) {
                let value = format!("{what} {}", queues.unwrap_or_default());
                return fault("a link has 1 to 4096 queues", value);
            }
        }
        Ok(())
    }

    /// The part that the kernel looks at only once a link is there: it is sent in a second message.
    pub(crate) fn needs_second_message(&self) -> bool {
        self.alias.is_some() || self.addr_gen_mode.is_some()
    }

    /// The attributes that a link may be born with.
    pub(crate) fn write_birth(&self, writer: &mut Writer) {
        if let Some(mac) = self.mac {
            writer.put(IFLA_ADDRESS, &mac.bytes());
        }
        for (kind, value) in [
            (IFLA_MTU, self.mtu),
            (IFLA_TXQLEN, self.txqueuelen),
            (IFLA_GROUP, self.group),
            (IFLA_NUM_TX_QUEUES, self.tx_queues),
            (IFLA_NUM_RX_QUEUES, self.rx_queues),
        ] {
            if let Some(value) = value {
                writer.put(kind, &value.to_ne_bytes());
            }
        }
    }

    /// The attributes that only an existing link takes.
    pub(crate) fn write_second(&self, writer: &mut Writer) {
        if let Some(alias) = &self.alias {
            // Without its NUL: an empty alias, which removes it, has no byte.
            writer.put(IFLA_IFALIAS, alias.as_bytes());
        }
        if let Some(mode) = self.addr_gen_mode {
            writer.nest(IFLA_AF_SPEC, |families| {
                families.nest(AF_INET6, |inet6| {
                    inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[mode.number()]);
                });
            });
        }
    }

    /// What of it the link is not yet; `master` is the number of the one that was asked for, 0 for nobody.
    pub(crate) fn differing(&self, link: &Link, master: Option<u32>) -> Self {
        let mut rest = self.clone();
        fn drop_equal<T: PartialEq>(asked: &mut Option<T>, found: Option<T>) {
            if *asked == found {
                *asked = None;
            }
        }
        drop_equal(&mut rest.mac, link.mac);
        drop_equal(&mut rest.mtu, Some(link.mtu));
        drop_equal(&mut rest.txqueuelen, Some(link.txqueuelen));
        drop_equal(&mut rest.group, Some(link.group));
        drop_equal(&mut rest.alias, Some(link.alias.clone().unwrap_or_default()));
        drop_equal(&mut rest.addr_gen_mode, link.addr_gen_mode);
        drop_equal(&mut rest.tx_queues, Some(link.tx_queues));
        drop_equal(&mut rest.rx_queues, Some(link.rx_queues));
        if master == Some(link.master.unwrap_or(0)) {
            rest.master = None;
        }
        rest.mask &= self.flags ^ link.flags;
        rest.flags &= rest.mask;
        rest
    }
}

/// The setters that links of every kind have.
macro_rules! link_settings {
    ($type:ty) => {
        impl $type {
            /// The hardware address. Without one the kernel makes it up at random, or takes that of the parent.
            #[doc(alias = "IFLA_ADDRESS")]
            pub fn mac(mut self, mac: $crate::MacAddr) -> Self {
                self.settings.mac = Some(mac);
                self
            }

            /// The largest packet, in bytes, without the link's own header.
            #[doc(alias = "IFLA_MTU")]
            pub fn mtu(mut self, bytes: u32) -> Self {
                self.settings.mtu = Some(bytes);
                self
            }

            /// Brings it up.
            #[doc(alias = "IFF_UP")]
            pub fn up(mut self) -> Self {
                self.settings.flag($crate::link::consts::IFF_UP, true);
                self
            }

            /// Makes it a port of this bridge (or of another link that has ports).
            #[doc(alias = "IFLA_MASTER")]
            pub fn master(mut self, master: impl Into<$crate::LinkRef>) -> Self {
                self.settings.master = Some($crate::link::settings::Master::Of(master.into()));
                self
            }

            /// A text that says what it is for, at most 255 bytes; an empty one removes it.
            #[doc(alias = "IFLA_IFALIAS")]
            pub fn alias(mut self, text: impl Into<String>) -> Self {
                self.settings.alias = Some(text.into());
                self
            }

            /// How many packets may wait to be sent.
            #[doc(alias = "IFLA_TXQLEN")]
            pub fn txqueuelen(mut self, packets: u32) -> Self {
                self.settings.txqueuelen = Some(packets);
                self
            }

            /// The group it is listed and changed with (`ip link show group N`).
            #[doc(alias = "IFLA_GROUP")]
            pub fn group(mut self, group: u32) -> Self {
                self.settings.group = Some(group);
                self
            }

            /// How its IPv6 link-local address is made.
            #[doc(alias = "IFLA_INET6_ADDR_GEN_MODE")]
            pub fn addr_gen_mode(mut self, mode: $crate::AddrGenMode) -> Self {
                self.settings.addr_gen_mode = Some(mode);
                self
            }
        }
    };
}

/// The setters of links whose queues can be chosen, beside [`link_settings`].
macro_rules! queue_settings {
    ($type:ty) => {
        impl $type {
            /// How many queues send, 1 to 4096. Fixed once it is made.
            #[doc(alias = "IFLA_NUM_TX_QUEUES")]
            pub fn tx_queues(mut self, queues: u32) -> Self {
                self.settings.tx_queues = Some(queues);
                self
            }

            /// How many queues receive, 1 to 4096. Fixed once it is made.
            #[doc(alias = "IFLA_NUM_RX_QUEUES")]
            pub fn rx_queues(mut self, queues: u32) -> Self {
                self.settings.rx_queues = Some(queues);
                self
            }
        }
    };
}

/// A pair of setters for an option that is on or off.
macro_rules! switch {
    ($on:ident, $off:ident, $alias:literal, $option:path, $text:literal) => {
        #[doc = concat!($text, ".")]
        #[doc(alias = $alias)]
        pub fn $on(mut self) -> Self {
            self.options.set(&$option(true));
            self
        }

        #[doc = concat!("The opposite of [`", stringify!($on), "`](Self::", stringify!($on), ").")]
        pub fn $off(mut self) -> Self {
            self.options.set(&$option(false));
            self
        }
    };
}

pub(crate) use {link_settings, queue_settings, switch};
