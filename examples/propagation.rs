//! `mount --make-private | --make-shared | --make-slave | --make-unbindable COPY`: what appears where.
//!
//! As root, and in a mount namespace of its own: `cargo run --example propagation`
use mountkit::{Attach, Bind, Mount, MountChange, Propagation, Result, RootFd, Tmpfs};
use ns_core::Namespaces;

fn main() -> Result<()> {
    ns_core::unshare(Namespaces::MOUNT)?;
    let all = Mount::open(&RootFd::open("/")?, "/")?;
    all.change(&MountChange::new().propagation(Propagation::Private).recursive())?;

    // A shared tmpfs with two places for mounts in it, and a place for a copy of it. All goes away with the namespace.
    let room = Tmpfs::new().mode(0o755).mount()?;
    let original = Tmpfs::new().mode(0o755).mount()?;
    original.set_propagation(Propagation::Shared)?;
    for name in ["original", "copy"] {
        room.root()?.mkdir_all(name, 0o755)?;
    }
    for name in ["one", "two"] {
        original.root()?.mkdir_all(name, 0o755)?;
    }
    let _room = room.attach(&RootFd::open("/")?, "/tmp")?;
    let place = RootFd::open("/tmp")?;
    let _original = original.attach(&place, "original")?;

    println!("{:11} {:21} {:21} may be bound", "copy", "original → copy", "copy → original");
    for propagation in [Propagation::Private, Propagation::Shared, Propagation::Slave, Propagation::Unbindable] {
        let copy = Bind::new("/tmp/original").propagation(propagation).mount()?.attach(&place, "copy")?;
        let arrives = appears(&place, "original/one", "copy/one")?;
        let goes_back = appears(&place, "copy/two", "original/two")?;
        let may_be_bound = Bind::new("/tmp/copy").mount().is_ok();
        println!("{propagation:11} {:21} {:21} {}", word(arrives), word(goes_back), word(may_be_bound));
        copy.unmount()?;
    }
    Ok(())
}

/// Mounts something on `here`, and says whether something is mounted on `there` then.
fn appears(place: &RootFd, here: &str, there: &str) -> Result<bool> {
    let mount = Tmpfs::new().mount()?.attach_to(&Attach::at(place, here).with_peers())?;
    let seen = Mount::open(place, there).is_ok();
    mount.unmount()?;
    Ok(seen)
}

fn word(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
