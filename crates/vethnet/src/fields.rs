//! Numbers and addresses as the kernel's headers and attributes have them.
//!
//! What the kernel sends is read with these and [`attributes`](crate::attr::attributes), not with netlink-packet-route: an
//! attribute that is new, or longer than it was, is passed over here, and is an error for the whole message there.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Error, Result};
use netlink_packet_route::AddressFamily;

pub(crate) const INET: u8 = libc::AF_INET as u8;
pub(crate) const INET6: u8 = libc::AF_INET6 as u8;

/// The byte of a header at this place.
pub(crate) fn byte(bytes: &[u8], place: usize) -> Option<u8> {
    bytes.get(place).copied()
}

pub(crate) fn number16(bytes: &[u8], place: usize) -> Option<u16> {
    bytes.get(place..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(crate) fn number32(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// An address, whose family its length tells.
pub(crate) fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// How many bits an address of the same family has.
pub(crate) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The error for an answer that ends within its header.
pub(crate) fn too_short(operation: &'static str) -> Error {
    Error::parse(operation, "the kernel's answer is shorter than its header")
}

/// The header of an answer and what follows it.
pub(crate) fn split<'b>(operation: &'static str, body: &'b [u8], header: usize) -> Result<(&'b [u8], &'b [u8])> {
    body.split_at_checked(header).ok_or_else(|| too_short(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_their_lengths() {
        assert_eq!(address(&[10, 0, 0, 1]), Some([10, 0, 0, 1].into()));
        assert_eq!(address(&[0; 16]), Some(IpAddr::from([0u16; 8])));
        for length in [0, 3, 5, 15, 17] {
            assert_eq!(address(&vec![0; length]), None);
        }
        assert_eq!(number32(&[9, 1, 0, 0, 0], 1), Some(u32::from_ne_bytes([1, 0, 0, 0])));
        assert_eq!(number32(&[1, 0, 0], 0), None);
        assert_eq!(number16(&[1], usize::MAX), None);
    }
}
