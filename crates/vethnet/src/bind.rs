//! Whether a program of this machine uses a port that is to be published: what is published is taken from it.
//!
//! The kernel is asked by bind(2), without listening: nobody can connect meanwhile. It says whether the port is in use
//! now; nothing keeps a program from binding it later, and then it gets what comes from the machine's loopback only.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use cellkit_core::{Error, Result, Subject};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use crate::hint::HINTS;
use crate::port::{Protocol, PublishedPort};

/// Refuses a port that is in use, for a container with these addresses (or with these gateways, before it has any). In
/// the network namespace of the calling thread; two or three system calls a port.
///
/// # Errors
/// EADDRINUSE with the address and port; EADDRNOTAVAIL for an address that the machine does not have; Invalid when the
/// container has no address of the family.
pub(crate) fn check_free(port: &PublishedPort, addresses: &[IpAddr]) -> Result<()> {
    for (host, _) in port.targets(addresses)? {
        for number in port.host_ports() {
            let address = SocketAddr::new(host, number);
            match try_bind(address, port.protocol()) {
                Ok(()) => {}
                // A kernel without IPv6, or without SCTP: then nobody uses the port.
                Err(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) => break,
                Err(Errno::EADDRNOTAVAIL) if host.is_unspecified() => break,
                Err(errno) => {
                    return Err(Error::from_errno("bind", errno as i32)
                        .on(Subject::Value(format!("{address}/{}", port.protocol())))
                        .with_hints(&HINTS)
                        .context(format!("publish {port}")));
                }
            }
        }
    }
    Ok(())
}

fn try_bind(address: SocketAddr, protocol: Protocol) -> nix::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, number)?;
    if protocol != Protocol::Udp {
        // Connections that are closed already are no obstacle.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    const CONTAINER: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(10, 209, 0, 2))];

    #[test]
    fn a_port_in_use_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        for text in [format!("127.0.0.1:{taken}:80"), format!("0.0.0.0:{taken}:80")] {
            let error = check_free(&text.parse().unwrap(), &CONTAINER).unwrap_err();
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::AlreadyExists, Some(libc::EADDRINUSE)));
            assert!(error.to_string().contains(&format!(":{taken}/tcp")), "{error}");
        }
        check_free(&format!("127.0.0.2:{taken}:80").parse().unwrap(), &CONTAINER).unwrap();
        drop(listener);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = socket.local_addr().unwrap().port();
        let range = format!("127.0.0.1:{}-{taken}:1-2/udp", taken - 1);
        let error = check_free(&range.parse().unwrap(), &CONTAINER).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "the other one of a range");
    }

    #[test]
    fn an_address_of_somebody_else() {
        let error = check_free(&"192.0.2.77:8080:80".parse().unwrap(), &CONTAINER).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    }

    #[test]
    fn an_address_of_many() {
        for address in ["224.0.0.1", "255.255.255.255", "[ff02::1]"] {
            let error = check_free(&format!("{address}:8080:80").parse().unwrap(), &CONTAINER).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }

    #[test]
    fn what_has_no_address_to_lead_to_is_not_asked_for() {
        let error = check_free(&"[::1]:8080:80".parse().unwrap(), &CONTAINER).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
