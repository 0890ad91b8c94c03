//! Rules of nf_tables: a list of small operations on registers, in the words of nft(8).
#![forbid(unsafe_code)]

use super::set::Set;
use crate::attr::Writer;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;

/// The verdict register, and the first of the data registers by its 16 byte name.
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
/// The same storage in parts of four bytes, of which the first is this.
const NFT_REG32_00: u32 = 8;

const NFT_PAYLOAD_LL_HEADER: u32 = 0;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
/// Where TCP, UDP and SCTP have the destination port.
const DESTINATION_PORT: u32 = 2;
/// Where an Ethernet frame has its source and its type, and ARP for IPv4 the sender's two addresses (RFC 826).
const ETHER_SOURCE: u32 = 6;
const ETHER_TYPE: u32 = 12;
const ARP_SENDER_ETHER: u32 = 8;
const ARP_SENDER_IPV4: u32 = 14;
/// Where a neighbour advertisement has the address it is about (RFC 4861, 4.4).
const ND_TARGET: u32 = 8;

const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_NFPROTO: u32 = 15;
const NFT_META_L4PROTO: u32 = 16;
const NFT_FIB_RESULT_OIF: u32 = 1;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_SADDR: u32 = 1;
const NFTA_FIB_F_DADDR: u32 = 2;
const NFTA_FIB_F_IIF: u32 = 8;
const NFTA_FIB_F_PRESENT: u32 = 32;
const NFT_LOOKUP_F_INV: u32 = 1;
const RTN_LOCAL: u32 = 2;
const NFT_CT_STATE: u32 = 0;
const NFT_CT_STATUS: u32 = 2;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const IPS_DST_NAT: u32 = 1 << 5;
const NFT_NAT_DNAT: u32 = 1;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const IPPROTO_ICMPV6: u8 = 58;

/// A register: how many parts of four bytes stand before it.
#[derive(Clone, Copy, Debug)]
struct Register(u32);

impl Register {
    /// Its number. Both namings of the first mean the same place, and nft(8) uses this one.
    fn number(self) -> u32 {
        if self.0 % 4 == 0 { NFT_REG_1 + self.0 / 4 } else { NFT_REG32_00 + self.0 }
    }
}

const FIRST: Register = Register(0);

/// How two values are compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Is,
    IsNot,
}

/// The family of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
}

impl Ip {
    /// NFPROTO_IPV4 or NFPROTO_IPV6.
    fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    fn ether_type(self) -> [u8; 2] {
        match self {
            Self::V4 => [0x08, 0x00],
            Self::V6 => [0x86, 0xdd],
        }
    }

    /// How long an address is, and where the header has the source.
    fn address(self) -> (u32, u32) {
        match self {
            Self::V4 => (4, 12),
            Self::V6 => (16, 8),
        }
    }
}

/// Which address of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Source,
    Destination,
}

/// A rule under construction: each method adds what nft(8) adds for the words in its first line.
#[derive(Debug, Default)]
pub(super) struct Rule(Vec<Expression>);

#[derive(Debug)]
struct Expression {
    name: &'static str,
    attributes: Vec<(u16, Value)>,
}

#[derive(Debug)]
enum Value {
    Number(u32),
    Data(Vec<u8>),
    Text(&'static str),
    Verdict(u32),
}

use Value::{Data, Number, Text, Verdict};

impl Rule {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn add(mut self, name: &'static str, attributes: Vec<(u16, Value)>) -> Self {
        self.0.push(Expression { name, attributes });
        self
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: Register) -> Self {
        let attributes =
            vec![(1, Number(register.number())), (2, Number(base)), (3, Number(offset)), (4, Number(length))];
        self.add("payload", attributes)
    }

    fn meta(self, key: u32, register: Register) -> Self {
        self.add("meta", vec![(2, Number(key)), (1, Number(register.number()))])
    }

    fn compare(self, test: Test, data: &[u8]) -> Self {
        self.add("cmp", vec![(1, Number(NFT_REG_1)), (2, Number(test as u32)), (3, Data(data.to_vec()))])
    }

    fn lookup(self, test: Test, set: &'static Set) -> Self {
        let mut attributes = vec![(1, Text(set.name)), (2, Number(NFT_REG_1))];
        if matches!(test, Test::IsNot) {
            attributes.push((5, Number(NFT_LOOKUP_F_INV)));
        }
        self.add("lookup", attributes)
    }

