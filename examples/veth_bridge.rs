//! `ip link add br0 type bridge; ip link add a0 master br0 type veth peer name eth0 netns A; ip link add b0 master br0 type veth
//! peer name eth0 netns B; ip netns exec A ping -c 1 10.7.0.2`: two network namespaces, joined by a bridge in a third.
//!
//! As root: `cargo run --example veth_bridge [COMMAND…]`, which is run in A. The namespaces have no names, and end with this
//! program: nothing is left in whatever way that ends.
use std::process::Command;

use vethnet::{Bridge, Error, IfName, IpNet, LinkChange, Net, Netns, Result, Veth};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::from_io("epoll_create1", &error))?.block_on(join())
}

async fn join() -> Result<()> {
    // The bridge is in a namespace of its own, so that nothing of the machine's is touched.
    let (switch, a, b) = (Netns::new()?, Netns::new()?, Netns::new()?);
    let net = Net::inside(&switch).await?;
    let spec = Bridge::new(IfName::new("br0")?).mac("02:00:00:00:00:01".parse()?).up();
    let bridge = net.ensure_link(&spec).await?;

    let eth0 = IfName::new("eth0")?;
    for (port, netns, address) in [("a0", &a, "10.7.0.1/24"), ("b0", &b, "10.7.0.2/24")] {
        // One message: the other end is born inside, as eth0.
        let pair = Veth::new(IfName::new(port)?, eth0.clone()).master(&bridge).up().peer_netns(netns);
        net.create_link(&pair).await?;
        let inside = Net::inside(netns).await?;
        inside.add_address(&eth0, address.parse::<IpNet>()?).await?;
        inside.change_link(&eth0, &LinkChange::new().up()).await?;
    }

    let mut words = std::env::args_os().skip(1);
    let mut command = Command::new(words.next().unwrap_or("ping".into()));
    command.args(words);
    if std::env::args_os().len() == 1 {
        command.args(["-c", "1", "-W", "5", "10.7.0.2"]);
    }
    let ended = a.run(|| command.status())?.map_err(|error| {
        Error::from_io("execve", &error).with_hint("without a command it runs ping, of the package iputils-ping")
    })?;
    for link in net.links().await?.iter().filter(|link| link.kind.is_some()) {
        let counted = net.link_statistics(link).await?;
        println!("{} {:?}: {} packets in, {} out", link.name, link.oper_state, counted.rx_packets, counted.tx_packets);
    }
    if ended.success() { Ok(()) } else { Err(Error::other("wait4", format!("the command failed: {ended}"))) }
}
