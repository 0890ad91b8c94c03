//! Filters: which packets go into which class, or to another interface.
//!
//! Theory of operation. A filter of the kernel is a classifier with what it does to the packets it finds. `u32` compares
//! words of the IP header and so finds addresses, and with one word and an empty mask everything. `matchall` finds
//! everything with less work but is missing in more kernels than `u32` is (and asking for a module that is not there means
//! that the kernel runs modprobe, some milliseconds), so `u32` is asked first.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Error, Result, Subject};

use super::handle::{Handle, Parent};
use super::message::{Header, NLM_F_CREATE, NLM_F_EXCL, TCA_OPTIONS, filter_parent, new_filter};
use crate::attr::Writer;
use crate::exchange::Request;
use crate::link::LinkRef;
use crate::subnet::Subnet;

const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_MATCHALL_CLASSID: u16 = 1;
const TCA_MATCHALL_ACT: u16 = 2;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;
const TC_ACT_STOLEN: u32 = 4;
const ETH_P_ALL: u16 = 3;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86DD;

/// Which packets, and what becomes of them.
///
/// Kernel: `CONFIG_NET_CLS_U32`, or for [`everything`](Filter::everything) `CONFIG_NET_CLS_MATCHALL`; to redirect,
/// `CONFIG_NET_ACT_MIRRED`.
///
/// See tc-u32(8), tc-mirred(8): <https://man7.org/linux/man-pages/man8/tc-mirred.8.html>.
///
/// ```no_run
/// use vethnet::{Discipline, Filter, IfName, Net, Parent};
///
/// # async fn example(net: &Net, eth0: &IfName, ifb0: &IfName) -> vethnet::Result<()> {
/// // What eth0 receives passes ifb0 first, where it can be limited.
/// net.ensure_qdisc(eth0, Parent::Ingress, Discipline::Ingress).await?;
/// net.add_filter(eth0, &Filter::everything(Parent::Ingress).redirect(ifb0)).await?;
/// // What eth0 sends to 10.0.0.0/8 belongs to class 1:10.
/// let qdisc = Parent::Class("1:".parse()?);
/// net.add_filter(eth0, &Filter::destination(qdisc, "10.0.0.0/8".parse()?).class("1:10".parse()?)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Filter {
    parent: Parent,
    priority: u16,
    packets: Packets,
    action: Option<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packets {
    All,
    Source(Subnet),
    Destination(Subnet),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Redirect(LinkRef),
    Class(Handle),
}

impl Filter {
    const fn new(parent: Parent, packets: Packets) -> Self {
        Self { parent, priority: 0, packets, action: None }
    }

    /// Every packet.
    pub const fn everything(parent: Parent) -> Self {
        Self::new(parent, Packets::All)
    }

    /// Packets from these addresses.
    pub const fn source(parent: Parent, subnet: Subnet) -> Self {
        Self::new(parent, Packets::Source(subnet))
    }

    /// Packets to these addresses.
    pub const fn destination(parent: Parent, subnet: Subnet) -> Self {
        Self::new(parent, Packets::Destination(subnet))
    }

    /// Lower ones are asked first. Default: the kernel chooses one, lower than those there are.
    pub const fn priority(mut self, priority: u16) -> Self {
        self.priority = priority;
        self
    }

    /// They are sent by this interface instead.
    #[doc(alias = "TCA_EGRESS_REDIR")]
    pub fn redirect(mut self, to: impl Into<LinkRef>) -> Self {
        self.action = Some(Action::Redirect(to.into()));
        self
    }

    /// They belong to this class.
    pub fn class(mut self, class: Handle) -> Self {
        self.action = Some(Action::Class(class));
        self
    }

    /// The interface whose number is needed to write it.
    pub(crate) fn target(&self) -> Option<&LinkRef> {
        match &self.action {
            Some(Action::Redirect(link)) => Some(link),
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.action.is_some() {
            return Ok(());
        }
        let why = "it says nothing to do with the packets: a class, or an interface to redirect them to";
        Err(Error::invalid("filter", why).on(Subject::Value(self.parent.to_string())))
    }

    /// The ways to say it, the best first. `target` is the number of the interface it redirects to.
    pub(crate) fn requests(&self, link: &LinkRef, index: u32, target: u32) -> Result<Vec<Request>> {
        let protocol = match self.packets {
            Packets::All => ETH_P_ALL,
            Packets::Source(subnet) | Packets::Destination(subnet) if subnet.is_ipv4() => ETH_P_IP,
            Packets::Source(_) | Packets::Destination(_) => ETH_P_IPV6,
        };
        let header = Header {
            index,
            parent: filter_parent(self.parent),
            handle: 0,
            info: u32::from(self.priority) << 16 | u32::from(protocol.to_be()),
        };
        let subject = |kind: &str| format!("filter {kind} of {name:?}, {}", self.parent, name = link.to_string());
        let act = |options: &mut Writer, class, action| match &self.action {
            Some(Action::Class(handle)) => {
                options.put(class, &handle.raw().to_ne_bytes());
            }
            Some(Action::Redirect(_)) => redirect(options, action, target),
            None => {}
        };
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let mut list = vec![new_filter(flags, subject("u32"), header, "u32", |writer| {
            writer.nest(TCA_OPTIONS, |options| {
                options.put(TCA_U32_SEL, &selector(&self.keys()));
                act(options, TCA_U32_CLASSID, TCA_U32_ACT);
            });
        })?];
        if self.packets == Packets::All {
            list.push(new_filter(flags, subject("matchall"), header, "matchall", |writer| {
                writer.nest(TCA_OPTIONS, |options| act(options, TCA_MATCHALL_CLASSID, TCA_MATCHALL_ACT));
            })?);
        }
        Ok(list)
    }

    /// Masks, values and where in the IP header they are.
    fn keys(&self) -> Vec<Key> {
        let (subnet, at) = match self.packets {
            Packets::All => return vec![Key { mask: 0, value: 0, at: 0 }],
            Packets::Source(subnet) => (subnet, if subnet.is_ipv4() { 12 } else { 8 }),
            Packets::Destination(subnet) => (subnet, if subnet.is_ipv4() { 16 } else { 24 }),
        };
        let words: Vec<u32> = match subnet.address() {
            IpAddr::V4(address) => vec![address.to_bits()],
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                [96, 64, 32, 0].map(|shift| u32::try_from(bits >> shift & u128::from(u32::MAX)).unwrap_or(0)).to_vec()
            }
        };
        let mut left = u32::from(subnet.prefix());
        let mut keys = Vec::new();
        for (at, word) in (at..).step_by(4).zip(words) {
            let mask = u32::MAX.checked_shl(32 - left.min(32)).unwrap_or(0);
            if mask != 0 || keys.is_empty() {
                keys.push(Key { mask, value: word & mask, at });
            }
            left = left.saturating_sub(32);
        }
        keys
    }
}

