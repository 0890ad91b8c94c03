//! Traffic passes the moment an attach returns; and what an attach needs of /proc.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use vethnet::{Attach, MacAddr, Wiring};

use super::world::{Ns, StateDir, Uplink, wait};

const ROUNDS: u8 = 16;
const MAC: &str = "02:00:00:00:00:53";

/// A packet that meets a link which the kernel has not brought up yet is dropped without an error. Nobody sends it again
/// here: where the container is, is known, and there is one datagram.
#[test]
fn the_first_packet_arrives() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let (uplink, host) = (Uplink::new(), Ns::host());
        for network in state.networks() {
            wait(async {
                let stays = Ns::new();
                let first = network.attach(&stays, &Attach::new("stays"), &mut ()).await.expect("attach");
                let mac: MacAddr = MAC.parse().expect("mac");
                let address = match network.wiring() {
                    Wiring::Bridge => Ipv4Addr::new(10, 209, 0, 53),
                    _ => Ipv4Addr::new(10, 40, 0, 53),
                };
                if network.wiring() == Wiring::Bridge {
                    let bridge = network.name();
                    host.output("ip", &format!("neighbour add {address} lladdr {mac} nud permanent dev {bridge}"));
                }
                let outside = UdpSocket::bind("0.0.0.0:0").expect("bind");
                let spec = Attach::new("web").address(IpAddr::V4(address)).mac(mac);
                for round in 0..ROUNDS {
                    let web = Ns::new();
                    let inside = web.run(|| UdpSocket::bind("0.0.0.0:53").expect("bind"));
                    inside.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");

                    let attachment = network.attach(&web, &spec, &mut ()).await.expect("attach");
                    let sent = outside.send_to(&[round], (address, 53));

                    sent.expect("send");
                    let mut buffer = [0; 2];
                    let got = inside.recv(&mut buffer);
                    assert_eq!(
                        got.unwrap_or_else(|error| panic!("{} network, round {round}: {error}", network.wiring())),
                        1
                    );
                    assert_eq!(buffer[0], round);
                    attachment.detach().await.expect("detach");
                }
                first.detach().await.expect("detach");
            });
        }
        uplink.remove();
    });
}

/// With the first container the bridge comes up as well.
#[test]
fn the_first_packet_by_a_new_bridge_arrives() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (state, uplink) = (StateDir::new(), Uplink::new());
        for network in state.networks() {
            wait(async {
                for round in 0..ROUNDS / 2 {
                    let web = Ns::new();
                    let _server = web.serve(80);

                    // Another address each time: what is left of the last connection asks for the last address when there is
                    // a bridge again, and who asks next has to wait for that.
                    let address = match network.wiring() {
                        Wiring::Bridge => Ipv4Addr::new(10, 209, 0, 10 + round),
                        _ => Ipv4Addr::new(10, 40, 0, 10 + round),
                    };
                    let spec = Attach::new("web").address(IpAddr::V4(address));
                    let attachment = network.attach(&web, &spec, &mut ()).await.expect("attach");
                    let address = SocketAddr::new(attachment.address(), 80);
                    // What is lost is sent again after a second.
                    let stream = TcpStream::connect_timeout(&address, Duration::from_millis(900));

                    stream.unwrap_or_else(|error| panic!("{} network, round {round}: {error}", network.wiring()));
                    attachment.detach().await.expect("detach");
                }
            });
        }
        uplink.remove();
    });
}

/// As in a container: the machine's own files cannot be written.
#[test]
fn proc_sys_that_is_read_only_for_others() {
    faultkit::require!(root, program("mount"));
    isolated!(|| {
        let state = StateDir::new();
        let host = Ns::host();
        host.output("mount", "--bind /proc/sys /proc/sys");
        host.output("mount", "-o remount,bind,ro /proc/sys");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect_err("read-only");
        wait(async {
            let web = Ns::new();
            let attachment =
                state.network().attach(&web, &Attach::new("web"), &mut ()).await.expect("a procfs of its own");
            assert_eq!(super::world::forwarding(), "1");
            attachment.detach().await.expect("detach");
            assert_eq!(super::world::forwarding(), "0");
        });
        host.output("umount", "/proc/sys");
    });
}
