//! Rules of nf_tables: a list of small operations on registers, in the words of nft(8).
#![forbid(unsafe_code)]

use crate::attr::Writer;
use crate::name::IfName;
use crate::subnet::Subnet;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;

/// The verdict register, and the first of the data registers by its 16 byte name.
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
/// The same storage in parts of four bytes: the second part of register 1, and the third.
const NFT_REG32_01: u32 = 9;
const NFT_REG32_02: u32 = 10;

const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
/// Where the IPv4 header has the addresses, and where TCP and UDP have the destination port.
const SOURCE_ADDRESS: u32 = 12;
const DESTINATION_ADDRESS: u32 = 16;
const DESTINATION_PORT: u32 = 2;

const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_L4PROTO: u32 = 16;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;
const RTN_LOCAL: u32 = 2;
const NFT_CT_STATE: u32 = 0;
const NFT_CT_STATUS: u32 = 2;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const IPS_DST_NAT: u32 = 1 << 5;
const NFT_NAT_DNAT: u32 = 1;
const NFPROTO_IPV4: u32 = 2;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// How two values are compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Is,
    IsNot,
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

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        let attributes = vec![(1, Number(register)), (2, Number(base)), (3, Number(offset)), (4, Number(length))];
        self.add("payload", attributes)
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.add("meta", vec![(2, Number(key)), (1, Number(register))])
    }

    fn compare(self, test: Test, data: Vec<u8>) -> Self {
        self.add("cmp", vec![(1, Number(NFT_REG_1)), (2, Number(test as u32)), (3, Data(data))])
    }

    fn and(self, mask: [u8; 4]) -> Self {
        let attributes = vec![
            (1, Number(NFT_REG_1)),
            (2, Number(NFT_REG_1)),
            (3, Number(4)),
            (4, Data(mask.to_vec())),
            (5, Data(vec![0; 4])),
        ];
        self.add("bitwise", attributes)
    }

    fn address_in(self, offset: u32, mask: u32, test: Test, address: u32) -> Self {
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 4, NFT_REG_1)
            .and(mask.to_be_bytes())
            .compare(test, address.to_be_bytes().to_vec())
    }

    fn link(self, key: u32, test: Test, link: &IfName) -> Self {
        // The kernel compares the whole field, zeros included: a longer name with this beginning is another one.
        let mut name = link.as_str().as_bytes().to_vec();
        name.resize(libc::IFNAMSIZ, 0);
        self.meta(key, NFT_REG_1).compare(test, name)
    }

    fn ct_has(self, key: u32, bits: u32) -> Self {
        self.add("ct", vec![(2, Number(key)), (1, Number(NFT_REG_1))])
            .and(bits.to_ne_bytes())
            .compare(Test::IsNot, vec![0; 4])
    }

    fn redirect(self, map: &'static str) -> Self {
        self.add("lookup", vec![(1, Text(map)), (2, Number(NFT_REG_1)), (3, Number(NFT_REG_1))]).add(
            "nat",
            vec![
                (1, Number(NFT_NAT_DNAT)),
                (2, Number(NFPROTO_IPV4)),
                (3, Number(NFT_REG_1)),
                (5, Number(NFT_REG32_01)),
            ],
        )
    }

    fn verdict(self, code: u32) -> Self {
        self.add("immediate", vec![(1, Number(NFT_REG_VERDICT)), (2, Verdict(code))])
    }

    /// `fib daddr type local`
    pub(super) fn for_this_machine(self) -> Self {
        let attributes =
            vec![(3, Number(NFTA_FIB_F_DADDR)), (2, Number(NFT_FIB_RESULT_ADDRTYPE)), (1, Number(NFT_REG_1))];
        self.add("fib", attributes).compare(Test::Is, RTN_LOCAL.to_ne_bytes().to_vec())
    }

    /// `ip daddr != 127.0.0.0/8`
    pub(super) fn not_to_loopback(self) -> Self {
        self.address_in(DESTINATION_ADDRESS, 0xff00_0000, Test::IsNot, 0x7f00_0000)
    }

    /// `ip saddr SUBNET`
    pub(super) fn from(self, subnet: Subnet) -> Self {
        let (address, mask) = subnet.bits_v4();
        self.address_in(SOURCE_ADDRESS, mask, Test::Is, address)
    }

    /// `ip daddr SUBNET`
    pub(super) fn to(self, subnet: Subnet) -> Self {
        let (address, mask) = subnet.bits_v4();
        self.address_in(DESTINATION_ADDRESS, mask, Test::Is, address)
    }

    /// `iifname NAME`
    pub(super) fn input_link(self, test: Test, link: &IfName) -> Self {
        self.link(NFT_META_IIFNAME, test, link)
    }

    /// `oifname NAME`
    pub(super) fn output_link(self, test: Test, link: &IfName) -> Self {
        self.link(NFT_META_OIFNAME, test, link)
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
    pub(super) fn redirect_by_port(self, map: &'static str) -> Self {
        self.meta(NFT_META_L4PROTO, NFT_REG_1)
            .payload(NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2, NFT_REG32_01)
            .redirect(map)
    }

    /// `dnat ip to ip daddr . meta l4proto . th dport map @MAP`
    pub(super) fn redirect_by_address_and_port(self, map: &'static str) -> Self {
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, DESTINATION_ADDRESS, 4, NFT_REG_1)
            .meta(NFT_META_L4PROTO, NFT_REG32_01)
            .payload(NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2, NFT_REG32_02)
            .redirect(map)
    }

    /// `masquerade`
    pub(super) fn masquerade(self) -> Self {
        self.add("masq", Vec::new())
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
