//! `ip netns add web; ip link add ping0 type veth peer name eth0 netns web; ip address add …; ip route add default …; ping`:
//! a network namespace wired to this one, and a ping each way, over IPv4 and IPv6. All of it is gone afterwards.
//!
//! As root: `cargo run --example ping_the_host`
use std::path::Path;
use std::process::{Command, Stdio};

use vethnet::{Address, Error, IfName, LinkChange, Net, Netns, Result, Route, Veth};

/// The host's addresses on the pair and the container's.
const ADDRESSES: [(&str, &str); 2] = [("10.166.0.1/30", "10.166.0.2/30"), ("fd00:166::1/126", "fd00:166::2/126")];

fn ping(who: &str, from: &Netns, to: &Address) -> Result<bool> {
    let to = to.address.address().to_string();
    let args = ["-n", "-c1", "-W2", &to];
    let status = from.run(|| Command::new("ping").args(args).stdout(Stdio::null()).status())?;
    let status = status.map_err(|error| Error::from_io("execve", &error).on(Path::new("ping")))?;
    println!("{who} pings {to}: {}", if status.success() { "answered" } else { "no answer" });
    Ok(status.success())
}

async fn wire(host: &Net, ping0: &IfName, inside: &Net, eth0: &IfName) -> Result<bool> {
    let (here, there) = (Netns::from_fd(host.netns()?)?, Netns::from_fd(inside.netns()?)?);
    inside.change_link(eth0, &LinkChange::new().up()).await?;
    let mut answered = true;
    for (ours, theirs) in ADDRESSES {
        // Nobody else is on the link: no need to ask whether somebody has the address.
        let (ours, theirs) = (Address::new(ours.parse()?).no_dad(), Address::new(theirs.parse()?).no_dad());
        host.add_address(ping0, &ours).await?;
        inside.add_address(eth0, &theirs).await?;
        let default = if ours.address.is_ipv4() { Route::default_v4() } else { Route::default_v6() };
        inside.add_route(default.via(ours.address.address())).await?;
        answered &= ping("the container", &there, &ours)? & ping("the host", &here, &theirs)?;
    }
    Ok(answered)
}

async fn ping_the_host() -> Result<bool> {
    let container = Netns::new()?;
    let (host, inside) = (Net::here().await?, Net::inside(&container).await?);
    let (ping0, eth0) = (IfName::new("ping0")?, IfName::new("eth0")?);
    let end = host.create_link(&Veth::new(ping0.clone(), eth0.clone()).up().peer_netns(&container)).await?;
    let answered = wire(&host, &ping0, &inside, &eth0).await;
    // Whatever became of it, the pair goes, and all addresses and routes with it.
    host.remove_link(&end).await?;
    answered
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(ping_the_host()) {
        Ok(answered) => std::process::exit(i32::from(!answered)),
        Err(error) => {
            eprintln!("{error:#}");
            std::process::exit(1)
        }
    }
}
