//! [`Vlan`]: one VLAN of another link.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};
use netlink_packet_route::link::{InfoVlan, VlanFlags, VlanQosMapping};

use crate::link::LinkRef;
use crate::link::bridge::VlanProtocol;
use crate::link::options::{Options, Same};
use crate::link::read::u32_of;
use crate::link::settings::{Settings, link_settings};
use crate::link::spec::{Plan, sealed};
use crate::name::IfName;

const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_FLAGS: u16 = 2;
const IFLA_VLAN_EGRESS_QOS: u16 = 3;
const IFLA_VLAN_INGRESS_QOS: u16 = 4;
const IFLA_VLAN_PROTOCOL: u16 = 5;

/// One VLAN of another link, to make or to be ensured: `ip link add link PARENT name NAME type vlan id ID`.
///
/// What is sent by it leaves the parent with the tag, and what the parent receives with the tag comes in by it.
///
/// * Kernel object: `IFLA_INFO_KIND` "vlan", options `IFLA_VLAN_*`. Needs CONFIG_VLAN_8021Q (module 8021q).
/// * Its number and the kind of tag cannot be changed later.
/// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{IfName, Vlan};
///
/// let parent = IfName::new("eth0")?;
/// net.ensure_link(&Vlan::new(IfName::new("eth0.7")?, &parent, 7).up()).await?;
/// # Ok(())
/// # }
/// ```
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
#[doc(alias = "IFLA_VLAN_ID")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Vlan {
    name: IfName,
    parent: LinkRef,
    id: u16,
    flags: (VlanFlags, VlanFlags),
    egress: Vec<VlanQosMapping>,
    ingress: Vec<VlanQosMapping>,
    settings: Settings,
    options: Options,
}

link_settings!(Vlan);

impl Vlan {
    /// The VLAN `id`, 1 to 4094, of `parent`.
    pub fn new(name: IfName, parent: impl Into<LinkRef>, id: u16) -> Self {
        let mut options = Options::default();
        options.set(&InfoVlan::Id(id));
        let flags = (VlanFlags::empty(), VlanFlags::empty());
        let (egress, ingress) = (Vec::new(), Vec::new());
        Self { name, parent: parent.into(), id, flags, egress, ingress, settings: Settings::default(), options }
    }

    /// The kind of tag. Default: 802.1Q.
    #[doc(alias = "IFLA_VLAN_PROTOCOL")]
    pub fn protocol(mut self, protocol: VlanProtocol) -> Self {
        self.options.set(&InfoVlan::Protocol(protocol.of_packet()));
        self
    }

    fn flag(mut self, flag: VlanFlags, on: bool) -> Self {
        let (value, mask) = self.flags;
        self.flags = (if on { value | flag } else { value & !flag }, mask | flag);
        self.options.set(&InfoVlan::Flags(self.flags));
        self
    }

    /// Shows programs that listen the frame without its tag: the default.
    #[doc(alias = "VLAN_FLAG_REORDER_HDR")]
    pub fn reorder_hdr(self) -> Self {
        self.flag(VlanFlags::ReorderHdr, true)
    }

    /// Shows them the tag as well.
    pub fn no_reorder_hdr(self) -> Self {
        self.flag(VlanFlags::ReorderHdr, false)
    }

    /// Stays up when the parent goes down.
    #[doc(alias = "VLAN_FLAG_LOOSE_BINDING")]
    pub fn loose_binding(self) -> Self {
        self.flag(VlanFlags::LooseBinding, true)
    }

    /// Goes down with the parent: the default.
    pub fn no_loose_binding(self) -> Self {
        self.flag(VlanFlags::LooseBinding, false)
    }

    /// Is up as long as a port of the parent, a bridge, that carries the VLAN is.
    #[doc(alias = "VLAN_FLAG_BRIDGE_BINDING")]
    pub fn bridge_binding(self) -> Self {
        self.flag(VlanFlags::BridgeBinding, true)
    }

    /// Is up as long as the parent is: the default.
    pub fn no_bridge_binding(self) -> Self {
        self.flag(VlanFlags::BridgeBinding, false)
    }

    /// Sends packets of this kernel priority with this priority in the tag, 0 to 7. May be given for each.
    #[doc(alias = "IFLA_VLAN_EGRESS_QOS")]
    pub fn egress_qos(mut self, priority: u32, tag: u8) -> Self {
        self.egress.push(VlanQosMapping::Mapping(priority, u32::from(tag)));
        self.options.set(&InfoVlan::EgressQos(self.egress.clone()));
        self
    }

    /// Gives packets with this priority in the tag, 0 to 7, this kernel priority. May be given for each.
    #[doc(alias = "IFLA_VLAN_INGRESS_QOS")]
    pub fn ingress_qos(mut self, tag: u8, priority: u32) -> Self {
        self.ingress.push(VlanQosMapping::Mapping(u32::from(tag), priority));
        self.options.set(&InfoVlan::IngressQos(self.ingress.clone()));
        self
    }
}

/// Of the flags only those in the mask were asked for, and of the priorities only those given.
fn same(kind: u16, asked: &[u8], found: &[u8]) -> bool {
    match kind {
        IFLA_VLAN_FLAGS => {
            let mask = asked.get(4..).and_then(u32_of).unwrap_or_default();
            u32_of(asked).map(|value| value & mask) == u32_of(found).map(|value| value & mask)
        }
        IFLA_VLAN_EGRESS_QOS | IFLA_VLAN_INGRESS_QOS => {
            let found: Vec<_> = crate::attr::attributes(found).collect();
            crate::attr::attributes(asked).all(|mapping| found.contains(&mapping))
        }
        _ => asked == found,
    }
}

impl sealed::Spec for Vlan {
    fn plan(&self) -> Result<Plan<'_>> {
        let wrong = |why: String| Err(Error::invalid("RTM_NEWLINK", why).on(Subject::Interface(self.name.to_string())));
        if !(1..=4094).contains(&self.id) {
            return wrong(format!("a VLAN has a number from 1 to 4094, not {}", self.id));
        }
        let tags = self.egress.iter().map(|mapping| (mapping, false)).chain(self.ingress.iter().map(|map| (map, true)));
        for (mapping, ingress) in tags {
            if let VlanQosMapping::Mapping(from, to) = mapping {
                let tag = if ingress { from } else { to };
                if *tag > 7 {
                    return wrong(format!("a tag has a priority from 0 to 7, not {tag}"));
                }
            }
        }
        Ok(Plan {
            parent: Some(&self.parent),
            fixed: &[(IFLA_VLAN_ID, "VLAN number"), (IFLA_VLAN_PROTOCOL, "kind of tag")],
            same: same as Same,
            ..Plan::new(&self.name, "vlan", &self.settings, &self.options)
        })
    }
}
