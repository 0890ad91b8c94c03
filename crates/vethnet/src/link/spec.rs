//! What was asked for of a link, and the messages that come of it.
//!
//! Each kind's builder tells what was asked for as a [`Plan`]: pure data. From it comes either one message that makes the
//! link, or, compared with what the kernel says of the link of this name, one that changes just what differs.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::{Error, Result, Subject};

use crate::attr::{self, Writer};
use crate::exchange::Request;
use crate::link::consts::*;
use crate::link::options::{Options, Same, equal};
use crate::link::settings::Settings;
use crate::link::{Link, LinkRef, read};
use crate::name::IfName;

/// VETH_INFO_PEER
const VETH_INFO_PEER: u16 = 1;

/// A kind of link with its options: what [`Net::create_link`](crate::Net::create_link) makes and
/// [`Net::ensure_link`](crate::Net::ensure_link) sees to.
///
/// [`Veth`](crate::Veth), [`Bridge`](crate::Bridge), [`Vlan`](crate::Vlan), [`Macvlan`](crate::Macvlan),
/// [`Ipvlan`](crate::Ipvlan), [`Vxlan`](crate::Vxlan), [`Dummy`](crate::Dummy) and [`Ifb`](crate::Ifb) are. Nobody else's
/// types can be. See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
///
/// ```no_run
/// async fn both(net: &vethnet::Net, one: &impl vethnet::LinkSpec, two: &impl vethnet::LinkSpec) -> vethnet::Result<()> {
///     net.ensure_link(one).await?;
///     net.ensure_link(two).await.map(drop)
/// }
/// ```
#[doc(alias = "IFLA_INFO_KIND")]
pub trait LinkSpec: sealed::Spec {}

impl<T: sealed::Spec> LinkSpec for T {}

pub(crate) mod sealed {
    /// See [`super::LinkSpec`].
    pub trait Spec {
        #[doc(hidden)]
        #[allow(private_interfaces, reason = "the trait cannot be named outside")]
        fn plan(&self) -> super::Result<super::Plan<'_>>;
    }
}

/// The other end of a veth pair.
#[derive(Clone, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) name: &'a IfName,
    pub(crate) settings: &'a Settings,
    pub(crate) netns: Option<BorrowedFd<'a>>,
}

/// What was asked for, checked.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    pub(crate) name: &'a IfName,
    pub(crate) kind: &'static str,
    pub(crate) settings: &'a Settings,
    pub(crate) options: &'a Options,
    /// The link it is on top of (IFLA_LINK).
    pub(crate) parent: Option<&'a LinkRef>,
    /// The same where it is an option of the kind.
    pub(crate) lower: Option<(u16, &'a LinkRef)>,
    pub(crate) peer: Option<Peer<'a>>,
    /// Options that no link can change later, with their names.
    pub(crate) fixed: &'static [(u16, &'static str)],
    /// Options that a kernel which does not know them passes over in silence, so that their absence is looked for.
    pub(crate) needs: &'static [(u16, &'static str, Option<&'static str>)],
    pub(crate) same: Same,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(name: &'a IfName, kind: &'static str, settings: &'a Settings, options: &'a Options) -> Self {
        Self {
            name,
            kind,
            settings,
            options,
            parent: None,
            lower: None,
            peer: None,
            fixed: &[],
            needs: &[],
            same: equal,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.settings.check("RTM_NEWLINK")?;
        if let Some(peer) = &self.peer {
            peer.settings.check("RTM_NEWLINK")?;
            if peer.name == self.name && peer.netns.is_none() {
                return Err(Error::invalid("RTM_NEWLINK", "both ends of the pair have this name").on(self.subject()));
            }
        }
        Ok(())
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject::Interface(self.name.to_string())
    }
}

/// The numbers of the links that a plan names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) parent: Option<u32>,
    pub(crate) lower: Option<u32>,
    /// 0: nobody's port.
    pub(crate) master: Option<u32>,
}