/// `struct tc_u32_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    mask: u32,
    value: u32,
    at: u32,
}

/// `struct tc_u32_sel`: flags, offshift, nkeys, offmask, off, offoff, hoff, hmask, keys.
fn selector(keys: &[Key]) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    if let [flags, _, count, ..] = bytes.as_mut_slice() {
        *flags = TC_U32_TERMINAL;
        *count = u8::try_from(keys.len()).unwrap_or(u8::MAX);
    }
    for key in keys {
        bytes.extend_from_slice(&key.mask.to_be_bytes());
        bytes.extend_from_slice(&key.value.to_be_bytes());
        bytes.extend_from_slice(&key.at.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes
}

/// The first and only action of a filter: `mirred egress redirect dev …`.
fn redirect(options: &mut Writer, kind: u16, target: u32) {
    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let mut parameters = Vec::with_capacity(28);
    for number in [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, target] {
        parameters.extend_from_slice(&number.to_ne_bytes());
    }
    options.nest(kind, |actions| {
        actions.nest(1, |action| {
            action.text(TCA_ACT_KIND, "mirred").nest(TCA_ACT_OPTIONS, |mirred| {
                mirred.put(TCA_MIRRED_PARMS, &parameters);
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr;
    use crate::name::IfName;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn what_is_refused() {
        assert!(Filter::everything(Parent::Root).check().unwrap_err().to_string().contains("says nothing to do"));
        Filter::everything(Parent::Root).class("1:1".parse().unwrap()).check().unwrap();
    }

    #[test]
    fn selectors() {
        let everything = Filter::everything(Parent::Ingress);
        let mut expected = vec![0; 32];
        (expected[0], expected[2]) = (1, 1);
        assert_eq!(selector(&everything.keys()), expected);
        let net = Filter::destination(Parent::Root, "10.209.0.0/16".parse().unwrap());
        assert_eq!(net.keys(), [Key { mask: 0xffff_0000, value: 0x0ad1_0000, at: 16 }]);
        let keys = Filter::source(Parent::Root, "fd00:1:2::/48".parse().unwrap()).keys();
        assert_eq!(
            keys,
            [Key { mask: u32::MAX, value: 0xfd00_0001, at: 8 }, Key { mask: 0xffff_0000, value: 0x0002_0000, at: 12 }]
        );
    }

    #[test]
    fn everything_is_said_in_two_ways() {
        let (eth0, ifb0) = (IfName::new("eth0").unwrap(), IfName::new("ifb0").unwrap());
        let requests = Filter::everything(Parent::Ingress).redirect(&ifb0).requests(&eth0.into(), 3, 4).unwrap();
        let kinds: Vec<_> =
            requests.iter().map(|request| attr::as_text(attr::find(&request.body[20..], 1).unwrap())).collect();
        assert_eq!(kinds, ["u32", "matchall"]);
    }

    proptest! {
        #[test]
        fn a_key_is_within_its_mask(bits: u128, prefix in 0u8..=128, v4: u32, prefix4 in 0u8..=32) {
            for (filter, all) in [
                (Filter::source(Parent::Root, Subnet::around(Ipv6Addr::from_bits(bits).into(), prefix)), u32::from(prefix)),
                (Filter::destination(Parent::Root, Subnet::around(Ipv4Addr::from_bits(v4).into(), prefix4)), u32::from(prefix4)),
            ] {
                let keys = filter.keys();
                prop_assert!(!keys.is_empty() && keys.len() <= 4);
                prop_assert!(keys.iter().all(|key| key.value & !key.mask == 0));
                prop_assert_eq!(keys.iter().map(|key| key.mask.count_ones()).sum::<u32>(), all);
            }
        }
    }
}
