//! `while :; do cat GROUP/memory.pressure; sleep 2; done`, but only when it matters: says when a group stalls.
//!
//! `cargo run --example psi_watch -- /web cpu 'some 200000 2000000'`; without a group it is the machine. It ends with it.
use cgroupfs::{Hierarchy, PsiResource, PsiThreshold, PsiTrigger, Result, Watch, What};
use std::time::Duration;

const USAGE: &str =
    "usage: psi_watch [GROUP [RESOURCE... [THRESHOLD]]], such as: psi_watch /web memory 'some 100000 2000000'";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let group = args.next().filter(|group| group != "-");
    if group.as_ref().is_some_and(|group| !group.starts_with('/')) {
        eprintln!("{USAGE}");
        std::process::exit(2);
    }
    let mut threshold = PsiThreshold::some(Duration::from_millis(100)).within(Duration::from_secs(2));
    let mut resources = Vec::new();
    for arg in args {
        match arg.contains(' ') {
            true => threshold = arg.parse()?,
            false => resources.push(arg.parse()?),
        }
    }
    if resources.is_empty() {
        resources = vec![PsiResource::Cpu, PsiResource::Memory, PsiResource::Io];
    }
    let mut watch = Watch::new()?;
    let group = group.map(|group| Hierarchy::detect()?.open(group)).transpose()?;
    for resource in resources {
        watch.add_trigger(match &group {
            Some(group) => PsiTrigger::new(group, resource, threshold)?,
            None => PsiTrigger::of_system(resource, threshold)?,
        })?;
    }
    println!("waiting for {threshold}");
    for event in watch {
        let event = event?;
        match event.what {
            What::Stalled { resource, total_usec, .. } => {
                println!("{} stalls on {resource}: {total_usec} us so far", event.group.path().display());
            }
            other => println!("{}: {other}", event.group.path().display()),
        }
    }
    Ok(())
}
