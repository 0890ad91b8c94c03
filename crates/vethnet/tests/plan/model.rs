//! Any sequence of leases, wishes, releases and collections, beside a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use vethnet::{AddressPlan, ErrorKind, Subnet, Wish};

use crate::look;

/// Small ranges, so that they are exhausted; at the ends of what there is, so that something can be counted too far; and
/// large ones.
const RANGES: &[&[&str]] = &[
    &["10.7.0.0/29"],
    &["223.255.255.248/29"],
    &["10.7.0.4/30"],
    &["10.7.0.4/31"],
    &["10.7.0.5/32"],
    &["fd00:7::/125"],
    &["fdff:ffff:ffff:ffff:ffff:ffff:ffff:fff8/125"],
    &["fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"],
    &["fd00:7::5/128"],
    &["10.7.0.0/29", "fd00:7::/126"],
    &["fd00:7::/64", "10.7.0.0/30"],
    &["10.0.0.0/8", "fc00::/7"],
];

/// The addresses for containers, counted here once more: for a large range only the first few.
fn hosts(subnet: &Subnet) -> Vec<IpAddr> {
    let (first, width) = match subnet.address() {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let size = 1u128.checked_shl(width - u32::from(subnet.prefix())).unwrap_or(u128::MAX);
    let (skip, end) = match (size, width) {
        (1, _) => (0, 1),
        (2, _) => (1, 2),
        (_, 32) => (2, size - 1),
        _ => (2, size),
    };
    let address = |at: u128| match width {
        32 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(first + at).expect("IPv4"))),
        _ => IpAddr::V6(Ipv6Addr::from_bits(first + at)),
    };
    (skip..end.min(12)).map(address).collect()
}

#[derive(Clone, Debug)]
enum Action {
    Lease(usize),
    Wish(usize, u8),
    Release(usize),
    Collect(u8),
}

fn actions(wishes: bool) -> impl Strategy<Value = Vec<Action>> {
    let lease = (0usize..9).prop_map(Action::Lease);
    let wish = (0usize..9, any::<u8>())
        .prop_map(move |(owner, which)| if wishes { Action::Wish(owner, which) } else { Action::Lease(owner) });
    let release = (0usize..9).prop_map(Action::Release);
    let collect = any::<u8>().prop_map(Action::Collect);
    prop::collection::vec(prop_oneof![4 => lease, 2 => wish, 4 => release, 1 => collect], 0..50)
}

