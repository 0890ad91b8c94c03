//! `/etc/resolv.conf` of a container that pasta carries for.
//!
//! The machine's own names resolvers that may not be reachable from inside: one that listens on the loopback, as
//! systemd-resolved does, or on the machine's own address, which is the container's too. pasta asks the machine's first
//! IPv4 resolver for whoever asks [`FORWARDER`], so that address is in the file as well, behind those that can be asked
//! directly.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};

use mountkit::RootFd;

/// The address inside that stands for the machine's resolver: link-local, and nobody's.
pub const FORWARDER: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// Where programs look.
pub const TARGET: &str = "/etc/resolv.conf";
/// As many resolvers as the C library asks.
const MOST: usize = 3;

/// What the container's file is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    text: String,
    forwards: bool,
}

impl Resolver {
    /// From the machine's own file. `None` where that names no resolver.
    #[must_use]
    pub fn of_the_machine() -> Option<Self> {
        const ENOUGH: u64 = 64 << 10;
        let mut text = Vec::new();
        File::open(TARGET).and_then(|file| file.take(ENOUGH).read_to_end(&mut text)).ok()?;
        Self::from_host(&String::from_utf8_lossy(&text))
    }

    fn from_host(host: &str) -> Option<Self> {
        let value = |line: &str, key: &str| line.trim().strip_prefix(key)?.split_whitespace().next().map(str::to_owned);
        let named: Vec<IpAddr> =
            host.lines().filter_map(|line| value(line, "nameserver ")?.parse().ok()).take(MOST).collect();
        let forwards = named.iter().any(IpAddr::is_ipv4);
        let far = |address: &&IpAddr| !address.is_loopback() && !address.is_unspecified();
        let room = MOST - usize::from(forwards);
        let mut asked: Vec<IpAddr> = named.iter().filter(far).take(room).copied().collect();
        asked.extend(forwards.then_some(FORWARDER));
        if asked.is_empty() {
            return None;
        }
        let mut text: String = asked.iter().map(|address| format!("nameserver {address}\n")).collect();
        for line in
            host.lines().map(str::trim).filter(|line| line.starts_with("search ") || line.starts_with("options "))
        {
            text.push_str(line);
            text.push('\n');
        }
        Some(Self { text, forwards })
    }

    /// The address that pasta has to answer on, if it has to.
    #[must_use]
    pub fn forwarder(&self) -> Option<IpAddr> {
        self.forwards.then_some(FORWARDER)
    }

    /// The content.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Where the file belongs in `root`: what `/etc/resolv.conf` is a link to, which need not be there. It mostly is below
/// `/run`, which a container has empty.
#[must_use]
pub fn place(root: &RootFd) -> PathBuf {
    const MOST_LINKS: usize = 8;
    let mut place = PathBuf::from(TARGET);
    for _ in 0..MOST_LINKS {
        let Ok(link) = root.read_link(&place) else { return place };
        place = flat(&place.parent().unwrap_or(Path::new("/")).join(link));
    }
    TARGET.into()
}

/// Without dots, as far as letters tell.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => flat.push(name),
            Component::ParentDir => drop(flat.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(host: &str) -> Option<String> {
        Resolver::from_host(host).map(|resolver| resolver.text)
    }

    #[test]
    fn who_can_be_asked_from_inside() {
        let said = text("# stub\nnameserver 127.0.0.53\noptions edns0\nsearch example.org\n");
        assert_eq!(said.as_deref(), Some("nameserver 169.254.1.1\noptions edns0\nsearch example.org\n"));
        let said = text("nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n");
        assert_eq!(said.as_deref(), Some("nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 169.254.1.1\n"));
        assert_eq!(text("nameserver 2001:db8::1\n").as_deref(), Some("nameserver 2001:db8::1\n"));
        for none in ["", "nameserver ::1\n", "nameserver fe80::1%eth0\n", "nameserver\n", "#nameserver 192.0.2.1\n"] {
            assert_eq!(text(none), None, "{none:?}");
        }
    }

    #[test]
    fn where_links_lead() {
        let dir = faultkit::TempDir::new();
        std::fs::create_dir(dir.join("etc")).expect("mkdir");
        let file = dir.join("etc/resolv.conf");
        let placed = || place(&RootFd::open(dir.path()).expect("root"));
        assert_eq!(placed(), Path::new(TARGET));
        for (link, expected) in [
            ("../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
            ("/run/resolvconf/resolv.conf", "/run/resolvconf/resolv.conf"),
            ("../../../../r", "/r"),
            ("resolv.conf", TARGET),
        ] {
            std::os::unix::fs::symlink(link, &file).expect("symlink");
            assert_eq!(placed(), Path::new(expected), "{link}");
            std::fs::remove_file(&file).expect("remove");
        }
    }
}
