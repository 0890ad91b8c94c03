//! `mount -t overlay -o lowerdir=BASE,upperdir=DIR/N/upper,workdir=DIR/N/work overlay DIR/N/root`, fifty times: containers that
//! share one base. All run at once, each sees what it wrote itself and nobody else's, and the disk holds the base once.
//!
//! `cargo run --example overlay -- /usr /tmp/fifty`, as root. What the containers wrote stays in DIR/N/upper.
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mountkit::{Overlay, Rootfs};
use ns_core::{Command, Error, Namespaces, Result, Stdio};

/// Writes a file, waits for all the others to have done so, and says which files of that kind there are.
const SCRIPT: &str = "echo container $1 > /only-$1; echo; read go; echo /only-*; cat /only-*";

/// What a directory takes of the disk, as du(1) counts it, in KiB.
fn disk_use(dir: &Path) -> std::io::Result<u64> {
    let below = std::fs::read_dir(dir)?.map(|entry| {
        let entry = entry?;
        let own = entry.metadata()?.blocks() / 2;
        Ok(own + if entry.file_type()?.is_dir() { disk_use(&entry.path())? } else { 0 })
    });
    below.sum()
}

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [base, dir] = &args[..] else {
        eprintln!("usage: overlay BASE DIR");
        std::process::exit(2)
    };
    let (base, dir) = (Path::new(base), Path::new(dir));
    let failed = |what| move |error: std::io::Error| Error::from_io(what, &error).on(dir);
    let mut containers = Vec::new();
    for number in 1..=50 {
        let own = dir.join(number.to_string());
        std::fs::create_dir_all(own.join("upper")).map_err(failed("mkdir"))?;
        let root = Overlay::new().lower(base).upper(own.join("upper"), own.join("work")).mount()?;
        let command = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sh", &number.to_string()])
            .namespaces(Namespaces::MOUNT | Namespaces::PID)
            .steps(Rootfs::from(root).steps()?)
            .kill_with_parent()
            .stdin(Stdio::Pipe)
            .stdout(Stdio::Pipe);
        containers.push(command.spawn_paused()?.resume(&mut ())?);
    }
    let pipe = || Error::other("pipe2", "it was taken already");
    let mut outputs = Vec::new();
    for container in &mut containers {
        let mut output = container.take_stdout().ok_or_else(pipe)?;
        output.read_exact(&mut [0]).map_err(failed("read"))?;
        outputs.push(output);
    }
    for (mut container, mut output) in containers.into_iter().zip(outputs) {
        drop(container.take_stdin()); // all are there: go on
        std::io::copy(&mut output, &mut std::io::stdout()).map_err(failed("read"))?;
        container.wait()?;
    }
    let (once, all) = (disk_use(base).map_err(failed("stat"))?, disk_use(dir).map_err(failed("stat"))?);
    println!("the base takes {once} KiB, once; the fifty containers {all} KiB");
    Ok(())
}
