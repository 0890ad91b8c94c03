//! The loopback interface, without a runtime.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::time::Instant;

use cellkit_core::{Observer, Result};

use crate::exchange::Mode;
use crate::link;
use crate::name::IfName;
use crate::netns::inside_blocking;
use crate::plan::{End, Step};
use crate::socket::{Family, Socket};

/// Brings the loopback interface of `netns` up: all the network that a container without one needs.
///
/// * C call: setns(2) on a short-lived thread, then RTM_SETLINK with IFF_UP; the equivalent of `ip link set lo up`.
/// * Blocks for the life of that thread, 100 to 200 microseconds, half of them the kernel's to bring the interface up. It
///   needs no runtime and no state.
/// * Privileges: CAP_SYS_ADMIN and CAP_NET_ADMIN over the namespace.
///
/// # Errors
/// [`Permission`](crate::ErrorKind::Permission) without them; [`Invalid`](crate::ErrorKind::Invalid) when `netns` is not a
/// network namespace.
///
/// ```no_run
/// let netns = std::fs::File::open("/proc/4711/ns/net")?;
/// vethnet::loopback_up(&netns, &mut ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// See netdevice(7): <https://man7.org/linux/man-pages/man7/netdevice.7.html>.
#[doc(alias = "SIOCSIFFLAGS")]
pub fn loopback_up<O: Observer + ?Sized>(netns: impl AsFd, observer: &mut O) -> Result<()> {
    let start = Instant::now();
    inside_blocking(netns.as_fd(), || Socket::open(Family::Route)?.talk(&[link::loopback_up()], Mode::Ack))?;
    if observer.listens() {
        for text in (Step::Up { end: End::Loopback, name: IfName::new("lo")? }).describe() {
            observer.made(text, start.elapsed());
        }
    }
    Ok(())
}