    fn load_address(self, ip: Ip, end: End, register: Register) -> Self {
        let (length, source) = ip.address();
        let offset = match end {
            End::Source => source,
            End::Destination => source + length,
        };
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length, register)
    }

    fn ct_has(self, key: u32, bits: u32) -> Self {
        let mask = vec![
            (1, Number(NFT_REG_1)),
            (2, Number(NFT_REG_1)),
            (3, Number(4)),
            (4, Data(bits.to_ne_bytes().to_vec())),
            (5, Data(vec![0; 4])),
        ];
        self.add("ct", vec![(2, Number(key)), (1, Number(NFT_REG_1))])
            .add("bitwise", mask)
            .compare(Test::IsNot, &[0; 4])
    }

    fn verdict(self, code: u32) -> Self {
        self.add("immediate", vec![(1, Number(NFT_REG_VERDICT)), (2, Verdict(code))])
    }

    /// `meta nfproto ipv4`
    pub(super) fn family(self, ip: Ip) -> Self {
        self.meta(NFT_META_NFPROTO, FIRST).compare(Test::Is, &[ip.number()])
    }

    /// `fib daddr type local`
    pub(super) fn for_this_machine(self) -> Self {
        self.fib(NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE).compare(Test::Is, &RTN_LOCAL.to_ne_bytes())
    }

    /// `fib saddr . iif oif missing`
    pub(super) fn source_elsewhere(self) -> Self {
        self.fib(NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT, NFT_FIB_RESULT_OIF).compare(Test::Is, &[0; 4])
    }

    fn fib(self, flags: u32, result: u32) -> Self {
        self.add("fib", vec![(3, Number(flags)), (2, Number(result)), (1, Number(NFT_REG_1))])
    }

