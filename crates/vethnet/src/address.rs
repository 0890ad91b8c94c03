//! Which address a container gets.
//!
//! The next free one after the last that was given out, around the range: what the world still has open with a container
//! that ended (connections, entries of conntrack and of neighbours) does not fall to the one that is started next.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

use cellkit_core::{Error, Result, Subject};

use crate::record::Record;
use crate::subnet::Subnet;

/// The next address after `last` that nobody leases; without a `last` in the range, the first.
pub(crate) fn free_address(subnet: Subnet, leases: &[Record], last: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
    let mut taken: Vec<_> = leases.iter().map(|lease| lease.address).collect();
    taken.sort_unstable();
    let mut hosts = subnet.hosts_after(last.map(IpAddr::V4)).filter_map(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    hosts.find(|address| taken.binary_search(address).is_err()).ok_or_else(|| {
        Error::from_errno("lease an address", libc::ENOSPC).on(Subject::Value(subnet.to_string())).with_hint(
            "every address of the range is leased: choose a larger one, or detach what has ended (reconcile)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::name::{IfName, Owner};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn record(owner: usize, subnet: Subnet, address: Ipv4Addr) -> Record {
        let (bridge, eth0) = (IfName::new("cellkit0").unwrap(), IfName::new("eth0").unwrap());
        Record::new(Owner::new(&format!("o{owner}")).unwrap(), &bridge, subnet, address, &eth0, None, &[])
    }

    #[test]
    fn around_the_range() {
        let subnet: Subnet = "10.7.0.0/29".parse().unwrap();
        let next = |last| free_address(subnet, &[], last).unwrap().octets()[3];
        assert_eq!(next(None), 2);
        for (last, want) in [(0, 2), (1, 2), (2, 3), (5, 6), (6, 2), (7, 2), (8, 2)] {
            assert_eq!(next(Some(Ipv4Addr::new(10, 7, 0, last))), want, "after {last}");
        }
        for elsewhere in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 6, 255, 255)] {
            assert_eq!(next(Some(elsewhere)), 2, "after {elsewhere}");
        }
    }

    proptest! {
        /// Against a model: none is given twice, none is withheld, and none comes again before each of the others was
        /// somebody's meanwhile.
        #[test]
        fn addresses_are_given_once_and_rest(actions in prop::collection::vec((any::<bool>(), 0usize..8), 0..80)) {
            let subnet: Subnet = "10.7.0.0/29".parse().unwrap();
            let hosts: BTreeSet<IpAddr> = subnet.hosts_after(None).collect();
            prop_assert_eq!(hosts.len(), 5);
            let mut model = BTreeMap::new();
            let mut last = None;
            // For each address that was given out: which others were somebody's since.
            let mut since: BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>> = BTreeMap::new();
            for (take, owner) in actions {
                if !take {
                    model.remove(&owner);
                    continue;
                }
                if model.contains_key(&owner) {
                    continue;
                }
                let leases: Vec<_> = model.iter().map(|(owner, address)| record(*owner, subnet, *address)).collect();
                match free_address(subnet, &leases, last) {
                    Ok(address) => {
                        prop_assert!(hosts.contains(&address.into()));
                        prop_assert!(model.values().all(|other| *other != address));
                        if let Some(others) = since.get(&address) {
                            prop_assert_eq!(others.len(), hosts.len() - 1, "{} came too early: {:?}", address, others);
                        }
                        for (other, seen) in &mut since {
                            if *other != address {
                                seen.insert(address);
                            }
                        }
                        since.insert(address, model.values().copied().collect());
                        model.insert(owner, address);
                        last = Some(address);
                    }
                    Err(error) => {
                        prop_assert_eq!(error.kind(), ErrorKind::Limit);
                        prop_assert_eq!(model.len(), hosts.len());
                    }
                }
            }
        }
    }
}
