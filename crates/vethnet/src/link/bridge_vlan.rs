//! [`BridgeVlan`]: which VLANs a port of a bridge carries.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use crate::attr::{self, Writer};
use crate::exchange::{Mode, Request};
use crate::link::consts::*;
use crate::link::read::{HEADER, u16_of, u32_of};
use crate::link::spec::header;
use crate::link::{Link, LinkRef};
use crate::net::Net;

const AF_BRIDGE: u8 = 7;
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_FLAGS_SELF: u16 = 2;
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const RANGE_BEGIN: u16 = 8;
const RANGE_END: u16 = 16;
const RTEXT_FILTER_BRVLAN: u32 = 2;

/// One VLAN or a range of them, for a port of a bridge, or for the bridge itself: `bridge vlan add vid … dev NAME`.
///
/// It matters while the bridge has [`vlan_filtering`](crate::Bridge::vlan_filtering) on.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{BridgeVlan, IfName};
///
/// // A container in VLAN 7, which it does not see.
/// let port = IfName::new("web0")?;
/// net.remove_bridge_vlan(&port, &BridgeVlan::new(1)).await?;
/// net.add_bridge_vlan(&port, &BridgeVlan::new(7).pvid().untagged()).await?;
/// # Ok(())
/// # }
/// ```
///
/// See bridge(8): <https://man7.org/linux/man-pages/man8/bridge.8.html>.
#[doc(alias = "IFLA_BRIDGE_VLAN_INFO")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing is changed before Net::add_bridge_vlan"]
pub struct BridgeVlan {
    first: u16,
    last: u16,
    flags: u16,
}

impl BridgeVlan {
    /// The VLAN `id`, 1 to 4094, whose frames have their tag at this port.
    pub fn new(id: u16) -> Self {
        Self::range(id..=id)
    }

    /// All VLANs of a range.
    pub fn range(ids: std::ops::RangeInclusive<u16>) -> Self {
        Self { first: *ids.start(), last: *ids.end(), flags: 0 }
    }

    /// Frames that come in without a tag belong to it: at most one VLAN of a port, so none of a range.
    #[doc(alias = "BRIDGE_VLAN_INFO_PVID")]
    pub fn pvid(mut self) -> Self {
        self.flags |= PVID;
        self
    }

    /// Frames of it leave without a tag.
    #[doc(alias = "BRIDGE_VLAN_INFO_UNTAGGED")]
    pub fn untagged(mut self) -> Self {
        self.flags |= UNTAGGED;
        self
    }

    fn check(&self, operation: &'static str, subject: &Subject) -> Result<()> {
        let wrong = |why: String| Err(Error::invalid(operation, why).on(subject.clone()));
        for id in [self.first, self.last] {
            if !(1..=4094).contains(&id) {
                return wrong(format!("a VLAN has a number from 1 to 4094, not {id}"));
            }
        }
        if self.first > self.last {
            return wrong(format!("the range {} to {} has nothing in it", self.first, self.last));
        }
        if self.first != self.last && self.flags & PVID != 0 {
            return wrong("untagged frames belong to one VLAN, not to a range".into());
        }
        Ok(())
    }

    fn request(self, operation: &'static str, kind: u16, link: &Link, subject: Subject) -> Result<Request> {
        self.check(operation, &subject)?;
        let mut head = header(link.index, 0, 0);
        if let Some(family) = head.first_mut() {
            *family = AF_BRIDGE;
        }
        let mut writer = Writer::new(&head);
        let info = |id: u16, flags: u16| [flags.to_ne_bytes(), id.to_ne_bytes()].concat();
        writer.nest(IFLA_AF_SPEC, |spec| {
            if link.port.is_none() {
                spec.put(IFLA_BRIDGE_FLAGS, &BRIDGE_FLAGS_SELF.to_ne_bytes());
            }
            if self.first == self.last {
                spec.put(IFLA_BRIDGE_VLAN_INFO, &info(self.first, self.flags));
            } else {
                spec.put(IFLA_BRIDGE_VLAN_INFO, &info(self.first, self.flags | RANGE_BEGIN));
                spec.put(IFLA_BRIDGE_VLAN_INFO, &info(self.last, self.flags | RANGE_END));
            }
        });
        Ok(Request { operation, subject: Some(subject), kind, flags: 0, body: writer.finish()? })
    }
}

/// A VLAN that a port, or a bridge itself, carries.
///
/// See bridge(8): <https://man7.org/linux/man-pages/man8/bridge.8.html>.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// for vlan in net.bridge_vlans().await? {
///     println!("#{} carries {}{}", vlan.port, vlan.id, if vlan.untagged { " without a tag" } else { "" });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortVlan {
    /// The number of the port, or of the bridge.
    pub port: u32,
    /// The VLAN.
    pub id: u16,
    /// Whether frames without a tag belong to it.
    pub pvid: bool,
    /// Whether its frames leave without a tag.
    pub untagged: bool,
}

