//! `unshare --mount chroot JAIL`, and why a container is not made that way: the same way out of a root that was entered
//! with chroot(2), and of one that was entered with pivot_root(2).
//!
//! As root: `cargo run --example pivot_root`. Everything happens in a throw-away tree, in mount namespaces of its own.
use std::os::unix::fs::chroot;
use std::path::Path;

use mountkit::{Error, Result, Rootfs};
use ns_core::{CapabilitySet, Command, Namespaces};

/// `HOST/secret` is outside of the root `HOST/jail`.
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    if let (Some(how), Some(jail)) = (args.next(), args.next()) {
        return inside(&how, Path::new(&jail));
    }
    let host = std::env::temp_dir().join(format!("pivot_root-example-{}", std::process::id()));
    let made =
        std::fs::create_dir_all(host.join("jail/sub")).and_then(|()| std::fs::write(host.join("secret"), "secret\n"));
    let outcome = made.map_err(|error| Error::from_io("mkdir", &error).on(&*host)).and_then(|()| try_both(&host));
    let _ = std::fs::remove_dir_all(&host);
    outcome
}

fn try_both(host: &Path) -> Result<()> {
    let own = std::env::current_exe().map_err(|error| Error::from_io("readlink", &error))?;
    for how in ["chroot", "pivot_root"] {
        let program = Command::new(&own).arg(how).arg(host.join("jail")).namespaces(Namespaces::MOUNT);
        // Without CAP_SYS_CHROOT nobody leaves a chroot this way; a container with it is what is compared.
        let status = program.capabilities(CapabilitySet::FULL).status()?;
        if !status.success() {
            return Err(Error::invalid(how, format!("it ended with {status}")));
        }
    }
    Ok(())
}

/// Enters the root `jail`, tries to leave it, and says what is to be seen then.
fn inside(how: &str, jail: &Path) -> Result<()> {
    let fail = |operation: &'static str| move |error: std::io::Error| Error::from_io(operation, &error);
    match how {
        "chroot" => {
            chroot(jail).map_err(fail("chroot"))?;
            std::env::set_current_dir("/").map_err(fail("chdir"))?;
        }
        _ => Rootfs::bind(jail).enter()?,
    }
    // A descriptor of the old "/" is kept (the working directory is one) while "/" moves below it: then `..` of what was
    // "/" is no longer held back.
    chroot("/sub").map_err(fail("chroot"))?;
    for _ in 0..64 {
        std::env::set_current_dir("..").map_err(fail("chdir"))?;
    }
    chroot(".").map_err(fail("chroot"))?;
    // Outside, the secret is where the host has it. Inside, the top is the root of the jail: there is `sub`.
    let secret = jail.with_file_name("secret");
    let found = match (std::fs::read_to_string(&secret), Path::new("/sub").is_dir()) {
        (Ok(text), _) => format!("escaped, and read {:?}", text.trim_end()),
        (Err(_), true) => "still inside".to_owned(),
        (Err(error), false) => format!("lost: {error}"),
    };
    println!("{how}: {found}");
    Ok(())
}
