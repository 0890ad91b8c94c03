//! What addresses are leased from, and which of them may be wished for.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Error, Result, Subject};

use crate::subnet::Subnet;

/// What is leased from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges<'a> {
    pub(crate) subnets: &'a [Subnet],
    /// Addresses that nobody gets, beside those that `Subnet` says.
    pub(crate) reserved: &'a [IpAddr],
}

impl Ranges<'_> {
    pub(super) fn text(&self) -> String {
        self.subnets.iter().map(Subnet::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Whether it can be leased from: one range of each family at most, of addresses for hosts.
    pub(crate) fn check(&self) -> Result<()> {
        let fail = |why| Err(Error::invalid("address plan", why).on(Subject::Value(self.text())));
        for subnet in self.subnets {
            subnet.for_hosts()?;
        }
        match self.subnets {
            [] => fail("it has no range of addresses"),
            [_] => Ok(()),
            [a, b] if a.is_ipv4() != b.is_ipv4() => Ok(()),
            _ => fail("it can have one IPv4 range and one IPv6 range, and no more"),
        }
    }

    /// For each range the address that is wished for, if that is right in itself.
    pub(crate) fn sort(&self, wishes: &[IpAddr]) -> Result<Vec<(Subnet, Option<IpAddr>)>> {
        self.check()?;
        let mut sorted: Vec<_> = self.subnets.iter().map(|subnet| (*subnet, None)).collect();
        for &address in wishes {
            let refuse = |why: String| {
                Err(Error::invalid("lease an address", why)
                    .on(Subject::Value(address.to_string()))
                    .with_hint(format!("choose another of {}", self.text())))
            };
            let Some((subnet, wish)) = sorted.iter_mut().find(|(subnet, _)| subnet.contains(address)) else {
                return refuse(format!("it is not in {}", self.text()));
            };
            if subnet.gateway() == Some(address) {
                return refuse(format!("it is the gateway of {subnet}"));
            }
            if !subnet.is_for_container(address) {
                return refuse(format!("it is not for containers in {subnet}"));
            }
            if self.reserved.contains(&address) {
                return refuse("it is reserved".into());
            }
            if wish.replace(address).is_some() {
                return refuse(format!("a second address of {subnet} is wished for"));
            }
        }
        Ok(sorted)
    }

    /// The addresses to try, in order.
    pub(super) fn hosts_after(&self, subnet: Subnet, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
        subnet.hosts_after(last).filter(|address| !self.reserved.contains(address))
    }
}
