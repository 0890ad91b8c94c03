//! `skopeo copy oci:IMAGE:TAG …` and `umoci unpack`, but each layer once however many images have it: the folders that an
//! overlay of an image is made of, the topmost first. IMAGE is a directory or a tar archive, as `skopeo copy … oci-archive:FILE`
//! and `docker save` write them. With `--run` its program is started in an overlay of them, which nothing can write to.
//!
//! As root: `cargo run --example unpack_image -- alpine.tar /var/lib/layers --run cat /etc/alpine-release`
use mountkit::layers::{Apply, ImageLayout, Store};
use mountkit::{Overlay, Rootfs};
use ns_core::{Command, Namespaces, Result};

const USAGE: &str = "usage: unpack_image IMAGE STORE [--tag TAG] [--run [COMMAND [ARGUMENT]...]]";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let (Some(path), Some(dir)) = (args.next(), args.next()) else { usage() };
    let tag = args.next_if_eq("--tag").map(|_| args.next().unwrap_or_else(|| usage()));
    let run = args.next_if_eq("--run").is_some();
    if !run && args.peek().is_some() {
        usage()
    }

    let layout = ImageLayout::open(&path)?;
    let image = match tag {
        Some(tag) => layout.find().tag(tag).image()?,
        None => layout.find().image()?,
    };
    // What this holds stays in the store until it is dropped, or this process is gone.
    let unpacked = Store::open(&dir)?.unpack(&image, &Apply::new())?;
    let layers = unpacked.layers();
    let new = layers.iter().filter(|layer| layer.is_new()).count();
    eprintln!("{new} layers unpacked, {} were there", layers.len() - new);
    if !run {
        layers.iter().for_each(|layer| println!("{}", layer.path().display()));
        return Ok(());
    }

    let config = unpacked.config();
    let mut command: Vec<_> = args.collect();
    if command.is_empty() {
        command = [config.entrypoint.as_slice(), &config.cmd].concat();
    }
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("the image does not say what to run: give a command");
        std::process::exit(2)
    };
    // The child makes the overlay, of one layer too.
    let overlay = Overlay::new().lowers(layers.iter().map(|layer| layer.path()));
    let root = Rootfs::overlay_of_layers(overlay).read_only().proc();
    let environment = config.env.iter().filter_map(|entry| entry.split_once('='));
    let child = Command::new(program)
        .args(arguments)
        .envs(environment)
        .namespaces(Namespaces::CONTAINER - Namespaces::USER)
        .steps(root.steps()?)
        .spawn_paused()?;
    std::process::exit(child.resume(&mut ())?.wait()?.shell_code())
}

fn usage() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(2)
}
