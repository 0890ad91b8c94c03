//! `podman pod create`, two times `podman run --pod`: two containers, each with processes, mounts and a host name of its own,
//! in one network namespace with one address. One serves on 127.0.0.1, which only the other can reach.
//!
//! As root: `cargo run --example pod`
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use ns_core::{Child, Command, Namespaces, Net, NsFd};
use vethnet::{Error, IfName, IpNet, LinkChange, Netns, Result, Veth};

const SERVER: &str = "127.0.0.1:8080";
const HOST: &str = "10.167.0.1/30";
const POD: &str = "10.167.0.2/30";

/// This program again, as a container of the pod.
fn container(pod: &Netns, role: &str) -> Result<Child> {
    let program = std::env::current_exe().map_err(|error| Error::from_io("readlink", &error))?;
    let netns = pod.as_fd().try_clone_to_owned().map_err(|error| Error::from_io("fcntl", &error))?;
    let own = Namespaces::PID | Namespaces::MOUNT | Namespaces::UTS | Namespaces::IPC;
    Command::new(program).args([role]).namespaces(own).join(NsFd::<Net>::from_fd(netns)?).spawn()
}

fn serve() -> std::io::Result<()> {
    let (mut client, from) = TcpListener::bind(SERVER)?.accept()?;
    client.write_all(format!("process {} served {}", std::process::id(), from.ip()).as_bytes())
}

fn visit() -> std::io::Result<()> {
    let mut server = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10)); // it may not listen yet
        TcpStream::connect(SERVER).ok()
    });
    let mut said = String::new();
    server.as_mut().ok_or(std::io::ErrorKind::ConnectionRefused)?.read_to_string(&mut said)?;
    println!("process {} visits: {said}", std::process::id());
    Ok(())
}

/// An address for the pod, by a veth pair; and both containers, until they have ended.
async fn run(host: &vethnet::Net, pod: &Netns) -> Result<bool> {
    let (pod0, eth0) = (IfName::new("pod0")?, IfName::new("eth0")?);
    host.create_link(&Veth::new(pod0.clone(), eth0.clone()).up().peer_netns(pod)).await?;
    host.add_address(&pod0, HOST.parse::<IpNet>()?).await?;
    let inside = vethnet::Net::inside(pod).await?;
    inside.loopback_up().await?;
    inside.add_address(&eth0, POD.parse::<IpNet>()?).await?;
    inside.change_link(&eth0, &LinkChange::new().up()).await?;
    let mut server = container(pod, "serve")?;
    let outside = TcpStream::connect_timeout(&([10, 167, 0, 2], 8080).into(), Duration::from_secs(1));
    println!("the host reaches it: {}", outside.is_ok());
    let visited = container(pod, "visit").and_then(|mut visitor| visitor.wait());
    if !visited.as_ref().is_ok_and(|status| status.success()) {
        server.kill()?;
    }
    let served = server.wait()?;
    Ok(visited?.success() && served.success())
}

fn main() -> std::io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => return serve(),
        Some("visit") => return visit(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let (host, pod) = (vethnet::Net::here().await?, Netns::new()?);
        let result = run(&host, &pod).await;
        // One end takes the other with it.
        match host.link(IfName::new("pod0")?).await? {
            Some(end) => host.remove_link(&end).await.and(result),
            None => result,
        }
    });
    let good = result.unwrap_or_else(|error: Error| {
        eprintln!("{error:#}");
        false
    });
    std::process::exit(i32::from(!good))
}
