//! `unshare --pid --fork sh -c '…; exec sleep 100'`, and `ps` beside it: what becomes of orphans when PID 1 does not care
//! for them, and when there is a reaper.
//!
//! As root: `cargo run --example pid1`
use std::io::Read;
use std::time::Duration;
use std::{fs, io};

use ns_core::{Command, Error, Namespaces, Result, Stdio};

/// Each subshell ends at once and leaves an orphan, which ends soon, but when the shell is no more, which would reap it.
/// `sleep 100`, as PID 1, waits for nobody.
const ORPHANS: &str = "for i in 1 2 3 4 5; do (sleep 1 &) ; done; exec sleep 100 >/dev/null";

/// How many children of this process have ended and were not waited for.
fn zombies_of(parent: i32) -> io::Result<usize> {
    let is_zombie = |stat: &str| {
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        Some(fields.next()? == "Z" && fields.next()?.parse() == Ok(parent))
    };
    let stats = fs::read_dir("/proc")?.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    Ok(stats.filter(|stat| is_zombie(stat) == Some(true)).count())
}

fn main() -> Result<()> {
    for reaper in [false, true] {
        let command = Command::new("sh").args(["-c", ORPHANS]).namespaces(Namespaces::PID).stdout(Stdio::Pipe);
        let mut child = if reaper { command.init() } else { command }.spawn()?;
        // The end of file comes when the last orphan closes the pipe, which is a moment before it is dead.
        let ended = child.take_stdout().map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut Vec::new()));
        std::thread::sleep(Duration::from_millis(100));
        let zombies = ended.and_then(|_| zombies_of(child.pid()));
        child.kill()?; // PID 1, and with it all of its namespace
        child.wait()?;
        let zombies = zombies.map_err(|error| Error::from_io("read", &error))?;
        println!("{} a reaper: {zombies} zombies", if reaper { "with" } else { "without" });
    }
    Ok(())
}
