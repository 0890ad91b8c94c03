//! `findmnt`, `findmnt --task PID`, `findmnt --target PATH`, and with `--poll` what changes from now on
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use mountkit::{MountTable, MountWatch, Result};

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let table = match words.as_slice() {
        [] => MountTable::read()?,
        ["--task", pid] => match pid.parse() {
            Ok(pid) => MountTable::of_process(ns_core::Process::open(pid)?)?,
            Err(_) => usage(),
        },
        // Only the mount that the file is on, and what is mounted below that.
        ["--target", _] => {
            let path = arguments.last().cloned().unwrap_or_default();
            let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path);
            let file =
                file.map_err(|error| mountkit::Error::from_io("open", &error).on(std::path::PathBuf::from(path)))?;
            MountTable::of_tree(file)?
        }
        ["--poll"] => {
            let mut watch = MountWatch::new()?;
            eprintln!("waiting");
            while let Some(diff) = watch.changed(None)? {
                print!("{diff}");
            }
            return Ok(());
        }
        _ => usage(),
    };
    print!("{}", table.tree());
    if !table.is_settled() {
        eprintln!("mounts came and went meanwhile: look again");
    }
    Ok(())
}

fn usage() -> ! {
    eprintln!("usage: findmnt [--task PID | --target PATH | --poll]");
    std::process::exit(2)
}
