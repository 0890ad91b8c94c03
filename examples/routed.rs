//! `ip link add vh0 type veth peer eth0 netns a; ip route add 10.40.0.2/32 dev vh0; ip -n a route add default via 169.254.1.1
//! dev eth0 onlink; ...`: two containers without a bridge, one of which connects to the other through the host.
//!
//! As root, in a network namespace of its own: `unshare -n cargo run --example routed`
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use vethnet::{Attach, Error, Netns, Network, Result};

fn io(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::from_io(what, &error)
}

fn talk(a: &Netns, b: &Netns, address: IpAddr) -> Result<String> {
    let listener = b.run(move || TcpListener::bind((address, 80)))?.map_err(io("bind"))?;
    let server = thread::spawn(move || {
        let (mut stream, from) = listener.accept()?;
        write!(stream, "{} reached {address}", from.ip())
    });
    let mut text = String::new();
    let stream = a.run(move || TcpStream::connect(SocketAddr::new(address, 80)))?;
    stream.and_then(|mut stream| stream.read_to_string(&mut text)).map_err(io("connect"))?;
    server.join().map_err(|_| Error::other("accept", "the server died"))?.map_err(io("accept"))?;
    Ok(text)
}

async fn routed() -> Result<()> {
    let network = Network::routed("pods".parse()?, "10.40.0.0/16".parse()?).state_dir("/run/routed-example");
    let (a, b) = (Netns::new()?, Netns::new()?);
    let first = network.attach(&a, &Attach::new("a"), &mut ()).await?;
    let second = match network.attach(&b, &Attach::new("b"), &mut ()).await {
        Ok(second) => second,
        Err(error) => return first.detach().await.and(Err(error)),
    };
    let said = talk(&a, &b, second.address());
    // Whatever was said, nothing stays.
    first.detach().await?;
    second.detach().await?;
    said.map(|text| println!("{text}"))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(io("epoll_create1")).and_then(|runtime| runtime.block_on(routed()));
    if let Err(error) = result {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}