fn take(body: &[u8]) -> Vec<PortVlan> {
    let index = body.get(4..).and_then(u32_of).unwrap_or_default();
    let spec = attr::find(body.get(HEADER..).unwrap_or_default(), IFLA_AF_SPEC).unwrap_or_default();
    let infos = attr::attributes(spec).filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO);
    infos
        .filter_map(|(_, info)| Some((u16_of(info)?, info.get(2..).and_then(u16_of)?)))
        .map(|(flags, id)| PortVlan { port: index, id, pvid: flags & PVID != 0, untagged: flags & UNTAGGED != 0 })
        .collect()
}

impl Net {
    /// Has a port of a bridge, or a bridge itself, carry a VLAN. Of one that it carries already the flags are set as asked.
    ///
    /// C call: RTM_SETLINK of family AF_BRIDGE. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// * [`Invalid`](crate::ErrorKind::Invalid): a number out of 1 to 4094, an empty range, a pvid of a range; the link is
    ///   neither.
    /// * [`NotFound`](crate::ErrorKind::NotFound): there is no such link.
    /// * [`Unsupported`](crate::ErrorKind::Unsupported): the kernel was built without CONFIG_BRIDGE_VLAN_FILTERING.
    #[doc(alias = "bridge vlan add")]
    pub async fn add_bridge_vlan(&self, port: impl Into<LinkRef>, vlan: &BridgeVlan) -> Result<()> {
        self.bridge_vlan("RTM_SETLINK", RTM_SETLINK, port.into(), vlan).await
    }

    /// Has it no longer carry a VLAN. It is no error where it did not, and the kernel does not say so.
    ///
    /// C call: RTM_DELLINK of family AF_BRIDGE. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// As [`add_bridge_vlan`](Self::add_bridge_vlan).
    #[doc(alias = "bridge vlan delete")]
    pub async fn remove_bridge_vlan(&self, port: impl Into<LinkRef>, vlan: &BridgeVlan) -> Result<()> {
        self.bridge_vlan("RTM_DELLINK", RTM_DELLINK, port.into(), vlan).await
    }

    async fn bridge_vlan(&self, operation: &'static str, kind: u16, port: LinkRef, vlan: &BridgeVlan) -> Result<()> {
        vlan.check(operation, &port.subject())?;
        let index = LinkRef::Index(self.index_of(&port).await?);
        let gone = || Error::gone("RTM_GETLINK", Some(libc::ENODEV)).on(port.subject());
        let link = self.read(&index).await?.ok_or_else(gone)?;
        if link.port.is_none() && link.kind.as_deref() != Some("bridge") {
            return Err(Error::invalid(operation, "it is neither a bridge nor a port of one").on(port.subject()));
        }
        let request = vlan.request(operation, kind, &link, port.subject())?;
        self.request(request).await.map(drop).map_err(|error| {
            if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
                error.with_hint("this kernel's bridges know no VLANs: use one built with CONFIG_BRIDGE_VLAN_FILTERING")
            } else {
                error
            }
        })
    }

    /// Which VLANs all ports of all bridges, and the bridges, carry.
    ///
    /// C call: RTM_GETLINK of family AF_BRIDGE with RTEXT_FILTER_BRVLAN. Privileges: none. Without
    /// CONFIG_BRIDGE_VLAN_FILTERING there are none.
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    #[doc(alias = "bridge vlan show")]
    pub async fn bridge_vlans(&self) -> Result<Vec<PortVlan>> {
        let mut head = header(0, 0, 0);
        if let Some(family) = head.first_mut() {
            *family = AF_BRIDGE;
        }
        let mut writer = Writer::new(&head);
        writer.put(IFLA_EXT_MASK, &RTEXT_FILTER_BRVLAN.to_ne_bytes());
        let body = writer.finish()?;
        let request = Request { operation: "RTM_GETLINK", subject: None, kind: RTM_GETLINK, flags: 0, body };
        let answers = self.talk(&[request], Mode::Dump).await?;
        Ok(answers.iter().flat_map(|body| take(body)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused() {
        let subject = Subject::Interface("p0".into());
        for wrong in [
            BridgeVlan::new(0),
            BridgeVlan::new(4095),
            BridgeVlan::new(4096),
            BridgeVlan::range(1..=4095),
            BridgeVlan::range(std::ops::RangeInclusive::new(9, 8)),
            BridgeVlan::range(1..=2).pvid(),
        ] {
            assert_eq!(
                wrong.check("RTM_SETLINK", &subject).unwrap_err().kind(),
                crate::ErrorKind::Invalid,
                "{wrong:?}"
            );
        }
        for good in [BridgeVlan::new(1).pvid(), BridgeVlan::range(1..=4094).untagged()] {
            good.check("RTM_SETLINK", &subject).unwrap();
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = take(&bytes);
        }
    }
}
