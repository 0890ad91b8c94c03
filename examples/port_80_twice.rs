//! `docker run -p 8081:80 one`, `docker run -p 8082:80 two`: two servers on port 80, each in a network namespace of its own,
//! published on two ports of this machine.
//!
//! As root: `cargo run --example port_80_twice`, then `curl ADDRESS:8081` and `curl ADDRESS:8082`. It ends with its input.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use vethnet::{Attach, Attachment, Netns, Network, Result, Subnet};

/// Attaches a server to the network, and its port 80 to this port of the machine.
async fn start(network: &Network, name: &'static str, port: u16) -> Result<Attachment> {
    let netns = Netns::new()?;
    let spec = Attach::new(name).publish(format!("{port}:80").parse()?);
    let attachment = network.attach(&netns, &spec, &mut ()).await?;
    // A socket stays in the namespace it was made in.
    match netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))? {
        Ok(listener) => {
            thread::spawn(move || serve(&listener, name));
            Ok(attachment)
        }
        Err(error) => {
            attachment.detach().await?;
            Err(vethnet::Error::from_io("bind", &error))
        }
    }
}

fn serve(listener: &TcpListener, name: &str) {
    for mut stream in listener.incoming().flatten() {
        let _ = stream.read(&mut [0; 4096]); // what is asked makes no difference
        let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{name}\n", name.len() + 1);
    }
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| vethnet::Error::from_io("epoll_create1", &error))?.block_on(run())
}

async fn run() -> Result<()> {
    let state = std::env::args().nth(1).unwrap_or_else(|| "/run/port_80_twice".to_owned());
    let network = Network::new("port80".parse()?, Subnet::default()).state_dir(state);
    let one = start(&network, "one", 8081).await?;
    let ended = match start(&network, "two", 8082).await {
        Ok(two) => {
            println!("one is published on port 8081, two on port 8082; Enter ends them");
            let _ = std::io::stdin().read(&mut [0]);
            two.detach().await
        }
        Err(error) => Err(error),
    };
    one.detach().await.and(ended)
}
