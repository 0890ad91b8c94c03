//! `tc qdisc add dev eth0 root tbf rate 8mbit burst 16kb latency 50ms`: how fast one network namespace sends to another,
//! before and after it is limited.
//!
//! As root: `cargo run --example rate_limit [COMMAND…]`, which is run in the sender's namespace at the end. The namespaces
//! have no names, and end with this program: nothing is left in whatever way that ends.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use vethnet::{Error, IfName, IpNet, LinkChange, Net, Netns, Parent, Rate, Result, Tbf, Veth};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::from_io("epoll_create1", &error))?.block_on(limit())
}

async fn limit() -> Result<()> {
    let (sender, receiver) = (Netns::new()?, Netns::new()?);
    let (net, peer) = (Net::inside(&sender).await?, Net::inside(&receiver).await?);
    let eth0 = IfName::new("eth0")?;
    net.create_link(&Veth::new(eth0.clone(), eth0.clone()).peer_netns(&receiver)).await?;
    for (net, address) in [(&net, "10.8.0.1/24"), (&peer, "10.8.0.2/24")] {
        net.add_address(&eth0, address.parse::<IpNet>()?).await?;
        net.change_link(&eth0, &LinkChange::new().up()).await?;
    }

    println!("before: {}", measure(&sender, &receiver)?);
    let tbf = Tbf::new(Rate::mbit(8)).burst(16 << 10).latency(Duration::from_millis(50));
    net.set_qdisc(&eth0, Parent::Root, tbf).await?;
    println!("after: {}", measure(&sender, &receiver)?);
    for qdisc in net.qdiscs(&eth0).await? {
        let counted = qdisc.statistics;
        println!("{}: {} packets sent, {} dropped", qdisc.discipline.kind(), counted.packets, counted.drops);
    }

    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(words);
    let status = sender.run(|| command.status())?.map_err(|error| Error::from_io("execve", &error))?;
    if status.success() { Ok(()) } else { Err(Error::other("wait4", format!("the command failed: {status}"))) }
}

/// What arrives of one connection, a second and a half long, once the burst is spent.
fn measure(sender: &Netns, receiver: &Netns) -> Result<String> {
    let fail = |call: &'static str| move |error| Error::from_io(call, &error);
    let address = SocketAddr::from(([10, 8, 0, 2], 5001));
    let listener = receiver.run(|| TcpListener::bind(address))?.map_err(fail("bind"))?;
    let to = sender.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?.map_err(fail("connect"))?;
    let (mut from, _) = listener.accept().map_err(fail("accept"))?;
    // It ends with the other end of the connection.
    let pushing = thread::spawn(move || while (&to).write_all(&[0; 64 << 10]).is_ok() {});

    let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0);
    let (start, warm) = (Instant::now(), Duration::from_millis(500));
    while start.elapsed() < warm + Duration::from_millis(1500) {
        let read = from.read(&mut buffer).map_err(fail("recv"))?;
        bytes += if start.elapsed() > warm { read } else { 0 };
    }
    let seconds = (start.elapsed() - warm).as_secs_f64();
    drop(from);
    let _ = pushing.join();
    Ok(format!("{:.1} Mbit/s", bytes as f64 * 8.0 / 1e6 / seconds))
}
