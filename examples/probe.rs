//! `lxc-checkconfig`, or `unshare --user --map-root-user --net true && echo yes` for each kind of namespace: what can be
//! done on this machine by whoever asks, and what to do about what cannot
use ns_core::{Result, probe};

fn main() -> Result<()> {
    print!("{}", probe()?);
    Ok(())
}