/// `struct ifinfomsg`
pub(crate) fn header(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for number in [index, flags, mask] {
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn info(writer: &mut Writer, plan: &Plan<'_>, lower: Option<u32>, options: &Options) {
    writer.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, plan.kind);
        if options.is_empty() && lower.is_none() && plan.peer.is_none() {
            return;
        }
        info.nest(IFLA_INFO_DATA, |data| {
            options.write(data);
            if let (Some((kind, _)), Some(index)) = (plan.lower, lower) {
                data.put(kind, &index.to_ne_bytes());
            }
            if let Some(peer) = &plan.peer {
                data.nest(VETH_INFO_PEER, |inner| write_peer(inner, peer));
            }
        });
    });
}

/// A message within the message: with its own header, name, address and namespace.
fn write_peer(inner: &mut Writer, peer: &Peer<'_>) {
    let asked = peer.settings;
    inner.raw(&header(0, asked.flags, asked.mask)).text(IFLA_IFNAME, peer.name.as_str());
    asked.write_birth(inner);
    if let Some(netns) = peer.netns {
        inner.put(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    }
}

/// The message that makes the link; within `netns`, where one is given.
pub(crate) fn create(plan: &Plan<'_>, resolved: Resolved, netns: Option<BorrowedFd<'_>>) -> Result<Request> {
    let asked = plan.settings;
    let later = asked.needs_second_message();
    let mut writer = Writer::new(&if later { header(0, 0, 0) } else { header(0, asked.flags, asked.mask) });
    writer.text(IFLA_IFNAME, plan.name.as_str());
    asked.write_birth(&mut writer);
    if let Some(index) = resolved.parent {
        writer.put(IFLA_LINK, &index.to_ne_bytes());
    }
    if let Some(index) = resolved.master.filter(|index| *index != 0) {
        writer.put(IFLA_MASTER, &index.to_ne_bytes());
    }
    if let Some(netns) = netns {
        writer.put(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    }
    info(&mut writer, plan, resolved.lower, plan.options);
    let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO;
    message("RTM_NEWLINK", RTM_NEWLINK, flags, plan.subject(), writer)
}

fn message(operation: &'static str, kind: u16, flags: u16, subject: Subject, writer: Writer) -> Result<Request> {
    let subject = Some(subject);
    match writer.finish() {
        Ok(body) => Ok(Request { operation, subject, kind, flags, body }),
        Err(error) => Err(match subject {
            Some(subject) => error.on(subject),
            None => error,
        }),
    }
}

/// What a link is given once it is there: the attributes first, since the kernel brings it up before it looks at them.
pub(crate) fn finish(index: u32, subject: &Subject, asked: &Settings) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    if asked.needs_second_message() {
        let mut writer = Writer::new(&header(index, 0, 0));
        asked.write_second(&mut writer);
        requests.push(message("RTM_SETLINK", RTM_SETLINK, 0, subject.clone(), writer)?);
        if asked.mask != 0 {
            let writer = Writer::new(&header(index, asked.flags, asked.mask));
            requests.push(message("RTM_SETLINK", RTM_SETLINK, 0, subject.clone(), writer)?);
        }
    }
    Ok(requests)
}

/// What makes a link that is there what it is not yet: nothing, where nothing differs.
#[derive(Debug, Default)]
pub(crate) struct Adaptation {
    /// The options of its kind, by themselves: when the kernel refuses them, that is why.
    pub(crate) options: Option<Request>,
    pub(crate) settings: Vec<Request>,
}

/// Compares what was asked for with the kernel's answer about a link.
///
/// # Errors
/// AlreadyExists (EEXIST) where it is something else that cannot become it.
pub(crate) fn adapt(plan: &Plan<'_>, resolved: Resolved, body: &[u8]) -> Result<Adaptation> {
    let link = Link::parse(body)?;
    let other = |what: String| {
        let hint = format!("{what}: choose another name, or remove it first");
        Err(Error::from_errno("RTM_NEWLINK", libc::EEXIST).on(plan.subject()).with_hint(hint))
    };
    if link.name != plan.name.as_str() {
        return other(format!("it is another name of the interface {}", link.name));
    }
    if link.kind.as_deref() != Some(plan.kind) {
        let kind = link.kind.as_deref().unwrap_or("hardware or the loopback");
        return other(format!("an interface of this name is there, and it is not a {} but: {kind}", plan.kind));
    }
    let data = read::info_data(body);
    let options = plan.options.differing(data, plan.same);
    if let Some((_, name)) = plan.fixed.iter().find(|(kind, _)| options.get(*kind).is_some()) {
        return other(format!("it has another {name}, which cannot be changed"));
    }
    if resolved.parent.is_some() && resolved.parent != link.parent {
        return other("it is on top of another interface".into());
    }
    let settings = plan.settings.differing(&link, resolved.master);
    if settings.tx_queues.is_some() || settings.rx_queues.is_some() {
        return other("it has another number of queues, which cannot be changed".into());
    }
    let lower = resolved.lower.filter(|index| {
        let found = plan.lower.and_then(|(kind, _)| attr::find(data, kind)).and_then(read::u32_of);
        found != Some(*index)
    });
    let mut adaptation = Adaptation::default();
    if !options.is_empty() || lower.is_some() {
        let mut writer = Writer::new(&header(link.index, 0, 0));
        info(&mut writer, &Plan { peer: None, ..plan.clone() }, lower, &options);
        adaptation.options = Some(message("RTM_NEWLINK", RTM_NEWLINK, 0, plan.subject(), writer)?);
    }
    let flags = if settings.needs_second_message() { (0, 0) } else { (settings.flags, settings.mask) };
    let mut writer = Writer::new(&header(link.index, flags.0, flags.1));
    settings.write_birth(&mut writer);
    if let (Some(_), Some(index)) = (&settings.master, resolved.master) {
        writer.put(IFLA_MASTER, &index.to_ne_bytes());
    }
    let request = message("RTM_SETLINK", RTM_SETLINK, 0, plan.subject(), writer)?;
    if request.body.len() > read::HEADER || flags.1 != 0 {
        adaptation.settings.push(request);
    }
    adaptation.settings.extend(finish(link.index, &plan.subject(), &settings)?);
    Ok(adaptation)
}

/// An option that was asked for and that the kernel does not tell of: it does not know it.
pub(crate) fn missing(plan: &Plan<'_>, body: &[u8]) -> Option<Error> {
    let data = read::info_data(body);
    let lacks = |(kind, _, _): &&(u16, &str, Option<&str>)| {
        plan.options.get(*kind).is_some() && attr::find(data, *kind).is_none()
    };
    let (_, feature, since) = plan.needs.iter().find(lacks)?;
    Some(Error::unsupported("RTM_NEWLINK", *feature, *since).on(plan.subject()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::read::info_data;
    use crate::link::spec::sealed::Spec as _;
    use crate::link::{Bridge, LinkData, Veth, Vxlan};
    use crate::mac::MacAddr;
    use proptest::prelude::*;
    use std::time::Duration;

    /// What is sent, read as if the kernel had answered it: an answer has the same attributes.
    fn sent(plan: &Plan<'_>, resolved: Resolved) -> (Vec<u8>, Link) {
        let body = create(plan, resolved, None).unwrap().body;
        let link = Link::parse(&body).unwrap();
        (body, link)
    }

    #[test]
    fn the_other_end_is_a_message_within_the_message() {
        let (web0, eth0) = (IfName::new("web0").unwrap(), IfName::new("eth0").unwrap());
        let mac = MacAddr::new([2, 0, 0, 0, 0, 7]).unwrap();
        let spec = Veth::new(web0, eth0).peer_mac(mac).peer_mtu(1400);
        let (body, link) = sent(&spec.plan().unwrap(), Resolved::default());
        assert_eq!((link.name.as_str(), link.kind.as_deref()), ("web0", Some("veth")));
        let peer = Link::parse(attr::find(info_data(&body), VETH_INFO_PEER).unwrap()).unwrap();
        assert_eq!((peer.name.as_str(), peer.mac, peer.mtu), ("eth0", Some(mac), 1400));
    }

    #[test]
    fn an_alias_that_is_too_long_is_refused_and_never_cut() {
        for length in [256, 65_531, 65_532, 65_536, 70_000] {
            let spec = Bridge::new(IfName::new("br0").unwrap()).alias("x".repeat(length));
            assert!(spec.plan().unwrap().check().is_err(), "{length}");
            let settings = Settings { alias: Some("x".repeat(length)), ..Settings::default() };
            let sent = finish(7, &Subject::Interface("br0".into()), &settings);
            assert_eq!(sent.is_err(), length + 4 > usize::from(u16::MAX), "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_back(
            mtu in 68u32..9000, group: u32, txqueuelen: u32, tail: [u8; 5], master in 1u32..100, queues in 1u32..9,
            ageing in 0u64..1_000_000, priority: u16, hello in 100u64..1000, filtering: bool, pvid in 0u16..4095,
        ) {
            let mac = MacAddr::new([2, tail[0], tail[1], tail[2], tail[3], tail[4]]).unwrap();
            let spec = Bridge::new(IfName::new("br0").unwrap())
                .mtu(mtu).group(group).txqueuelen(txqueuelen).mac(mac).tx_queues(queues).up()
                .ageing_time(Duration::from_millis(ageing * 10)).hello_time(Duration::from_millis(hello * 10))
                .priority(priority).vlan_default_pvid(pvid).stp();
            let spec = if filtering { spec.vlan_filtering() } else { spec.no_vlan_filtering() };
            let plan = spec.plan().unwrap();
            let resolved = Resolved { master: Some(master), ..Resolved::default() };
            let (body, link) = sent(&plan, resolved);
            prop_assert_eq!((link.mtu, link.group, link.txqueuelen), (mtu, group, txqueuelen));
            prop_assert_eq!((link.mac, link.master, link.tx_queues, link.is_up), (Some(mac), Some(master), queues, true));
            let Some(LinkData::Bridge(data)) = link.data else { panic!("a bridge") };
            prop_assert_eq!(data.ageing_time, Duration::from_millis(ageing * 10));
            prop_assert_eq!(data.hello_time, Duration::from_millis(hello * 10));
            prop_assert_eq!((data.priority, data.vlan_default_pvid, data.vlan_filtering, data.stp), (priority, pvid, filtering, true));
            // A link that is so already takes no message.
            let adaptation = adapt(&plan, resolved, &body).unwrap();
            prop_assert!(adaptation.options.is_none() && adaptation.settings.is_empty(), "{:?}", adaptation);
        }

        #[test]
        fn so_is_a_vxlan(id in 0u32..1 << 24, port: u16, v4: [u8; 4], v6: [u8; 16], ttl: u8, lower in 1u32..99, six: bool) {
            let address = if six { v6.into() } else { std::net::IpAddr::from(v4) };
            prop_assume!(!address.is_unspecified() && !address.is_multicast());
            let lower_link = LinkRef::Index(lower);
            let spec = Vxlan::new(IfName::new("x0").unwrap(), id)
                .dst_port(port).remote(address).local(address).ttl(ttl).no_learning().lower(&lower_link);
            let resolved = Resolved { lower: Some(lower), ..Resolved::default() };
            let (_, link) = sent(&spec.plan().unwrap(), resolved);
            let Some(LinkData::Vxlan(data)) = link.data else { panic!("a vxlan") };
            prop_assert_eq!((data.id, data.dst_port, data.ttl, data.learning), (id, port, ttl, false));
            prop_assert_eq!((data.remote, data.local, data.lower), (Some(address), Some(address), Some(lower)));
        }
    }
}