fn plan(dir: &std::path::Path, ranges: &[&str]) -> AddressPlan {
    ranges.iter().fold(AddressPlan::new(dir), |plan, range| plan.subnet(range.parse().expect("range")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn as_the_model_has_it(which in 0..RANGES.len(), actions in actions(true)) {
        let dir = faultkit::TempDir::new();
        let dir = dir.path().join("plan");
        let ranges = RANGES[which];
        let plan = plan(&dir, ranges);
        let all: Vec<Vec<IpAddr>> = plan.subnets().iter().map(hosts).collect();
        let large = plan.subnets().iter().any(|subnet| subnet.capacity() > 100);
        let mut model: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for action in actions {
            let taken: BTreeSet<IpAddr> = model.values().flatten().copied().collect();
            let full = plan.subnets().iter().zip(&all).any(|(subnet, hosts)| {
                subnet.capacity() <= 100 && hosts.iter().all(|host| taken.contains(host))
            });
            match action {
                Action::Lease(owner) => {
                    let owner = format!("o{owner}");
                    match plan.lease(owner.as_str()) {
                        Ok(lease) => {
                            let addresses: Vec<_> = lease.addresses().iter().map(|net| net.address()).collect();
                            prop_assert!(!model.contains_key(&owner) && !full);
                            prop_assert_eq!(addresses.len(), plan.subnets().len());
                            for ((address, hosts), subnet) in addresses.iter().zip(&all).zip(plan.subnets()) {
                                prop_assert!(!taken.contains(address), "{} is somebody's", address);
                                prop_assert!(subnet.contains(*address));
                                prop_assert!(subnet.capacity() > 100 || hosts.contains(address), "{} is no container's", address);
                            }
                            model.insert(owner, addresses);
                        }
                        Err(error) if model.contains_key(&owner) => prop_assert_eq!(error.kind(), ErrorKind::AlreadyExists),
                        Err(error) => {
                            prop_assert_eq!(error.kind(), ErrorKind::Limit, "{:#}", error);
                            prop_assert!(full, "{:#}", error);
                        }
                    }
                }
                Action::Wish(owner, which) => {
                    let owner = format!("o{owner}");
                    // Also such as are no container's: of all addresses near the first range's beginning.
                    let near = |bits: u128| bits.wrapping_add(u128::from(which % 10)).wrapping_sub(1);
                    let wished = match plan.subnets()[0].address() {
                        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(near(first.to_bits().into()) as u32)),
                        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(near(first.to_bits()))),
                    };
                    let is_hosts = all[0].contains(&wished);
                    let rest_full = plan.subnets().iter().zip(&all).skip(1).any(|(subnet, hosts)| {
                        subnet.capacity() <= 100 && hosts.iter().all(|host| taken.contains(host))
                    });
                    match plan.lease(Wish::new(owner.as_str()).address(wished)) {
                        Ok(lease) => {
                            prop_assert!(is_hosts && !taken.contains(&wished) && !model.contains_key(&owner));
                            prop_assert_eq!(lease.addresses()[0].address(), wished);
                            model.insert(owner, lease.addresses().iter().map(|net| net.address()).collect());
                        }
                        Err(error) => match error.kind() {
                            ErrorKind::Invalid => prop_assert!(!is_hosts, "{:#}", error),
                            ErrorKind::AlreadyExists if model.contains_key(&owner) => {}
                            ErrorKind::AlreadyExists => {
                                prop_assert!(taken.contains(&wished), "{:#}", error);
                                let holder = plan.owner_of(wished).unwrap().expect("somebody");
                                prop_assert!(model[&holder].contains(&wished));
                                prop_assert!(error.hint().unwrap().contains(&holder));
                            }
                            ErrorKind::Limit => prop_assert!(rest_full, "{:#}", error),
                            _ => prop_assert!(false, "{:#}", error),
                        },
                    }
                }
                Action::Release(owner) => {
                    let owner = format!("o{owner}");
                    prop_assert_eq!(plan.release(&owner).unwrap(), model.remove(&owner).is_some());
                }
                Action::Collect(dead) => {
                    let is_alive = |owner: &str| owner.trim_start_matches('o').parse::<u32>().unwrap() != u32::from(dead % 9);
                    let want: Vec<_> = model.keys().filter(|owner| !is_alive(owner)).cloned().collect();
                    prop_assert_eq!(plan.collect(is_alive).unwrap(), want);
                    model.retain(|owner, _| is_alive(owner));
                }
            }
            let want: BTreeMap<_, _> =
                model.iter().flat_map(|(owner, all)| all.iter().map(|address| (*address, owner.clone()))).collect();
            prop_assert_eq!(&look::entries(&dir), &want);
            prop_assert_eq!(&look::records(&dir), &want);
        }
        // Whatever came before, all of a range can be leased.
        plan.collect(|_| false).unwrap();
        prop_assert!(look::entries(&dir).is_empty());
        if !large {
            let least = plan.subnets().iter().map(Subnet::capacity).min().unwrap();
            for index in 0..least {
                plan.lease(format!("all{index}")).unwrap();
            }
            prop_assert_eq!(plan.lease("more").unwrap_err().kind(), ErrorKind::Limit);
            plan.collect(|_| false).unwrap();
        }
        plan.remove().unwrap();
        prop_assert!(!dir.exists());
    }

    /// None comes again before each of the others was somebody's meanwhile.
    #[test]
    fn addresses_rest(which in 0..2usize, actions in actions(false)) {
        let dir = faultkit::TempDir::new();
        let plan = plan(dir.path(), [&["10.7.0.0/29"][..], &["fd00:7::/125"]][which]);
        let hosts = hosts(&plan.subnets()[0]);
        let mut since: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Lease(owner) | Action::Wish(owner, _) => {
                    let Ok(lease) = plan.lease(format!("o{owner}")) else { continue };
                    let address = lease.addresses()[0].address();
                    if let Some(others) = since.get(&address) {
                        prop_assert_eq!(others.len(), hosts.len() - 1, "{} came too early: {:?}", address, others);
                    }
                    for (other, seen) in &mut since {
                        if *other != address {
                            seen.insert(address);
                        }
                    }
                    since.insert(address, look::entries(dir.path()).into_keys().filter(|other| *other != address).collect());
                }
                Action::Release(owner) => drop(plan.release(&format!("o{owner}")).unwrap()),
                Action::Collect(_) => {}
            }
        }
    }
}

#[test]
fn a_range_that_is_nearly_full_is_used_to_the_end() {
    let dir = faultkit::TempDir::new();
    let plan = AddressPlan::new(dir.path()).subnet("10.5.0.0/24".parse().expect("range"));
    for index in 0..253 {
        plan.lease(format!("o{index}")).expect("lease");
    }
    assert_eq!(plan.lease("more").expect_err("full").kind(), ErrorKind::Limit);
    // Far behind the last one that was given out, past more than are tried one by one.
    plan.release("o200").expect("release");
    assert_eq!(plan.lease("more").expect("the only one").addresses()[0].to_string(), "10.5.0.202/24");
}
