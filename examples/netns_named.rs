//! `ip netns add NAME`, `ip netns exec NAME COMMAND`, `ip netns del NAME`, `ip netns list`: network namespaces with names,
//! which `ip netns` knows too.
//!
//! As root: `cargo run --example netns_named -- add web`
use std::path::{Path, PathBuf};

use ns_core::{CapabilitySet, Command, Namespaces, Net, NsFd, Result, ensure_netns_dir, pins, unpin, unshare};

/// The file of a name, which is a name and no path.
fn file(name: &str) -> PathBuf {
    match Path::new(name).file_name() {
        Some(only) if only == name => Path::new("/run/netns").join(name),
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!("usage: netns_named add NAME | exec NAME COMMAND [ARGUMENT]... | del NAME | list");
    std::process::exit(2)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["add", name] => {
            let file = file(name);
            ensure_netns_dir()?;
            unshare(Namespaces::NET)?; // this process, which has nothing else to do
            NsFd::<Net>::of_this_thread()?.pin(file)
        }
        ["exec", name, program, args @ ..] => {
            let net = NsFd::<Net>::open(file(name))?;
            let command = Command::new(program).args(args).join(net).capabilities(CapabilitySet::FULL);
            std::process::exit(command.spawn()?.wait()?.shell_code())
        }
        ["del", name] => unpin(file(name)),
        ["list"] => {
            // No directory is no name.
            let pins = Some("/run/netns").filter(|dir| Path::new(dir).exists()).map(pins).transpose()?;
            let names = pins.iter().flatten().filter_map(|pin| pin.path.file_name());
            names.for_each(|name| println!("{}", name.to_string_lossy()));
            Ok(())
        }
        _ => usage(),
    }
}
