//! Published ports as elements of maps: what is sent to the host's port leads to the container's.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Error, Result, Subject};

use super::set::{Element, Key, PUBLISHED_4, PUBLISHED_4_AT, PUBLISHED_6, PUBLISHED_6_AT, Set};
use super::{Pack, Settings, inet};
use crate::exchange::Request;
use crate::name::{IfName, Owner};
use crate::port::PublishedPort;

/// All maps of published ports.
pub(super) static MAPS: [&Set; 4] = [&PUBLISHED_4, &PUBLISHED_4_AT, &PUBLISHED_6, &PUBLISHED_6_AT];

/// The elements that lead `ports` to the container with these addresses, at most one a family. A port that is taken is
/// EEXIST.
///
/// # Errors
/// Invalid for a port that cannot be reached: the container has no address of its family, or it is one of 127.0.0.0/8
/// and the table was not made for that.
pub(crate) fn new_elements(
    name: &IfName,
    owner: &Owner,
    addresses: &[IpAddr],
    ports: &[PublishedPort],
    settings: Settings,
) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for port in ports {
        check_localhost(port, settings)?;
        for (map, elements) in elements(port, addresses)? {
            requests.extend(inet(name).new_elements(map, &elements, Some(owner), &subject(port))?);
        }
    }
    Ok(requests)
}

/// Refuses a port of 127.0.0.0/8 where the table is not made for that.
pub(crate) fn check_localhost(port: &PublishedPort, settings: Settings) -> Result<()> {
    // That ::1 is never one is said below.
    if settings.localhost || !port.host_address().is_some_and(|at| at.is_ipv4() && at.is_loopback()) {
        return Ok(());
    }
    Err(Error::invalid("published port", "the network's ports are not published on 127.0.0.0/8")
        .on(Subject::Value(port.to_string()))
        .with_hint("leave the address out, name one of the machine's others, or have the network publish on localhost"))
}

/// Removes what [`new_elements`] made. One that is not there is ENOENT, and nothing is done.
pub(crate) fn delete_elements(
    name: &IfName,
    addresses: &[IpAddr],
    ports: &[PublishedPort],
    pack: Pack,
) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for port in ports {
        for (map, elements) in elements(port, addresses)? {
            requests.extend(inet(name).delete_elements(map, &elements, pack, &subject(port))?);
        }
    }
    Ok(requests)
}

fn subject(port: &PublishedPort) -> String {
    format!("published port {port}")
}

/// The maps that the port is in, and its elements there: one for each number of a range.
fn elements(port: &PublishedPort, addresses: &[IpAddr]) -> Result<Vec<(&'static Set, Vec<Element>)>> {
    let targets = port.targets(addresses)?;
    let in_one = |(host, container): (IpAddr, IpAddr)| {
        let map = match (host.is_ipv4(), host.is_unspecified()) {
            (true, true) => &PUBLISHED_4,
            (true, false) => &PUBLISHED_4_AT,
            (false, true) => &PUBLISHED_6,
            (false, false) => &PUBLISHED_6_AT,
        };
        let start = || if host.is_unspecified() { Key::new() } else { Key::new().address(host) };
        let pairs = port.host_ports().zip(port.container_ports());
        let elements = pairs.map(|(outside, inside)| {
            let key = start().protocol(port.protocol().number()).port(outside);
            Element::new(key).leading_to(Key::new().address(container).port(inside))
        });
        (map, elements.collect())
    };
    Ok(targets.into_iter().map(in_one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_loopback_are_refused_with_the_right_advice() {
        let (name, owner) = (IfName::new("pods").unwrap(), Owner::new("web").unwrap());
        let addresses = ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        for (text, localhost, words) in [
            ("127.0.0.1:80:80", false, Some("127.0.0.0/8")),
            ("127.0.0.1:80:80", true, None),
            ("[::1]:80:80", false, Some("nothing away from ::1")),
            ("[::1]:80:80", true, Some("nothing away from ::1")),
        ] {
            let settings = Settings { localhost, ..Settings::default() };
            let result = new_elements(&name, &owner, &addresses, &[text.parse().unwrap()], settings);
            match (result, words) {
                (Ok(_), None) => {}
                (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{text}: {error:#}"),
                (result, _) => panic!("{text} {localhost}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_port_is_an_element_of_a_map() {
        let addresses = ["10.209.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let all = elements(&"8080:80".parse().unwrap(), &addresses).unwrap();
        assert_eq!(all.iter().map(|(map, _)| map.name).collect::<Vec<_>>(), ["published4", "published6"]);
        let four = &all[0].1[0];
        assert_eq!(four.key, [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(four.data, [10, 209, 0, 2, 0, 80, 0, 0]);
        assert_eq!(all[1].1[0].data.len(), 20);

        let all = elements(&"1.2.3.4:53:53/udp".parse().unwrap(), &addresses).unwrap();
        assert_eq!((all.len(), all[0].0.name), (1, "published4_at"));
        assert_eq!(all[0].1[0].key, [1, 2, 3, 4, 17, 0, 0, 0, 0, 53, 0, 0]);
    }

    #[test]
    fn a_range_is_an_element_a_port() {
        let addresses = ["10.209.0.2".parse().unwrap()];
        let all = elements(&"65000-65535:80-615/sctp".parse().unwrap(), &addresses).unwrap();
        let elements = &all[0].1;
        assert_eq!(elements.len(), 536);
        assert_eq!(elements[535].key, [132, 0, 0, 0, 0xff, 0xff, 0, 0]);
        assert_eq!(elements[535].data[4..], [0x02, 0x67, 0, 0]);
    }

    #[test]
    fn localhost_has_to_be_wanted() {
        let (name, owner) = (IfName::new("n").unwrap(), Owner::new("web").unwrap());
        let (addresses, port) = (["10.209.0.2".parse().unwrap()], "127.0.0.1:80:80".parse().unwrap());
        let elements = |localhost| {
            let settings = Settings { localhost, ..Settings::default() };
            new_elements(&name, &owner, &addresses, &[port], settings)
        };
        assert_eq!(elements(true).unwrap().len(), 1);
        assert!(elements(false).unwrap_err().hint().unwrap().contains("localhost"));
    }
}
