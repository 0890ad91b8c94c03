//! `ip monitor link address route`: what changes in this network namespace, a line each, beginning with what there is.
//!
//! `cargo run --example monitor -- link address route`
use std::fmt::Debug;
use std::io::Write;

use vethnet::{Change, Event, Monitor, Result};

/// `+ link …`, `- link …`, `~ link …`
fn line<T: Debug>(topic: &str, change: &Change<T>, show: impl Fn(&T) -> String) -> String {
    match change {
        Change::New(now) => format!("+ {topic} {}", show(now)),
        Change::Gone(before) => format!("- {topic} {}", show(before)),
        Change::Changed { now, .. } => format!("~ {topic} {}", show(now)),
    }
}

async fn monitor(topics: &[String]) -> Result<()> {
    let mut monitor = Monitor::new();
    for topic in topics {
        monitor = match topic.as_str() {
            "link" => monitor.links(),
            "address" => monitor.addresses(),
            "route" => monitor.routes(),
            "neigh" => monitor.neighbours(),
            _ => {
                eprintln!("usage: monitor [link] [address] [route] [neigh]");
                std::process::exit(2)
            }
        };
    }
    let mut events = monitor.here().await?;
    let mut output = std::io::stdout();
    loop {
        let text = match events.next().await? {
            Event::Link(change) => line("link", &change, |link| {
                format!("{}: {} mtu {} {}", link.index, link.name, link.mtu, if link.is_up { "up" } else { "down" })
            }),
            Event::Address(change) => {
                line("address", &change, |address| format!("{address} of {}", address.index.unwrap_or_default()))
            }
            Event::Route(change) => line("route", &change, |route| format!("{route} table {}", route.table)),
            Event::Neighbour(change) => line("neigh", &change, ToString::to_string),
            Event::Listed => "= that is all".to_owned(),
            Event::Overrun => "! too fast: listing again".to_owned(),
            _ => continue,
        };
        // Whoever reads has gone.
        if writeln!(output, "{text}").is_err() {
            return Ok(());
        }
    }
}

fn main() -> Result<()> {
    let mut topics: Vec<String> = std::env::args().skip(1).collect();
    if topics.is_empty() {
        topics = ["link", "address", "route"].map(str::to_owned).to_vec();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(monitor(&topics))
}