    /// `ip daddr 127.0.0.0/8`, `ip6 daddr ::1`
    pub(super) fn loopback(self, ip: Ip, end: End, test: Test) -> Self {
        match (ip, end) {
            (Ip::V4, End::Source) => self.payload(NFT_PAYLOAD_NETWORK_HEADER, 12, 1, FIRST).compare(test, &[127]),
            (Ip::V4, End::Destination) => self.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 1, FIRST).compare(test, &[127]),
            (Ip::V6, end) => self.load_address(ip, end, FIRST).compare(test, &std::net::Ipv6Addr::LOCALHOST.octets()),
        }
    }

    /// `ip6 saddr ::`
    pub(super) fn source_unspecified(self) -> Self {
        self.load_address(Ip::V6, End::Source, FIRST).compare(Test::Is, &[0; 16])
    }

    /// `ip saddr @SET`
    pub(super) fn address_in(self, ip: Ip, end: End, set: &'static Set) -> Self {
        self.load_address(ip, end, FIRST).lookup(Test::Is, set)
    }

    /// `iifname @SET`
    pub(super) fn input_link(self, test: Test, set: &'static Set) -> Self {
        self.meta(NFT_META_IIFNAME, FIRST).lookup(test, set)
    }

    /// `oifname @SET`
    pub(super) fn output_link(self, test: Test, set: &'static Set) -> Self {
        self.meta(NFT_META_OIFNAME, FIRST).lookup(test, set)
    }

    /// `oifname "lo"`
    pub(super) fn output_loopback(self) -> Self {
        let mut name = b"lo".to_vec();
        name.resize(libc::IFNAMSIZ, 0);
        self.meta(NFT_META_OIFNAME, FIRST).compare(Test::Is, &name)
    }

    /// `ct state established,related`
    pub(super) fn established(self) -> Self {
        self.ct_has(NFT_CT_STATE, ESTABLISHED_OR_RELATED)
    }

    /// `ct status dnat`
    pub(super) fn redirected(self) -> Self {
        self.ct_has(NFT_CT_STATUS, IPS_DST_NAT)
    }

    /// `dnat ip to meta l4proto . th dport map @MAP`
    pub(super) fn redirect_by_port(self, ip: Ip, map: &'static Set) -> Self {
        self.load_port(0).redirect(ip, map)
    }

    /// `dnat ip to ip daddr . meta l4proto . th dport map @MAP`
    pub(super) fn redirect_by_address_and_port(self, ip: Ip, map: &'static Set) -> Self {
        let parts = ip.address().0 / 4;
        self.load_address(ip, End::Destination, FIRST).load_port(parts).redirect(ip, map)
    }

    fn load_port(self, behind: u32) -> Self {
        self.meta(NFT_META_L4PROTO, Register(behind)).payload(
            NFT_PAYLOAD_TRANSPORT_HEADER,
            DESTINATION_PORT,
            2,
            Register(behind + 1),
        )
    }

    fn redirect(self, ip: Ip, map: &'static Set) -> Self {
        let port = Register(ip.address().0 / 4);
        self.add("lookup", vec![(1, Text(map.name)), (2, Number(NFT_REG_1)), (3, Number(NFT_REG_1))]).add(
            "nat",
            vec![
                (1, Number(NFT_NAT_DNAT)),
                (2, Number(ip.number().into())),
                (3, Number(NFT_REG_1)),
                (5, Number(port.number())),
            ],
        )
    }

    /// `masquerade`
    pub(super) fn masquerade(self) -> Self {
        self.add("masq", Vec::new())
    }

    /// `ether type arp`
    pub(super) fn arp(self) -> Self {
        self.ether_type([0x08, 0x06])
    }

    /// `ether type ip`
    pub(super) fn ether_type_of(self, ip: Ip) -> Self {
        self.ether_type(ip.ether_type())
    }

    /// As the frame has it: `meta protocol` would be what is behind the tag of a virtual LAN.
    fn ether_type(self, number: [u8; 2]) -> Self {
        self.payload(NFT_PAYLOAD_LL_HEADER, ETHER_TYPE, 2, FIRST).compare(Test::Is, &number)
    }

    /// `icmpv6 type NUMBER`
    pub(super) fn icmpv6(self, number: u8) -> Self {
        self.meta(NFT_META_L4PROTO, FIRST)
            .compare(Test::Is, &[IPPROTO_ICMPV6])
            .payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, FIRST)
            .compare(Test::Is, &[number])
    }

    /// `iifname . ether saddr . ip saddr @SET`
    pub(super) fn sent_as(self, ip: Ip, set: &'static Set) -> Self {
        self.sender().load_address(ip, End::Source, Register(6)).lookup(Test::Is, set)
    }

    /// `iifname . ether saddr . arp saddr ip @SET iifname . arp saddr ether . arp saddr ip @SET`
    pub(super) fn arp_of(self, set: &'static Set) -> Self {
        self.sender()
            .payload(NFT_PAYLOAD_NETWORK_HEADER, ARP_SENDER_IPV4, 4, Register(6))
            .lookup(Test::Is, set)
            .meta(NFT_META_IIFNAME, FIRST)
            .payload(NFT_PAYLOAD_NETWORK_HEADER, ARP_SENDER_ETHER, 6, Register(4))
            .payload(NFT_PAYLOAD_NETWORK_HEADER, ARP_SENDER_IPV4, 4, Register(6))
            .lookup(Test::Is, set)
    }

    /// `iifname . ether saddr . nd target != @SET`
    pub(super) fn neighbour_not_of(self, set: &'static Set) -> Self {
        self.sender().payload(NFT_PAYLOAD_TRANSPORT_HEADER, ND_TARGET, 16, Register(6)).lookup(Test::IsNot, set)
    }

    /// The port and the frame's source, the two first parts of the keys: 16 bytes and 8.
    fn sender(self) -> Self {
        self.meta(NFT_META_IIFNAME, FIRST).payload(NFT_PAYLOAD_LL_HEADER, ETHER_SOURCE, 6, Register(4))
    }

    /// `accept`
    pub(super) fn accept(self) -> Self {
        self.verdict(NF_ACCEPT)
    }

    /// `drop`
    pub(super) fn drop(self) -> Self {
        self.verdict(NF_DROP)
    }

    /// The list of expressions, as NFTA_RULE_EXPRESSIONS holds it.
    pub(super) fn write(&self, list: &mut Writer) {
        for expression in &self.0 {
            list.nest(NFTA_LIST_ELEM, |inner| {
                inner.text(NFTA_EXPR_NAME, expression.name);
                inner.nest(NFTA_EXPR_DATA, |data| {
                    for (kind, value) in &expression.attributes {
                        value.write(data, *kind);
                    }
                });
            });
        }
    }
}

impl Value {
    fn write(&self, writer: &mut Writer, kind: u16) {
        match self {
            Number(number) => writer.be32(kind, *number),
            Text(text) => writer.text(kind, text),
            Data(bytes) => writer.nest(kind, |data| {
                data.put(NFTA_DATA_VALUE, bytes);
            }),
            Verdict(code) => writer.nest(kind, |data| {
                data.nest(NFTA_DATA_VERDICT, |verdict| {
                    verdict.be32(NFTA_VERDICT_CODE, *code);
                });
            }),
        };
    }
}
